"""A pool of odd values, and of values that are nearly valid."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from pyconv import nn, optim


class Wordless:
    """An object that cannot say what it is."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")


class Broken:
    """An object that claims to be an array, and raises an error when it is read."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise KeyError("no\nnumbers")


def _deep(levels: int) -> list[Any]:
    nested: list[Any] = []
    for _ in range(levels):
        nested = [nested]
    return nested


def _loop() -> list[Any]:
    own: list[Any] = []
    own.append(own)
    return own


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def _unaligned(array: np.ndarray) -> np.ndarray:
    memory = np.zeros(array.nbytes + 1, np.uint8)
    moved = memory[1:].view(array.dtype).reshape(array.shape)
    moved[...] = array
    return moved


LARGE = (2**31 - 1, 2**31, 2**32, 10**9, np.int64(2**40), 1e9)
"""Numbers that are valid, and keep a loop busy for days."""

NUMBERS: tuple[Any, ...] = (
    0, 1, 2, 3, 7, -1, 2**62, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**400, -(10**5000),
    0.0, -0.0, 0.5, 0.999, 1.0, 1.5, -1.0, 2.0, math.nan, math.inf, -math.inf, 1e308, 5e-324, 1e-30,
    1 + 0j, 1j, Fraction(1, 2), Fraction(10**400, 3), Decimal("0.5"), Decimal("NaN"), Decimal("sNaN"),
    Decimal("1e9999"),
)  # fmt: skip

SCALARS: tuple[Any, ...] = (
    *(np.dtype(code).type(1) for code in "?bhilqBHILQefdgFDG"),
    np.float32(np.nan), np.float64(-0.0), np.uint64(2**64 - 1), np.int64(-(2**63)), np.longdouble("1e400"),
    np.str_("x"),
    np.bytes_(b"x"), np.datetime64("2020-01-01"), np.timedelta64(1, "s"), np.ma.masked, np.void(b"ab"),
)  # fmt: skip

TEXTS: tuple[Any, ...] = (
    "", " ", "auto", "same", "valid", "relu", "NHWC", "NCHW", "sync", "off", "faces", "fer", "lenet", "5-3-4-3", "adam",
    "cosine", "float32", "float64", "032", "f4,,", "None", "1", "nan", "-1", "reference", "serial", "cuda", "direct",
    "a" * 10_000, "x" * 300, "a\0b", "\0", "\ud800", "\udcff", "two\nlines", "\x1b[31mred", "\u202eback", "/", ".",
    "..",
    "/dev/null/x", "/proc/nowhere/x", "~", "folder", "a/" * 3000, "999999999999999999999-1-1-1",
    "9" * 5000, "1-2-3-" + "9" * 5000, b"", b"abc", b"\xff" * 1000, bytearray(b"ab"), Path("nowhere"),
)  # fmt: skip

CONTAINERS: tuple[Callable[[], Any], ...] = (
    list, tuple, dict, set, lambda: [1], lambda: [1, 2], lambda: (1, 2), lambda: (0, 0), lambda: (2, 2), lambda: (1,
    2, 3),
    lambda: (-1, 1), lambda: (1.5, 2), lambda: (True, 1), lambda: (10**400, 1), lambda: (2**62, 2**62), lambda: [None],
    lambda: ((1, 1), (1, 1)), lambda: ((0, 0), (10**30, 0)), lambda: [[1, 2], [3]], lambda: [[]], lambda: _deep(100),
    _loop,
    lambda: _deep(5000), lambda: {"a": 1}, lambda: {1: 2}, lambda: {"flip": True}, lambda: {"shift": 10**400},
    lambda: {None: 0},
    lambda: {"staleness": 2**70}, lambda: {"mean": 0, "std": 1}, lambda: {"data": {"name": 3}}, lambda: {"data": 3},
    lambda: {"training": {"seed": 10**30}}, lambda: {"x": {"y": object()}}, lambda: range(3), lambda: iter([1, 2]),
    lambda: (n for n in ()), lambda: [math.nan], lambda: ["a", 1], lambda: list(range(1000)), lambda: ("a" * 9000,) * 2,
    lambda: frozenset({1}), lambda: np.ndarray, lambda: {"x": _deep(5000)}, lambda: b"12", lambda: memoryview(b"abcd"),
)  # fmt: skip

OBJECTS: tuple[Callable[[], Any], ...] = (
    lambda: None, lambda: True, lambda: False, object, lambda: ..., lambda: NotImplemented, lambda: len, lambda: int,
    lambda: (lambda step, total: None), lambda: (lambda: 1), Wordless, Broken, lambda: np, lambda: Exception,
    lambda: nn.Dense(2), lambda: nn.Flatten, lambda: [nn.Flatten(), nn.Dense(2)], lambda: [nn.Dense],
    lambda: optim.SGD(0.1),
    lambda: optim.schedule("cosine"), lambda: optim.Adam, lambda: nn.Normalization(), lambda: np.dtype("f4,f8"),
    lambda: np.random.default_rng(0), lambda: slice(1), lambda: np.float32, lambda: bool,
)  # fmt: skip

_SHAPES = (
    (),
    (0,),
    (1,),
    (3,),
    (2, 2),
    (3, 2),
    (0, 2),
    (2, 6, 6),
    (1, 6, 6, 2),
    (2, 6, 6, 2),
    (0, 6, 6, 2),
    (2, 0, 6, 2),
    (1,) * 40,
)
_DTYPES = ("?", "b", "B", "h", "i", "q", "Q", "e", "f", "d", "g", "F", ">f4", ">i4", ">f8", "O", "U3", "S3", "M8[s]",
"m8[s]", "V4",
           "f4,i4")  # fmt: skip

CHANGES: tuple[Callable[[np.ndarray], Any], ...] = (
    lambda a: a.astype(a.dtype.newbyteorder()),
    lambda a: np.asfortranarray(a),
    lambda a: _read_only(a.copy()),
    _unaligned,
    lambda a: a[::-1],
    lambda a: np.repeat(a, 2, axis=0)[::2] if a.ndim else a,
    lambda a: np.broadcast_to(a[:1], a.shape) if a.ndim and len(a) else a,
    lambda a: a[..., None],
    lambda a: a[:0],
    lambda a: a.T,
    lambda a: a.tolist(),
    lambda a: list(a) if a.ndim else a,
    lambda a: np.ma.masked_array(a, mask=np.zeros(a.shape, bool)),
    lambda a: np.ma.masked_array(a, mask=np.ones(a.shape, bool)),
    lambda a: [np.ma.masked_array(row, mask=True) for row in a] if a.ndim > 1 else a,
    lambda a: np.asmatrix(a.reshape(1, -1)),
    lambda a: a.astype(bool),
    lambda a: a.astype("f2"),
    lambda a: a.astype("g"),
    lambda a: a.astype("f8"),
    lambda a: a.astype("f4"),
    lambda a: a.astype("c8"),
    lambda a: a.astype(object),
    lambda a: a.astype("i8"),
    lambda a: a.astype("u1"),
    lambda a: a.astype("U"),
    lambda a: -a if a.dtype.kind in "if" else a,
    lambda a: a * np.nan if a.dtype.kind == "f" else a,
    lambda a: a / 0.0 if a.dtype.kind == "f" else a,
    lambda a: a * 2.0**120,
    lambda a: a[0] if a.ndim and len(a) else a,
    lambda a: a.copy(),
    lambda a: memoryview(np.ascontiguousarray(a)),
    lambda a: a.view(np.recarray),
)
"""Changes that make a valid array odd."""


def array(rng: random.Random) -> Any:
    """An array of any shape and kind."""
    shape, kind = rng.choice(_SHAPES), rng.choice(_DTYPES)
    made: Any = np.zeros(shape, kind)
    if rng.random() < 0.3:
        made = _changed(made, rng)
    return made


def _changed(value: np.ndarray, rng: random.Random) -> Any:
    try:
        return rng.choice(CHANGES)(value)
    except (TypeError, ValueError, IndexError, RuntimeError, Warning):  # this array has nothing to be changed so
        return value


def draw(rng: random.Random, right: Any, *, large: bool = True) -> Any:
    """An odd value for an argument whose valid value is `right`; without `large`, no valid one that would take days."""
    if isinstance(right, np.ndarray) and rng.random() < 0.6:
        return _changed(right, rng)
    kind = rng.randrange(7 if large else 6)
    if kind == 0:
        number = rng.choice(NUMBERS)
        return 2 if not large and isinstance(number, int) and 2**31 < number < 2**63 else number
    if kind == 1:
        scalar = rng.choice(SCALARS)
        return np.array(scalar) if rng.random() < 0.4 and scalar is not np.ma.masked else scalar
    if kind == 2:
        return rng.choice(TEXTS)
    if kind == 3:
        return rng.choice(CONTAINERS)()
    if kind == 4:
        return rng.choice(OBJECTS)()
    return array(rng) if kind == 5 else rng.choice(LARGE)


def words(value: Any) -> str:
    """A value for a report."""
    try:
        text = repr(value)
    except Exception as error:
        text = f"<{type(value).__name__}: {type(error).__name__}>"
    text = ascii(text)[1:-1] if len(text) <= 160 else f"{ascii(text[:120])[1:-1]}… ({len(text)} characters)"
    return f"{type(value).__name__} {text}" if isinstance(value, np.ndarray) else text
