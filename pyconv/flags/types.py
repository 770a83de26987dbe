"""Reads the values of flags that have a form of their own: sizes, layers, weights of classes."""

from __future__ import annotations

from argparse import ArgumentTypeError

from ..command import whole
from ..datasets.brightness import BITS, DATA
from ..errors import shown
from ..loop import weights


def size(text: str) -> tuple[int, ...]:
    """``WIDTHxHEIGHT`` as (height, width), or ``WIDTHxHEIGHTxCHANNELS`` with the channels."""
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) not in (2, 3) or not all(part.isdecimal() and len(part) < 9 and int(part) for part in parts):
        raise ArgumentTypeError(f"must be as 64x64, or 64x64x3 for colour, not {text!r}")
    width, height, *channels = (int(part) for part in parts)
    return height, width, *channels


def number(text: str) -> float | int:
    """A number, as an int if it is an integer; its setting checks the range."""
    try:
        return int(text) if text.strip().lstrip("+-").isdecimal() else float(text)
    except ValueError:
        raise ArgumentTypeError(f"must be a number, not {shown(text)}") from None


def bits(text: str) -> int | str:
    return text if text == DATA else whole(1, BITS)(text)


def workers(text: str) -> int | str:
    return text if text == "auto" else whole(1)(text)


def class_weights(text: str) -> str | dict[str, float] | list[float]:
    """``balanced``, a number for each class, or ``name=number`` for some classes."""
    if text == weights.BALANCED:
        return text
    parts = [part.strip() for part in text.split(",")]
    try:
        if all("=" in part for part in parts):
            return {name.strip(): float(number) for name, _, number in (part.rpartition("=") for part in parts)}
        return [float(part) for part in parts]
    except ValueError:
        raise ArgumentTypeError(
            f"must be balanced, numbers of all classes as 1,2,1, or of some as Happy=2,Fear=3, not {shown(text)}"
        ) from None


def cut(text: str) -> list[int]:
    """Layers' numbers, as ``3,7``."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and len(part) < 9 for part in parts):
        raise ArgumentTypeError(f"must be layers' numbers, as 3,7, not {shown(text)}")
    return [int(part) for part in parts]


def layers(text: str) -> list[int | str]:
    """Layers' names and numbers; ``0-5`` is six numbers."""
    found: list[int | str] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if dash and first.isdecimal() and last.isdecimal() and len(first + last) < 9:
            found += range(int(first), int(last) + 1)
        else:
            found.append(int(part) if part.strip().isdecimal() and len(part) < 9 else part.strip())
    return found
