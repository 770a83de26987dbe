"""The text of the .cu files, with their headers included, and the macros for the compiler."""

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
    """The text of the file `name`, with the files that it includes in their place.

    With an ``#include`` in the text, PyCUDA would run the preprocessor before it looks the text up in its cache.
    """

    def included(match: re.Match[str]) -> str:
        return text(match[1])

    return _INCLUDE.sub(included, (HERE / name).read_text(encoding="utf-8")).replace("#pragma once\n", "")


def defines(macros: Macros) -> list[str]:
    """`macros` as compiler options, always in the same order."""
    return [f"-D{name}={value}" for name, value in sorted(macros.items())]
