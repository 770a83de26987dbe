"""Reads a safetensors file with the state_dict of a PyTorch network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from pyconv.errors import CheckpointError, PyconvError, short, shown
from pyconv.files import readable
from pyconv.values import path as as_path

from ..finite import warn_not_finite
from .expected import parts_of
from .matching import COUNTERS, matched, modules_of

if TYPE_CHECKING:
    from ..network import Network

_DTYPES = ("F16", "F32", "F64")


def load_weights(network: Network, path: str | Path, names: Any = None) -> None:
    """Read the weights of a file into `network`: all of them, or none if one does not fit.

    Raises
    ------
    CheckpointError
        If the file cannot be read, or something is missing, surplus or of another shape.
    InputError
        If `names` does not fit, or a layer has no counterpart in PyTorch.
    """
    path = as_path(path, "path")
    parts = parts_of(network.layers, network.input_shape)
    try:
        with safe_open(str(readable(path)), framework="numpy") as file:
            if "pyconv" in (file.metadata() or {}):
                raise CheckpointError("is a pyconv model, not a state_dict: nn.load reads it")
            shapes = {}
            for name in file.keys():  # noqa: SIM118 - not a dict
                piece = file.get_slice(name)
                shapes[name] = tuple(piece.get_shape())
                if piece.get_dtype() not in _DTYPES and name.rpartition(".")[2] not in COUNTERS:
                    raise CheckpointError(
                        f"its tensor {shown(name)} is of {short(str(piece.get_dtype()))}; save it in float32"
                    )
            found = matched(parts, modules_of(shapes), names)
            arrays: dict[str, np.ndarray] = {}
            for part in parts:
                for name, target in part.targets.items():
                    tensor = file.get_tensor(f"{found[part.way]}.{name}".lstrip("."))
                    arrays[target.name] = target.turned(tensor)
    except OSError as error:
        raise CheckpointError(f"{path}: the weights cannot be read: {error.strerror or 'no such file'}") from None
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except MemoryError:
        raise CheckpointError(f"{path}: is too large for the memory that is left") from None
    except (SafetensorError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, PyconvError):
            raise
        reason = short(" ".join(str(error).split()), 200)
        raise CheckpointError(f"{path}: is not a safetensors file, or is truncated ({reason})") from None
    places = {**network.parameters, **network.buffers}
    for name, array in arrays.items():
        places[name][...] = array
    warn_not_finite(network, path)
