"""Makes a classifier's network: the one that the user asked for, or one that fits the images."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import nn
from ..errors import InputError, PyconvError, ShapeError, short, shown
from ..nn.initialisation import LAST
from ..nn.layer import Shape
from ..values import sequence

FILTERS, MOST_FILTERS = 32, 128
"""Filters of the first convolution, and most filters of a convolution."""
SMALL = 8
"""Images are halved again until height and width have at most this many pixels."""


def layers_for(shape: Shape, classes: int) -> list[nn.Layer]:
    """Layers for images of `shape`: 3×3 convolutions with ReLU and 2×2 max pooling, each with twice as many filters.

    There are two, or as many as reduce the shorter side to 8 pixels; images of a single row get one convolution along
    the row. Then comes a hidden layer.
    """
    height, width, _ = shape
    layers: list[nn.Layer] = []
    if min(height, width) < 4:
        kernel = (min(height, 3), min(width, 3))
        layers.append(nn.Conv2D(FILTERS // 2, kernel, padding="same", activation="relu"))
    filters, side, blocks = FILTERS, min(height, width), 0
    while side >= 4 and (blocks < 2 or side > SMALL):
        layers += [nn.Conv2D(filters, 3, padding="same", activation="relu"), nn.MaxPool2D(2)]
        filters, side, blocks = min(2 * filters, MOST_FILTERS), side // 2, blocks + 1
    hidden = 128 if blocks else 64
    return [*layers, nn.Flatten(), nn.Dense(hidden, activation="relu"), nn.Dense(classes, scale=LAST)]


def network(model: Any, shape: Shape, classes: int, *, seed: int, dtype: np.dtype) -> nn.Sequential:
    """Make the network that `model` describes.

    Parameters
    ----------
    model : str, sequence of Layer, callable or Sequential
        See :class:`pyconv.sklearn.ConvNetClassifier`.
    shape : tuple of int
        Of one example.
    classes : int
    seed : int
        For the first parameters and for dropout.
    dtype : dtype

    Raises
    ------
    UnknownNameError, InputError, ShapeError
        If `model` describes no network, or the network does not fit the images or the classes.
    """
    if callable(model) and not isinstance(model, (type, nn.Sequential)):
        try:
            model = model(shape, classes)
        except PyconvError:
            raise
        except Exception as error:  # the user's own function
            words = short(" ".join(f"{type(error).__name__}: {error}".split()), 200)
            raise InputError(f"model fails when it is called as model(shape, classes): {words}") from error
    if isinstance(model, str):
        if model != "auto":
            return nn.build(model, shape, classes, seed=seed, dtype=dtype)
        model = layers_for(shape, classes)
    if isinstance(model, nn.Sequential):
        made = copy.deepcopy(model)
        if made.input_shape != shape:
            raise ShapeError(f"the network takes {made.input_shape}, but X holds examples of shape {shape}")
    else:
        if sequence(model) is None and not (isinstance(model, Iterable) and not isinstance(model, dict)):
            raise InputError(
                "model must be 'auto', the name of a network, a list of layers, a network or a function that makes "
                f"one, not {shown(model)}"
            )
        made = nn.Sequential(model, shape, seed=seed, dtype=dtype)
    if made.output_shape != (classes,):
        raise ShapeError(
            f"the network's result has shape {made.output_shape}, and y holds {classes} classes: "
            f"end it in nn.Dense({classes})"
        )
    return made
