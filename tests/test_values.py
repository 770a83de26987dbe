"""The helpers that every argument passes: what they take, and one short line for everything else."""

from __future__ import annotations

import math
import pickle
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyconv import values
from pyconv.arrays import as_array
from pyconv.errors import DtypeError, InputError, PyconvError, UnknownNameError, shown

ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers().map(lambda power: 10 ** (abs(power) % 6000))
    | st.floats()
    | st.complex_numbers()
    | st.text()
    | st.characters(categories=["Cs"])
    | st.binary()
    | st.fractions()
    | st.decimals()
    | st.just(np.ma.array([1, 2], mask=[False, True]))
    | st.just(np.array(2.5))
    | st.just(np.array(True)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.lists(inner).map(tuple),
    max_leaves=8,
)

CHECKS = [
    lambda value: values.integer(value, "n", minimum=0),
    lambda value: values.real(value, "r"),
    lambda value: values.real(value, "r", above=0, maximum=1, infinite=True),
    lambda value: values.flag(value, "f"),
    lambda value: values.choice(value, "colour", ("red", "green")),
    lambda value: values.mapping(value, "m", "{'a': 1}"),
    lambda value: values.function(value, "f", "len"),
    lambda value: values.path(value, "p"),
    lambda value: values.path(value, "p", text=True),
    lambda value: values.float_dtype(value),
    lambda value: as_array(value, "a"),
]


@given(value=ANYTHING, check=st.sampled_from(CHECKS))
def test_every_value_is_taken_or_refused_in_one_short_line(value: Any, check: Any) -> None:
    try:
        check(value)
    except PyconvError as error:
        assert len(str(error).splitlines()) == 1
        assert len(str(error)) < 400


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3), np.array(3), np.array(3, ">i2")])
def test_numbers_of_numpy_are_integers(value: Any) -> None:
    number = values.integer(value, "n", minimum=0)
    assert number == 3
    assert type(number) is int


@pytest.mark.parametrize(
    "value", [True, np.True_, np.array(True), 3.0, "3", None, np.array([3]), Fraction(3), 2**63, -1]
)
def test_what_is_no_integer_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match=r"^n must be "):
        values.integer(value, "n", minimum=0)


@pytest.mark.parametrize(
    "value", [1.5, np.float16(1.5), np.array(1.5), np.array(1.5, ">f4"), Fraction(3, 2), Decimal("1.5")]
)
def test_numbers_of_every_kind_are_real(value: Any) -> None:
    number = values.real(value, "r")
    assert number == 1.5
    assert type(number) is float


@pytest.mark.parametrize(
    "value", [True, np.True_, "1.5", b"1", 1j, np.complex64(1), None, np.array([1.5]), math.nan, math.inf, 10**400]
)
def test_what_is_no_finite_number_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match=r"^r must be a finite number, not "):
        values.real(value, "r")


def test_limits_are_said_and_kept() -> None:
    for value in (0, 1, 2):
        with pytest.raises(InputError, match=f"must be a finite number above 0 and below 1, not {value}$"):
            values.real(value, "r", above=0, below=1)
    assert values.real(math.inf, "r", minimum=1, infinite=True) == math.inf
    with pytest.raises(InputError, match="must be a number of at least 1, not nan"):
        values.real(math.nan, "r", minimum=1, infinite=True)


def test_minus_zero_is_zero() -> None:
    assert math.copysign(1, values.real(-0.0, "r", minimum=0)) == 1


def test_truth_is_not_a_number() -> None:
    assert values.flag(np.True_, "f") is True
    assert values.flag(np.array(False), "f") is False
    for value in (0, 1, "True", None, np.array([True])):
        with pytest.raises(InputError, match="f must be True or False, not "):
            values.flag(value, "f")


def test_names_that_are_no_names() -> None:
    assert values.choice("red", "colour", ("red",)) == "red"
    for value in ([], {}, None, 3, "a" * 10_000):
        with pytest.raises(UnknownNameError, match=r"unknown colour .*known: red"):
            values.choice(value, "colour", ("red",))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "is empty"),
        ("a\0b", "NUL"),
        ("x" * 256, "longer than 255 bytes"),
        ("ü" * 128, "longer than 255 bytes"),
        ("a/" * 2100, "longer than 4095 bytes"),
        ("a\ud800", "no file system takes"),
        (3, "must be the name of a file or folder, not 3"),
        (b"a", "must be the name of a file or folder"),
    ],
)
def test_paths_that_no_file_can_have(value: Any, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        values.path(value, "out")


def test_paths_that_are_no_text() -> None:
    assert values.path(Path("a/b"), "out") == Path("a/b")
    assert values.path("a\udcff", "out") == Path("a\udcff")
    with pytest.raises(InputError, match="not UTF-8 text"):
        values.path("a\udcff", "out", text=True)


def test_the_two_dtypes() -> None:
    for value in ("float32", np.float32, np.dtype("float32"), np.dtype("f4")):
        assert values.float_dtype(value) == np.float32
    assert values.float_dtype(float) == np.float64
    for value in ("032", "f4,,", None, "float16", np.int64, np.dtype(">f4"), 32, [], np.dtype([("a", "f4")])):
        with pytest.raises(DtypeError, match="dtype must be float32 or float64, not "):
            values.float_dtype(value)


@pytest.mark.parametrize(
    "value",
    [
        np.ma.array([1.0, 2.0], mask=[False, True]),
        np.ma.array([1.0, 2.0]),
        [np.ma.array([1.0], mask=[True]), np.ma.array([2.0])],
        [[np.ma.array([1.0], mask=[True])]],
    ],
    ids=["masked", "without a mask", "in a list", "in lists"],
)
def test_a_mask_is_refused_and_not_dropped(value: Any) -> None:
    with pytest.raises(InputError, match=r"x is a masked array; fill what is masked"):
        as_array(value, "x")


def test_what_cannot_be_an_array_says_why() -> None:
    class Broken:
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            raise KeyError("no\nnumbers")

    for value in (Broken(), [[1], [1, 2]]):
        with pytest.raises(InputError, match=r"^x cannot be read as an array: "):
            as_array(value, "x")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.zeros((3, 4), np.float32), "an array of float32 and shape (3, 4)"),
        ([np.zeros(3)], "[an array of float64 and shape (3,)]"),
        (10**5000, "an integer of 16610 bits"),
        ("a\nb", r"'a\nb'"),
        (7, "7"),
    ],
    ids=["array", "list", "integer", "text", "number"],
)
def test_values_in_messages(value: Any, words: str) -> None:
    assert shown(value) == words


def test_a_value_that_cannot_be_written_is_named_by_its_type() -> None:
    class Silent:
        def __repr__(self) -> str:
            raise RuntimeError

    assert "Silent" in shown(Silent())
    assert len(shown(["x" * 1000] * 1000)) < 150


def test_an_error_is_one_line_whatever_it_names() -> None:
    error = InputError("two\nlines\x1b[31m\udcff: é")
    assert str(error) == "two\\nlines\\x1b[31m\\udcff: é"
    copied = pickle.loads(pickle.dumps(error))
    assert (type(copied), str(copied)) == (InputError, str(error))
