"""Networks with branches and deep ones against PyTorch: a whole training step, and its memory.

Loss and gradient are verified first, without dropout, whose random numbers differ. Then both take turns on one thread;
PyTorch runs in both of its memory layouts, and the better of the two counts. Its ReLUs and sums overwrite their input,
as in torchvision's networks. The table goes to ``bench/results/networks.md``.
"""

from __future__ import annotations

import numpy as np
import pytest
from harness import memory_probe, torch_peer, training
from harness.torch_network import Twin
from harness.verify import relative_error

from pyconv import nn

EXPERIMENT = "networks"

#: The models, with the speed beside PyTorch's that is asked for.
MODELS = {"resnet18": 1.5, "mini-xception": 1.5, "vgg13": None, "squeezenet": None}


def verified(torch, name: str, batch: tuple[np.ndarray, np.ndarray]) -> float:
    """Compare loss and gradient norm with PyTorch's, without dropout; returns the loss's relative error."""
    built = nn.build(name)
    layers = [layer for layer in built.layers if not isinstance(layer, nn.Dropout)]
    model = nn.Sequential(layers, built.input_shape, seed=int(np.random.default_rng().integers(1 << 31)))
    model.backend = "serial"
    twin = Twin(torch, model, "channels_last", inplace=True)
    images, labels = twin.images(batch[0]), torch.from_numpy(batch[1])
    loss, gradient = model.loss_and_gradient(*batch)
    error = relative_error(np.array([loss]), np.array([twin.loss(images, labels).item()]))
    norm = np.linalg.norm(gradient.astype(np.float64), keepdims=True)
    relative_error(norm, np.array([twin.gradient_norm(images, labels)]), 1e-2)  # a ReLU at 0 may fall either way
    return error


@pytest.mark.parametrize("name", MODELS)
def test_training_step(name: str, measure, rng: np.random.Generator, quick: bool) -> None:
    torch = torch_peer.import_torch()
    batch = 8 if quick else 64
    model = nn.build(name)
    model.backend = "serial"
    x, labels = training.batch_for(model, batch, rng)
    with torch_peer.threads(torch, 1):
        error = verified(torch, name, (x, labels))
        twins = {f"torch {layout}": Twin(torch, model, layout, inplace=True) for layout in torch_peer.LAYOUTS}
        candidates = {"pyconv": training.train_step(model, x, labels)}
        for column, twin in twins.items():
            theirs = [(twin.images(x), torch.from_numpy(labels))]
            candidates[column] = training.in_turn(twin.train_step, theirs)
        measure(
            candidates,
            experiment=EXPERIMENT,
            case=name,
            operation=f"training step, batch {batch}",
            flops=model.flops(batch, training=True),
            images=batch,
            target=MODELS[name],
            relative_error=error,
        )


@pytest.mark.parametrize("name", MODELS)
def test_memory(name: str, measure, quick: bool) -> None:
    """The most memory of three steps, above what is resident after a step on two images."""
    torch_peer.import_torch()
    batch = 8 if quick else 64
    found = measure.once(lambda: {each: memory_probe.measure(each, batch, name) for each in ("pyconv", "torch")})
    for library, taken in found.items():
        measure.add(
            experiment=EXPERIMENT,
            case=name,
            operation=f"memory of training steps, batch {batch}",
            column=library,
            bytes=taken["peak"] - taken["ready"],
            target=1.0,
        )
