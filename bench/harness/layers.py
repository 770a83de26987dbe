"""The layers that are measured, in groups, each with the margin over PyTorch that the project aims at."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field

import numpy as np

from pyconv.shapes import ConvGeometry, conv_geometry

PASSES = ("forward", "input_grad", "weight_grad")


def aligned(shape: tuple[int, ...]) -> np.ndarray:
    """A float32 array that begins at a multiple of 64 bytes, as arrays inside of a network do and PyTorch's tensors.

    NumPy's own begin 16 bytes behind one where they are large, and every AVX-512 vector then lies in two cache lines.
    """
    memory = np.empty(math.prod(shape) + 16, np.float32)
    start = -memory.ctypes.data % 64 // memory.itemsize
    return memory[start : start + math.prod(shape)].reshape(shape)


@dataclass(frozen=True)
class Layer:
    """A convolution with symmetric padding, so that every library can do it without padding first.

    Attributes
    ----------
    name : str
        Filters and kernel, as the tables show it.
    shape : (int, int, int, int)
        Images, (N, H, W, C).
    filters, kernel : int, (int, int)
        Output channels; kernel height and width in pixels.
    stride, padding, dilation, groups : int
        The same down and across.
    """

    name: str
    shape: tuple[int, int, int, int]
    filters: int
    kernel: tuple[int, int]
    stride: int = 1
    padding: tuple[int, int] = (0, 0)
    dilation: int = 1
    groups: int = 1

    @property
    def id(self) -> str:
        """The name in ASCII, for ``pytest -k``: "1-32-5x5-48-b64"."""
        words = self.name.replace("→", "-").replace("×", "x").replace("²", "").split(" ")
        return "-".join(words)

    @property
    def arguments(self) -> dict:
        """Keyword arguments of :func:`pyconv.conv2d`."""
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}

    @property
    def geometry(self) -> ConvGeometry:
        """Shapes and FLOPs."""
        weight = (*self.kernel, self.shape[3] // self.groups, self.filters)
        return conv_geometry(self.shape, weight, **self.arguments)

    def arrays(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Images, filters, bias and output gradient: float32, unit variance, aligned as both libraries align theirs."""
        g = self.geometry
        x, weight, bias, grad_out = (
            rng.standard_normal(shape, dtype=np.float32, out=aligned(shape))
            for shape in (g.input_shape, g.weight_shape, (g.k,), g.output_shape)
        )
        return x, weight, bias, grad_out

    def cut(self, batch: int) -> Layer:
        """The same layer on at most `batch` images, and named so."""
        batch = min(batch, self.shape[0])
        name = self.name.removesuffix(f" b{self.shape[0]}") + f" b{batch}"
        return dataclasses.replace(self, name=name, shape=(batch, *self.shape[1:]))


def layer(
    batch: int, size: int | tuple[int, int], channels: int, filters: int, kernel: int | tuple[int, int],
    *, pad: bool = True, stride: int = 1, dilation: int = 1, groups: int = 1, note: str = "",
) -> Layer:  # fmt: skip
    """A layer from the few numbers that matter, with a name made of them; `pad` keeps the image's size."""
    h, w = (size, size) if isinstance(size, int) else size
    kh, kw = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = (dilation * (kh - 1) // 2, dilation * (kw - 1) // 2) if pad else (0, 0)
    extra = [f"/{stride}" if stride > 1 else "", f"dilation {dilation}" if dilation > 1 else "",
             f"groups {groups}" if groups > 1 else "", note]  # fmt: skip
    where = f"{h}²" if h == w else f"{h}×{w}"
    name = " ".join([f"{channels}→{filters} {kh}×{kw}", *filter(None, extra), where, f"b{batch}"])
    return Layer(name, (batch, h, w, channels), filters, (kh, kw), stride, padding, dilation, groups)


@dataclass(frozen=True)
class Group:
    """Layers that share a target: pyconv's rate over PyTorch's, by pass the geometric mean; and a floor for each."""

    name: str
    layers: tuple[Layer, ...]
    geometric_mean: dict[str, float] = field(default_factory=dict)
    floor: dict[str, float] = field(default_factory=dict)


#: The five convolutions of the model `fer`: the rows of Table I.
FER = (
    layer(64, 48, 1, 32, 5),
    layer(64, 24, 32, 64, 3),
    layer(64, 12, 64, 128, 3),
    layer(64, 12, 128, 128, 3),
    layer(64, 6, 128, 256, 3),
)

GROUPS = (
    Group(
        "first layers",
        (FER[0], layer(64, 28, 1, 50, 5, pad=False), layer(64, 32, 3, 32, 3)),
        {"forward": 1.5, "weight_grad": 2.5},
        {"weight_grad": 0.9},
    ),
    Group(
        "3×3 stride 1",
        (*FER[1:], layer(1, 224, 64, 64, 3), layer(2, 56, 128, 256, 3), layer(8, 14, 512, 512, 3)),
        {"forward": 2.0, "input_grad": 2.0, "weight_grad": 1.5},
        {"forward": 1.2, "input_grad": 1.2, "weight_grad": 0.9},
    ),
    Group(
        "general layers",
        (
            layer(16, 227, 3, 96, 11, pad=False, stride=4, note="AlexNet 1"),
            layer(16, 27, 96, 256, 5, note="AlexNet 2"),
            layer(16, 13, 256, 384, 3, note="AlexNet 3"),
            layer(16, 13, 384, 384, 3, note="AlexNet 4"),
            layer(16, 13, 384, 256, 3, note="AlexNet 5"),
            layer(16, 224, 3, 64, 7, stride=2, note="ResNet stem"),
            layer(4, 56, 64, 256, 1),
            layer(8, 56, 128, 128, 3, stride=2),
            layer(8, 56, 128, 128, 3, groups=128, note="depthwise"),
        ),
        dict.fromkeys(PASSES, 1.3),
        dict.fromkeys(PASSES, 0.9),
    ),
    Group(
        "layers off every multiple",
        (
            layer(64, 13, 17, 40, 3),
            layer(1, 32, 24, 48, 5),
            layer(1, 48, 1, 32, 5),
            layer(1, 12, 128, 128, 3),
            layer(16, 28, 32, 32, 3, dilation=2),
            layer(16, 28, 64, 64, 3, groups=4),
            layer(8, (256, 8), 32, 32, 3),
            layer(8, (8, 256), 32, 32, 3),
            layer(8, 23, 13, 29, 3, stride=2),
            layer(16, 24, 16, 32, 2),
            layer(16, 24, 16, 32, 4),
            layer(16, 24, 16, 32, 6),
            layer(16, 24, 16, 32, 7),
            layer(16, 24, 16, 32, 8),
            layer(16, 24, 16, 32, 9),
            layer(16, 24, 16, 32, 10),
            layer(16, 24, 16, 32, 11),
            layer(16, 24, 16, 32, (1, 7)),
            layer(16, 24, 16, 32, (5, 1)),
        ),
        {},
        dict.fromkeys(PASSES, 0.8),
    ),
)

ALL = tuple((group, one) for group in GROUPS for one in group.layers)


def group_of(case: str) -> Group | None:
    """The group that has the layer called `case`."""
    return next((group for group, one in ALL if one.name == case), None)
