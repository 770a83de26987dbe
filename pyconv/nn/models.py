"""The named models, and the paper's notation for small ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from numpy.typing import DTypeLike

from pyconv.errors import InputError, unknown_name
from pyconv.values import integer

from .activation import ReLU
from .conv import Conv2D
from .dense import Dense, Flatten
from .dropout import Dropout
from .layer import Layer
from .norm import BatchNorm
from .pooling import MaxPool2D
from .sequential import Sequential

#: Factor of the last layer's first weights: training begins with nearly equal probabilities.
LAST = 0.1


@dataclass(frozen=True)
class Recipe:
    """A named model: its layers for a number of classes, and what it was made for."""

    layers: Callable[[int], list[Layer]]
    input_shape: tuple[int, int, int]
    classes: int


def _fer(classes: int) -> list[Layer]:
    """The paper's ingredients only; the five convolutions are the layers of its Table I."""
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


def _fer_bn(classes: int) -> list[Layer]:
    """`fer` with BatchNorm before each ReLU, and Dropout after the hidden layer, for accuracy."""
    layers: list[Layer] = []
    for layer in _fer(classes)[:-2]:
        if isinstance(layer, Conv2D):
            layers += [Conv2D(layer.filters, layer.kernel_size, padding="same", bias=False), BatchNorm(), ReLU()]
        else:
            layers.append(layer)
    hidden = [Dense(256, bias=False), BatchNorm(), ReLU(), Dropout(0.5)]
    return [*layers, *hidden, Dense(classes, scale=LAST)]


def _lenet(classes: int) -> list[Layer]:
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


#: The named models. Facial expressions: 48×48 gray, 7 classes; digits and fashion: 28×28 gray, 10 classes.
MODELS: dict[str, Recipe] = {
    "fer": Recipe(_fer, (48, 48, 1), 7),
    "fer-bn": Recipe(_fer_bn, (48, 48, 1), 7),
    "lenet": Recipe(_lenet, (28, 28, 1), 10),
}

_NOTATION = re.compile("-".join(["([0-9]{1,18})"] * 4))


def _notation(name: str) -> Recipe | None:
    """The model that the paper would write `name`, kernel-filters-hidden-classes, or None if it is no such name."""
    match = _NOTATION.fullmatch(name)
    if match is None:
        return None
    kernel, filters, hidden, classes = map(int, match.groups())
    if 0 in (kernel, filters, hidden, classes):
        raise InputError(f"model {name!r}: kernel, filters, hidden units and classes must all be above 0")

    def layers(count: int) -> list[Layer]:
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
    """Make a named model, or one in the paper's notation.

    Parameters
    ----------
    name : str
        ``"fer"``, ``"fer-bn"``, ``"lenet"``, or kernel-filters-hidden-classes as ``"5-50-100-10"``: one convolution
        of 50 filters of 5×5 without padding, ReLU, 2×2 max pooling, a hidden layer of 100 units with ReLU, 10 classes.
    input_shape : (int, int, int), optional
        Height, width and channels of the data; the model's own by default (48×48×1 for `fer` and `fer-bn`, else
        28×28×1).
    classes : int, optional
        Of the data; the model's own by default. In the paper's notation, what the name says.
    seed : int
        Of the first parameters and of dropout.
    dtype : "float32" or "float64"

    Returns
    -------
    Sequential

    Raises
    ------
    UnknownNameError
        If there is no such model; the message lists the known ones.
    InputError
        If the paper's notation says another number of classes than `classes`.
    ShapeError
        If the model cannot take images of this shape; the message names the layer.

    References
    ----------
    The notation: the paper, Fig. 3.

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
    shape = recipe.input_shape if input_shape is None else input_shape
    return Sequential(recipe.layers(count), shape, seed=seed, dtype=dtype)
