"""Data are read and drawn on all CPUs, to the same bits, and a command says at once what it waits for."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyconv import train
from pyconv.datasets import at_once, faces, fer2013, load
from pyconv.errors import DataError

SIDE = fer2013.SIDE


@pytest.mark.parametrize("threads", [1, 3])
def test_results_come_in_order_and_errors_in_their_turn(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_once, "default", lambda: threads)
    taken: list[int] = []

    def pieces() -> Iterator[int]:
        for number in range(40):
            taken.append(number)
            yield number
        raise DataError("row 40")

    others = set(threading.enumerate())  # of another test, perhaps: Python without a GIL closes a generator later
    found = []
    with pytest.raises(DataError, match="row 40"):
        for piece, square in at_once.in_threads(lambda n: n * n, pieces()):
            found.append((piece, square))
            assert len(taken) <= piece + 2 * threads + 1, "only a few pieces are taken ahead"
    assert found == [(n, n * n) for n in range(40)]

    def work(n: int) -> int:
        if n == 5:
            raise DataError("piece 5")
        return n

    found = []
    with pytest.raises(DataError, match="piece 5"):
        for piece, _ in at_once.in_threads(work, range(100)):
            found.append(piece)
    assert found == list(range(5))
    next(at_once.in_threads(work, range(4)))  # one that is left alone
    if threads == 1:
        assert not {each for each in threading.enumerate() if each.name.startswith("pyconv-data")} - others


def test_faces_do_not_depend_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    for threads in (1, 4):
        monkeypatch.setattr(at_once, "default", lambda threads=threads: threads)
        drawn.append(faces(600, seed=3))
    np.testing.assert_array_equal(drawn[0].x, drawn[1].x)
    np.testing.assert_array_equal(drawn[0].y, drawn[1].y)
    np.testing.assert_array_equal(faces(260, seed=3).x, drawn[0].x[:260])


ODD = ["007", "256", "999", "-1", "1.5", "x", "", "٣", "0000", "+4", "\t5"]
numbers = st.one_of(st.integers(0, 255).map(str), st.sampled_from(ODD))


@given(words=st.lists(numbers, min_size=1, max_size=4), at=st.integers(0, SIDE * SIDE - 4), rows=st.integers(1, 6))
def test_the_fast_parser_takes_what_the_slow_one_takes(words: list[str], at: int, rows: int) -> None:
    rng = np.random.default_rng(at)
    fields = []
    for row in range(rows):
        pixels = rng.integers(0, 256, SIDE * SIDE).astype(str).tolist()
        if row == rows // 2:
            pixels[at : at + len(words)] = words
        fields.append(" ".join(pixels).encode())
    fast = fer2013._parse_block(fields)
    slow = np.empty((rows, SIDE * SIDE), np.uint8)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)
            for field, out in zip(fields, slow):
                fer2013._parse_pixels(field, out, Path("file"), 2)
    except DataError:
        assert fast is None
        return
    if fast is not None:
        np.testing.assert_array_equal(fast, slow)
    else:  # only what is written in an unusual way is left to the slow one
        assert any(not word.isascii() or not word.isdigit() or len(word) > 3 for word in words)


def csv(path: Path, rows: int) -> Path:
    rng = np.random.default_rng(0)
    lines = [f"{row % 7},{' '.join(map(str, rng.integers(0, 256, SIDE * SIDE)))}" for row in range(rows)]
    path.write_text("emotion,pixels\n" + "\n".join(lines) + "\n")
    return path


def test_the_first_of_several_faults_is_named(tmp_path: Path) -> None:
    lines = csv(tmp_path / "train.csv", 80).read_text().splitlines()
    lines[30] = lines[30].replace(" ", " 300 ", 1)
    lines[20], lines[70] = "9" + lines[20][1:], lines[70] + ",7"
    (tmp_path / "train.csv").write_text("\n".join(lines))
    for row, word in ((21, "label '9'"), (31, "pixel 2 is '300'"), (71, "3 fields where the header names 2")):
        with pytest.raises(DataError, match=f"row {row}: {word}"):
            load(tmp_path / "train.csv")
        lines[row - 1] = lines[1]
        (tmp_path / "train.csv").write_text("\n".join(lines))
    found = load(tmp_path / "train.csv")
    assert len(found.train.y) + len(found.validation.y) == 80


def test_the_first_line_says_what_is_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = csv(tmp_path / "train.csv", 140)
    common = ["--model", "5-2-4-7", "--epochs", "1", "--progress", "plain", "--out"]
    assert train.main(["--data", str(path), *common, str(tmp_path / "a")]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "reading train.csv"
    assert train.main(["--data", "faces", "--limit", "77", *common, str(tmp_path / "b")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "drawing 1,477 faces"
    assert len([line for line in lines if line.startswith("data ")]) == 1  # nothing is shown a second time
