"""The contract of a backend: what is checked when a class is defined, and that the functions have its signatures."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from pyconv import reference
from pyconv.backends import Backend, get
from pyconv.backends.compiled import Multicore, Serial
from pyconv.backends.gpu import Cuda
from pyconv.backends.literal import Reference

KINDS = (Reference, Serial, Multicore, Cuda)
OPERATIONS = sorted(
    name
    for name, value in vars(Backend).items()
    if isinstance(value, staticmethod) and name not in ("_admit", "allocate", "permute")
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_takes_what_the_contract_says(kind: type[Backend], operation: str) -> None:
    declared = inspect.signature(getattr(Backend, operation)).parameters
    found = inspect.signature(getattr(kind, operation)).parameters
    assert [p.name for p in declared.values() if p.kind is not p.KEYWORD_ONLY] == [
        p.name for p in found.values() if p.kind is not p.KEYWORD_ONLY
    ]
    missing = {p.name for p in declared.values() if p.kind is p.KEYWORD_ONLY} - set(found)
    assert missing <= {"eps"}, missing
    for name in set(found) - set(declared):  # an operation may take more than the contract, but not need it
        assert found[name].default is not inspect.Parameter.empty


def test_a_misspelt_operation_is_refused() -> None:
    with pytest.raises(TypeError, match="batch_norm_inferense, which the contract of a backend does not know"):
        type("Wrong", (Reference,), {"batch_norm_inferense": staticmethod(reference.relu)})


def test_a_backend_without_an_operation_cannot_be_made() -> None:
    class Incomplete(Backend):
        name = "incomplete"
        algorithms = ()
        relu = staticmethod(reference.relu)

    with pytest.raises(TypeError, match="abstract"):
        Incomplete()  # type: ignore[abstract]


@pytest.mark.parametrize("name", ["reference", "serial"])
def test_the_defaults(name: str, rng: np.random.Generator) -> None:
    ops = get(name)
    x, y = rng.standard_normal((3, 4, 5)), rng.standard_normal((3, 4, 2))
    out = np.full((3, 4, 7), np.nan)
    assert ops.concatenate([x, y], out=out) is out
    np.testing.assert_array_equal(ops.channels(out, 5, out=np.empty_like(y)), y)
    np.testing.assert_array_equal(ops.add(x, x, out=x.copy()), 2 * x)
    np.testing.assert_array_equal(ops.copy(x, out=np.empty_like(x)), x)
    memory = ops.allocate(100)
    assert (memory.nbytes, memory.ctypes.data % 64) == (100, 0)
    logits, labels = rng.standard_normal((6, 3)), np.array([0, 1, 2, 2, 1, 0])
    losses, gradient = ops.mean_cross_entropy(logits, labels)
    expected, each = reference.softmax_cross_entropy(logits, labels)
    np.testing.assert_allclose(losses, expected, rtol=1e-12)
    np.testing.assert_allclose(gradient, each / 6, rtol=1e-10, atol=1e-15)
