"""Geometry of every operation: output sizes, paddings, amount of work, and the check that arguments fit together.

All geometry is decided here, once. Backends receive a valid :class:`ConvGeometry` or :class:`PoolGeometry` and never
check again.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .errors import InputError, ShapeError, shown
from .values import integer, sequence

Pair = int | Sequence[int]
Padding = int | str | Sequence[int] | Sequence[Sequence[int]]

FILTER_MODES = ("full", "same", "valid")

MOST = 2**31 - 1
"""The largest stride, padding, dilation or window: with larger ones, sums and products would overflow C's integers."""


@dataclass(frozen=True)
class ConvGeometry:
    """Shapes of one 2-D convolution, in NHWC.

    Attributes
    ----------
    n, h, w, c : int
        Images, input height and width in pixels, input channels.
    k, kh, kw : int
        Filters (output channels), kernel height and width.
    sh, sw, dh, dw : int
        Stride and dilation, down and across.
    pt, pb, pl, pr : int
        Zero padding in pixels: top, bottom, left, right.
    groups : int
        Groups of channels that are convolved apart; divides `c` and `k`.
    oh, ow : int
        Output height and width in pixels.
    """

    n: int
    h: int
    w: int
    c: int
    k: int
    kh: int
    kw: int
    sh: int
    sw: int
    pt: int
    pb: int
    pl: int
    pr: int
    dh: int
    dw: int
    groups: int
    oh: int
    ow: int

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Shape of the images, ``(N, H, W, C)``."""
        return (self.n, self.h, self.w, self.c)

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """Shape of the filters, ``(kh, kw, C // groups, K)``."""
        return (self.kh, self.kw, self.c // self.groups, self.k)

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """Shape of the result, ``(N, OH, OW, K)``."""
        return (self.n, self.oh, self.ow, self.k)

    @property
    def flops(self) -> int:
        """Floating-point operations of direct convolution: 2 per multiply-add, padding counted as work."""
        return 2 * self.n * self.oh * self.ow * self.k * self.kh * self.kw * (self.c // self.groups)

    def bytes(self, itemsize: int = 4) -> int:
        """Bytes that must move at least once: images, filters and result."""
        images = self.n * self.h * self.w * self.c
        filters = self.kh * self.kw * (self.c // self.groups) * self.k
        return itemsize * (images + filters + self.n * self.oh * self.ow * self.k)


@dataclass(frozen=True)
class PoolGeometry:
    """Shapes of one 2-D pooling, in NHWC; the fields are named as in :class:`ConvGeometry`."""

    n: int
    h: int
    w: int
    c: int
    kh: int
    kw: int
    sh: int
    sw: int
    pt: int
    pb: int
    pl: int
    pr: int
    oh: int
    ow: int

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Shape of the images, ``(N, H, W, C)``."""
        return (self.n, self.h, self.w, self.c)

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """Shape of the result, ``(N, OH, OW, C)``."""
        return (self.n, self.oh, self.ow, self.c)

    def number_pixels(self) -> PoolGeometry:
        """Itself, if max pooling can number an image's pixels in 32 bits; else a `ShapeError`."""
        if self.h * self.w > MOST:
            raise ShapeError(
                f"max pooling takes images of at most {MOST} pixels, not {self.h} x {self.w}; pool parts of the image"
            )
        return self

    @property
    def flops(self) -> int:
        """One comparison or addition for each pixel of each window."""
        return self.n * self.oh * self.ow * self.c * self.kh * self.kw

    def bytes(self, itemsize: int = 4) -> int:
        """Bytes that must move at least once: images and result."""
        return itemsize * self.n * self.c * (self.h * self.w + self.oh * self.ow)


def pair(value: Any, name: str, *, minimum: int = 1) -> tuple[int, int]:
    """`value`, an int or ``(height, width)``, as two ints of at least `minimum`."""
    if type(value) is int and minimum <= value <= MOST:  # the usual case
        return value, value
    items = sequence(value)
    if items is None:
        one = _extent(value, name, minimum)
        return one, one
    if len(items) != 2:
        raise InputError(f"{name} must be an integer or (height, width), not {shown(value)}")
    return _extent(items[0], name, minimum), _extent(items[1], name, minimum)


def _extent(value: Any, name: str, minimum: int) -> int:
    """`value` as a number of pixels from `minimum` to `MOST`."""
    number = integer(value, name, minimum=minimum, maximum=None)
    if number > MOST:
        raise ShapeError(f"{name} must be at most {MOST}, not {shown(number)}")
    return number


def _array(shape: tuple[int, ...]) -> None:
    """Raise a `ShapeError` for a result that no array can hold."""
    if math.prod(shape) > sys.maxsize // 8:
        raise ShapeError(f"the output would have shape {shape}, more numbers than an array can hold")


def shape4(shape: Any, name: str) -> tuple[int, int, int, int]:
    """`shape` as four positive ints, or a `ShapeError` that says what is wrong."""
    if type(shape) is not tuple or not all(type(size) is int for size in shape):  # an array's shape passes at once
        sizes = sequence(shape)
        if sizes is None:
            raise ShapeError(f"{name} must be four integers, not {shown(shape)}")
        shape = tuple(integer(size, f"every size of {name}", minimum=0) for size in sizes)
    items: tuple[int, ...] = shape
    if len(items) != 4:
        raise ShapeError(f"{name} must have 4 dimensions, not {len(items)}: got shape {shown(items)}")
    if max(items) > sys.maxsize:
        raise ShapeError(f"{name} has shape {shown(items)}, more numbers than an array can hold")
    if min(items) < 1:
        raise ShapeError(f"{name} has a dimension of size {min(items)}: got shape {shown(items)}")
    return items


def _one_axis(padding: tuple[int, int] | str, size: int, span: int, stride: int) -> tuple[int, int]:
    """Padding before and after one axis, in pixels; `span` is the extent of a window, dilation included."""
    if padding == "valid":
        return 0, 0
    if padding == "same":
        output = -(-size // stride)
        total = max((output - 1) * stride + span - size, 0)
        return total // 2, total - total // 2  # an odd pixel goes to the end: ONNX's SAME_UPPER
    assert not isinstance(padding, str)
    return padding


def padding_pairs(padding: Any) -> tuple[tuple[int, int] | str, tuple[int, int] | str]:
    """A padding in any of its forms as ``(vertical, horizontal)``, each ``(before, after)`` or a mode's name."""
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise InputError(f"padding must be 'same', 'valid' or integers, not {shown(padding)}")
        return padding, padding
    items = sequence(padding)
    if items is None:
        one = pair(padding, "padding", minimum=0)
        return one, one
    if len(items) != 2:
        raise InputError(
            f"padding must be an integer, (height, width) or ((top, bottom), (left, right)), not {shown(padding)}"
        )
    vertical, horizontal = (pair(item, "padding", minimum=0) for item in items)
    return vertical, horizontal


def _axis(
    size: int, kernel: int, stride: int, dilation: int, padding: tuple[int, int] | str, axis: str
) -> tuple[int, int, int]:
    """Padding before, padding after and output size of one axis."""
    span = (kernel - 1) * dilation + 1
    before, after = _one_axis(padding, size, span, stride)
    room = size + before + after - span
    if room < 0:
        raise ShapeError(
            f"the output would have no pixels: {axis} {size} with padding {before} + {after} is smaller than "
            f"the kernel's reach of {span} (kernel size {kernel}, dilation {dilation})"
        )
    return before, after, room // stride + 1


def conv_geometry(
    input_shape: Sequence[int],
    weight_shape: Sequence[int],
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> ConvGeometry:
    """Work out and check the geometry of a convolution.

    Parameters
    ----------
    input_shape : sequence of 4 int
        Images, ``(N, H, W, C)``.
    weight_shape : sequence of 4 int
        Filters, ``(kh, kw, C // groups, K)``.
    stride, dilation : int or (int, int)
        At least 1, down and across.
    padding : int, (int, int), ((int, int), (int, int)), "same" or "valid"
        Zero padding in pixels. ``"same"`` makes the output ``ceil(size / stride)``; an odd pixel goes to the end.
    groups : int
        Groups of channels; must divide C and K.

    Raises
    ------
    InputError
        If an argument is not of one of these forms.
    ShapeError
        If the shapes do not fit together or the output would be empty.
    """
    n, h, w, c = shape4(input_shape, "input")
    kh, kw, c_group, k = shape4(weight_shape, "weight")
    sh, sw = pair(stride, "stride")
    dh, dw = pair(dilation, "dilation")
    groups = integer(groups, "groups", minimum=1)
    if c % groups or k % groups:
        raise ShapeError(f"groups={groups} must divide the {c} input channels and the {k} filters")
    if c_group * groups != c:
        raise ShapeError(
            f"the filters expect {c_group * groups} input channels ({c_group} in each of {groups} groups), "
            f"but the images have {c}"
        )
    vertical, horizontal = padding_pairs(padding)
    return _conv_geometry(n, h, w, c, k, kh, kw, sh, sw, vertical, horizontal, dh, dw, groups)


@functools.lru_cache(4096)  # a network uses the same few geometries in every step
def _conv_geometry(
    n: int,
    h: int,
    w: int,
    c: int,
    k: int,
    kh: int,
    kw: int,
    sh: int,
    sw: int,
    vertical: tuple[int, int] | str,
    horizontal: tuple[int, int] | str,
    dh: int,
    dw: int,
    groups: int,
) -> ConvGeometry:
    pt, pb, oh = _axis(h, kh, sh, dh, vertical, "height")
    pl, pr, ow = _axis(w, kw, sw, dw, horizontal, "width")
    _array((n, oh, ow, k))
    return ConvGeometry(n, h, w, c, k, kh, kw, sh, sw, pt, pb, pl, pr, dh, dw, groups, oh, ow)


def pool_geometry(
    input_shape: Sequence[int],
    pool_size: Pair,
    *,
    stride: Pair | None = None,
    padding: Padding = 0,
) -> PoolGeometry:
    """Work out and check the geometry of a pooling.

    Parameters
    ----------
    input_shape : sequence of 4 int
        Images, ``(N, H, W, C)``.
    pool_size : int or (int, int)
        Height and width of a window in pixels.
    stride : int or (int, int), optional
        Defaults to `pool_size`.
    padding : see :func:`conv_geometry`
        Padded pixels belong to no window's maximum or mean.

    Raises
    ------
    InputError
        If an argument is not of one of these forms.
    ShapeError
        If the output would be empty or a window would lie wholly in the padding.
    """
    n, h, w, c = shape4(input_shape, "input")
    kh, kw = pair(pool_size, "pool_size")
    sh, sw = pair(pool_size if stride is None else stride, "stride")
    vertical, horizontal = padding_pairs(padding)
    pt, pb, oh = _axis(h, kh, sh, 1, vertical, "height")
    pl, pr, ow = _axis(w, kw, sw, 1, horizontal, "width")
    for size, kernel, stride_, before, output, axis in ((h, kh, sh, pt, oh, "height"), (w, kw, sw, pl, ow, "width")):
        if before >= kernel or (output - 1) * stride_ - before >= size:
            raise ShapeError(
                f"a pooling window would lie wholly in the padding: {axis} {size}, pool size {kernel}, "
                f"stride {stride_}, padding {before} before"
            )
    _array((n, oh, ow, c))
    return PoolGeometry(n, h, w, c, kh, kw, sh, sw, pt, pb, pl, pr, oh, ow)


def filter_padding(
    size: tuple[int, ...], kernel: tuple[int, ...], mode: str, *, turned: bool, origin: Pair = 0
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Padding that gives images the output size of a mode of :mod:`scipy.signal`, for stride 1.

    Parameters
    ----------
    size, kernel : (int, int)
        Height and width of the images and of the kernel, in pixels.
    mode : one of FILTER_MODES
        "full": all windows that touch the image; "same": one for each of its pixels; "valid": those inside it.
    turned : bool
        Whether this is a convolution. If the kernel is even, its windows lie one pixel further up and left than a
        correlation's.
    origin : int or (int, int)
        In mode "same", pixels by which the kernel is moved up and left, or down and right if `turned`.

    Returns
    -------
    ((int, int), (int, int))
        Top and bottom, left and right, in pixels.

    Raises
    ------
    ShapeError
        If the kernel does not fit into the image in mode "valid".
    InputError
        If another argument is wrong.
    """
    moves = pair(origin, "origin", minimum=-MOST)
    if mode != "same" and any(moves):
        raise InputError(f"origin moves the kernel in mode 'same' only, not in mode {mode!r}")
    if mode == "valid":
        if size[0] < kernel[0] or size[1] < kernel[1]:
            raise ShapeError(f"in mode 'valid' a kernel of {kernel} must fit into an image of {size}")
        return (0, 0), (0, 0)
    if mode == "full":
        return (kernel[0] - 1,) * 2, (kernel[1] - 1,) * 2
    vertical, horizontal = (_centred(reach, move, turned) for reach, move in zip(kernel, moves))
    return vertical, horizontal


def _centred(kernel: int, move: int, turned: bool) -> tuple[int, int]:
    """Padding before and after one axis, so that each of its pixels has a window around it."""
    before = kernel // 2 - move if turned else (kernel - 1) // 2 + move
    if not 0 <= before < kernel:
        raise InputError(f"origin {move} would move a kernel of {kernel} pixels off the pixel that it is centred on")
    return before, kernel - 1 - before
