"""Checkpoints: everything that a run needs to continue to the same bits, in one file that is whole or absent.

The file is safetensors: arrays by name, and one JSON text with the numbers and names. It holds no code, so a
checkpoint from a stranger is harmless to read. It is first written beside its place, then forced to the disk, then
moved over the old one: if a run is killed or a disk fills up, the last good checkpoint is still there.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from .digests import digest
from .documents import checksum, parse_json
from .errors import CheckpointError, PyconvError, short, shown
from .files import readable, write_atomically
from .nn import InputRange, Normalization, Sequential, from_config
from .nn.finite import warn_not_finite
from .values import path as as_path

FORMAT = "pyconv checkpoint"
VERSION = 3


def fingerprint(model: Sequential) -> str:
    """A short name for a network: a hash of its layers and settings, input shape, seed and dtype."""
    return digest([json.dumps(model.config(), sort_keys=True)])


@dataclass
class Checkpoint:
    """The state of a run at a step boundary.

    Attributes
    ----------
    model : dict
        What is not numbers: ``config``, ``normalization``, ``input_range`` and ``classes``, which
        :func:`pyconv.nn.load` reads too.
    fingerprint : str
        The network's; see :func:`fingerprint`.
    settings : dict
        What must stay the same when the run is continued: optimizer, batch size, seed, data, ...
    parameters : (P,) float array
        ``model.flat``.
    buffers : dict of str to array
        Running statistics of BatchNorm.
    engine : dict of str to array
        :meth:`pyconv.parallel.Engine.state`: optimizer state, steps done.
    position : dict
        Where the run stands: epoch, steps done in it, sums for the epoch's line of metrics.
    history : list of dict
        The lines of metrics of the epochs that are done.
    """

    model: dict[str, Any]
    fingerprint: str
    settings: dict[str, Any]
    parameters: np.ndarray
    buffers: dict[str, np.ndarray]
    engine: dict[str, np.ndarray]
    position: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the checkpoint to `path`, whole or not at all.

        Raises
        ------
        OSError
            If it cannot be written; an older checkpoint at `path` is still there.
        """
        tensors = {"parameters": self.parameters}
        tensors.update({f"buffer/{name}": value for name, value in self.buffers.items()})
        tensors.update({f"engine/{name}": value for name, value in self.engine.items()})
        tensors = {name: np.ascontiguousarray(value).reshape(value.shape) for name, value in tensors.items()}
        content = {
            "format": FORMAT,
            "version": VERSION,
            "fingerprint": self.fingerprint,
            "model": self.model,
            "settings": self.settings,
            "position": self.position,
            "history": self.history,
        }
        content["checksum"] = _checksum(tensors, content)
        write_atomically(path, to_safetensors(tensors, {"pyconv": json.dumps(content)}))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Checkpoint:
        """Read a checkpoint.

        Raises
        ------
        CheckpointError
            If the file is missing, truncated, damaged, not a pyconv checkpoint, or of another version.
        """
        path = as_path(path, "path")
        try:
            with safe_open(os.fspath(readable(path)), framework="numpy") as file:
                text = (file.metadata() or {}).get("pyconv")
                content = _content(path, text)
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        except FileNotFoundError:
            raise CheckpointError(f"{path}: there is no checkpoint here") from None
        except MemoryError:
            raise CheckpointError(f"{path}: the checkpoint is too large for the memory that is left") from None
        except (OSError, SafetensorError) as error:
            why = (
                getattr(error, "strerror", None)
                or f"it is truncated or damaged ({short(' '.join(str(error).split()), 200)})"
            )
            raise CheckpointError(
                f"{path}: not a readable checkpoint, {why}; use an older copy or begin the run again"
            ) from None
        if content.pop("checksum", None) != _checksum(tensors, content) or "parameters" not in tensors:
            raise CheckpointError(
                f"{path}: the checkpoint is damaged, its content does not match the checksum; "
                "use an older copy or begin the run again"
            )
        wrong = _wrong_part(content)
        if wrong:
            raise CheckpointError(
                f"{path}: not a checkpoint that pyconv wrote, {wrong} is missing or of another kind; "
                "use an older copy or begin the run again"
            )
        return cls(
            model=content["model"],
            fingerprint=content["fingerprint"],
            settings=content["settings"],
            parameters=tensors.pop("parameters"),
            buffers=_part(tensors, "buffer/"),
            engine=_part(tensors, "engine/"),
            position=content["position"],
            history=content["history"],
        )

    @classmethod
    def of(
        cls,
        model: Sequential,
        engine: Mapping[str, np.ndarray],
        settings: Mapping[str, Any],
        position: Mapping[str, Any],
        history: list[dict[str, Any]],
    ) -> Checkpoint:
        """The checkpoint of a run at this moment; it refers to the arrays and does not copy them."""
        about = {
            "config": model.config(),
            "normalization": model.normalization.config(),
            "input_range": None if model.input_range is None else model.input_range.config(),
            "classes": model.classes,
        }
        buffers = dict(model.buffers)
        return cls(
            about, fingerprint(model), dict(settings), model.flat, buffers, dict(engine), dict(position), list(history)
        )

    def restore(self, model: Sequential) -> None:
        """Put parameters, buffers, normalisation and class names into `model`.

        Raises
        ------
        CheckpointError
            If the checkpoint is another model's, or lacks something; the model is then unchanged.
        """
        if self.fingerprint != fingerprint(model):
            raise CheckpointError(
                f"the checkpoint is of another model: it has {self.parameters.size} parameters and the fingerprint "
                f"{short(self.fingerprint)}, this model has {model.flat.size} and {fingerprint(model)}"
            )
        shapes = {name: value.shape for name, value in model.buffers.items()}
        if (
            self.parameters.shape != model.flat.shape
            or {name: value.shape for name, value in self.buffers.items()} != shapes
        ):
            raise CheckpointError("the checkpoint's arrays are not those of its network: it is damaged")
        before = model.normalization, model.input_range
        try:
            model.normalization = Normalization.from_config(self.model["normalization"])
            model.input_range = InputRange.from_config(self.model.get("input_range"))
            model.classes = self.model["classes"]
        except (PyconvError, TypeError) as error:
            model.normalization, model.input_range = before
            raise CheckpointError(f"the checkpoint does not fit its network: {error}") from None
        model.flat[...] = self.parameters
        for name, value in model.buffers.items():
            value[...] = self.buffers[name]
        warn_not_finite(model, "the checkpoint")

    def build(self) -> Sequential:
        """A new network from the checkpoint, with its values.

        Raises
        ------
        CheckpointError
            If the checkpoint does not describe a network, or its values do not fit it.
        """
        try:
            model = from_config(self.model["config"])
        except (PyconvError, TypeError) as error:
            raise CheckpointError(f"the checkpoint does not describe a network: {error}") from None
        self.restore(model)
        return model


def _content(path: str | os.PathLike[str], text: str | None) -> dict[str, Any]:
    """The checkpoint's JSON, checked for format and version."""
    try:
        content = parse_json(text) if text is not None else None
    except ValueError:  # no JSON, a number of thousands of digits, or nested too deeply
        content = None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of pyconv")
    if content.get("version") != VERSION:
        raise CheckpointError(
            f"{path}: a checkpoint of version {shown(content.get('version'))}; this pyconv reads version "
            f"{VERSION}: continue the run with the pyconv that began it"
        )
    return content


_PARTS: dict[str, type] = {"fingerprint": str, "model": dict, "settings": dict, "position": dict, "history": list}
_MODEL_PARTS = ("config", "normalization", "classes")


def _wrong_part(content: Mapping[str, Any]) -> str | None:
    """The first part of a checkpoint's JSON that is missing or of another kind, or None."""
    for name, kind in _PARTS.items():
        if not isinstance(content.get(name), kind):
            return name
    for name in _MODEL_PARTS:
        if name not in content["model"]:
            return f"model.{name}"
    for name in ("optimizer", "schedule", "update_options"):
        if not isinstance(content["settings"].get(name, {}), dict):
            return f"settings.{name}"
    for name, value in content["position"].items():
        if not isinstance(value, (int, float, dict)):
            return f"position.{name}"
    return None if all(isinstance(line, dict) for line in content["history"]) else "a line of history"


def _checksum(tensors: Mapping[str, np.ndarray], content: Mapping[str, Any]) -> int:
    """CRC-32 of the JSON text without the checksum, then of each array's name, dtype, shape and numbers."""
    about = (
        (f"{name} {tensors[name].dtype.str} {tensors[name].shape}".encode(), tensors[name]) for name in sorted(tensors)
    )
    return checksum(content, itertools.chain.from_iterable(about))


def _part(tensors: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
