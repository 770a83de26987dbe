"""The first values of a network's parameters: He initialisation or constants."""

from __future__ import annotations

import math

import numpy as np

from pyconv.arithmetic import own

from .layer import Parameter

#: Factor for the first weights of a network's last layer, so that training begins with nearly equal probabilities.
LAST = 0.1


@own
def fill(array: np.ndarray, parameter: Parameter, seed: int, layer: int) -> None:
    """Write a parameter's first value to `array`.

    He initialisation draws from a normal distribution with mean 0 and variance ``2 / fan_in``, which keeps the
    variance of the activations from layer to layer under ReLU (He et al., "Delving deep into rectifiers", 2015, eq.
    10). The numbers depend on the seed and the layer's position only, not on backend or threads. float32 and float64
    models get the same numbers, except for rounding.

    Parameters
    ----------
    array : ndarray
        Has the parameter's shape; overwritten.
    parameter : Parameter
    seed, layer : int
        The model's seed and the position of the layer.
    """
    if parameter.start == "he":
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, layer])))
        deviation = parameter.scale * math.sqrt(2 / parameter.fan_in)
        array[...] = generator.normal(0.0, deviation, parameter.shape)
    else:
        array[...] = parameter.start
