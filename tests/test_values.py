"""The functions that check arguments: what they accept, and one short line for everything else."""

from __future__ import annotations

import json
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
from safetensors import safe_open
from safetensors.numpy import save as to_safetensors

from pyconv import datasets, nn, values
from pyconv.arithmetic import total
from pyconv.arrays import as_array
from pyconv.datasets.files import listed
from pyconv.errors import CheckpointError, DtypeError, InputError, PyconvError, UnknownNameError, shown, unknown_name
from pyconv.loop.callbacks import Callbacks
from pyconv.optim.clipping import sum_of_squares
from pyconv.reporting import read_results

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


@pytest.mark.parametrize("value", ["text", b"", memoryview(np.zeros((2, 2))), np.zeros(2), {"a": 1}, 3, None])
def test_what_is_no_list(value: Any) -> None:
    with pytest.raises(InputError, match="layers must be a list of layers, not "):
        values.items(value, "layers", "layers")
    with pytest.raises(InputError, match="layers must be a list of layers, not "):
        nn.Architecture(value, (4,))
    with pytest.raises(InputError, match="paths must be a list of files, not "):
        read_results(value)


def test_items_of_any_iterable() -> None:
    assert values.items(iter("ab"), "names", "names") == ("a", "b") and values.items(range(2), "n", "numbers") == (0, 1)


def test_a_message_does_not_quote_every_number_of_a_list() -> None:
    with pytest.raises(InputError, match=r"std must be above 0 in every channel, not 0\.0$"):
        nn.Normalization(0.0, list(range(1000)))


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


def test_messages_that_list_names_stay_short() -> None:
    assert len(str(unknown_name("class", "a", [f"class number {n}" for n in range(1000)]))) < 400
    assert len(str(unknown_name("class", "x" * 5000, ["x" * 5000]))) < 600
    assert listed(["a", "b" * 500], most=5) == f"a, {'b' * 80}…"


def test_a_model_file_with_long_names_is_refused_in_one_short_line(tmp_path: Path) -> None:
    nn.Sequential([nn.Dense(2)], (3,)).save(tmp_path / "model")
    with safe_open(tmp_path / "model", framework="numpy") as file:
        about, tensors = json.loads(file.metadata()["pyconv"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    long = "x" * 5000
    for changed, arrays in (
        ({**about, "format": long}, tensors),
        ({**about, "config": {**about["config"], "dtype": long}}, tensors),
        (about, {**tensors, long: np.zeros(1)}),
    ):
        (tmp_path / "odd").write_bytes(to_safetensors(arrays, {"pyconv": json.dumps(changed)}))
        with pytest.raises(CheckpointError, match="x" * 20) as refused:
            nn.load(tmp_path / "odd")
        assert len(str(refused.value)) < 500


def test_a_padding_that_is_text_or_too_large() -> None:
    with pytest.raises(InputError, match="padding must be integers, not 'xxx") as refused:
        nn.ZeroPad2D("x" * 5000)
    assert len(str(refused.value)) < 200
    network = nn.Sequential([nn.ZeroPad2D(2**31 - 1)], (1, 1, 1))
    with pytest.raises(MemoryError, match="Unable to allocate"):
        network.forward(np.zeros((1, 1, 1, 1), np.float32))


def test_a_sum_beyond_the_floats_is_infinite() -> None:
    assert total([1e308, 1e308]) == math.inf and total([0.1] * 10) == 1.0
    assert sum_of_squares(np.full(40_000, 1e152)) == math.inf


@pytest.mark.parametrize("dtype", [bool, np.complex64, "U3"])
def test_pixels_that_are_no_numbers_are_not_turned(dtype: Any) -> None:
    for how in ({"rotate": 10}, {"crop": 0.5}, {"brightness": 0.1}, {"cutout": 1}):
        with pytest.raises(DtypeError, match=f"{next(iter(how))} needs images of integers or floating-point numbers"):
            datasets.augment(np.zeros((2, 4, 4, 1), dtype), **how, indices=np.arange(2))


@pytest.mark.parametrize("callback", [lambda: None, lambda step, total: None, lambda *, epoch: None])
def test_a_callback_that_takes_no_argument(callback: Any) -> None:
    for name in ("on_step", "on_epoch"):
        with pytest.raises(InputError, match=f"{name} must be callable with one argument, a dict: "):
            Callbacks(**{name: callback})
    assert Callbacks(print, dict).has("on_step")
