"""Model files: safetensors, with what is not numbers as JSON in the header.

The tensors are the parameters and buffers by name. The metadata's key ``pyconv`` holds a JSON object: ``format``,
``version`` of the format, ``config`` of the network, ``normalization``, ``input_range``, ``classes``, and ``crc32`` of
the tensors' bytes in the order of their names and of the rest of that object; older files have no ``input_range``.
Nothing in such a file is ever executed.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from pyconv.documents import parse_json
from pyconv.errors import CheckpointError, PyconvError, shown
from pyconv.files import write_atomically
from pyconv.values import path as as_path

from .architecture import Architecture
from .config import parse_config
from .input_range import InputRange
from .normalization import Normalization
from .sequential import Sequential

FORMAT = "pyconv model"

#: Version of the format that this pyconv writes, and the only one that it reads.
FORMAT_VERSION = 2

_KEYS = {"format", "version", "config", "normalization", "classes", "crc32"}
_NEWER = {"input_range"}


def _checksum(tensors: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> int:
    crc = zlib.crc32(json.dumps({name: value for name, value in about.items() if name != "crc32"}).encode())
    for name in sorted(tensors):
        crc = zlib.crc32(tensors[name].tobytes(), crc)
    return crc


def save(model: Sequential, path: str | Path) -> None:
    """Write `model` to `path`; the file is there whole or not at all.

    Raises
    ------
    CheckpointError
        If it cannot be written, or what is at `path` is not a regular file; what was there is untouched.
    """
    path = as_path(path, "path")
    if path.is_dir():
        raise CheckpointError(f"{path}: is a folder; give the model the name of a file")
    tensors = {**model.parameters, **model.buffers}
    about = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "config": model.config(),
        "normalization": model.normalization.config(),
        "input_range": None if model.input_range is None else model.input_range.config(),
        "classes": model.classes,
    }
    about["crc32"] = _checksum(tensors, about)
    content = to_bytes(tensors, metadata={"pyconv": json.dumps(about)})
    try:
        write_atomically(path, content)
    except OSError as error:
        raise CheckpointError(f"{path}: the model cannot be written: {error.strerror}") from None


def load(path: str | Path) -> Sequential:
    """Read a model that :meth:`Sequential.save` wrote.

    Parameters
    ----------
    path : path
        The ``.safetensors`` file.

    Returns
    -------
    Sequential
        With the same values, normalisation and class names; ``backend`` and ``threads`` as in a new one.

    Raises
    ------
    CheckpointError
        If the file cannot be read, is truncated or damaged, is not a pyconv model or is one of another format version.
    """
    path = as_path(path, "path")
    try:
        about, tensors = _read(path)
        return _model(about, tensors)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The metadata of a pyconv model, and its tensors."""
    try:
        if path.is_dir():
            raise CheckpointError("is a folder, not a model file")
        with safe_open(str(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            if "pyconv" not in metadata:
                raise CheckpointError("is a safetensors file, but not a pyconv model")
            about = _metadata(metadata["pyconv"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except OSError as error:
        raise CheckpointError(f"the model cannot be read: {error.strerror or 'no such file'}") from None
    except (SafetensorError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, PyconvError):
            raise
        reason = " ".join(str(error).split())
        raise CheckpointError(f"is not a safetensors file, or is truncated ({reason})") from None
    return about, tensors


def _metadata(text: str) -> dict[str, Any]:
    """The JSON object of the metadata, of the version that is read here."""
    try:
        about = parse_json(text)
    except ValueError as error:
        raise CheckpointError(f"is damaged: its metadata is not JSON: {error}") from None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        kind = about.get("format") if isinstance(about, dict) else None
        raise CheckpointError(f"is not a pyconv model{f', but a {kind}' if isinstance(kind, str) else ''}")
    if about.get("version") != FORMAT_VERSION:
        raise CheckpointError(
            f"has format version {shown(about.get('version'))}, this pyconv reads version {FORMAT_VERSION}: "
            "use the pyconv that wrote it, or train again"
        )
    if set(about) - _NEWER != _KEYS:
        raise CheckpointError(f"is damaged: its metadata holds {shown(sorted(about))}")
    return about


def _model(about: dict[str, Any], tensors: dict[str, np.ndarray]) -> Sequential:
    """The model, after its configuration and the tensors were found to belong together."""
    try:
        layers, input_shape, rest = parse_config(about["config"])
        architecture = Architecture(layers, input_shape)
        _check_tensors(architecture, rest.get("dtype"), tensors)  # before any memory is taken
        if _checksum(tensors, about) != about["crc32"]:
            raise CheckpointError("is damaged: the content does not have the checksum that was written with it")
        model = Sequential.__new__(Sequential)
        model._prepare(architecture, **rest)
        model.normalization = Normalization.from_config(about["normalization"])
        model.input_range = InputRange.from_config(about.get("input_range"))
        model.classes = about["classes"]
    except CheckpointError:
        raise
    except (PyconvError, TypeError) as error:
        raise CheckpointError(f"does not describe a network: {error}") from None
    for name, array in (*model.parameters.items(), *model.buffers.items()):
        array[...] = tensors[name]
    return model


def _check_tensors(architecture: Architecture, dtype: Any, tensors: Mapping[str, np.ndarray]) -> None:
    """Refuse tensors that are not exactly those of the architecture."""
    expected = {**architecture.parameters, **architecture.buffers}
    for name in (*expected, *tensors):
        if name not in tensors:
            raise CheckpointError(f"is damaged: {name} is missing")
        if name not in expected:
            raise CheckpointError(f"is damaged: its network has no {name}")
        found = tensors[name]
        if found.shape != expected[name].shape or found.dtype.name != dtype:
            raise CheckpointError(
                f"is damaged: {name} has shape {found.shape} and dtype {found.dtype}, its network needs "
                f"{expected[name].shape} and {dtype}"
            )
