"""Makes networks from dicts and from TOML files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyconv.documents import read_toml
from pyconv.errors import InputError, PyconvError, shown, unknown_name
from pyconv.values import path as as_path

from .layer import Layer, in_layer
from .registry import LAYERS
from .sequential import Sequential

#: How deeply layers may be nested in a file.
DEEPEST = 50

_KEYS = ("input_shape", "layers", "seed", "dtype")


def layer_from_config(config: Any, index: int | str, depth: int = 0) -> Layer:
    """Make the layer that ``Layer.config()`` describes.

    Raises
    ------
    InputError
        If it describes no layer; the message names the layer, counted from 0, and the setting.
    """
    if not isinstance(config, Mapping):
        raise InputError(f"layer {index} must be a table with a type, not {shown(config)}")
    if "type" not in config:
        raise InputError(f"layer {index} has no type; known: {', '.join(LAYERS)}")
    kind = config["type"]
    if not isinstance(kind, str) or kind not in LAYERS:
        raise unknown_name(f"type of layer {index}:", kind, LAYERS)
    fields = {field.name: field for field in dataclasses.fields(LAYERS[kind])}
    settings = {key: value for key, value in config.items() if key != "type"}
    if depth > DEEPEST:
        raise InputError(f"layers are nested more than {DEEPEST} deep")

    def inner(tables: Any, way: str) -> list[Layer]:
        if not isinstance(tables, (list, tuple)):
            raise InputError(f"{way.rstrip('.') or 'layers'} must be a list of tables, not {shown(tables)}")
        return [layer_from_config(table, f"{way}{position}", depth + 1) for position, table in enumerate(tables)]

    try:
        for key in settings:
            if key not in fields:
                raise unknown_name("setting", key, fields)
        for name, field in fields.items():
            if name not in settings and field.default is dataclasses.MISSING:
                raise InputError(f"the setting {name!r} is missing")
        return LAYERS[kind](**LAYERS[kind].read(settings, inner))
    except PyconvError as error:
        raise in_layer(index, kind, error) from None


def parse_config(config: Any) -> tuple[list[Layer], Any, dict[str, Any]]:
    """The layers, the input shape, and the seed and dtype if given, of a network's `config`."""
    if not isinstance(config, Mapping):
        raise InputError(f"a network's configuration must be a table, not {shown(config)}")
    for key in config:
        if key not in _KEYS:
            raise unknown_name("key", key, _KEYS)
    for key in _KEYS[:2]:
        if key not in config:
            raise InputError(f"the key {key!r} is missing")
    if not isinstance(config["layers"], (list, tuple)):
        raise InputError(f"layers must be a list of tables, not {shown(config['layers'])}")
    layers = [layer_from_config(layer, index) for index, layer in enumerate(config["layers"])]
    return layers, config["input_shape"], {key: config[key] for key in _KEYS[2:] if key in config}


def from_config(config: Mapping[str, Any]) -> Sequential:
    """Make a network, with new parameters, from the result of ``Sequential.config()``.

    Parameters
    ----------
    config : mapping
        ``input_shape``, ``layers`` (each a mapping with its ``type`` and settings), and optionally ``seed`` and
        ``dtype``.

    Returns
    -------
    Sequential

    Raises
    ------
    InputError
        If something is missing, unknown or does not fit; the message names layer and setting.
    """
    layers, input_shape, rest = parse_config(config)
    return Sequential(layers, input_shape, **rest)


def from_toml(path: str | Path, *, seed: int | None = None) -> Sequential:
    """Make a network, with new parameters, from a TOML file.

    Parameters
    ----------
    path : path
        The file: ``input_shape``, optionally ``seed`` and ``dtype``, and a ``[[layers]]`` table for each layer, with
        its ``type`` and settings.
    seed : int, optional
        Replaces the file's seed.

    Returns
    -------
    Sequential

    Raises
    ------
    InputError
        If the file cannot be read or describes no network; the message names file, layer and key.

    Examples
    --------
    ::

        input_shape = [28, 28, 1]

        [[layers]]
        type = "Conv2D"
        filters = 32
        kernel_size = 5
        activation = "relu"

        [[layers]]
        type = "Flatten"

        [[layers]]
        type = "Dense"
        units = 10
    """
    config = read_toml(as_path(path, "path"))
    try:
        return from_config(config if seed is None else {**config, "seed": seed})
    except PyconvError as error:
        raise type(error)(f"{path}: {error}") from None
