"""pyconv against its peers: every pass of every layer, whole steps, latency, SciPy, memory.

Each test verifies pyconv's result against the peer's, then lets both take turns on one thread. PyTorch runs in both of
its memory layouts, and the better of the two counts. The table goes to ``bench/results/peers.md``.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
from harness import memory_probe, peers_table, torch_peer, training
from harness.images import images_for
from harness.layers import ALL, PASSES, Group, Layer
from harness.torch_network import Twin
from harness.verify import relative_error

import pyconv
from pyconv import nn

EXPERIMENT = "peers"


def ours(one: Layer, operation: str, arrays: tuple, **how):
    """A function that runs one pass of a layer by pyconv's public functions."""
    x, weight, bias, grad_out = arrays
    how = {**one.arguments, **how}
    if operation == "forward":
        return lambda: pyconv.conv2d(x, weight, bias, **how)
    if operation == "input_grad":
        return lambda: pyconv.conv2d_input_grad(grad_out, weight, x.shape, **how)
    return lambda: pyconv.conv2d_weight_grad(x, grad_out, one.kernel, **how)


@pytest.mark.parametrize("operation", PASSES)
@pytest.mark.parametrize(("group", "one"), ALL, ids=[one.id for _, one in ALL])
def test_layer(group: Group, one: Layer, operation: str, measure, rng: np.random.Generator, quick: bool) -> None:
    torch = torch_peer.import_torch()
    one = one.cut(4) if quick else one
    arrays = one.arrays(rng)
    mine = ours(one, operation, arrays, backend="serial")
    peers = {
        f"torch {layout}": torch_peer.convolution(torch, one, operation, layout, arrays)
        for layout in torch_peer.LAYOUTS
    }
    with torch_peer.threads(torch, 1):
        error = relative_error(mine(), torch_peer.result_of(operation, peers["torch contiguous"]()))
        measure(
            {"pyconv": mine, **peers},
            experiment=EXPERIMENT,
            case=one.name,
            operation=operation,
            flops=one.geometry.flops,
            group=group.name,
            relative_error=error,
        )


def same_gradient(torch, model: nn.Sequential, x: np.ndarray, labels: np.ndarray) -> float:
    """Verify loss and gradient norm against PyTorch's twins; returns the loss's relative error."""
    loss, gradient = model.loss_and_gradient(x, labels)
    for layout in torch_peer.LAYOUTS:
        twin = Twin(torch, model, layout)
        batch = twin.images(x), torch.from_numpy(labels)
        error = relative_error(np.array([loss]), np.array([twin.loss(*batch).item()]))
        norm = np.linalg.norm(gradient.astype(np.float64), keepdims=True)
        relative_error(norm, np.array([twin.gradient_norm(*batch)]))
    return error


@pytest.mark.parametrize(
    ("name", "target", "on_images"), [("fer", 2.5, True), ("5-50-100-10", 4.0, True), ("5-50-100-10", None, False)]
)
def test_training_step(
    name: str, target: float | None, on_images: bool, measure, rng: np.random.Generator, quick: bool
) -> None:
    """After some training on images, because pyconv skips the zeros behind ReLUs; a batch of noise has fewer zeros."""
    torch = torch_peer.import_torch()
    batch = 8 if quick else 64
    model = nn.build(name)
    model.backend = "serial"
    batches, data, trained = [training.batch_for(model, batch, rng)], "one batch of noise", 0
    if on_images:
        x, labels, whose = images_for(model, 100 * batch)
        batches, trained = training.batches_of(x, labels, batch), training.TRAINED[name]
        data = f"{whose} after {trained} steps"
    with torch_peer.threads(torch, 1):
        error = same_gradient(torch, model, *batches[0])
        candidates = {"pyconv": training.trained(model, batches, trained)}
        for layout in torch_peer.LAYOUTS:
            twin = Twin(torch, model, layout)
            theirs = [(twin.images(x), torch.from_numpy(labels)) for x, labels in batches]
            candidates[f"torch {layout}"] = training.in_turn(twin.train_step, theirs)
        measure(
            candidates,
            experiment=EXPERIMENT,
            case=name,
            operation=f"training step, batch {batch}, {data}",
            flops=model.flops(batch, training=True),
            images=batch,
            target=target,
            relative_error=error,
        )


def test_two_threads(measure, two_cpus: None, rng: np.random.Generator, quick: bool) -> None:
    batch = 8 if quick else 64
    models = {"pyconv multicore, 2 threads": nn.build("fer"), "pyconv serial": nn.build("fer")}
    x, labels = training.batch_for(models["pyconv serial"], batch, rng)
    for column, model in models.items():
        model.backend, model.threads = ("multicore", 2) if "multicore" in column else ("serial", 1)
    gradients = [model.loss_and_gradient(x, labels)[1] for model in models.values()]
    assert np.array_equal(*gradients), "results may not depend on the number of threads"
    measure(
        {column: training.train_step(model, x, labels) for column, model in models.items()},
        experiment=EXPERIMENT,
        case="fer",
        operation=f"training step, batch {batch}, two threads over one",
        threads=2,
        flops=models["pyconv serial"].flops(batch, training=True),
        images=batch,
        target=1.85,
        relative_error=0.0,
    )


def test_latency(measure, rng: np.random.Generator) -> None:
    torch = torch_peer.import_torch()
    model = nn.build("fer")
    model.backend = "serial"
    x, _ = training.batch_for(model, 1, rng)

    def infer(twin: Twin, images):
        with torch.inference_mode():
            return twin.network(images)

    twins = [(layout, Twin(torch, model, layout)) for layout in torch_peer.LAYOUTS]
    peers = {f"torch {layout}": functools.partial(infer, twin, twin.images(x)) for layout, twin in twins}
    with torch_peer.threads(torch, 1):
        error = relative_error(model.forward(x), peers["torch contiguous"]().numpy())
        measure(
            {"pyconv": lambda: model.forward(x), **peers},
            experiment=EXPERIMENT,
            case="fer",
            operation="inference of one image",
            flops=model.flops(1),
            images=1,
            target=2.0,
            relative_error=error,
        )


def test_scipy(measure, rng: np.random.Generator) -> None:
    image, kernel = (rng.standard_normal(size, dtype=np.float32) for size in ((512, 512), (7, 7)))
    x, weight = image[None, :, :, None], kernel[:, :, None, None]
    mine = functools.partial(pyconv.conv2d, x, weight, padding=3, backend="serial")
    peers = {
        "scipy.signal.correlate2d": lambda: scipy.signal.correlate2d(image, kernel, mode="same"),
        "scipy.signal.fftconvolve": lambda: scipy.signal.fftconvolve(image, kernel[::-1, ::-1], mode="same"),
        "scipy.ndimage.correlate": lambda: scipy.ndimage.correlate(image, kernel, mode="constant"),
    }
    expected = scipy.signal.correlate2d(image.astype(np.float64), kernel.astype(np.float64), mode="same")
    error = relative_error(mine()[0, :, :, 0], expected)
    for peer in peers.values():
        relative_error(peer(), expected)
    measure(
        {"pyconv": mine, **peers},
        experiment=EXPERIMENT,
        case="one 512×512 image, one 7×7 filter",
        operation="forward",
        flops=2 * 49 * 512 * 512,
        target=20,
        relative_error=error,
    )


def test_memory(measure, quick: bool) -> None:
    torch_peer.import_torch()
    batch = 8 if quick else 64
    what = {"experiment": EXPERIMENT, "case": "fer", "operation": f"peak memory of a training step, batch {batch}"}
    found = measure.once(lambda: {library: memory_probe.measure(library, batch) for library in ("pyconv", "torch")})
    for library, taken in found.items():
        above = taken["peak"] - taken["interpreter"]
        measure.add(**what, column=library, bytes=above, bytes_of_steps=taken["peak"] - taken["ready"], target=1.0)


def test_limited_to_avx2(request: pytest.FixtureRequest, measure, tmp_path: Path, quick: bool, thorough: bool) -> None:
    """With both libraries limited to AVX2, in a process of their own, the ratios stay within a fifth.

    Batches are small, so the start of a call counts for more; ``--thorough`` takes whole batches, for minutes.
    """
    if request.config.getoption("isa") is not None:
        pytest.skip("this run is itself limited to one instruction set")
    torch_peer.import_torch()
    which = "test_layer and b64" if quick else "test_layer"
    command = [sys.executable, "-m", "pytest", __file__, "-q", "-k", which, "--benchmark-only"]
    command += [] if thorough else ["--quick"]
    command += ["--isa", "avx2", "--results", str(tmp_path), "-p", "no:cacheprovider"]
    root = Path(__file__).parent.parent
    measure.once(lambda: subprocess.run(command, check=True, capture_output=True, cwd=root))
    records = json.loads((tmp_path / "avx2" / f"{EXPERIMENT}.json").read_text())["records"]
    for group, operation, mean, least in peers_table.means(records):
        measure.add(
            experiment=EXPERIMENT,
            case=f"limited to AVX2: {group}",
            operation=operation,
            column="pyconv",
            ratio=mean,
            least_ratio=least,
            isa="avx2",
            batches="whole" if thorough else "small",
        )
