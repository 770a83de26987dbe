"""Inference with trained networks: pyconv against ONNX Runtime, OpenVINO, PyTorch and JAX, one image and 64.

Every library runs the same weights, in a process of its own, and each result is verified before all take turns. A turn
begins when the threads of the one before have gone to sleep. Columns are there whose library is installed; `make
bench-inference` installs all. JAX takes as many threads as the process has CPUs, so it is measured where that is the
number of threads.
"""

from __future__ import annotations

import numpy as np
import pytest
from harness.inference_peers import LIBRARIES
from harness.separate import separated
from harness.verify import relative_error

from pyconv import nn

EXPERIMENT = "inference"
NETWORKS = ("fer", "5-50-100-10", "lenet", "vgg13")
#: By images and threads: how many times as fast as the better of ONNX Runtime and OpenVINO is asked for.
TARGETS = {(1, 1): 1.3, (1, 2): 1.2, (64, 1): 1.5, (64, 2): None}


@pytest.mark.parametrize(("images", "threads"), TARGETS)
@pytest.mark.parametrize("name", NETWORKS)
def test_inference(name: str, images: int, threads: int, measure, rng, quick: bool, request) -> None:
    if threads > 1:
        request.getfixturevalue("two_cpus")
    images = min(images, 8) if quick else images
    model = nn.build(name, seed=0)
    model.backend = "serial"
    x = rng.random((images, *model.input_shape), dtype=np.float32)
    with separated({column: (make, (model, x, threads)) for column, make in LIBRARIES.items()}) as libraries:
        if len(libraries) == 1:
            pytest.skip("none of the peers is installed: make bench-inference")
        expected = model.forward(x)
        error = max(relative_error(library(), expected) for library in libraries.values())
        measure(
            libraries, experiment=EXPERIMENT, case=name,
            operation="inference of one image" if images == 1 else f"inference of {images} images", threads=threads,
            flops=model.flops(images), images=images, target=TARGETS.get((images, threads)), relative_error=error,
        )  # fmt: skip
