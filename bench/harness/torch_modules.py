"""PyTorch's modules for pyconv's layers, branches included, with the same parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pyconv import nn
from pyconv.nn.layer import Layer
from pyconv.shapes import ConvGeometry, PoolGeometry

from .torch_peer import filters_to_torch

Shape = tuple[int, ...]

#: Strided 1×1 convolutions of fewer channels are not asked of PyTorch in channels_last: 2.13.0 does not do all of them.
LEAST = 16


class Modules:
    """Makes PyTorch's modules.

    Parameters
    ----------
    torch : module
    parameters : mapping of str to array
        Of the pyconv network.
    layout : "contiguous" or "channels_last"
        PyTorch's memory layout of filters.
    inplace : bool
        Whether a ReLU overwrites its input, and a sum its first summand, as in torchvision's networks with branches.
    """

    def __init__(self, torch: Any, parameters: Mapping[str, np.ndarray], layout: str, inplace: bool = False) -> None:
        self._torch, self._parameters, self._layout, self._inplace = torch, parameters, layout, inplace
        self._flat: Shape | None = None  # (H, W, C) behind a Flatten, whose order differs in PyTorch

    def chain(self, layers: Iterable[Layer], shape: Shape, way: str = "") -> tuple[list[Any], Shape]:
        """The modules of layers one after the other, and the shape of their result.

        Parameters
        ----------
        layers : iterable of Layer
        shape : tuple of int
            Of one example before them.
        way : str
            What the names of their parameters begin with, such as ``"3.shortcut."``.

        Returns
        -------
        list, tuple of int

        Raises
        ------
        ValueError
            If a layer has no equal in PyTorch; its name is in the message.
        """
        made: list[Any] = []
        for position, layer in enumerate(layers):
            index = f"{way}{position}"
            make = getattr(self, f"_{type(layer).__name__}", None)
            if make is None:
                raise ValueError(f"layer {index} is a {type(layer).__name__}: the twin does not know it")
            made += make(layer, shape, index)
            if getattr(layer, "activation", None) == "relu":
                made += self._ReLU()
            shape = tuple(layer.output_shape(shape))
        return made, shape

    def _ReLU(self, *_: Any) -> list[Any]:
        return [self._torch.nn.ReLU(inplace=self._inplace)]

    def _Dropout(self, layer: nn.Dropout, *_: Any) -> list[Any]:
        return [self._torch.nn.Dropout(layer.rate)]

    def _Flatten(self, layer: nn.Flatten, shape: Shape, index: str) -> list[Any]:
        self._flat = shape
        return [self._torch.nn.Flatten()]

    def _GlobalAvgPool2D(self, *_: Any) -> list[Any]:
        return [self._torch.nn.AdaptiveAvgPool2d(1), self._torch.nn.Flatten()]

    def _MaxPool2D(self, layer: nn.MaxPool2D, shape: Shape, index: str) -> list[Any]:
        g = layer.geometry(1, shape)
        pads, rounds = padding_of(g)
        return [self._torch.nn.MaxPool2d((g.kh, g.kw), (g.sh, g.sw), pads, ceil_mode=rounds)]

    def _Conv2D(self, layer: nn.Conv2D, shape: Shape, index: str) -> list[Any]:
        g = layer.geometry(1, shape)
        names = f"{index}.weight", f"{index}.bias" if layer.bias else None
        if self._layout == "channels_last" and (g.kh, g.kw) == (1, 1) and (g.sh, g.sw) != (1, 1) and g.c < LEAST:
            thinned = layer_of(self._torch, lambda x: x[:, :, :: g.sh, :: g.sw])
            one = nn.Conv2D(layer.filters, 1, bias=layer.bias).geometry(1, (g.oh, g.ow, g.c))
            return [thinned, self._convolution(one, *names)]
        return [self._convolution(g, *names)]

    def _SeparableConv2D(self, layer: nn.SeparableConv2D, shape: Shape, index: str) -> list[Any]:
        first, second = layer.parts(shape)
        between = first.output_shape(shape)
        bias = f"{index}.bias" if layer.bias else None
        return [
            self._convolution(first.geometry(1, shape), f"{index}.depthwise", None),
            self._convolution(second.geometry(1, between), f"{index}.pointwise", bias),
        ]

    def _convolution(self, g: ConvGeometry, weight: str, bias: str | None) -> Any:
        if (g.pt, g.pl) != (g.pb, g.pr):
            raise ValueError(f"{weight}: PyTorch's module has no asymmetric padding")
        made = self._torch.nn.Conv2d(
            g.c, g.k, (g.kh, g.kw), (g.sh, g.sw), (g.pt, g.pl), (g.dh, g.dw), g.groups, bias is not None
        )
        weights = filters_to_torch(self._torch, self._parameters[weight], self._layout)
        return self._filled(made, weight=weights, bias=None if bias is None else self._parameters[bias])

    def _Dense(self, layer: nn.Dense, shape: Shape, index: str) -> list[Any]:
        weight = self._parameters[f"{index}.weight"]
        if self._flat is not None:
            h, w, c = self._flat
            weight = weight.reshape(h, w, c, -1).transpose(2, 0, 1, 3).reshape(h * w * c, -1)
            self._flat = None
        made = self._torch.nn.Linear(*weight.shape, bias=layer.bias)
        bias = self._parameters[f"{index}.bias"] if layer.bias else None
        return [self._filled(made, weight=np.ascontiguousarray(weight.T), bias=bias)]

    def _BatchNorm(self, layer: nn.BatchNorm, shape: Shape, index: str) -> list[Any]:
        kind = self._torch.nn.BatchNorm2d if len(shape) == 3 else self._torch.nn.BatchNorm1d
        made = kind(shape[-1], eps=layer.eps, momentum=layer.momentum)
        gamma, beta = (self._parameters[f"{index}.{name}"] for name in ("gamma", "beta"))
        return [self._filled(made, weight=gamma, bias=beta)]

    def _Residual(self, layer: nn.Residual, shape: Shape, index: str) -> list[Any]:
        return [self._branches(layer, shape, index, "add")]

    def _Parallel(self, layer: nn.Parallel, shape: Shape, index: str) -> list[Any]:
        return [self._branches(layer, shape, index, layer.join)]

    def _branches(self, layer: Any, shape: Shape, index: str, join: str) -> Any:
        chains = [self.chain(layers, shape, f"{index}.{way}")[0] for way, layers in layer.chains()]
        sequences = [self._torch.nn.Sequential(*each) for each in chains]
        return joined(self._torch, sequences, join, self._inplace)

    def _filled(self, made: Any, **values: Any) -> Any:
        with self._torch.no_grad():
            for name, value in values.items():
                if value is not None:
                    given = self._torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value
                    getattr(made, name).copy_(given)
        return made


def padding_of(g: PoolGeometry) -> tuple[tuple[int, int], bool]:
    """PyTorch's ``padding`` and ``ceil_mode`` for a pooling of pyconv's.

    Where a window hangs over the lower or the right end by less than a stride, PyTorch's rounding up does the same.

    Raises
    ------
    ValueError
        If no such pair gives the same windows.
    """
    sizes = ((g.h, g.kh, g.sh, g.pt, g.oh), (g.w, g.kw, g.sw, g.pl, g.ow))
    for rounds in (False, True):
        counts = [-(-(n + 2 * p - k) // s) + 1 if rounds else (n + 2 * p - k) // s + 1 for n, k, s, p, _ in sizes]
        if counts == [count for *_, count in sizes]:
            return (g.pt, g.pl), rounds
    raise ValueError(f"PyTorch's module has no pooling of {g.input_shape} like this")


def layer_of(torch: Any, function: Callable[[Any], Any]) -> Any:
    """A module without parameters that applies `function`."""

    class Layer(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return function(x)

    return Layer()


def joined(torch: Any, branches: Sequence[Any], join: str, inplace: bool) -> Any:
    """A module that gives its input to each branch and adds or concatenates the results."""

    class Branches(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branches = torch.nn.ModuleList(branches)

        def forward(self, x: Any) -> Any:
            ends = [branch(x) for branch in self.branches]
            if join == "concat":
                return torch.cat(ends, 1)
            total = ends[0]
            for end in ends[1:]:
                total = total.add_(end) if inplace else total + end
            return total

    return Branches()
