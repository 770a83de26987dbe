"""Reads ``.npy`` files, one array in each, by mapping them into memory: they may be larger than the memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import DataError
from ..files import readable
from .arrays import as_nhwc, class_names, class_numbers, mapped_pixels, pixels
from .files import reading
from .labels import numbered
from .room import check_room
from .types import Options, Reader, Source, Split

_MAGIC = b"\x93NUMPY"
_AGAIN = "write it again with numpy.save(path, array)"
_END = ".npy"
#: Names of the files of images and labels, for training, validation and test; all have the same prefix.
_SPELLINGS = (
    ("train_images", "train_labels", "val_images", "val_labels", "test_images", "test_labels"),
    ("images", "labels", "val_images", "val_labels", "test_images", "test_labels"),
    ("x_train", "y_train", "x_val", "y_val", "x_test", "y_test"),
    ("x", "y", "x_val", "y_val", "x_test", "y_test"),
)
_BETWEEN = ("", "-", "_", ".", " ")
_MAPPED = ("uint8", "float32", "float64")


def matches(path: Path) -> bool:
    """Whether `path` is a file named ``.npy``."""
    return path.suffix.lower() == _END and not path.is_dir()


def read(path: Path, options: Options) -> Source:
    """Map a file of images, with the labels in the file beside it.

    ``images.npy`` has its labels in ``labels.npy``, ``x.npy`` in ``y.npy``, ``train_images.npy`` in
    ``train_labels.npy``, ``x_train.npy`` in ``y_train.npy``. ``val_images.npy`` and ``test_images.npy`` (``x_val.npy``,
    ``x_test.npy``) are taken with their labels if they exist, and so is ``classes.npy``, a vector of strings. All may
    have one prefix, as in ``cells-images.npy``.

    Parameters
    ----------
    path : Path
        The training images.
    options : Options
        `first_label` is taken: the label of the first class.

    Returns
    -------
    Source
        Images of uint8, float32 or float64 are mapped; others are copied, to uint8 or float32.

    Raises
    ------
    DataError
        If a file is missing, is no such array, or cannot be images or labels.
    """
    before, names = _names(path)

    def file(name: str) -> Path:
        return path.with_name(before + name + path.suffix)

    splits: list[Split | None] = []
    for x, y in zip(names[::2], names[1::2], strict=True):
        if splits and not file(x).exists() and not file(y).exists():
            splits.append(None)
            continue
        images, labels = _images(file(x), x), class_numbers(_array(file(y)), str(file(y)))
        if len(images) != len(labels):
            raise DataError(f"{file(y)}: has {len(labels)} labels for {len(images)} images; they must be as many")
        splits.append(Split(images, labels))
    found = class_names(_array(file("classes")), str(file("classes"))) if file("classes").exists() else None
    (train, validation, test), classes = numbered(path, splits, options.first_label or 0, found)
    assert train is not None
    if validation is None:
        validation, test = test, None
    name = before.rstrip("-_. ") or path.resolve().parent.name or "images"
    return Source(name, train, classes, validation, test, numbered=True)


def _names(path: Path) -> tuple[str, tuple[str, ...]]:
    """The prefix of all files' names, and the names without it."""
    stem = path.name[: -len(_END)]
    for spelling in _SPELLINGS:
        before = stem.removesuffix(spelling[0])
        if before != stem and before[-1:] in _BETWEEN:
            return before, spelling
    raise DataError(
        f"{path}: its name does not say where the labels are; call the files images.npy and labels.npy, or x.npy and "
        "y.npy, with whatever before that"
    )


def _array(path: Path) -> np.ndarray:
    """The array in a file, mapped; pickled objects are refused."""
    with reading(path):
        try:
            with readable(path).open("rb") as stream:
                if stream.read(len(_MAGIC)) != _MAGIC:  # NumPy would take anything else for a pickle
                    raise DataError(f"{path}: not a NumPy file; {_AGAIN}")
            array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        except (DataError, OSError):
            raise
        except Exception as error:  # NumPy's reader of headers raises what its parsers do: TokenError, SyntaxError, …
            if "Python objects" in str(error):
                reason = "holds Python objects, which are never loaded; store numbers of one dtype and one shape"
            else:
                reason = f"not a whole NumPy file: corrupt, truncated or empty; {_AGAIN}"
            raise DataError(f"{path}: {reason}") from None
    return array


def _images(path: Path, name: str) -> np.ndarray:
    """Images as NHWC: mapped, or converted if training cannot use them as they are."""
    x, where = as_nhwc(_array(path), str(path), name), str(path)
    if x.dtype.name not in _MAPPED or not x.dtype.isnative:
        check_room(path, "the images, which are not of uint8, float32 or float64 in this machine's byte order,", x.size)
        return pixels(x, where)
    if not x.flags.c_contiguous:
        raise DataError(
            f"{path}: is stored in Fortran's order; {_AGAIN.replace('array', 'numpy.ascontiguousarray(x)')}"
        )
    return mapped_pixels(x, where)


READER = Reader("NumPy file", "an .npy", matches, read, ("first_label",))
