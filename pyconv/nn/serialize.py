"""load(): reads models from files: pyconv's own, which :mod:`.model_file` writes, and other libraries'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from pyconv.documents import parse_json
from pyconv.errors import CheckpointError, InputError, PyconvError, short, shown
from pyconv.files import readable
from pyconv.values import path as as_path

from .architecture import Architecture
from .config import parse_config
from .finite import warn_not_finite
from .input_range import InputRange
from .model_file import FORMAT, FORMAT_VERSION, KEYS, NEWER, checksum
from .normalization import Normalization
from .sequential import Sequential

#: Endings of the names of files that :func:`load` reads.
FILES = (".safetensors", ".onnx", ".keras", ".h5", ".hdf5")


def load(path: str | Path, *, input_shape: Sequence[int] | None = None) -> Sequential:
    """Read a model that :meth:`Sequential.save` wrote, an ONNX file of any exporter, or a file that Keras saved.

    Parameters
    ----------
    path : path
        The ``.safetensors`` file, or one whose name ends in ``.onnx``, ``.keras``, ``.h5`` or ``.hdf5``.
    input_shape : (int, int, int) or (int,), optional
        Of the examples of an ONNX or Keras file: height, width and channels, if the file leaves sizes open.

    Returns
    -------
    Sequential
        With the same values, normalisation and class names; ``backend`` and ``threads`` as in a new one.

    Raises
    ------
    CheckpointError
        If the file cannot be read, is truncated or damaged, is no pyconv model or has another format version. If no
        layer here can compute a node of an ONNX file or a layer of Keras: the message names it and says what would
        work.
    BackendUnavailable
        If the package is not installed that reads the file: ``onnx``, or ``h5py`` for Keras's.

    Notes
    -----
    Nothing in the file is executed. An ONNX file's images may be in the order NCHW or NHWC: the network takes NHWC. An
    operation on each channel at the beginning becomes :attr:`Sequential.normalization`. A softmax at the end is left
    out, because networks here give logits. Weights that are NaN or infinite are told in a warning.
    """
    path = as_path(path, "path")
    model = _of_any_kind(path, input_shape)
    warn_not_finite(model, path)
    return model


def _of_any_kind(path: Path, input_shape: Sequence[int] | None) -> Sequential:
    """The model in a file, whose name says of which kind it is."""
    try:
        if path.suffix.lower() == ".onnx":
            from .onnx.reading import read

            return read(path, input_shape)
        if path.suffix.lower() in (".keras", ".h5", ".hdf5"):
            from .keras import read as read_keras

            return read_keras(path, input_shape)
        if input_shape is not None:
            raise InputError("input_shape is for files of ONNX and Keras; a pyconv model knows its own")
        about, tensors = _read(path)
        return _model(about, tensors)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The metadata of a pyconv model, and its tensors."""
    try:
        if path.is_dir():
            raise CheckpointError("is a folder, not a model file")
        with safe_open(str(readable(path)), framework="numpy") as file:
            metadata = file.metadata() or {}
            if "pyconv" not in metadata:
                raise CheckpointError("is a safetensors file, but not a pyconv model")
            about = _metadata(metadata["pyconv"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except OSError as error:
        raise CheckpointError(f"the model cannot be read: {error.strerror or 'no such file'}") from None
    except MemoryError:
        raise CheckpointError("is too large for the memory that is left") from None
    except (SafetensorError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, PyconvError):
            raise
        reason = short(" ".join(str(error).split()), 200)
        raise CheckpointError(f"is not a safetensors file, or is truncated ({reason})") from None
    return about, tensors


def _metadata(text: str) -> dict[str, Any]:
    """The JSON object of the metadata; raises an error for another version."""
    try:
        about = parse_json(text)
    except ValueError as error:
        raise CheckpointError(f"is damaged: its metadata is not JSON: {error}") from None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        kind = about.get("format") if isinstance(about, dict) else None
        raise CheckpointError(f"is not a pyconv model{f', but a {short(kind)}' if isinstance(kind, str) else ''}")
    if about.get("version") != FORMAT_VERSION:
        raise CheckpointError(
            f"has format version {shown(about.get('version'))}, this pyconv reads version {FORMAT_VERSION}: "
            "use the pyconv that wrote it, or train again"
        )
    if set(about) - NEWER != KEYS:
        raise CheckpointError(f"is damaged: its metadata holds {shown(sorted(about))}")
    return about


def _model(about: dict[str, Any], tensors: dict[str, np.ndarray]) -> Sequential:
    """The model, after a check that its configuration and the tensors belong together."""
    try:
        layers, input_shape, rest = parse_config(about["config"])
        architecture = Architecture(layers, input_shape)
        _check_tensors(architecture, rest.get("dtype"), tensors)  # before any memory is allocated
        if checksum(tensors, about) != about["crc32"]:
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
    """Raise an error unless the tensors are exactly those of the architecture."""
    expected = {**architecture.parameters, **architecture.buffers}
    for name in (*expected, *tensors):
        if name not in tensors:
            raise CheckpointError(f"is damaged: {short(name)} is missing")
        if name not in expected:
            raise CheckpointError(f"is damaged: its network has no {short(name)}")
        found = tensors[name]
        if found.shape != expected[name].shape or found.dtype.name != dtype:
            raise CheckpointError(
                f"is damaged: {name} has shape {found.shape} and dtype {found.dtype}, its network needs "
                f"{expected[name].shape} and {short(str(dtype))}"
            )
