"""Gives a network a new last layer (a head) for other classes."""

from __future__ import annotations

import dataclasses

from pyconv.errors import InputError, PyconvError

from .architecture import Architecture
from .conv import Conv2D
from .dense import Dense
from .initialisation import LAST
from .layer import Layer
from .separable import SeparableConv2D


def with_new_head(architecture: Architecture, classes: int) -> tuple[list[Layer], str]:
    """The layers, of which the last one with parameters is made anew for so many classes; and the path to it.

    Parameters
    ----------
    architecture : Architecture
        A classifier's.
    classes : int

    Returns
    -------
    layers : list of Layer
    way : str
        The prefix of its parameters' names, without the point.

    Raises
    ------
    InputError
        If the network does not end in a layer that can be made anew.
    """
    layers = list(architecture.layers)
    with_parameters = [
        position for position, (layer, shape) in enumerate(zip(layers, architecture.shapes)) if layer.parameters(shape)
    ]
    if not with_parameters:
        raise InputError("the network has no parameters, and so no head to make anew")
    place = with_parameters[-1]
    title = f"layer {place} ({type(layers[place]).__name__})"
    layers[place] = _for_classes(layers[place], classes, title)
    try:
        after = Architecture(layers, architecture.input_shape).output_shape
    except PyconvError as error:
        raise InputError(f"{title} is no head: with {classes} outputs {error}") from None
    if after != (classes,):
        raise InputError(f"{title} is no head: with {classes} outputs the network gives {after}, not ({classes},)")
    return layers, str(place)


def _for_classes(layer: Layer, classes: int, title: str) -> Layer:
    if type(layer) is Dense:
        return dataclasses.replace(layer, units=classes, scale=LAST)
    if type(layer) is Conv2D and layer.groups == 1:
        return dataclasses.replace(layer, filters=classes, scale=LAST)
    if type(layer) is SeparableConv2D:
        return dataclasses.replace(layer, filters=classes)
    raise InputError(f"{title} is the last one with parameters, and no head: a head is a Dense or Conv2D layer")
