"""build(): the named models, and small models in the paper's notation."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import DTypeLike

from pyconv.errors import InputError, unknown_name
from pyconv.values import integer

from . import branched, deep
from .activation import ReLU
from .conv import Conv2D
from .dense import Dense, Flatten
from .dropout import Dropout
from .initialisation import LAST
from .layer import Layer, Shape, example_shape
from .norm import BatchNorm
from .pooling import MaxPool2D
from .sequential import Sequential


@dataclass(frozen=True)
class Recipe:
    """A named model: a function that makes its layers for an input shape and a number of classes, and its defaults."""

    layers: Callable[[Shape, int], list[Layer]]
    input_shape: tuple[int, int, int]
    classes: int


def _fer(input_shape: Shape, classes: int) -> list[Layer]:
    """A network of the paper's layer types; its five convolutions are the layers of Table I."""
    return [
        Conv2D(32, 5, padding="same", activation="relu"),
        MaxPool2D(2),
        Conv2D(64, 3, padding="same", activation="relu"),
        MaxPool2D(2),
        Conv2D(128, 3, padding="same", activation="relu"),
        Conv2D(128, 3, padding="same", activation="relu"),
        MaxPool2D(2),
        Conv2D(256, 3, padding="same", activation="relu"),
        MaxPool2D(2),
        Flatten(),
        Dense(256, activation="relu"),
        Dense(classes, scale=LAST),
    ]


def _fer_bn(input_shape: Shape, classes: int) -> list[Layer]:
    """`fer` with BatchNorm before each ReLU, and Dropout after the hidden layer, for accuracy."""
    layers: list[Layer] = []
    for layer in _fer(input_shape, classes)[:-2]:
        if isinstance(layer, Conv2D):
            layers += [Conv2D(layer.filters, layer.kernel_size, padding="same", bias=False), BatchNorm(), ReLU()]
        else:
            layers.append(layer)
    hidden = [Dense(256, bias=False), BatchNorm(), ReLU(), Dropout(0.5)]
    return [*layers, *hidden, Dense(classes, scale=LAST)]


def _lenet(input_shape: Shape, classes: int) -> list[Layer]:
    """LeNet-5 (LeCun et al. 1998), with ReLU and max pooling."""
    return [
        Conv2D(6, 5, padding="same", activation="relu"),
        MaxPool2D(2),
        Conv2D(16, 5, activation="relu"),
        MaxPool2D(2),
        Flatten(),
        Dense(120, activation="relu"),
        Dense(84, activation="relu"),
        Dense(classes, scale=LAST),
    ]


def _vgg(name: str, **settings: Any) -> Callable[[Shape, int], list[Layer]]:
    return lambda input_shape, classes: deep.vgg(name, input_shape, classes, **settings)


#: The named models. Facial expressions: 48×48 gray, 7 classes; digits and fashion: 28×28 gray, 10 classes; ImageNet:
#: 224×224 in colour (AlexNet's arithmetic needs 227), 1000 classes; CIFAR: 32×32 in colour, 10 classes.
MODELS: dict[str, Recipe] = {
    "fer": Recipe(_fer, (48, 48, 1), 7),
    "fer-bn": Recipe(_fer_bn, (48, 48, 1), 7),
    "lenet": Recipe(_lenet, (28, 28, 1), 10),
    "alexnet": Recipe(deep.alexnet, (227, 227, 3), 1000),
    "vgg11": Recipe(_vgg("vgg11"), (224, 224, 3), 1000),
    "vgg13": Recipe(_vgg("vgg13", hidden=1024, stage_dropout=0.25), (64, 64, 1), 8),
    "vgg16": Recipe(_vgg("vgg16"), (224, 224, 3), 1000),
    "vgg19": Recipe(_vgg("vgg19"), (224, 224, 3), 1000),
    "resnet18": Recipe(branched.resnet18, (32, 32, 3), 10),
    "squeezenet": Recipe(branched.squeezenet, (32, 32, 3), 10),
    "mini-xception": Recipe(branched.mini_xception, (64, 64, 1), 7),
}

_NOTATION = re.compile("-".join(["([0-9]{1,18})"] * 4))


def _notation(name: str) -> Recipe | None:
    """The model whose name in the paper's notation (kernel-filters-hidden-classes) is `name`, or None."""
    match = _NOTATION.fullmatch(name)
    if match is None:
        return None
    kernel, filters, hidden, classes = map(int, match.groups())
    if 0 in (kernel, filters, hidden, classes):
        raise InputError(f"model {name!r}: kernel, filters, hidden units and classes must all be above 0")

    def layers(input_shape: Shape, count: int) -> list[Layer]:
        return [
            Conv2D(filters, kernel, activation="relu"),
            MaxPool2D(2),
            Flatten(),
            Dense(hidden, activation="relu"),
            Dense(count, scale=LAST),
        ]

    return Recipe(layers, (28, 28, 1), classes)


def build(
    name: str,
    input_shape: Sequence[int] | None = None,
    classes: int | None = None,
    seed: int = 0,
    dtype: DTypeLike = "float32",
) -> Sequential:
    """Make a named model, or a model in the paper's notation.

    Parameters
    ----------
    name : str
        ``"fer"``, ``"fer-bn"``, ``"lenet"``, ``"alexnet"``, ``"vgg11"``, ``"vgg13"``, ``"vgg16"``, ``"vgg19"``,
        ``"resnet18"``, ``"squeezenet"``, ``"mini-xception"``, or kernel-filters-hidden-classes as ``"5-50-100-10"``:
        one convolution of 50 filters of 5×5 without padding, ReLU, 2×2 max pooling, a hidden layer of 100 units with
        ReLU, 10 classes.
    input_shape : (int, int, int), optional
        Height, width and channels of the data; the model's own by default: 48×48×1 for `fer` and `fer-bn`, 64×64×1 for
        `vgg13` and `mini-xception`, 32×32×3 for `resnet18` and `squeezenet`, 227×227×3 for `alexnet`, 224×224×3 for the
        other `vgg…`, else 28×28×1. VGG leaves out pools of images that are one row already; AlexNet's first stride is
        4, 2 below 127 pixels and 1 below 63.
    classes : int, optional
        The data's; by default the model's own. In the paper's notation the name gives it.
    seed : int
        For the first parameters and for dropout.
    dtype : "float32" or "float64"

    Returns
    -------
    Sequential

    Raises
    ------
    UnknownNameError
        If there is no such model; the message lists the known ones.
    InputError
        If the name in the paper's notation says another number of classes than `classes`.
    ShapeError
        If the model cannot take images of this shape; the message names the layer.

    References
    ----------
    The notation: the paper, Fig. 3. LeCun et al. (1998): `lenet`, with ReLU and max pooling. Krizhevsky et al. (2012):
    `alexnet`, with its two groups and without response normalisation. Simonyan and Zisserman (2014): `vgg11`, `vgg16`,
    `vgg19` (A, D and E). Barsoum et al. (2016), the network of FER+: `vgg13`, with ten convolutions and dropout; it is
    not Simonyan and Zisserman's B. He et al. (2016): `resnet18`, with a stem for small images. Iandola et al. (2016):
    `squeezenet`, version 1.1. Arriaga et al. (2017), "Real-time convolutional neural networks for emotion and gender
    classification": `mini-xception`.

    Examples
    --------
    >>> from pyconv import nn
    >>> nn.build("5-50-100-10")
    <Sequential of 5 layers, (28, 28, 1) to (10,), 722,410 parameters>
    """
    recipe = MODELS.get(name) if isinstance(name, str) else None
    if recipe is None:
        recipe = _notation(name) if isinstance(name, str) else None
    if recipe is None:
        raise unknown_name("model", name, [*MODELS, "kernel-filters-hidden-classes as 5-50-100-10"])
    count = recipe.classes if classes is None else integer(classes, "classes", minimum=1)
    if name not in MODELS and count != recipe.classes:
        fitting = "-".join([*str(name).split("-")[:-1], str(count)])
        raise InputError(f"model {name!r} has {recipe.classes} classes, {count} are needed: write {fitting!r}")
    shape = example_shape(recipe.input_shape if input_shape is None else input_shape)
    return Sequential(recipe.layers(shape, count), shape, seed=seed, dtype=dtype)
