"""Reads FER2013, facial expressions as CSV, in each of the forms in which it is distributed.

Goodfellow et al., *Challenges in representation learning: a report on three machine learning contests*, 2013: 48x48
gray images, one per line. FERPlus (Barsoum et al., 2016) gives the same images ten people's votes on eight expressions.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import DataError
from ..files import readable
from ..values import path as as_path
from .at_once import in_threads
from .files import reading, shown
from .room import check_room
from .types import Options, Reader, Source, Split

SIDE = 48
"""Height and width of an image in pixels."""

CLASSES = ["Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral"]
"""Expressions in the order of FER2013's labels, 0 to 6."""

FERPLUS_CLASSES = ["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"]
"""Expressions in the order of FERPlus's columns, without its last two, ``unknown`` and ``NF`` (no face)."""

_VOTES = [*FERPLUS_CLASSES, "unknown", "nf"]
_VOTE_DIGITS = 9  # most digits of a number of votes; ten people vote
_PIXELS = SIDE * SIDE
_USAGES = {"training": 0, "publictest": 1, "privatetest": 2}
_USAGE_NAMES = ("Training", "PublicTest", "PrivateTest")
_USAGE_WORDS = "Training, PublicTest or PrivateTest"
_AS_FERPLUS = np.array([4, 5, 6, 1, 3, 2, 0])  # FER2013's expressions in FERPlus's order
_ENOUGH_ROWS, _LEAST_KAPPA = 50, 0.2
_ORDER = "the rows of both files must be in the same order: give the original fer2013.csv and fer2013new.csv"
_LABELS = {str(label).encode(): label for label in range(len(CLASSES))}
_LONGEST_ROW = 1 << 15  # bytes; a row of 2304 pixels has a third of that at most
_IN_FOLDER = ("fer2013.csv", "icml_face_data.csv", "train.csv")
_BLOCK = 64  # rows that a thread takes at a time
_AT_ONCE = 4  # rows parsed together: the memory for more would be mapped anew each time


def matches(path: Path) -> bool:
    """Whether `path` is a ``.csv`` file, or a folder that holds one with a name of FER2013's."""
    if path.is_dir():
        return any((path / name).is_file() for name in _IN_FOLDER)
    return path.suffix.lower() == ".csv"


def read(path: Path, options: Options) -> Source:
    """Read FER2013 from CSV.

    Parameters
    ----------
    path : Path
        One of ``fer2013.csv`` (``emotion,pixels,Usage``), ``icml_face_data.csv`` (``emotion, Usage, pixels``),
        ``train.csv`` (``emotion,pixels``), FERPlus's ``fer2013new.csv`` (votes; the pixels come from the
        ``fer2013.csv`` or ``icml_face_data.csv`` beside it), or a folder that holds one of the first three. The header
        decides the form; the name does not matter.
    options : Options
        None of them is used.

    Returns
    -------
    Source
        Images of shape (N, 48, 48, 1), uint8. ``Training`` rows train, ``PublicTest`` rows validate and ``PrivateTest``
        rows are the test split; without ``PublicTest`` rows, ``PrivateTest`` validates.

    Raises
    ------
    DataError
        If a row is not as the header says: the message names file, row (the header is row 1) and value.
    """
    if path.is_dir():
        path = next(path / name for name in _IN_FOLDER if (path / name).is_file())
    table = _Table(path)
    if "neutral" in table.columns:
        return _read_ferplus(table)
    if "pixels" in table.columns and "emotion" not in table.columns:
        raise DataError(
            f"{path}: has pixels but no emotion column, so nothing can be learned from it; train on train.csv or "
            "fer2013.csv, and read this file with pyconv.datasets.read_pixels"
        )
    x, labels, usages = _read_rows(table, labelled=True)
    return _source(path, x, labels, usages, CLASSES)


def read_pixels(path: str | Path) -> np.ndarray:
    """Read the images of a FER2013 file without labels, such as the competition's ``test.csv``.

    Parameters
    ----------
    path : str or Path
        A CSV file whose header names ``pixels``.

    Returns
    -------
    ndarray, shape (N, 48, 48, 1), uint8

    Raises
    ------
    DataError
        As :func:`pyconv.datasets.load` does for such a file.
    """
    return _read_rows(_Table(as_path(path, "path")), labelled=False)[0]


class _Table:
    """A CSV file: the names in its header, and its rows as fields."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with reading(path), readable(path).open("rb") as stream:
            header = next(_lines(stream, path), b"")
        if not header:
            raise DataError(f"{path}: the file is empty; give fer2013.csv as Kaggle ships it")
        try:
            text = header.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = "\0"
        if "\0" in text:
            raise DataError(f"{path}, row 1: not UTF-8 text; give the CSV itself, unpacked, or save it again as UTF-8")
        self.columns = [name.strip().strip('"').strip().lower() for name in text.split(",")]
        if not {"pixels", "neutral"} & set(self.columns):
            raise DataError(
                f"{path}, row 1: no header that names pixels (found {shown(text.strip())}); "
                "the first line must be as emotion,pixels,Usage"
            )

    def column(self, name: str) -> int:
        """Position of a column."""
        if name not in self.columns:
            found = ",".join(self.columns)
            raise DataError(f"{self.path}, row 1: the header has no column {name!r} (found {shown(found)}); add it")
        return self.columns.index(name)

    def rows(self) -> Iterator[tuple[int, list[bytes]]]:
        """The number of each row (the header is row 1), and its fields without spaces and quotes around them."""
        width = len(self.columns)
        blank = 0
        with reading(self.path), readable(self.path).open("rb") as stream:
            lines = _lines(stream, self.path)
            next(lines, None)
            for row, line in enumerate(lines, start=2):
                if not line.strip():
                    blank = blank or row
                    continue
                if blank:  # blank lines at the end of a file are harmless
                    raise DataError(f"{self.path}, row {blank}: the line is empty; remove it")
                fields = [field.strip().strip(b'"').strip() for field in line.split(b",")]
                if len(fields) != width:
                    raise DataError(
                        f"{self.path}, row {row}: {len(fields)} fields where the header names {width} "
                        f"({shown(','.join(self.columns), 80)}); is the file truncated?"
                    )
                yield row, fields


def _lines(stream: BinaryIO, path: Path) -> Iterator[bytes]:
    """The lines of a file; raises an error for a line that is too long for a row."""
    row = 0
    while line := stream.readline(_LONGEST_ROW + 1):
        row += 1
        if len(line) > _LONGEST_ROW:
            raise DataError(
                f"{path}, row {row}: longer than {_LONGEST_ROW:,} bytes, which no row of a {SIDE}x{SIDE} image is; "
                "does the file end its lines as Unix or Windows does?"
            )
        yield line


def _read_rows(table: _Table, labelled: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Images, labels and usages (0 Training, 1 PublicTest, 2 PrivateTest) of the rows; no usages: None."""
    pixels = table.column("pixels")
    emotion = table.column("emotion") if labelled else -1
    usage = table.columns.index("usage") if "usage" in table.columns else None
    images: list[np.ndarray] = []
    labels: list[int] = []
    usages: list[int] = []
    # At most four characters a pixel. The factor 2: the rows of the file, and all of them in one array.
    check_room(table.path, "its images", 2 * (table.path.stat().st_size // (4 * _PIXELS)) * _PIXELS)

    def read(block: _Block) -> np.ndarray | None:
        return _parse_block([fields[pixels] for _, fields in block])

    # If NumPy can read only a part of a field, some releases warn and others raise an error.
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        for block, values in in_threads(read, _blocks(table)):
            out = np.empty((len(block), _PIXELS), np.uint8) if values is None else values
            for index, (row, fields) in enumerate(block):
                if values is None:
                    _parse_pixels(fields[pixels], out[index], table.path, row)
                if labelled:
                    labels.append(_label(fields[emotion], table.path, row))
                if usage is not None:
                    usages.append(_usage(fields[usage], table.path, row))
            images.append(out)
    if not images:
        raise DataError(f"{table.path}: has a header but no rows; give a file with images")
    x = np.concatenate(images).reshape(-1, SIDE, SIDE, 1)
    return x, np.array(labels, np.int64), None if usage is None else np.array(usages)


_Block = list[tuple[int, list[bytes]]]


def _blocks(table: _Table) -> Iterator[_Block]:
    """The rows of a file, many at a time; if a row cannot be read, the rows before it come first."""
    block: _Block = []
    try:
        for numbered in table.rows():
            block.append(numbered)
            if len(block) == _BLOCK:
                yield block
                block = []
    except DataError:
        if block:
            yield block
        raise
    if block:
        yield block


def _parse_block(fields: list[bytes]) -> np.ndarray | None:
    """Pixels of many fields, ``(n, 2304)`` uint8, or None if one is not in the usual form.

    That is 2304 numbers of one to three digits, each but the last with one space after it.
    """
    out = np.empty((len(fields), _PIXELS), np.uint8)
    for first in range(0, len(fields), _AT_ONCE):
        values = _digits_of(fields[first : first + _AT_ONCE])
        if values is None:
            return None
        out[first : first + _AT_ONCE] = values
    return out


def _digits_of(fields: list[bytes]) -> np.ndarray | None:
    """As :func:`_parse_block`, for a few fields: all numbers at once, digit by digit."""
    text = np.frombuffer(b" ".join(fields) + b" ", np.uint8)
    ends = np.flatnonzero(text == ord(" "))
    field_ends = np.cumsum([len(field) + 1 for field in fields]) - 1
    if len(ends) != len(fields) * _PIXELS or (ends[_PIXELS - 1 :: _PIXELS] != field_ends).any():
        return None
    lengths = np.diff(ends, prepend=-1) - 1
    digits = text - np.uint8(ord("0"))  # a space, or any character but a digit, becomes a large number
    if lengths.min() < 1 or lengths.max() > 3 or np.count_nonzero(digits < 10) != len(text) - len(ends):
        return None
    values = digits[ends - 1].astype(np.uint16)
    for place in (2, 3):
        values += digits[ends - place] * (lengths >= place) * np.uint16(10 ** (place - 1))
    return values.reshape(-1, _PIXELS) if values.max() <= 255 else None


def _parse_pixels(field: bytes, out: np.ndarray, path: Path, row: int) -> None:
    """Write the numbers of `field` to `out`; called only to find out what is wrong."""
    try:
        values = np.fromstring(field, np.int64, sep=" ")
    except (ValueError, DeprecationWarning):
        values = np.empty(0, np.int64)
    if values.size != _PIXELS or values.min() < 0 or values.max() > 255:
        raise DataError(f"{path}, row {row}: {_complaint(field)}")
    out[:] = values


def _complaint(field: bytes) -> str:
    """What is wrong with a field of pixels."""
    words = field.split()
    for position, word in enumerate(words):
        if not word.isdigit() or len(word.lstrip(b"0")) > 3 or int(word) > 255:  # int() raises for thousands of digits
            return f"pixel {position + 1} is {shown(word)}; pixels must be integers from 0 to 255"
    return f"{len(words)} pixels; a {SIDE}x{SIDE} image has {_PIXELS}; repair or remove the row"


def _label(field: bytes, path: Path, row: int) -> int:
    """Number of an expression."""
    label = _LABELS.get(field)
    if label is None:
        raise DataError(
            f"{path}, row {row}: label {shown(field)}; FER2013's labels are 0 ({CLASSES[0]}) to "
            f"{len(CLASSES) - 1} ({CLASSES[-1]})"
        )
    return label


def _usage(field: bytes, path: Path, row: int) -> int:
    """Number of a split."""
    usage = _USAGES.get(field.decode("utf-8", "replace").lower())
    if usage is None:
        raise DataError(f"{path}, row {row}: Usage is {shown(field)}; it must be {_USAGE_WORDS}")
    return usage


def _source(path: Path, x: np.ndarray, labels: np.ndarray, usages: np.ndarray | None, classes: list[str]) -> Source:
    """Divide the rows into splits."""
    name = path.stem
    if usages is None:
        return Source(name, Split(x, labels), classes)
    if not (usages == 0).any():
        raise DataError(f"{path}: no row has Usage Training, so there is nothing to train on; give the whole file")
    train, public, private = (_part(x, labels, usages == usage) for usage in range(3))
    assert train is not None
    if public is None:
        public, private = private, None
    return Source(name, train, classes, public, private)


def _part(x: np.ndarray, labels: np.ndarray, mask: np.ndarray) -> Split | None:
    """The rows of one usage; a view if they follow one another, as they do in the distributed files."""
    rows = np.flatnonzero(mask)
    if not rows.size:
        return None
    if rows[-1] - rows[0] + 1 == rows.size:
        return Split(x[rows[0] : rows[-1] + 1], labels[rows[0] : rows[-1] + 1])
    return Split(x[rows], labels[rows])


def _read_ferplus(votes: _Table) -> Source:
    """FER2013's images with FERPlus's labels."""
    names = [name for name in _IN_FOLDER[:2] if (votes.path.parent / name).is_file()]
    if not names:
        raise DataError(
            f"{votes.path}: holds FERPlus's votes without pixels; put {' or '.join(_IN_FOLDER[:2])} beside it"
        )
    faces = _Table(votes.path.parent / names[0])
    faces.column("usage")
    given, said = [], []
    for row_votes, usage in _vote_rows(votes):
        given.append(_majority(row_votes))
        said.append(usage)
    labels = np.array(given, np.int64)
    x, emotions, usages = _read_rows(faces, labelled=True)
    if len(labels) != len(x):
        raise DataError(
            f"{votes.path}: {len(labels)} rows, but {faces.path.name} has {len(x)}; give files that belong together"
        )
    assert usages is not None
    for row, (theirs, ours) in enumerate(zip(said, usages.tolist()), start=2):
        if theirs is not None and theirs != ours:
            raise DataError(
                f"{votes.path}, row {row}: Usage is {_USAGE_NAMES[theirs]}, but in the same row of {faces.path.name} "
                f"it is {_USAGE_NAMES[ours]}; {_ORDER}"
            )
    kept = labels >= 0
    if not kept.any():
        raise DataError(f"{votes.path}: no row has a majority for an expression; give FERPlus's original file")
    _check_agreement(votes.path, faces.path, labels[kept], _AS_FERPLUS[emotions[kept]])
    return _source(votes.path, x[kept], labels[kept], usages[kept], FERPLUS_CLASSES)


def _check_agreement(votes: Path, faces: Path, labels: np.ndarray, emotions: np.ndarray) -> None:
    """Refuse votes that agree with FER2013's own labels no better than votes in another order would.

    The measure is Cohen's kappa (1960), which is 0 by chance; the original files reach several times the limit here.
    """
    if len(labels) < _ENOUGH_ROWS:
        return
    shares = [np.bincount(those, minlength=len(FERPLUS_CLASSES)) / len(labels) for those in (labels, emotions)]
    chance = float(shares[0] @ shares[1])
    agreeing = int((labels == emotions).sum())
    if agreeing / len(labels) - chance < _LEAST_KAPPA * (1 - chance):
        raise DataError(
            f"{votes}: the votes agree with the labels of {faces.name} in {agreeing} of {len(labels)} rows, about as "
            f"often as by chance; {_ORDER}"
        )


def _vote_rows(table: _Table) -> Iterator[tuple[list[int], int | None]]:
    """Votes of each row, in the order of `_VOTES`, and its usage if there is one."""
    columns = [(name, table.column(name)) for name in _VOTES]
    usage = table.columns.index("usage") if "usage" in table.columns else None
    for row, fields in table.rows():
        votes = []
        for name, column in columns:
            field = fields[column]
            if not field.isdigit() or len(field) > _VOTE_DIGITS:
                raise DataError(
                    f"{table.path}, row {row}: {name} is {shown(field)}; votes must be integers from 0, of at most "
                    f"{_VOTE_DIGITS} digits"
                )
            votes.append(int(field))
        yield votes, None if usage is None else _usage(fields[usage], table.path, row)


def _majority(votes: list[int]) -> int:
    """The expression with more than half of the votes, or -1.

    As in FERPlus's own code, a single vote for an expression is an outlier and does not count.
    """
    votes = [vote if vote > 1 else 0 for vote in votes]
    best = max(range(len(votes)), key=votes.__getitem__)
    return best if best < len(FERPLUS_CLASSES) and 2 * votes[best] > sum(votes) else -1


READER = Reader("FER2013 CSV", "a FER2013 .csv", matches, read)
