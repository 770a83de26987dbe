"""The convolution variants by name, in the order in which the documentation teaches them, and the choice of "auto"."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..shapes import ConvGeometry
from .block_tuned import BlockTuned
from .first_layer import FirstLayer
from .implicit_gemm import ImplicitGemm
from .problem import Problem
from .traffic import Traffic
from .variants import Naive, SharedInput, SharedInputFilter, Variant

#: A new variant is one line here, one class and its .cu file.
TABLE: dict[str, Variant] = {
    variant.name: variant
    for variant in (Naive(), SharedInput(), SharedInputFilter(), BlockTuned(), ImplicitGemm(), FirstLayer())
}


def pick(algorithm: str, p: Problem) -> Variant:
    """The variant called `algorithm`; "auto" is `first_layer` for few channels where it fits, else `implicit_gemm`."""
    if algorithm == "auto":
        algorithm = "first_layer" if FirstLayer.suits(p) else "implicit_gemm"
    return TABLE[algorithm]


def forward_traffic(algorithm: str, g: ConvGeometry, dtype: Any = np.float32) -> Traffic:
    """The traffic of a forward pass without a bias.

    Parameters
    ----------
    algorithm : str
        Of ``pyconv.algorithms("cuda")``.
    g : ConvGeometry
    dtype : float32 or float64
        Larger numbers leave room for smaller tiles.

    Raises
    ------
    InputError
        If the variant refuses the shape.
    BackendUnavailable
        If there is no GPU: the tiles depend on it.
    """
    return TABLE[algorithm].traffic(Problem.forward(g), np.dtype(dtype))
