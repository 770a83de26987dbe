"""The kernels have the memory traffic that the tutorial states: every access of a run is counted."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_devices import BACKEND, NO_EMULATOR, running_on

import pyconv
from pyconv.cuda.array import to_device
from pyconv.cuda.choice import forward_traffic
from pyconv.shapes import ConvGeometry, conv_geometry

pytestmark = pytest.mark.skipif(NO_EMULATOR is not None, reason=str(NO_EMULATOR))

SHAPES = {
    "padded": conv_geometry((2, 7, 9, 8), (3, 3, 8, 12), padding=1),
    "strided": conv_geometry((1, 11, 10, 3), (3, 2, 3, 20), stride=(2, 1), padding=((2, 0), (1, 1))),
    "dilated": conv_geometry((1, 9, 9, 4), (2, 3, 2, 6), dilation=(1, 2), padding=2, groups=2),
}


@pytest.mark.parametrize("g", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("algorithm", pyconv.algorithms("cuda"))
def test_counted_traffic_is_what_the_kernel_does(
    rng: np.random.Generator, algorithm: str, g: ConvGeometry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYCONV_CUDA_SPECIALISE", "0")
    x, weight = rng.standard_normal(g.input_shape).astype("f"), rng.standard_normal(g.weight_shape).astype("f")
    with running_on("emulated", sanitize="count") as device:
        BACKEND.conv2d(to_device(x), to_device(weight), None, g, algorithm=algorithm)
        counted = np.sum([bytes_of for _, bytes_of in device.counted], axis=0) // 4
        stated = forward_traffic(algorithm, g)
    assert tuple(counted) == (stated.global_reads, stated.global_writes, stated.shared_reads, stated.shared_writes)
    assert stated.multiply_adds == g.n * g.oh * g.ow * g.k * g.kh * g.kw * g.c // g.groups
