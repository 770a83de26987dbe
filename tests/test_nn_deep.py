"""VGG and AlexNet by name: the published shapes and counts, small images, one training step."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import pyconv
from pyconv import nn
from pyconv.errors import ShapeError

DEEP = [name for name in nn.MODELS if name.startswith(("vgg", "alexnet"))]

#: Parameters at the published input shape and number of classes.
PARAMETERS = {"alexnet": 60_965_224, "vgg11": 132_863_336, "vgg16": 138_357_544, "vgg19": 143_667_240,
              "resnet18": 11_173_962, "squeezenet": 727_626, "mini-xception": 56_951}  # fmt: skip


def on_paper(name: str, shape: tuple[int, int, int] | None = None, classes: int | None = None) -> nn.Architecture:
    """The architecture of the named model, without memory for its parameters."""
    recipe = nn.MODELS[name]
    shape = shape or recipe.input_shape
    return nn.Architecture(recipe.layers(shape, classes or recipe.classes), shape)


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_published_number_of_parameters(name: str) -> None:
    counts = (np.prod(parameter.shape) for parameter in on_paper(name).parameters.values())
    assert sum(counts) == PARAMETERS[name]


def test_vgg13_is_the_network_of_ferplus() -> None:
    model = on_paper("vgg13")
    layers = [layer for layer in model.layers if isinstance(layer, (nn.Conv2D, nn.Dense))]
    assert [getattr(layer, "filters", None) for layer in layers[:10]] == [64, 64, 128, 128, *[256] * 6]
    assert [layer.units for layer in layers[10:]] == [1024, 1024, 8]
    assert (model.input_shape, model.output_shape) == ((64, 64, 1), (8,))
    assert sum(isinstance(layer, nn.MaxPool2D) for layer in model.layers) == 4


def test_the_feature_maps_of_alexnet() -> None:
    assert [shape for shape in on_paper("alexnet").shapes if len(shape) == 3] == [
        (227, 227, 3), (55, 55, 96), (27, 27, 96), (27, 27, 256), (13, 13, 256), (13, 13, 384), (13, 13, 384),
        (13, 13, 256), (6, 6, 256),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "shape", [(15, 40, 1), (28, 28, 1), (32, 32, 3), (48, 48, 1), (63, 64, 3), (96, 126, 2), (127, 300, 3)]
)
@pytest.mark.parametrize("name", DEEP)
def test_they_fit_images_of_any_size(name: str, shape: tuple[int, int, int]) -> None:
    assert on_paper(name, shape, 5).output_shape == (5,)


@pytest.mark.covering("name", most=1)
@pytest.mark.parametrize("name", DEEP)
def test_they_train_a_step(name: str, rng: np.random.Generator) -> None:
    layers = nn.MODELS[name].layers((32, 32, 3), 4)
    narrow = [dataclasses.replace(one, units=64) if one == nn.Dense(4096, activation="relu") else one for one in layers]
    model = nn.Sequential(narrow, (32, 32, 3), seed=3)  # initialising 4096 units takes seconds
    model.backend = "serial"
    x, labels = rng.standard_normal((4, 32, 32, 3), dtype=np.float32), np.arange(4)
    before, gradient = model.loss_and_gradient(x, labels)
    assert before == pytest.approx(np.log(4), rel=1.5)  # the images are fresh noise in every run
    norm = float(np.linalg.norm(gradient))
    assert np.isfinite(norm) and norm > 0
    model.flat[...] -= 0.003 / norm * gradient
    after, _ = model.loss_and_gradient(x, labels)  # the same dropout, because the step is the same
    assert after < before
    if name in ("alexnet", "vgg13"):
        pyconv.fit(model, x, labels, epochs=1, batch_size=4, backend="serial", progress="off")
        assert np.isfinite(model.flat).all()


def test_images_that_are_too_small_are_named() -> None:
    with pytest.raises(ShapeError, match=r"layer 7 \(MaxPool2D\)"):
        nn.build("alexnet", input_shape=(14, 14, 1))
