"""Large kernels: whether `auto` takes transforms where they pay, and a whole batch beside SciPy, image by image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.signal
from bench_peers import ours
from harness.contest import Contest
from harness.layers import PASSES, Layer, layer
from harness.verify import relative_error

EXPERIMENT = "fft"

#: Around the kernel from which transforms are faster, and beyond.
LAYERS = (
    layer(1, 256, 1, 1, 31), layer(1, 256, 1, 1, 41), layer(1, 256, 1, 1, 51), layer(1, 512, 1, 1, 41),
    layer(1, 512, 1, 1, 63), layer(8, 64, 8, 8, 15), layer(8, 64, 8, 8, 25), layer(4, 96, 32, 32, 11),
    layer(4, 96, 32, 32, 17),
)  # fmt: skip

CONTEST = Contest(EXPERIMENT, ours)


@pytest.mark.parametrize("operation", PASSES)
@pytest.mark.parametrize("one", LAYERS, ids=[one.id for one in LAYERS])
def test_auto_at_the_crossing(one: Layer, operation: str, measure, rng: np.random.Generator, quick: bool) -> None:
    """Time `auto` beside all algorithms that do not take four times as long."""
    if quick and one.shape[1] > 64:
        pytest.skip("small images only")
    CONTEST.run(one, operation, one.arrays(rng), measure)


def test_share_of_good_choices(measure) -> None:
    """How many choices are within a tenth of the best; what is beyond is recorded."""
    CONTEST.share_of_good_choices(measure)


def image_by_image(x: np.ndarray, weight: np.ndarray) -> Callable[[], np.ndarray]:
    """SciPy's fftconvolve for each image, channel and filter; a stack of images is one call."""
    turned = weight[::-1, ::-1]

    def run() -> np.ndarray:
        y = np.zeros((*x.shape[:3], weight.shape[3]), x.dtype)
        for k in range(weight.shape[3]):
            for c in range(x.shape[3]):
                y[..., k] += scipy.signal.fftconvolve(x[..., c], turned[None, :, :, c, k], mode="same", axes=(1, 2))
        return y

    return run


@pytest.mark.parametrize("one", [layer(16, 128, 1, 1, 63), layer(4, 128, 8, 8, 31)], ids=lambda one: one.id)
def test_a_batch_beside_scipy(one: Layer, measure, rng: np.random.Generator, quick: bool) -> None:
    """Many images and channels in one call."""
    one = one.cut(2) if quick else one
    x, weight, bias, _ = arrays = one.arrays(rng)
    bias[...] = 0
    mine, theirs = ours(one, "forward", arrays, backend="serial"), image_by_image(x, weight)
    error = relative_error(mine(), theirs())
    measure(
        {"pyconv": mine, "scipy.signal.fftconvolve": theirs}, experiment=EXPERIMENT, case=f"{one.name}, a batch",
        operation="forward", flops=one.geometry.flops, relative_error=error,
    )  # fmt: skip
