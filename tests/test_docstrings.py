"""Every public name is documented and typed: each argument, the result, in numpydoc's form; and the examples run."""

from __future__ import annotations

import dataclasses
import doctest
import functools
import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest
from numpydoc.docscrape import NumpyDocString
from numpydoc.validate import validate

PARTS = ("nn", "optim", "datasets", "costmodel", "parallel", "parallel.rules", "cuda", "reporting", "sklearn")
MODULES = ("pyconv", *(f"pyconv.{part}" for part in PARTS))

# Of numpydoc's checks: no docstring, no summary, sections or arguments in another order, arguments that are not there.
CODES = {"GL08", "SS01", "GL07", "PR02", "PR03"}


def _members(kind: type) -> Iterator[tuple[str, Any]]:
    """What a user can call or read on a class, its own or inherited from another class of pyconv's; no fields."""
    fields = {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()
    for name in dir(kind):
        owner = next((base for base in kind.__mro__ if name in vars(base)), None)
        if owner is not None and owner.__module__.startswith("pyconv") and name not in fields and name[0] != "_":
            found = vars(owner)[name]
            if isinstance(found, (property, staticmethod, classmethod)) or inspect.isfunction(found):
                yield name, found


def _public() -> dict[str, Any]:
    """Classes, functions, methods and properties by full name."""
    found: dict[str, Any] = {}
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name in module.__all__:
            member = getattr(module, name)
            if inspect.isclass(member) or inspect.isfunction(member):
                found[f"{module_name}.{name}"] = member
            if inspect.isclass(member):
                fields = (
                    {field.name for field in dataclasses.fields(member)} if dataclasses.is_dataclass(member) else ()
                )
                own = ((method, raw) for method, raw in _members(member) if method not in fields)
                found |= {f"{module_name}.{name}.{method}": raw for method, raw in own}
    return found


PUBLIC = _public()


def _signature(member: Any) -> inspect.Signature:
    """Arguments of a call, without the object's own, and the result."""
    if inspect.isclass(member):
        made = "__init__" in vars(member) and not getattr(member, "_is_protocol", False)
        member = member.__init__ if made else lambda: None
    member = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
    signature = inspect.signature(member)
    arguments = [argument for name, argument in signature.parameters.items() if name not in ("self", "cls")]
    return signature.replace(parameters=arguments)


@functools.cache
def _docstring(name: str) -> str:
    """The docstring; if a method has none, that of the method that it overrides."""
    owner, _, method = name.rpartition(".")
    member = PUBLIC[name]
    text = inspect.getdoc(getattr(PUBLIC[owner], method) if owner in PUBLIC else member)
    return text or ""


def missing(docstring: str, signature: inspect.Signature, *, kind: str) -> list[str]:
    """The parts of a signature that the docstring does not describe; `kind` is "class", "property" or "function"."""
    if not docstring:
        return ["has no docstring"]
    if kind == "property":
        return []
    sections: Any = NumpyDocString(docstring)
    names = [entry.name for entry in sections["Parameters"]]
    # A data class describes its fields as attributes; they are its arguments too.
    names += [entry.name for entry in sections["Attributes"]] if kind == "class" else []
    described = {name.strip().lstrip("*") for entry in names for name in entry.split(",")}
    found = [f"{name} is not described" for name in signature.parameters if name not in described]
    returns = kind == "function" and signature.return_annotation not in (None, "None")
    if returns and not (sections["Returns"] or sections["Yields"]):
        found.append("the result is not described")
    found += [
        f"the type of {entry.name} is not given"
        for entry in sections["Parameters"]
        if not entry.type and not any(re.search(r":\w+:`", line) for line in entry.desc)
    ]
    return found


def untyped(signature: inspect.Signature, *, kind: str) -> list[str]:
    """Arguments and results without a type, or with a type that says nothing; a dict for JSON may hold anything."""
    annotations = {name: argument.annotation for name, argument in signature.parameters.items()}
    if kind != "class":
        annotations["the result"] = signature.return_annotation
    return [
        f"{name}: {annotation}"
        for name, annotation in annotations.items()
        if annotation is inspect.Signature.empty or re.search(r"\bAny\b", re.sub(r"\[str, Any\]", "", str(annotation)))
    ]


def _kind(member: Any) -> str:
    return "class" if inspect.isclass(member) else "property" if isinstance(member, property) else "function"


@pytest.mark.parametrize("name", PUBLIC)
def test_docstring_is_complete(name: str) -> None:
    member = PUBLIC[name]
    assert missing(_docstring(name), _signature(member), kind=_kind(member)) == []
    if inspect.isroutine(member) and not member.__doc__:
        return  # inherited: numpydoc looks at the method of the base class
    assert [text for code, text in validate(name)["errors"] if code in CODES] == []


@pytest.mark.parametrize("name", PUBLIC)
def test_signature_is_typed(name: str) -> None:
    assert untyped(_signature(PUBLIC[name]), kind=_kind(PUBLIC[name])) == []


def test_the_audit_finds_what_is_left_out() -> None:
    def example(a: int, b: Any, *rest: int, c=1) -> list[Any]:
        return [a, b, rest, c]

    signature = inspect.signature(example)
    text = "Do.\n\nParameters\n----------\na : int\nb, rest\n    As told.\n"
    assert missing("", signature, kind="function") == ["has no docstring"]
    assert missing("Do.", signature, kind="class") == [f"{name} is not described" for name in ("a", "b", "rest", "c")]
    found = missing(text, signature, kind="function")
    assert found == ["c is not described", "the result is not described", "the type of b, rest is not given"]
    assert untyped(signature, kind="function") == [
        "b: Any", f"c: {inspect.Signature.empty}", "the result: list[Any]"
    ]  # fmt: skip
    # Methods that are overridden or inherited are looked at too.
    assert {"pyconv.nn.Conv2D.flops", "pyconv.optim.Adam.update", "pyconv.nn.Sequential.flat"} <= set(PUBLIC)


@pytest.mark.parametrize(
    "module_name", (*MODULES, "pyconv.ops.convolution", "pyconv.ops.filtering", "pyconv.costmodel.equations")
)
def test_examples_in_docstrings_run(module_name: str) -> None:
    result = doctest.testmod(importlib.import_module(module_name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0
