"""Geometry against brute force: count where a window fits."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import ConvCase, conv_cases

from pyconv.errors import ShapeError
from pyconv.shapes import conv_geometry, pool_geometry


@given(case=conv_cases())
def test_output_size_is_the_number_of_places_where_the_kernel_fits(case: ConvCase) -> None:
    g = case.geometry
    height = g.h + g.pt + g.pb
    places = sum(1 for top in range(0, height, g.sh) if top + (g.kh - 1) * g.dh < height)
    assert places == g.oh
    assert g.flops == 2 * g.n * g.oh * g.ow * g.k * g.kh * g.kw * (g.c // g.groups)
    assert g.bytes(8) == 2 * g.bytes(4) > 0


@given(size=st.integers(1, 50), kernel=st.integers(1, 11), stride=st.integers(1, 5), dilation=st.integers(1, 3))
def test_same_padding_is_onnx_same_upper(size: int, kernel: int, stride: int, dilation: int) -> None:
    g = conv_geometry((1, size, size, 1), (kernel, kernel, 1, 1), padding="same", stride=stride, dilation=dilation)
    assert g.oh == g.ow == math.ceil(size / stride)
    assert 0 <= g.pb - g.pt <= 1
    assert g.pt + g.pb == max((g.oh - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)


def test_spellings_of_a_padding() -> None:
    pads = {
        2: (2, 2, 2, 2),
        (1, 2): (1, 1, 2, 2),
        ((0, 1), (2, 3)): (0, 1, 2, 3),
        "valid": (0, 0, 0, 0),
    }
    for padding, expected in pads.items():
        g = conv_geometry((1, 9, 9, 1), (3, 3, 1, 1), padding=padding)
        assert (g.pt, g.pb, g.pl, g.pr) == expected


def test_pool_windows_must_see_the_image() -> None:
    assert pool_geometry((1, 5, 5, 1), 2, padding="same").oh == 3
    with pytest.raises(ShapeError, match="wholly in the padding"):
        pool_geometry((1, 4, 4, 1), 2, stride=2, padding=((0, 3), (0, 0)))


@pytest.mark.parametrize(
    "setting",
    [
        {"padding": 2**62},
        {"padding": ((0, 2**80), (0, 0))},
        {"stride": 2**63},
        {"stride": (1, 2**31)},
        {"dilation": 2**70},
    ],
)
def test_extents_beyond_the_integers_of_c_are_refused(setting: dict) -> None:
    with pytest.raises(ShapeError, match=r"(stride|padding|dilation) must be at most 2147483647, not \d+$"):
        conv_geometry((1, 8, 8, 1), (3, 3, 1, 1), **setting)
    if "dilation" not in setting:
        with pytest.raises(ShapeError, match="must be at most 2147483647"):
            pool_geometry((1, 8, 8, 1), 2, **setting)


def test_a_result_that_no_array_can_hold_is_refused() -> None:
    with pytest.raises(ShapeError, match="more numbers than an array can hold"):
        conv_geometry((1, 8, 8, 1), (3, 3, 1, 1), padding=2**31 - 1)
