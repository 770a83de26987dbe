"""Cases that call public functions with one or two odd arguments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from . import calls, pool
from .cases import Case, generator


def maker(folder: Path) -> Callable[[int], Case]:
    """A function that makes the case of a number."""
    table = calls.table(folder)
    names = sorted(table)

    def make(number: int) -> Case:
        rng = generator("arguments", number)
        call = table[names[number % len(names)]]
        given, odd = calls.change(call, rng)

        def say() -> str:
            words = ", ".join(f"{name}={pool.words(given[name])}" for name in odd)
            return f"{names[number % len(names)]}({words})"

        return Case(say, lambda: call.function(**given))

    return make
