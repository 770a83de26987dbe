"""Reads the whole network of a Keras file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyconv.errors import CheckpointError, PyconvError, shown

from ..foreign import assembled
from ..layer import Shape, example_shape
from ..sequential import Sequential
from .archive import Archive, Group, opened
from .config import INPUT, Described, Model, is_model, model_of
from .entry import Entry, Value
from .layers import result
from .weights import numbered, of_named, of_numbered

DEEPEST = 20


def read(path: Path, input_shape: Sequence[int] | None = None) -> Sequential:
    """The network of the file at `path`.

    Parameters
    ----------
    path : Path
    input_shape : (int, int, int) or (int,), optional
        Height, width and channels, if the file does not fix them.

    Returns
    -------
    Sequential
        It computes the file's result, or the logits of its softmax.

    Raises
    ------
    CheckpointError
        If the file cannot be read, or a layer has none here; the message names it.
    BackendUnavailable
        If the package ``h5py`` is not installed.
    """
    told = None if input_shape is None else example_shape(input_shape)
    with opened(path) as archive:
        model = model_of(archive.config)
        start = _start(model, told)
        value = _Walk(archive).model(model, archive.weights, start, 0)
        try:
            return assembled(value.item, start.shape, _dtype(model))
        except PyconvError as error:
            raise CheckpointError(str(error)) from None


def _first(model: Model) -> Described | None:
    """The layer that describes the network's input."""
    if model.inputs:
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise CheckpointError(
                f"has {len(model.inputs)} inputs and {len(model.outputs)} outputs; a network here has one of each"
            )
        return next((layer for layer in model.layers if layer.name == model.inputs[0]), None)
    return model.layers[0] if model.layers else None


def _start(model: Model, told: Shape | None) -> Value:
    """The network's input."""
    first = _first(model)
    if first is None:
        raise CheckpointError("has no layers")
    dims: Any = first.config.get("batch_shape", first.config.get("batch_input_shape", model.input_shape))
    if first.kind in ("Sequential", "Functional", "Model") and dims is None:
        inner = model_of(first.config)
        return _start(inner, told)
    if not isinstance(dims, list) or not all(each is None or type(each) is int for each in dims):
        dims = [None] * (1 + len(told)) if told is not None else None
    if dims is None:
        raise CheckpointError("does not say what it takes: say it with input_shape=(height, width, channels)")
    sizes = dims[1:]
    if len(sizes) not in (1, 2, 3):
        raise CheckpointError(f"takes inputs of {len(dims)} axes; batches of images or vectors have 2 to 4")
    gray = len(sizes) == 2
    if gray:
        sizes = [*sizes, 1]
    if told is not None:
        if len(told) != len(sizes) or any(size not in (None, given) for size, given in zip(sizes, told)):
            raise CheckpointError(f"takes examples of shape {tuple(sizes)}, not {told}")
        sizes = list(told)
    if None in sizes:
        raise CheckpointError("leaves the size of its input open: say it with input_shape=(height, width, channels)")
    if min(sizes) < 1:
        raise CheckpointError(f"takes inputs of shape {tuple(sizes)}, which hold nothing")
    return Value(tuple(sizes), None, gray)


def _dtype(model: Model) -> str:
    first = _first(model)
    return "float64" if first is not None and first.config.get("dtype") == "float64" else "float32"


class _Walk:
    """The way through the layers of a model, and of those inside it."""

    def __init__(self, archive: Archive) -> None:
        self._legacy = archive.legacy

    def model(self, model: Model, group: Group | None, start: Value, depth: int) -> Value:
        """The result of a model on `start`."""
        if depth > DEEPEST:
            raise CheckpointError(f"has models in one another more than {DEEPEST} deep")
        values: dict[str, Value] = {}
        layers = model.layers
        counted = layers if model.inputs else [layer for layer in layers if layer.kind != INPUT]
        groups: dict[str, Group | None] = {}
        if not self._legacy and group is not None:
            groups = {layer.name: found for layer, found in zip(counted, numbered(group, counted))}
        for layer in layers:
            if layer.name in values:
                raise CheckpointError(f"is damaged: two layers are called {shown(layer.name)}")
            if layer.kind == INPUT:
                values[layer.name] = start
                continue
            taken = [self._source(layer, values, name) for name in layer.sources] if layer.sources else [start]
            values[layer.name] = self._layer(layer, groups.get(layer.name), group, taken, depth)
        if not model.outputs or model.outputs[0] not in values:
            raise CheckpointError("is damaged: its output is none of its layers")
        return values[model.outputs[0]]

    def _source(self, layer: Described, values: dict[str, Value], name: str) -> Value:
        if name not in values:
            raise CheckpointError(f"{layer.title}: takes {shown(name)}, which comes later or is not there")
        return values[name]

    def _layer(
        self, layer: Described, own: Group | None, around: Group | None, taken: list[Value], depth: int
    ) -> Value:
        """The result of one layer, or of a model that is one."""
        if layer.calls > 1:
            raise CheckpointError(
                f"{layer.title}: is called {layer.calls} times with one set of weights; give each call its own layer"
            )
        if layer.others:
            raise CheckpointError(f"{layer.title}: takes something else than results of layers, which is not read")
        if is_model(layer.kind):
            if self._legacy:
                raise CheckpointError(
                    f"{layer.title}: is a model inside the model, whose weights an .h5 file mixes: save it as .keras"
                )
            inner = model_of(layer.config)
            if len(taken) != 1 or (inner.inputs and len(inner.inputs) != 1):
                raise CheckpointError(f"{layer.title}: is a model of several inputs; it must have one")
            return self.model(inner, own, taken[0], depth + 1)
        if layer.module is not None and layer.module.split(".")[0] != "keras":
            raise CheckpointError(
                f"{layer.title}: is a class of {shown(layer.module)}, whose code is not run; only Keras's own "
                "layers can be read"
            )
        arrays = of_named(around, layer.name) if self._legacy and around is not None else of_numbered(own)
        try:
            return result(Entry(layer, arrays, taken))
        except CheckpointError:
            raise
        except (PyconvError, TypeError, OverflowError) as error:
            raise CheckpointError(f"{layer.title}: {error}") from None
