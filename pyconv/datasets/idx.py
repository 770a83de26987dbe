"""Reads IDX files, the format of MNIST, Fashion-MNIST, EMNIST and others, gzipped or not.

An IDX file is two zero bytes, a byte for the element type, a byte for the number of dimensions, each dimension as a
big-endian 32-bit number, and the elements (LeCun, Cortes and Burges, *The MNIST database of handwritten digits*).
QMNIST (Yadav and Bottou, 2019) has eight 32-bit columns for each label; EMNIST (Cohen et al., 2017) stores its images
with rows and columns exchanged.
"""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from io import BufferedReader
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..files import readable
from .files import entries, listed, reading
from .labels import numbered
from .room import check_room
from .types import Options, Reader, Source, Split

FASHION_MNIST = [
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
]  # fmt: skip
"""Class names of Fashion-MNIST, in the order of its labels."""

_UNSIGNED_BYTE, _INTEGER = 8, 12
_DTYPES: dict[int, np.dtype] = {_UNSIGNED_BYTE: np.dtype(np.uint8), _INTEGER: np.dtype(">i4")}
_QMNIST_COLUMNS = 8
_TYPES = {8: "unsigned byte", 9: "signed byte", 11: "16-bit", 12: "32-bit", 13: "float32", 14: "float64"}
_NAME = re.compile(r"(?P<part>train|t10k|test)-(?P<what>images|labels)[-.]idx\d-(ubyte|int)(\.gz)?$", re.IGNORECASE)
_TRANSPOSED = "emnist-"
_MOST_DEFLATED = 1032  # the largest factor by which deflate can expand data


def matches(path: Path) -> bool:
    """Whether `path` is a folder that holds an IDX file, judging by the names."""
    return path.is_dir() and bool(_candidates(path))


def read_idx(path: Path, rank: tuple[int, ...], *, integers: bool = False) -> np.ndarray:
    """Read one IDX file of unsigned bytes, or of 32-bit integers.

    Parameters
    ----------
    path : Path
        The file; gzipped if its name ends in ``.gz``.
    rank : tuple of int
        The numbers of dimensions that are accepted.
    integers : bool
        Accept 32-bit integers too.

    Returns
    -------
    ndarray, uint8 or big-endian int32
        With the shape that the header states.

    Raises
    ------
    DataError
        If the file cannot be read, is not IDX, holds another type or rank, or has another length than its header says.
    """
    packed = path.suffix.lower() == ".gz"
    with reading(path):
        try:
            with gzip.open(readable(path)) if packed else readable(path).open("rb") as stream:
                return _read(stream, path, rank, integers)
        except EOFError:
            raise DataError(f"{path}: the gzip stream is truncated; fetch the file again") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{path}: the gzip stream is corrupt ({error}); fetch the file again") from None


def _read(stream: gzip.GzipFile | BufferedReader, path: Path, rank: tuple[int, ...], integers: bool) -> np.ndarray:
    """Read header and elements from an open stream."""
    magic = stream.read(4)
    if len(magic) < 4:
        raise DataError(f"{path}: truncated: {len(magic)} bytes, too few for an IDX header; fetch the file again")
    if magic[:2] == b"\x1f\x8b":
        raise DataError(f"{path}: is gzipped but its name does not end in .gz; rename or unpack it")
    zeros, kind, dimensions = struct.unpack(">HBB", magic)
    if zeros != 0 or kind not in _TYPES:
        raise DataError(f"{path}: not an IDX file: its magic number is 0x{magic.hex()}; give the original file")
    if kind != _UNSIGNED_BYTE and not (integers and kind == _INTEGER):
        wanted = "unsigned bytes (0x08)" + (" or 32-bit integers (0x0c)" if integers else "")
        raise DataError(f"{path}: holds {_TYPES[kind]} elements; pyconv reads IDX files of {wanted} here")
    if dimensions not in rank:
        wanted = " or ".join(map(str, rank))
        raise DataError(
            f"{path}: has {dimensions} dimensions where {wanted} are expected; are images and labels swapped?"
        )
    header = stream.read(4 * dimensions)
    if len(header) < 4 * dimensions:
        raise DataError(f"{path}: truncated in its header; fetch the file again")
    shape = struct.unpack(f">{dimensions}I", header)
    dtype = _DTYPES[kind]
    size = math.prod(shape) * dtype.itemsize
    if 0 in shape:
        raise DataError(f"{path}: its header states an empty array of shape {shape}; give a file with examples")
    # A damaged header may state terabytes: compare with what the file can hold before allocating.
    held = path.stat().st_size * (_MOST_DEFLATED if isinstance(stream, gzip.GzipFile) else 1)
    check_room(path, f"{shape[0]:,} entries", min(size, held))
    data = np.empty(min(size, held), np.uint8)
    got = _fill(stream, data)
    if got < size:
        raise DataError(
            f"{path}: truncated: the header states {size} bytes of shape {shape}, the file holds {got}; "
            "fetch the file again"
        )
    if stream.read(1):
        raise DataError(
            f"{path}: longer than the {size} bytes of shape {shape} that its header states; fetch the file again"
        )
    return data.view(dtype).reshape(shape)


def _fill(stream: gzip.GzipFile | BufferedReader, data: np.ndarray) -> int:
    """Read into `data` until it is full or the stream ends; return the number of bytes read."""
    view = data.data
    got = 0
    while got < len(view):
        count = stream.readinto(view[got : got + (1 << 22)])
        if not count:
            break
        got += count
    return got


def _candidates(folder: Path) -> list[tuple[tuple[str, str], Path]]:
    """IDX files of a folder by name, each with its (part, what): ``train`` or ``test``, ``images`` or ``labels``.

    Some archives unpack each file into a folder of the file's own name: that file counts if there is none beside it.
    """
    found, nested = [], []
    for path in entries(folder):
        match = _NAME.search(path.name)
        if match is None:
            continue
        key = ("train" if match["part"].lower() == "train" else "test", match["what"].lower())
        if path.is_dir():
            nested += [(key, inner) for inner in entries(path) if inner.is_file() and _NAME.search(inner.name)]
        elif path.is_file():
            found.append((key, path))
    known = {key for key, _ in found}
    return found + [(key, path) for key, path in nested if key not in known]


def _find(folder: Path) -> dict[tuple[str, str], Path]:
    """The one file of each kind, by (part, what)."""
    found: dict[tuple[str, str], Path] = {}
    for key, path in _candidates(folder):
        if key not in found:
            found[key] = path
        elif found[key].with_suffix("") != path and path.with_suffix("") != found[key]:
            raise DataError(
                f"{folder}: holds both {found[key].name} and {path.name}; give each data set its own folder"
            )
        # Otherwise it is the same file, packed and unpacked: the unpacked one comes first, and is faster to read.
    return found


def _split(files: dict[tuple[str, str], Path], part: str, folder: Path, notes: list[str]) -> Split:
    """Read the images and labels of one part."""
    for what in ("images", "labels"):
        if (part, what) not in files:
            known = listed(path.name for path in files.values())
            stem = "train" if part == "train" else "t10k"
            rank = 3 if what == "images" else 1
            raise DataError(f"{folder}: lacks {stem}-{what}-idx{rank}-ubyte[.gz] (found {known}); add the file")
    images, labels = files[part, "images"], files[part, "labels"]
    y = read_idx(labels, (1, 2), integers=True)
    if y.ndim == 2:
        if y.shape[1] != _QMNIST_COLUMNS or y.dtype == np.uint8:
            raise DataError(f"{labels}: has 2 dimensions where 1 is expected; are images and labels swapped?")
        notes.append(f"{labels}: of QMNIST's eight columns the first, the digit, is the label")
        y = y[:, 0]
    x = read_idx(images, (3, 4))
    if len(x) != len(y):
        raise DataError(
            f"{images}: {len(x)} images, but {labels.name} has {len(y)} labels; give files that belong together"
        )
    if images.name.lower().startswith(_TRANSPOSED) and x.ndim == 3:
        notes.append(f"{images}: EMNIST's images are stored with rows and columns exchanged; they were turned upright")
        x = np.ascontiguousarray(x.transpose(0, 2, 1))
    return Split(x if x.ndim == 4 else x[..., None], y.astype(np.int64))


def read(path: Path, options: Options) -> Source:
    """Read a folder of IDX files named like MNIST's; ``t10k`` or ``test`` is the validation split.

    Parameters
    ----------
    path : Path
        Folder with ``train-images-idx3-ubyte`` and ``train-labels-idx1-ubyte``, and optionally ``t10k-…`` (or
        ``test-…``); each may end in ``.gz``, and may have a dot instead of the dash before ``idx``. Labels may be
        QMNIST's ``…-labels-idx2-int``. Images in files whose names begin with ``emnist-`` are transposed.
    options : Options
        `first_label` is used: the label of the first class.

    Returns
    -------
    Source
        Images of shape (N, H, W, 1), or (N, H, W, C) from IDX files of rank 4. The classes are named by their
        numbers; or by Fashion-MNIST's names, if the folder's name contains ``fashion`` and there are ten.

    Raises
    ------
    DataError
        If a file is missing, damaged, or does not belong to the others.
    """
    files = _find(path)
    notes: list[str] = []
    train = _split(files, "train", path, notes)
    has_test = any(part == "test" for part, _ in files)
    validation = _split(files, "test", path, notes) if has_test else None
    folder = path.resolve().name
    fashion = "fashion" in folder.lower() and int(train.y.max()) + 1 == len(FASHION_MNIST)
    names = list(FASHION_MNIST) if fashion else None
    (train_split, validation), classes = numbered(path, (train, validation), options.first_label or 0, names)
    assert train_split is not None
    return Source(folder or "idx", train_split, classes, validation, notes=tuple(notes), numbered=not fashion)


READER = Reader("IDX folder", "a folder of IDX files", matches, read, ("first_label",))
