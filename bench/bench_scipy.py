"""pyconv.convolve2d against SciPy: image and kernel sizes, one thread and two, and where FFTs begin to win."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
from harness.verify import relative_error

import pyconv

EXPERIMENT = "scipy"
SIZES = (64, 256, 512, 1024)
KERNELS = (3, 7, 11, 15, 21, 31, 41, 63, 127, 255, 511)

#: Up to so many products SciPy's direct methods are measured too; they take about a nanosecond for each.
MOST_PRODUCTS = 3e8


def peers(image: np.ndarray, kernel: np.ndarray) -> dict:
    """SciPy's functions for this: two by transforms, and two direct ones unless they would take seconds."""
    found = {
        "scipy.signal.fftconvolve": functools.partial(scipy.signal.fftconvolve, image, kernel, mode="same"),
        "scipy.signal.oaconvolve": functools.partial(scipy.signal.oaconvolve, image, kernel, mode="same"),
    }
    if image.size * kernel.size <= MOST_PRODUCTS:
        found["scipy.signal.convolve2d"] = functools.partial(scipy.signal.convolve2d, image, kernel, mode="same")
        found["scipy.ndimage.convolve"] = functools.partial(scipy.ndimage.convolve, image, kernel, mode="constant")
    return found


@pytest.mark.parametrize("width", KERNELS)
@pytest.mark.parametrize("size", SIZES)
def test_scipy(size: int, width: int, measure, rng: np.random.Generator, quick: bool) -> None:
    """One image and one kernel, float32; all of SciPy runs on one thread here."""
    if quick and size > 512:
        pytest.skip("a small image only")
    if width > size:
        pytest.skip("the kernel is larger than the image")
    image, kernel = (rng.standard_normal((side, side), dtype=np.float32) for side in (size, width))
    mine = functools.partial(pyconv.convolve2d, image, kernel, mode="same")
    others = peers(image, kernel)
    expected = scipy.signal.fftconvolve(image.astype(np.float64), kernel.astype(np.float64), mode="same")
    error = relative_error(mine(), expected)
    for other in others.values():
        relative_error(other(), expected)
    measure(
        {
            "pyconv": functools.partial(mine, threads=1),
            "pyconv, 2 threads": functools.partial(mine, threads=2),
            **others,
        },
        experiment=EXPERIMENT,
        case=f"{size}×{size}, kernel {width}×{width}",
        operation="forward",
        x=width,
        size=size,
        flops=2 * image.size * kernel.size,
        relative_error=error,
    )
