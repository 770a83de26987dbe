"""Reads NumPy archives: ``.npz`` files with ``x`` and ``y``."""

from __future__ import annotations

import contextlib
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..files import readable
from . import npz_map
from .arrays import as_nhwc, class_names, class_numbers, mapped_pixels, pixels
from .files import listed, reading
from .labels import numbered
from .room import check_room
from .types import Options, Reader, Source, Split
from .zip_directory import complaint

_AGAIN = "write it again with numpy.savez(path, x=images, y=labels)"
# Errors of the zip reader and NumPy for damaged bytes: a checksum, an unknown method, a size beyond all memory, …
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, EOFError, struct.error,
    NotImplementedError, RuntimeError, OverflowError, MemoryError,
)  # fmt: skip
_OWN = ("x", "y", "x_val", "y_val", "x_test", "y_test")
_OTHERS = (
    ("train_images", "train_labels", "val_images", "val_labels", "test_images", "test_labels"),  # MedMNIST's
    ("x_train", "y_train", "x_val", "y_val", "x_test", "y_test"),  # Keras's
)
_NAMES = {*_OWN, "classes"}
_LONE = "arr_0"  # numpy.savez gives this name to an array without a name; KMNIST's files hold one such array each


def matches(path: Path) -> bool:
    """Whether `path` is a file named ``.npz``."""
    return path.suffix.lower() == ".npz" and not path.is_dir()


class _Archive:
    """The arrays of an ``.npz`` by name; each is read when it is asked for."""

    def __init__(self, path: Path, archive: np.lib.npyio.NpzFile) -> None:
        self.path = path
        self._archive = archive
        self.names = list(archive.files)

    def array(self, name: str) -> np.ndarray:
        """Read one array; pickled objects are refused."""
        if name not in self.names:
            found = f"found {listed(self.names)}" if self.names else "the archive is empty"
            raise DataError(f"{self.path}: has no array {name!r} ({found}); {_AGAIN}")
        check_room(self.path, f"the entries of {name}", self._size(name))
        try:
            with reading(self.path):
                array = self._archive[name]
        except DataError:
            raise
        except _DAMAGE:
            raise DataError(f"{self.path}: array {name!r} is corrupt or truncated; {_AGAIN}") from None
        except Exception as error:  # NumPy's reader of headers raises its parsers' errors: TokenError, SyntaxError, …
            if "allow_pickle" in str(error):
                reason = "holds Python objects, which are never loaded; store numbers of one dtype and one shape"
            else:
                reason = f"is not a NumPy array; {_AGAIN}"
            raise DataError(f"{self.path}: array {name!r} {reason}") from None
        if not isinstance(array, np.ndarray):  # NumPy returns an entry that is no array as bytes
            raise DataError(f"{self.path}: array {name!r} is not a NumPy array; {_AGAIN}")
        return array

    def _member(self, name: str) -> zipfile.ZipInfo | None:
        """An array's entry in the archive's directory."""
        archive = self._archive.zip
        return None if archive is None else archive.NameToInfo.get(f"{name}.npy")

    def _size(self, name: str) -> int:
        """Bytes of an array, as the archive states them; 0 if it does not."""
        found = self._member(name)
        return 0 if found is None else found.file_size

    def _mapped(self, name: str) -> np.ndarray | None:
        """An array as a map of the file, if it is large and stored as it is."""
        member = self._member(name)
        try:
            with reading(self.path):
                return None if member is None else npz_map.mapped(self.path, member)
        except npz_map.Damaged:
            raise DataError(f"{self.path}: array {name!r} is corrupt or truncated; {_AGAIN}") from None

    def split(self, x: str, y: str) -> Split:
        """Read and check a pair of arrays."""
        labels = self.labels(y)
        images = self.images(x)
        if len(images) != len(labels):
            raise DataError(
                f"{self.path}: {x} has {len(images)} images, but {y} has {len(labels)} labels; they must be as many"
            )
        return Split(images, labels)

    def images(self, name: str) -> np.ndarray:
        """Images as contiguous NHWC, uint8 or float32; large ones that are stored as they are, as a map of the file."""
        where = f"{self.path}: {name}"
        if (found := self._mapped(name)) is not None:
            return mapped_pixels(as_nhwc(found, where, name), where)
        return pixels(as_nhwc(self.array(name), where, name), where)

    def labels(self, name: str) -> np.ndarray:
        """Labels as a vector of int64."""
        return class_numbers(self.array(name), f"{self.path}: {name}")


def read(path: Path, options: Options) -> Source:
    """Read ``x`` and ``y``, and ``x_val``/``y_val`` and ``x_test``/``y_test`` if they exist.

    MedMNIST's names (``train_images``, ``train_labels``, ``val_images``, …) and Keras's (``x_train``, ``y_train``, …)
    are read too, and KMNIST's ``…-train-imgs.npz`` with the files of labels and test images beside it.

    Without validation images the test pair is the validation split. ``classes``, a vector of strings, names the
    classes; without it their names are their numbers.

    Parameters
    ----------
    path : Path
        The ``.npz``; never unpickled.
    options : Options
        `first_label` is used: the label of the first class.

    Returns
    -------
    Source
        Integer images as uint8, floating-point images as float32.

    Raises
    ------
    DataError
        If the file is not such an archive, or an array in it cannot be images or labels.
    """
    first = options.first_label or 0
    with _opened(path) as opened:
        archive = _Archive(path, opened)
        if archive.names == [_LONE] and path.name.endswith(_KMNIST):
            return _source(archive, first, _kmnist(archive))
        return _source(archive, first)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    """The archive, after a check of its zip directory."""
    with reading(path):
        try:
            with readable(path).open("rb") as stream:
                if stream.read(4) not in (b"PK\3\4", b"PK\5\6"):  # NumPy would take anything else for a pickle
                    raise DataError(f"{path}: not a NumPy archive (no zip file); {_AGAIN}")
                with zipfile.ZipFile(stream) as archive:
                    damage = complaint(archive, stream)
            if damage is not None:
                raise DataError(f"{path}: not a whole NumPy archive: {damage}; {_AGAIN}")
            opened = np.load(path, allow_pickle=False)
        except (DataError, OSError):
            raise
        except Exception:
            raise DataError(f"{path}: not a whole NumPy archive: corrupt or truncated; {_AGAIN}") from None
    with opened:
        yield opened


_KMNIST = "-train-imgs.npz"


def _kmnist(images: _Archive) -> tuple[Split, Split | None, Split | None]:
    """The training images with their labels, and the test images if there are any; each array is in its own file."""
    stem = images.path.name.removesuffix(_KMNIST)
    pairs: list[Split | None] = []
    for kind in ("train", "test"):
        places = [images.path.with_name(f"{stem}-{kind}-{what}.npz") for what in ("imgs", "labels")]
        if kind == "test" and not places[0].exists():
            pairs.append(None)
            continue
        with _opened(places[0]) as x, _opened(places[1]) as y:
            pixels, labels = _Archive(places[0], x).images(_LONE), _Archive(places[1], y).labels(_LONE)
        if len(pixels) != len(labels):
            raise DataError(f"{places[1]}: has {len(labels)} labels for {len(pixels)} images; they must be as many")
        pairs.append(Split(pixels, labels))
    train, test = pairs
    assert train is not None
    return train, None, test


def _source(archive: _Archive, first: int, splits: tuple[Split, Split | None, Split | None] | None = None) -> Source:
    """Read the splits, unless they are given, and the names of the classes."""
    has = set(archive.names).__contains__
    spelling = next((each for each in _OTHERS if has(each[0]) and not has("x")), _OWN)
    if splits is None:
        pairs = list(zip(spelling[::2], spelling[1::2], strict=True))
        others = [archive.split(x, y) if has(x) or has(y) else None for x, y in pairs[1:]]
        splits = archive.split(*pairs[0]), others[0], others[1]
    train, validation, test = splits
    if validation is None:
        validation, test = test, None
    names = None
    if has("classes"):
        names = class_names(archive.array("classes"), f"{archive.path}: classes")
    (shifted, validation, test), classes = numbered(archive.path, (train, validation, test), first, names)
    assert shifted is not None
    taken = {*spelling, "classes", *([_LONE] if archive.path.name.endswith(_KMNIST) else [])}
    unread = sorted(set(archive.names) - taken)
    notes: tuple[str, ...] = ()
    if unread:
        notes = (f"{archive.path}: not read: {listed(unread)}; what is read are {', '.join(sorted(_NAMES))}",)
    return Source(archive.path.stem, shifted, classes, validation, test, notes, numbered=True)


READER = Reader("NumPy archive", "an .npz", matches, read, ("first_label",))
