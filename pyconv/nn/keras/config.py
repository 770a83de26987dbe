"""Turns Keras's nested configuration of a model into a list of layers that take each other's results.

Sequential models list layers in a row. Functional ones name for each layer the results that it takes: Keras 2 as lists
``[name, node, tensor, {}]``, Keras 3 as tensors with a ``keras_history`` in the arguments of a call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pyconv.errors import CheckpointError, short, shown

SEQUENTIAL, FUNCTIONAL = ("Sequential",), ("Functional", "Model")
INPUT = "InputLayer"
MOST_LAYERS = 20_000


@dataclass
class Described:
    """One layer of a configuration.

    Attributes
    ----------
    name, kind : str
        The layer's own name, and its class.
    module : str or None
        The module of its class, which Keras 3 states.
    config : dict
        Its settings.
    sources : list of str
        Names of the layers whose results it takes.
    others : int
        How many arguments of its call are not results of layers.
    calls : int
        How often it is called.
    """

    name: str
    kind: str
    module: str | None
    config: dict[str, Any]
    sources: list[str] = field(default_factory=list)
    others: int = 0
    calls: int = 1

    @property
    def title(self) -> str:
        """The layer in messages."""
        return f"layer {shown(self.name)} ({short(self.kind)})"


@dataclass
class Model:
    """Layers in the order of the configuration.

    Attributes
    ----------
    name : str
    layers : list of Described
    inputs, outputs : list of str
        Names of layers.
    input_shape : list or None
        The input shape of a Sequential model without an InputLayer, with the batch first.
    """

    name: str
    layers: list[Described]
    inputs: list[str]
    outputs: list[str]
    input_shape: list[int | None] | None = None


def is_model(kind: str) -> bool:
    """Whether a class is a model, which may be a layer of another one."""
    return kind in SEQUENTIAL + FUNCTIONAL


def model_of(described: Any) -> Model:
    """The model that a configuration with ``class_name`` and ``config`` describes.

    Raises
    ------
    CheckpointError
        If it does not describe a model, or the model's class is not a chain or graph of layers.
    """
    if not isinstance(described, dict) or not isinstance(described.get("class_name"), str):
        raise CheckpointError("its configuration describes no model")
    kind, config = described["class_name"], described.get("config")
    if not is_model(kind):
        raise CheckpointError(
            f"is a model of the class {shown(kind)}, whose code is not in the file: save a Sequential or functional "
            "model, or export an ONNX file: model.export('model.onnx', format='onnx')"
        )
    if isinstance(config, list):  # the oldest Sequential ones
        config = {"layers": config}
    if not isinstance(config, dict) or not isinstance(config.get("layers"), list):
        raise CheckpointError("its configuration lists no layers")
    if len(config["layers"]) > MOST_LAYERS:
        raise CheckpointError(f"has {len(config['layers'])} layers, more than {MOST_LAYERS}")
    layers = [_described(each) for each in config["layers"]]
    name = str(config.get("name", kind.lower()))
    if kind in SEQUENTIAL:
        before: list[str] = []
        for layer in layers:
            layer.sources = list(before)
            before = [layer.name]
        return Model(name, layers, [], before, config.get("build_input_shape"))
    inputs, outputs = (list(_ends(config.get(key))) for key in ("input_layers", "output_layers"))
    return Model(name, layers, inputs, outputs)


def _described(entry: Any) -> Described:
    """One entry of the list of layers."""
    if not isinstance(entry, dict) or not isinstance(entry.get("class_name"), str):
        raise CheckpointError("its configuration is damaged: an entry of its layers has no class_name")
    config = entry.get("config")
    if not isinstance(config, dict):
        raise CheckpointError(f"its configuration is damaged: {short(entry['class_name'])} has no settings")
    name = entry.get("name", config.get("name"))
    module = entry.get("module")
    found = Described(str(name), entry["class_name"], module if isinstance(module, str) else None, dict(config))
    nodes = entry.get("inbound_nodes") or []
    if not isinstance(nodes, list):
        raise CheckpointError(f"its configuration is damaged: {found.title} has no list of inbound_nodes")
    if is_model(found.kind):
        found.config = {"class_name": found.kind, "config": config}
    found.calls = max(len(nodes), 1)
    if nodes:
        for source in _arguments(nodes[0]):
            if source is None:
                found.others += 1
            else:
                found.sources.append(source)
    return found


def _arguments(node: Any) -> Iterator[str | None]:
    """Names of the layers whose results a call takes; None for each other argument."""
    if isinstance(node, dict):  # Keras 3
        yield from _tensors(node.get("args"))
        named = node.get("kwargs")
        for value in named.values() if isinstance(named, dict) else ():
            if isinstance(value, (dict, list)):
                yield from _tensors(value)
        return
    entries = node if isinstance(node, list) and node and isinstance(node[0], list) else [node]
    for entry in entries:
        if isinstance(entry, list) and len(entry) >= 3 and isinstance(entry[0], str):
            yield entry[0]
            rest = entry[3] if len(entry) > 3 and isinstance(entry[3], dict) else {}
            yield from (None for key, value in rest.items() if key not in ("training", "mask") and value is not None)
        else:
            yield None


def _tensors(value: Any) -> Iterator[str | None]:
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        config = value.get("config")
        history = config.get("keras_history") if isinstance(config, dict) else None
        yield history[0] if isinstance(history, list) and history and isinstance(history[0], str) else None
    elif isinstance(value, list):
        for each in value:
            yield from _tensors(each)
    elif value is not None:
        yield None


def _ends(value: Any) -> Iterator[str]:
    """Names in Keras's lists of inputs or outputs, which are one or several ``[name, node, tensor]``."""
    if isinstance(value, list) and value and isinstance(value[0], str):
        yield value[0]
    elif isinstance(value, (list, dict)):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _ends(each)
