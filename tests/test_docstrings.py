"""Every public name is documented: each argument, the result, in numpydoc's form, and the examples run."""

from __future__ import annotations

import doctest
import importlib
import inspect

import pytest
from numpydoc.validate import validate

MODULES = ("pyconv", *(f"pyconv.{name}" for name in ("nn", "optim", "datasets", "costmodel", "reporting")))

# No docstring, or arguments in it that the signature does not have.
METHOD = {"GL08", "PR02"}
# Also: arguments that are missing or in another order, a result that is not described.
FUNCTION = METHOD | {"PR01", "PR03", "RT01"}

# Arguments that many functions share are described once and referred to, which the validator reads as missing.
REFERS = ("As in", "as in", "those of", "As for")


def _public() -> list[str]:
    names = []
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name in module.__all__:
            member = getattr(module, name)
            if inspect.isclass(member) or inspect.isfunction(member):
                names.append(f"{module_name}.{name}")
                if inspect.isclass(member):
                    names += [
                        f"{module_name}.{name}.{method}"
                        for method, function in vars(member).items()
                        if inspect.isfunction(function) and not method.startswith("_")
                    ]
    return names


@pytest.mark.parametrize("name", _public())
def test_docstring_is_complete(name: str) -> None:
    report = validate(name)
    docstring = report["docstring"] or ""
    codes = FUNCTION if report["type"] == "function" and name.split(".")[-2][0].islower() else METHOD
    found = [code for code, _ in report["errors"] if code in codes]
    if any(words in docstring for words in REFERS):
        found = [code for code in found if code not in ("PR01", "PR03")]
    assert not found, [text for code, text in report["errors"] if code in found]


@pytest.mark.parametrize("module_name", (*MODULES, "pyconv.ops.convolution", "pyconv.costmodel.equations"))
def test_examples_in_docstrings_run(module_name: str) -> None:
    result = doctest.testmod(importlib.import_module(module_name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0
