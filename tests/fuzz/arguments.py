"""Public functions with one or two arguments that are odd."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from . import calls, pool
from .cases import Case, generator


def maker(folder: Path) -> Callable[[int], Case]:
    """A function of a number that gives the case of that number."""
    table = calls.table(folder)
    names = sorted(table)

    def make(number: int) -> Case:
        rng = generator("arguments", number)
        call = table[names[number % len(names)]]
        given, odd = calls.change(call, rng)
        words = ", ".join(f"{name}={pool.words(given[name])}" for name in odd)
        return Case(f"{names[number % len(names)]}({words})", lambda: call.function(**given))

    return make
