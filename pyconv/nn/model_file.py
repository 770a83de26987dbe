"""Writes model files: the values as safetensors, everything else as JSON in the header; :mod:`.serialize` reads them.

The tensors are the parameters and buffers by name. The metadata's key ``pyconv`` holds a JSON object: ``format``,
``version`` of the format, ``config`` of the network, ``normalization``, ``input_range``, ``classes``, and ``crc32`` of
the tensors' bytes, by name, and of the rest of that object. Older files have no ``input_range``.
Nothing in such a file is ever executed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save as to_bytes

from pyconv import documents
from pyconv.errors import CheckpointError
from pyconv.files import write_atomically
from pyconv.values import path as as_path

from .network import Network

FORMAT = "pyconv model"

#: Version of the format that this pyconv writes, and the only one that it reads.
FORMAT_VERSION = 2

KEYS = {"format", "version", "config", "normalization", "classes", "crc32"}
NEWER = {"input_range"}


def checksum(tensors: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> int:
    """The checksum of the tensors in the order of their names, and of the rest of the header."""
    rest = {name: value for name, value in about.items() if name != "crc32"}
    return documents.checksum(rest, (tensors[name] for name in sorted(tensors)))


def save(model: Network, path: str | Path) -> None:
    """Write `model` to `path`, whole or not at all.

    Raises
    ------
    CheckpointError
        If it cannot be written, or `path` is not a regular file; an existing file is unchanged.
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
    about["crc32"] = checksum(tensors, about)
    content = to_bytes(tensors, metadata={"pyconv": json.dumps(about)})
    try:
        write_atomically(path, content)
    except OSError as error:
        raise CheckpointError(f"{path}: the model cannot be written: {error.strerror}") from None
