"""NumPy archives: ``.npz`` files with ``x`` and ``y``."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from ..arithmetic import quiet
from ..errors import DataError
from .files import listed, reading
from .labels import matrix_hint, numbered
from .types import Options, Source, Split
from .zip_directory import complaint

_AGAIN = "write it again with numpy.savez(path, x=images, y=labels)"
# What the zip reader and NumPy make of damaged bytes: a checksum, an unknown method, a size that no memory holds, …
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, EOFError, struct.error,
    NotImplementedError, RuntimeError, OverflowError, MemoryError,
)  # fmt: skip
_NAMES = {"x", "y", "x_val", "y_val", "x_test", "y_test", "classes"}
_CHUNK = 256  # images looked at together


def matches(path: Path) -> bool:
    """Whether `path` is a file named ``.npz``."""
    return path.suffix.lower() == ".npz" and not path.is_dir()


class _Archive:
    """The arrays of one ``.npz``, by name, each read when it is asked for."""

    def __init__(self, path: Path, archive: np.lib.npyio.NpzFile) -> None:
        self.path = path
        self._archive = archive
        self.names = list(archive.files)

    def array(self, name: str) -> np.ndarray:
        """Read one array; no pickled objects."""
        if name not in self.names:
            found = f"found {listed(self.names)}" if self.names else "the archive is empty"
            raise DataError(f"{self.path}: has no array {name!r} ({found}); {_AGAIN}")
        try:
            with reading(self.path):
                array = self._archive[name]
        except DataError:
            raise
        except _DAMAGE:
            raise DataError(f"{self.path}: array {name!r} is corrupt or truncated; {_AGAIN}") from None
        except Exception as error:  # NumPy's reader of headers raises what its parsers do: TokenError, SyntaxError, …
            if "allow_pickle" in str(error):
                reason = "holds Python objects, which are never loaded; store numbers of one dtype and one shape"
            else:
                reason = f"is not a NumPy array; {_AGAIN}"
            raise DataError(f"{self.path}: array {name!r} {reason}") from None
        if not isinstance(array, np.ndarray):  # NumPy hands out what is not an array as bytes
            raise DataError(f"{self.path}: array {name!r} is not a NumPy array; {_AGAIN}")
        return array

    def split(self, x: str, y: str) -> Split:
        """Read and check a pair of arrays."""
        labels = self._labels(y)
        images = self._images(x)
        if len(images) != len(labels):
            raise DataError(
                f"{self.path}: {x} has {len(images)} images, but {y} has {len(labels)} labels; they must be as many"
            )
        return Split(images, labels)

    def _images(self, name: str) -> np.ndarray:
        """Images as contiguous NHWC, uint8 or float32."""
        x = self.array(name)
        where = f"{self.path}: {name}"
        if x.ndim == 3:
            x = x[..., None]
        if x.ndim != 4:
            raise DataError(f"{where} has shape {x.shape}; images must be (N, H, W) or (N, H, W, channels)")
        if 0 in x.shape:
            raise DataError(f"{where} is empty: shape {x.shape}; give at least one image")
        if x.shape[1] in (1, 3) and x.shape[2] == x.shape[3] > 4:
            raise DataError(f"{where} has its channels first: shape {x.shape}; store {name}.transpose(0, 2, 3, 1)")
        if x.dtype.kind == "f":
            return _finite_float32(x, where)
        if x.dtype.kind in "iu":
            return _bytes(x, where)
        raise DataError(f"{where} has dtype {x.dtype}; images must be integers from 0 to 255 or floating point")

    def _labels(self, name: str) -> np.ndarray:
        """Labels as a vector of int64."""
        y = self.array(name)
        where = f"{self.path}: {name}"
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if y.ndim != 1:
            hint = f"; {matrix_hint(y)}" if y.ndim == 2 else ""
            raise DataError(f"{where} has shape {y.shape}; labels must be a vector of class numbers{hint}")
        if y.dtype.kind not in "iu":
            raise DataError(f"{where} has dtype {y.dtype}; labels must be integers: class numbers from 0")
        bad = np.flatnonzero((y < 0) | (y > 1_000_000))
        if bad.size:
            raise DataError(f"{where}, row {bad[0]}: label {y[bad[0]]}; labels must be class numbers from 0")
        return y.astype(np.int64)


def _bytes(x: np.ndarray, where: str) -> np.ndarray:
    """Integer images as uint8, if all their pixels fit."""
    if x.dtype != np.uint8:
        for start in range(0, len(x), _CHUNK):
            chunk = x[start : start + _CHUNK]
            bad = np.argwhere((chunk < 0) | (chunk > 255))
            if bad.size:
                row, *pixel = bad[0]
                value = chunk[row, *pixel]
                raise DataError(
                    f"{where}, row {start + row}: pixel value {value}; integer pixels must lie from 0 to 255"
                )
    return np.ascontiguousarray(x, np.uint8)


@quiet
def _finite_float32(x: np.ndarray, where: str) -> np.ndarray:
    """Floating-point images as float32, if all their pixels are finite there."""
    out = np.empty(x.shape, np.float32)
    for start in range(0, len(x), _CHUNK):
        chunk = x[start : start + _CHUNK]
        out[start : start + _CHUNK] = chunk
        finite = np.isfinite(out[start : start + _CHUNK])
        if not finite.all():
            row, *pixel = np.argwhere(~finite)[0]
            value = chunk[row, *pixel]
            raise DataError(f"{where}, row {start + row}: pixel value {value}; replace it or leave the image out")
    return out


def read(path: Path, options: Options) -> Source:
    """Read ``x`` and ``y``, and ``x_val``/``y_val`` and ``x_test``/``y_test`` where they are there.

    Without ``x_val`` the test pair is the validation split. ``classes``, a vector of strings, names the labels;
    without it they are named by their numbers.

    Parameters
    ----------
    path : Path
        The ``.npz``; never unpickled.
    options : Options
        `first_label` is taken: the label of the first class.

    Returns
    -------
    Source
        Integer images as uint8, floating-point images as float32.

    Raises
    ------
    DataError
        If the file is not such an archive, or an array in it cannot be images or labels.
    """
    with reading(path):
        try:
            with path.open("rb") as stream:
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
        return _source(_Archive(path, opened), options.first_label or 0)


def _source(archive: _Archive, first: int) -> Source:
    """Read the pairs and the names of the classes."""
    train = archive.split("x", "y")
    has = set(archive.names).__contains__
    validation = archive.split("x_val", "y_val") if has("x_val") or has("y_val") else None
    test = archive.split("x_test", "y_test") if has("x_test") or has("y_test") else None
    if validation is None:
        validation, test = test, None
    names = None
    if has("classes"):
        given = archive.array("classes")
        if given.ndim != 1 or given.dtype.kind != "U":
            raise DataError(f"{archive.path}: classes must be a vector of strings, not {given.dtype} {given.shape}")
        names = given.tolist()
    (shifted, validation, test), classes = numbered(archive.path, (train, validation, test), first, names)
    assert shifted is not None
    unread = sorted(set(archive.names) - _NAMES)
    notes: tuple[str, ...] = ()
    if unread:
        notes = (f"{archive.path}: not read: {listed(unread)}; what is read are {', '.join(sorted(_NAMES))}",)
    return Source(archive.path.stem, shifted, classes, validation, test, notes, numbered=True)
