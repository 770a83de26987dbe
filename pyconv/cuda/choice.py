"""The convolution variants by name, in the order in which the documentation teaches them, and which one "auto" is."""

from __future__ import annotations

from .block_tuned import BlockTuned
from .first_layer import FirstLayer
from .implicit_gemm import ImplicitGemm
from .problem import Problem
from .variants import Naive, SharedInput, SharedInputFilter, Variant

#: A new variant is a line here, a class and its .cu file.
TABLE: dict[str, Variant] = {
    variant.name: variant
    for variant in (Naive(), SharedInput(), SharedInputFilter(), BlockTuned(), ImplicitGemm(), FirstLayer())
}


def pick(algorithm: str, p: Problem) -> Variant:
    """The variant called `algorithm`; "auto" is `first_layer` for few channels where it fits, else `implicit_gemm`."""
    if algorithm == "auto":
        algorithm = "first_layer" if FirstLayer.suits(p) else "implicit_gemm"
    return TABLE[algorithm]
