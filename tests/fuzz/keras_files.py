"""Files of Keras with something changed: settings, the order of layers, weights, and bytes of the archive."""

from __future__ import annotations

import functools
import importlib.util
import io
import json
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

THERE = importlib.util.find_spec("h5py") is not None
NAMES = ("chain.keras", "branches.keras", "nested.keras", "keras_2.keras", "branches.h5")

_SAMPLES = Path(__file__).parent.parent / "keras_samples"
_KINDS = (
    "Conv2D", "Dense", "Add", "Concatenate", "Lambda", "Sequential", "Functional", "InputLayer", "Flatten", "Mine",
    "BatchNormalization", "Reshape", "Normalization", "MaxPooling2D", "", "x" * 3000,
)  # fmt: skip


def make_files(folder: Path) -> None:
    """The samples in `folder`, where the package h5py is installed."""
    if THERE:
        for name in NAMES:
            shutil.copy(_SAMPLES / name, folder)


@functools.cache
def _members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _odd_config(text: str, rng: random.Random, odd_content: Callable[[Any, random.Random], Any]) -> str:
    config = json.loads(text)
    layers = config["config"]["layers"]
    if rng.random() < 0.3:
        rng.choice(layers)["class_name"] = rng.choice(_KINDS)
        return json.dumps(config)
    if rng.random() < 0.2:
        one, other = rng.randrange(len(layers)), rng.randrange(len(layers))
        layers[one], layers[other] = layers[other], layers[one]
        return json.dumps(config)
    place = rng.randrange(len(layers))
    layers[place] = odd_content(layers[place], rng)
    return json.dumps(config if rng.random() < 0.9 else odd_content(config, rng))


def odd_keras(
    path: Path, rng: random.Random, odd_content: Callable[[Any, random.Random], Any],
    odd_bytes: Callable[[bytes, random.Random], bytes],
) -> bytes:  # fmt: skip
    """A model's file with one thing changed, or bytes of it."""
    if path.suffix == ".h5":
        if rng.random() < 0.3:
            return odd_bytes(path.read_bytes(), rng)
        return _odd_h5(path.read_bytes(), rng, odd_content)
    members = dict(_members(path))
    kind = rng.random()
    if kind < 0.2:
        return odd_bytes(path.read_bytes(), rng)
    if kind < 0.4:
        members["model.weights.h5"] = odd_bytes(members["model.weights.h5"], rng)
    else:
        members["config.json"] = _odd_config(members["config.json"].decode(), rng, odd_content).encode()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _odd_h5(data: bytes, rng: random.Random, odd_content: Callable[[Any, random.Random], Any]) -> bytes:
    import h5py

    stream = io.BytesIO(data)
    with h5py.File(stream, "r+") as file:
        if rng.random() < 0.3:
            groups = file["model_weights"]
            del groups[rng.choice(sorted(groups))]
        else:
            try:
                file.attrs["model_config"] = _odd_config(file.attrs["model_config"], rng, odd_content)
            except (UnicodeEncodeError, ValueError, TypeError):  # values that no attribute can hold
                file.attrs["model_config"] = "{}"
    return stream.getvalue()
