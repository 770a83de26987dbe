"""The text of the .cu files: their headers put in, and macros for the compiler."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).parent

_INCLUDE = re.compile(r'^#include "([\w.]+)"$', re.MULTILINE)

#: What may be a macro's value: a number, or a type's name.
Macros = Mapping[str, int | str]


@functools.cache
def text(name: str) -> str:
    """The file `name` with the files that it includes in their place.

    PyCUDA runs the preprocessor before it can look up a text with ``#include`` in its cache; this one it finds at once.
    """

    def included(match: re.Match[str]) -> str:
        return text(match[1])

    return _INCLUDE.sub(included, (HERE / name).read_text(encoding="utf-8")).replace("#pragma once\n", "")


def defines(macros: Macros) -> list[str]:
    """`macros` as compiler options, in one order."""
    return [f"-D{name}={value}" for name, value in sorted(macros.items())]
