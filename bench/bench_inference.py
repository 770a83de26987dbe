"""Inference with trained networks: pyconv against ONNX Runtime, OpenVINO, PyTorch and JAX, one image and 64.

Every library runs the same weights, and each result is verified before all take turns. Columns are there whose library
is installed; `make bench-inference` installs all. JAX takes as many threads as the process has CPUs, so it is measured
where that is the number of threads.
"""

from __future__ import annotations

import numpy as np
import pytest
from harness.inference_peers import installed
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
    model.backend, model.threads = ("serial", 1) if threads == 1 else ("multicore", threads)
    x = rng.random((images, *model.input_shape), dtype=np.float32)
    peers = dict(installed(model, x, threads))
    if not peers:
        pytest.skip("none of the peers is installed: make bench-inference")
    expected = model.forward(x)
    error = max(relative_error(peer(), expected) for peer in peers.values())
    measure(
        {"pyconv": lambda: model.forward(x), **peers}, experiment=EXPERIMENT, case=name,
        operation="inference of one image" if images == 1 else f"inference of {images} images", threads=threads,
        flops=model.flops(images), images=images, target=TARGETS.get((images, threads)), relative_error=error,
    )  # fmt: skip
