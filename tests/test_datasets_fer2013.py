"""FER2013: each distributed form is read, and each bad row is named."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from data_files import PIXELS, images_of, labels_of, pixel_field, refused, write_csv
from hypothesis import given
from hypothesis import strategies as st

from pyconv import datasets
from pyconv.datasets.fer2013 import CLASSES, FERPLUS_CLASSES
from pyconv.errors import DataError

HEADER = "emotion,pixels,Usage"
USAGES = ["Training"] * 16 + ["PublicTest"] * 8 + ["PrivateTest"] * 6


@pytest.fixture
def examples(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Thirty images and labels; each split's labels hold several classes."""
    return images_of(rng, 30, 48, 48), np.concatenate([labels_of(rng, n, 6) for n in (16, 8, 6)])


def fer_rows(examples: tuple[np.ndarray, np.ndarray]) -> list[str]:
    x, y = examples
    return [f"{label},{pixel_field(image)},{usage}" for image, label, usage in zip(x, y, USAGES, strict=True)]


def check_splits(data: datasets.Dataset, examples: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = examples
    for split, rows in ((data.train, slice(0, 16)), (data.validation, slice(16, 24)), (data.test, slice(24, 30))):
        assert split is not None
        assert split.x.dtype == np.uint8
        assert split.x.flags.c_contiguous
        np.testing.assert_array_equal(split.x, x[rows, :, :, None])
        np.testing.assert_array_equal(split.y, y[rows])


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_fer2013(tmp_path: Path, examples: tuple, end: str) -> None:
    data = datasets.load(write_csv(tmp_path / "fer2013.csv", HEADER, fer_rows(examples), end))
    check_splits(data, examples)
    assert data.classes == CLASSES == ["Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral"]
    assert data.name == "fer2013"


def test_icml_face_data(tmp_path: Path, examples: tuple) -> None:
    x, y = examples
    rows = [f"{label}, {usage}, {pixel_field(image)}" for image, label, usage in zip(x, y, USAGES, strict=True)]
    check_splits(datasets.load(write_csv(tmp_path / "icml_face_data.csv", "emotion, Usage, pixels", rows)), examples)


@pytest.mark.parametrize(
    "spelling", ["quoted", "byte-order mark", "spaces", "trailing blank lines", "folder", "last newline"]
)
def test_harmless_spellings(tmp_path: Path, examples: tuple, spelling: str) -> None:
    rows = fer_rows(examples)
    path = tmp_path / "fer2013.csv"
    header = HEADER
    if spelling == "quoted":
        rows = [",".join(f'"{field}"' for field in row.split(",")) for row in rows]
        header = '"emotion","pixels","Usage"'
    elif spelling == "byte-order mark":
        header = "\ufeff" + header
    elif spelling == "spaces":
        rows = [row.replace(",", "  , ").replace(" ", "  ", 5) for row in rows]
    elif spelling == "trailing blank lines":
        rows += ["", "  ", ""]
    write_csv(path, header, rows)
    if spelling == "last newline":
        path.write_bytes(path.read_bytes().rstrip())
    check_splits(datasets.load(tmp_path if spelling == "folder" else path), examples)


def test_rows_of_a_split_need_not_follow_one_another(tmp_path: Path, examples: tuple, rng: np.random.Generator) -> None:
    order = rng.permutation(30)
    rows = fer_rows(examples)
    data = datasets.load(write_csv(tmp_path / "fer2013.csv", HEADER, [rows[i] for i in order]))
    train = [i for i in order if USAGES[i] == "Training"]
    np.testing.assert_array_equal(data.train.x[..., 0], examples[0][train])
    np.testing.assert_array_equal(data.train.y, examples[1][train])
    assert data.train.x.flags.c_contiguous


def test_competition_files(tmp_path: Path, rng: np.random.Generator) -> None:
    x, y = images_of(rng, 40, 48, 48), labels_of(rng, 40, 7)
    rows = [f'{label},"{pixel_field(image)}"' for image, label in zip(x, y, strict=True)]
    data = datasets.load(write_csv(tmp_path / "train.csv", "emotion,pixels", rows), validation_fraction=0.2)
    assert (len(data.train.y), len(data.validation.y), data.test) == (32, 8, None)
    both = np.concatenate([data.train.x, data.validation.x])
    assert {image.tobytes() for image in both} == {image.tobytes() for image in x}
    test = write_csv(tmp_path / "test.csv", "pixels", [f'"{pixel_field(image)}"' for image in x[:5]])
    np.testing.assert_array_equal(datasets.read_pixels(test)[..., 0], x[:5])
    refused(test, test, "no emotion column", "read_pixels", error=DataError)


def test_private_test_validates_where_there_is_no_public_one(tmp_path: Path, examples: tuple) -> None:
    rows = fer_rows(examples)
    data = datasets.load(write_csv(tmp_path / "fer2013.csv", HEADER, rows[:16] + rows[24:]))
    np.testing.assert_array_equal(data.validation.y, examples[1][24:])
    assert data.test is None


def test_training_rows_alone_are_split(tmp_path: Path, examples: tuple) -> None:
    data = datasets.load(write_csv(tmp_path / "fer2013.csv", HEADER, fer_rows(examples)[:16]))
    assert len(data.train.y) + len(data.validation.y) == 16


# One bad row among good ones


def spoil(path: Path, examples: tuple, row: int, change) -> Path:
    """Write a file in which the fields of one row (the header is row 1) went through `change`."""
    rows = fer_rows(examples)
    rows[row - 2] = change(rows[row - 2].split(","))
    return write_csv(path, HEADER, rows)


def with_pixel(position: int, value: str):
    def change(fields: list[str]) -> str:
        pixels = fields[1].split(" ")
        pixels[position] = value
        return f"{fields[0]},{' '.join(pixels)},{fields[2]}"

    return change


@pytest.mark.parametrize(
    "value", ["256", "-1", "x", "1.5", "1e2", "0x1F", "99999999999999999999", "65541", "NaN", "5x6", "²"]
)
@pytest.mark.parametrize("position", [0, 1000, PIXELS - 1])
def test_bad_pixel(tmp_path: Path, examples: tuple, rng: np.random.Generator, value: str, position: int) -> None:
    row = int(rng.integers(2, 32))
    path = spoil(tmp_path / "fer2013.csv", examples, row, with_pixel(position, value))
    refused(path, path, f"row {row}:", f"pixel {position + 1} is '{value}'", "0 to 255", error=DataError)


def test_a_pixel_of_thousands_of_digits(tmp_path: Path, examples: tuple) -> None:
    path = spoil(tmp_path / "fer2013.csv", examples, 7, with_pixel(3, "9" * 5000))
    message = refused(path, path, "row 7:", "pixel 4 is '9999", "0 to 255", error=DataError)
    assert len(message) < len(str(path)) + 150


@given(row=st.integers(2, 31), count=st.integers(0, 2 * PIXELS).filter(lambda n: n != PIXELS))
def test_wrong_number_of_pixels(tmp_path_factory: pytest.TempPathFactory, row: int, count: int) -> None:
    rng = np.random.default_rng(count)
    examples = images_of(rng, 30, 48, 48), rng.integers(0, 7, 30)
    folder = tmp_path_factory.mktemp("fer")
    change = lambda f: f"{f[0]},{' '.join((f[1].split(' ') * 2)[:count])},{f[2]}"  # noqa: E731
    path = spoil(folder / "fer2013.csv", examples, row, change)
    refused(path, path, f"row {row}:", f"{count} pixels", PIXELS, error=DataError)


@pytest.mark.parametrize("label", ["9", "7", "-1", "happy", "", "1.0"])
def test_bad_label(tmp_path: Path, examples: tuple, rng: np.random.Generator, label: str) -> None:
    row = int(rng.integers(2, 32))
    path = spoil(tmp_path / "fer2013.csv", examples, row, lambda f: ",".join([label, *f[1:]]))
    refused(path, path, f"row {row}:", f"label '{label}'", "0 (Angry) to 6 (Neutral)", error=DataError)


def test_bad_usage(tmp_path: Path, examples: tuple) -> None:
    path = spoil(tmp_path / "fer2013.csv", examples, 12, lambda f: ",".join([*f[:2], "Trainig"]))
    refused(path, path, "row 12:", "'Trainig'", "PublicTest", error=DataError)


def test_wrong_number_of_fields(tmp_path: Path, examples: tuple) -> None:
    path = spoil(tmp_path / "fer2013.csv", examples, 5, lambda f: ",".join(f[:2]))
    refused(path, path, "row 5:", "2 fields", "names 3", error=DataError)


def test_file_cut_off_in_a_row(tmp_path: Path, examples: tuple) -> None:
    path = write_csv(tmp_path / "fer2013.csv", HEADER, fer_rows(examples))
    path.write_bytes(path.read_bytes()[:-2000])
    refused(path, path, "row 31:", "truncated", error=DataError)


def test_empty_line(tmp_path: Path, examples: tuple) -> None:
    rows = fer_rows(examples)
    path = write_csv(tmp_path / "fer2013.csv", HEADER, [*rows[:7], "", *rows[7:]])
    refused(path, path, "row 9:", "empty", error=DataError)


# Files that are not what they should be


def test_no_header(tmp_path: Path, examples: tuple) -> None:
    path = write_csv(tmp_path / "fer2013.csv", fer_rows(examples)[0], fer_rows(examples)[1:])
    message = refused(path, path, "row 1:", "no header", HEADER, error=DataError)
    assert len(message) < 300


@pytest.mark.parametrize(
    "data", [b"\xff\xfe" + "emotion,pixels".encode("utf-16-le"), b"\x89PNG\r\n\x1a\n", b"\0" * 100, b"PK\x03\x04\0\0"]
)
def test_binary_or_wrong_encoding(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "fer2013.csv"
    path.write_bytes(data)
    refused(path, path, "row 1", error=DataError)


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "fer2013.csv"
    path.write_bytes(b"")
    refused(path, path, "empty", error=DataError)


def test_header_only(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "fer2013.csv", HEADER, [])
    refused(path, path, "no rows", error=DataError)


def test_no_training_rows(tmp_path: Path, examples: tuple) -> None:
    path = write_csv(tmp_path / "fer2013.csv", HEADER, fer_rows(examples)[16:])
    refused(path, path, "Training", error=DataError)


def test_one_class_only(tmp_path: Path, rng: np.random.Generator) -> None:
    rows = [f"3,{pixel_field(image)},Training" for image in images_of(rng, 5, 48, 48)]
    path = write_csv(tmp_path / "fer2013.csv", HEADER, rows)
    refused(path, path, "one class", "Happy", error=DataError)


# FERPlus

VOTES_HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"


def votes_row(usage: str, votes: list[int]) -> str:
    return f"{usage},fer.png,{','.join(map(str, votes))}"


@pytest.fixture
def ferplus(tmp_path: Path, examples: tuple, rng: np.random.Generator) -> tuple[Path, np.ndarray]:
    """FERPlus's file beside fer2013.csv, and its labels: -1 where there is no majority."""
    write_csv(tmp_path / "fer2013.csv", HEADER, fer_rows(examples))
    labels = np.concatenate([labels_of(rng, n, 6) for n in (16, 8, 6)])
    rows = []
    for i, label in enumerate(labels):
        votes = [0] * 10
        votes[label] = int(rng.integers(6, 11))
        votes[(label + 1) % 10] += 10 - votes[label]
        if i in (0, 20):  # no face; a tie
            votes = [0] * 9 + [10] if i == 0 else [5, 5] + [0] * 8
            labels[i] = -1
        rows.append(votes_row(USAGES[i], votes))
    return write_csv(tmp_path / "fer2013new.csv", VOTES_HEADER, rows), labels


def test_ferplus(ferplus: tuple[Path, np.ndarray], examples: tuple) -> None:
    path, labels = ferplus
    data = datasets.load(path)
    assert data.classes == FERPLUS_CLASSES
    kept = labels >= 0
    np.testing.assert_array_equal(data.train.y, labels[:16][kept[:16]])
    np.testing.assert_array_equal(data.validation.y, labels[16:24][kept[16:24]])
    np.testing.assert_array_equal(data.train.x[..., 0], examples[0][:16][kept[:16]])


@pytest.mark.parametrize(
    ("votes", "label"),
    [
        ([10, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0),
        ([4, 0, 0, 3, 1, 1, 1, 0, 0, 0], 0),  # single votes do not count: 4 of 7
        ([3, 0, 3, 0, 2, 2, 0, 0, 0, 0], -1),
        ([0, 0, 0, 0, 0, 0, 0, 6, 4, 0], 7),
        ([0, 0, 0, 0, 0, 0, 0, 0, 10, 0], -1),
        ([1, 1, 1, 1, 1, 1, 1, 1, 1, 1], -1),
    ],
)
def test_ferplus_majority(ferplus: tuple[Path, np.ndarray], votes: list[int], label: int) -> None:
    path, labels = ferplus
    lines = path.read_text().splitlines()
    lines[6] = votes_row("Training", votes)
    path.write_text("\n".join(lines))
    labels[5] = label
    np.testing.assert_array_equal(datasets.load(path).train.y, labels[:16][labels[:16] >= 0])


def test_ferplus_refusals(ferplus: tuple[Path, np.ndarray]) -> None:
    path, _ = ferplus
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]))
    refused(path, path, "29 rows", "fer2013.csv has 30", error=DataError)
    path.write_text("\n".join([*lines[:3], lines[3].replace(",0", ",many", 1), *lines[4:]]))
    refused(path, path, "row 4:", "'many'", "votes", error=DataError)
    path.write_text("\n".join([*lines[:3], lines[3].replace(",0", "," + "1" * 5000, 1), *lines[4:]]))
    refused(path, path, "row 4:", "'1111", "…'", "votes", error=DataError)
    path.write_text("\n".join([lines[0], *[votes_row(usage, [0] * 9 + [10]) for usage in USAGES]]))
    refused(path, path, "no row has a majority", error=DataError)
    path.write_text("\n".join(lines))
    (path.parent / "fer2013.csv").unlink()
    refused(path, path, "beside", "fer2013.csv", error=DataError)


def test_ferplus_beside_rows_in_another_order(ferplus: tuple[Path, np.ndarray], examples: tuple) -> None:
    path, _ = ferplus
    lines = path.read_text().splitlines()
    other = path.parent / "fer2013.csv"
    rows = fer_rows(examples)
    write_csv(other, HEADER, [*rows[16:], *rows[:16]])
    message = "row 2: Usage is Training, but in the same row of fer2013.csv it is PublicTest"
    refused(path, path, message, "same order", error=DataError)
    write_csv(other, HEADER, rows)
    path.write_text("\n".join([*lines[:20], lines[20].replace("PublicTest", "Nowhere"), *lines[21:]]))
    refused(path, path, "row 21:", "Usage is 'Nowhere'", error=DataError)


@pytest.mark.parametrize("right", [1.0, 0.6])
def test_ferplus_beside_rows_shuffled_within_a_usage(tmp_path: Path, rng: np.random.Generator, right: float) -> None:
    order = np.array([4, 5, 6, 1, 3, 2, 0])  # FER2013's expressions in FERPlus's order
    emotions = rng.integers(0, 7, 80)
    voted = np.where(rng.random(80) < right, order[emotions], order[rng.integers(0, 7, 80)])
    votes = [votes_row("Training", [8 * (i == label) for i in range(10)]) for label in voted]
    field = pixel_field(images_of(rng, 48, 48))
    path = write_csv(tmp_path / "fer2013new.csv", VOTES_HEADER, votes)
    write_csv(tmp_path / "fer2013.csv", HEADER, [f"{label},{field},Training" for label in emotions])
    data = datasets.load(path)
    assert sorted([*data.train.y, *data.validation.y]) == sorted(voted)
    shuffled = [f"{label},{field},Training" for label in np.roll(np.sort(emotions), 40)]
    write_csv(tmp_path / "fer2013.csv", HEADER, shuffled)
    refused(path, path, "the votes agree with the labels of fer2013.csv in", "of 80 rows", "chance", error=DataError)


@pytest.mark.parametrize("place", ["header", "row", "votes"])
def test_an_endless_row_is_not_read_to_its_end(tmp_path: Path, examples: tuple, place: str) -> None:
    path = tmp_path / "fer2013.csv"
    rows = fer_rows(examples)
    endless = b"7 " * (1 << 26)
    with path.open("wb") as file:
        file.write(b"" if place == "header" else f"{HEADER}\n{rows[0]}\n".encode())
        if place == "votes":
            file.write("\n".join(rows[1:]).encode())
        else:
            file.write(endless)
    if place == "votes":
        path = tmp_path / "fer2013new.csv"
        path.write_bytes(f"{VOTES_HEADER}\n".encode() + endless)
    tracemalloc.start()
    try:
        row = {"header": 1, "row": 3, "votes": 2}[place]
        refused(path, path, f"row {row}: longer than 32,768 bytes, which no row", error=DataError)
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()
