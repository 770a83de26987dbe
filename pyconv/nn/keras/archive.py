"""Opens a Keras file safely: nothing in it is executed, and no other file is read."""

from __future__ import annotations

import contextlib
import io
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyconv import limits
from pyconv.documents import parse_json
from pyconv.errors import CheckpointError, PyconvError, needed, short, shown
from pyconv.files import readable

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
#: Most bytes of the configuration, and of the weights.
MOST_CONFIG, MOST_WEIGHTS = 1 << 26, 1 << 33
#: How many times as large as the packed data the unpacked data may be.
MOST_PACKED = 100
#: What zipfile, h5py and those who read a configuration raise where it is not what Keras writes.
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, RuntimeError, LookupError, ValueError, TypeError, AttributeError, EOFError,
    OverflowError,
)  # fmt: skip
_OLD_WEIGHTS, _OLD_CONFIG = "model_weights", "model_config"


def library() -> Any:
    """The package ``h5py``.

    Raises
    ------
    BackendUnavailable
        If it is not installed.
    """
    with needed("Keras files need the package h5py", extra="keras"):
        import h5py
    return h5py


@dataclass
class Archive:
    """An open file.

    Attributes
    ----------
    config : dict
        The model's: ``class_name`` and ``config``.
    weights : Group
        The folder of the layers' weights.
    legacy : bool
        Whether weights are stored by layers' names, as in ``.h5`` files; else by kinds and numbers.
    """

    config: dict[str, Any]
    weights: Group
    legacy: bool


class Group:
    """A folder of an HDF5 file; only what is in the file itself is read."""

    def __init__(self, group: Any) -> None:
        self._h5py, self._group = library(), group

    def inside(self, *names: str) -> Group | None:
        """The group at the end of a path, or None."""
        found = self._group
        for name in names:
            found = self._child(found, name)
            if not isinstance(found, self._h5py.Group):
                return None
        return Group(found)

    def names(self) -> list[str]:
        """The names in it."""
        return list(self._group.keys())

    def attribute(self, name: str) -> Any:
        """An attribute, or None; text as str."""
        value = self._group.attrs.get(name)
        if isinstance(value, np.ndarray):
            value = value.tolist()
        return [_text(each) for each in value] if isinstance(value, list) else _text(value)

    def shape(self, *names: str) -> tuple[int, ...] | None:
        """The shape of an array, or None if there is none."""
        found = self._dataset(names)
        return None if found is None else tuple(int(size) for size in found.shape or ())

    def array(self, *names: str) -> np.ndarray:
        """An array of numbers; its :meth:`shape` has been looked at before."""
        found = self._dataset(names)
        assert found is not None
        if found.dtype.kind not in "fiu":
            raise CheckpointError(f"the weights {shown('/'.join(names))} are of {found.dtype}, which are no numbers")
        return np.asarray(found[()])

    def _dataset(self, names: tuple[str, ...]) -> Any:
        found = self._group
        for name in names:
            found = self._child(found, name)
            if found is None:
                return None
        if not isinstance(found, self._h5py.Dataset):
            return None
        if found.external or found.is_virtual:
            raise CheckpointError(f"the weights {shown('/'.join(names))} lie in another file: nothing there is read")
        return found

    def _child(self, group: Any, name: str) -> Any:
        """A child of `group` in the file itself; links, which may lead to other files, are refused."""
        if not isinstance(group, self._h5py.Group) or name not in group:
            return None
        if not isinstance(group.get(name, getlink=True), self._h5py.HardLink):
            raise CheckpointError(f"{shown(name)} in its weights is a link, which is not followed")
        return group[name]


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """The file at `path`.

    Raises
    ------
    CheckpointError
        If it is not a Keras file, is damaged or too large.
    BackendUnavailable
        If the package ``h5py`` is not installed.
    """
    h5py = library()
    try:
        place = readable(path)
        zipped = zipfile.is_zipfile(place)
        source = io.BytesIO() if zipped else place
        config: Any = None
        if zipped:
            config, content = _unpacked(place)
            source = io.BytesIO(content)
        with h5py.File(source, "r") as file:
            root = Group(file)
            if not zipped:
                config = _old_config(root)
            weights = root if zipped else root.inside(_OLD_WEIGHTS)
            if weights is None:
                raise CheckpointError(f"is not a Keras model: it has no {_OLD_WEIGHTS}")
            yield Archive(config, weights, legacy=not zipped)
    except OSError as error:
        if error.errno:
            raise CheckpointError(f"the model cannot be read: {error.strerror or 'no such file'}") from None
        raise _damaged(error) from None
    except _DAMAGE as error:
        if isinstance(error, PyconvError):
            raise
        raise _damaged(error) from None
    except MemoryError:
        raise CheckpointError("is too large for the memory that is left") from None


def _damaged(error: Exception) -> CheckpointError:
    return CheckpointError(f"is not a Keras file, or is damaged ({short(' '.join(str(error).split()), 200)})")


def _unpacked(place: Path) -> tuple[dict[str, Any], bytes]:
    """The configuration and the weights' file of a ``.keras`` archive."""
    with zipfile.ZipFile(place) as archive:
        names = archive.namelist()
        for name in (CONFIG, WEIGHTS):
            if names.count(name) != 1:
                raise CheckpointError(f"is not a Keras model: it holds {names.count(name)} files called {name}")
        config = _json(_member(archive, CONFIG, MOST_CONFIG).decode("utf-8"))
        return config, _member(archive, WEIGHTS, MOST_WEIGHTS)


def _member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """The content of a file in the archive; an error if it is larger than `most` or than the directory states."""
    about = archive.getinfo(name)
    if about.file_size > min(most, MOST_PACKED * max(about.compress_size, 1)):
        raise CheckpointError(f"its {name} would unpack to {about.file_size} bytes, more than any model's")
    reason = limits.shortage(about.file_size)
    if reason is not None:
        raise CheckpointError(f"its {name} needs {limits.amount(about.file_size)} of memory, and {reason}")
    with archive.open(about) as stream:
        content = stream.read(about.file_size + 1)
    if len(content) != about.file_size:
        raise CheckpointError(f"its {name} is truncated")
    return content


def _old_config(root: Group) -> dict[str, Any]:
    text = root.attribute(_OLD_CONFIG)
    if not isinstance(text, str):
        raise CheckpointError(
            "holds weights without an architecture: save the whole model, as model.save('model.keras') does"
        )
    if len(text) > MOST_CONFIG:
        raise CheckpointError(f"its {_OLD_CONFIG} is longer than {MOST_CONFIG} bytes")
    return _json(text)


def _json(text: str) -> dict[str, Any]:
    try:
        config = parse_json(text)
    except ValueError as error:
        raise CheckpointError(f"its configuration is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise CheckpointError("its configuration describes no model")
    return config
