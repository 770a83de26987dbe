"""Hypothesis strategies for geometries: small, odd, and off every tile's multiple."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from pyconv.shapes import ConvGeometry, PoolGeometry, conv_geometry, pool_geometry

DTYPES = st.sampled_from(["float32", "float64"])
SEEDS = st.integers(0, 2**32 - 1)


@dataclass(frozen=True)
class ConvCase:
    """A convolution's arguments and the geometry that they give."""

    geometry: ConvGeometry
    arguments: dict

    def arrays(self, seed: int, dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Fresh images, filters, bias and output gradient of unit variance."""
        rng = np.random.default_rng(seed)
        g = self.geometry
        shapes = (g.input_shape, g.weight_shape, (g.k,), g.output_shape)
        x, weight, bias, grad_out = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
        return x, weight, bias, grad_out


_side = st.integers(0, 4)
_paddings = st.one_of(
    st.integers(0, 4),
    st.tuples(_side, _side),
    st.tuples(st.tuples(_side, _side), st.tuples(_side, _side)),
    st.sampled_from(["same", "valid"]),
)


@st.composite
def conv_cases(draw: st.DrawFn, *, max_channels: int = 9, max_filters: int = 70) -> ConvCase:
    """Any stride, padding, dilation and groups, on images that the kernel fits into."""
    kh, kw = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    dilation = draw(st.one_of(st.integers(1, 3), st.tuples(st.integers(1, 3), st.integers(1, 3))))
    dh, dw = (dilation, dilation) if isinstance(dilation, int) else dilation
    stride = draw(st.one_of(st.integers(1, 3), st.tuples(st.integers(1, 4), st.integers(1, 4))))
    groups = draw(st.sampled_from([1, 1, 1, 2, 3, 5]))
    channels = groups * draw(st.integers(1, max_channels))
    filters = groups * draw(st.integers(1, max(1, max_filters // groups)))
    height = (kh - 1) * dh + 1 + draw(st.integers(0, 12))
    width = (kw - 1) * dw + 1 + draw(st.integers(0, 20))
    arguments = {"stride": stride, "padding": draw(_paddings), "dilation": dilation, "groups": groups}
    shape = (draw(st.integers(1, 3)), height, width, channels)
    geometry = conv_geometry(shape, (kh, kw, channels // groups, filters), **arguments)
    return ConvCase(geometry, arguments)


@st.composite
def pool_cases(draw: st.DrawFn) -> tuple[PoolGeometry, dict]:
    """Any window, stride and padding in which every window sees a pixel."""
    kh, kw = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    pads = [draw(st.integers(0, size - 1)) for size in (kh, kh, kw, kw)]
    padding = draw(st.sampled_from([((pads[0], pads[1]), (pads[2], pads[3])), "same", "valid"]))
    # A stride of at most the window's size keeps the last window from starting beyond the image.
    stride = draw(st.one_of(st.none(), st.tuples(st.integers(1, kh), st.integers(1, kw))))
    shape = (
        draw(st.integers(1, 3)),
        kh + draw(st.integers(0, 9)),
        kw + draw(st.integers(0, 9)),
        draw(st.integers(1, 40)),
    )
    arguments = {"pool_size": (kh, kw), "stride": stride, "padding": padding}
    return pool_geometry(shape, (kh, kw), stride=stride, padding=padding), arguments
