"""Finds each layer's weights in a Keras file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np

from pyconv.errors import CheckpointError, shown

from .archive import Group
from .config import Described

#: Folders of a model's layers, in Keras 3 and in the first versions of the format.
_LAYERS = ("layers", "_layer_checkpoint_dependencies")
_MOST_VARIABLES = 16


class Arrays:
    """The weights of one layer; shapes are read at once, numbers when they are asked for."""

    def __init__(self, group: Group | None, ways: Iterable[tuple[str, ...]]) -> None:
        self._group, self._ways = group, list(ways)
        self.shapes = [self._shape(way) for way in self._ways]

    def _shape(self, way: tuple[str, ...]) -> tuple[int, ...]:
        shape = None if self._group is None else self._group.shape(*way)
        if shape is None:
            raise CheckpointError(f"is damaged: its weights {shown('/'.join(way))} are missing")
        return shape

    def read(self, place: int) -> np.ndarray:
        """The numbers of the array at `place`."""
        assert self._group is not None
        return self._group.array(*self._ways[place])


def numbered(group: Group, layers: Iterable[Described]) -> Iterator[Group | None]:
    """The groups of layers that are stored by kind and number: ``conv2d``, ``conv2d_1``."""
    folder = next((found for name in _LAYERS if (found := group.inside(name)) is not None), None)
    seen: Counter[str] = Counter()
    for layer in layers:
        name = _snake_case(layer.kind)
        number = seen[name]
        seen[name] += 1
        yield None if folder is None else folder.inside(f"{name}_{number}" if number else name)


def of_numbered(group: Group | None) -> Arrays:
    """The weights of a layer in its group: ``vars/0``, ``vars/1``, in order."""
    variables = None if group is None else group.inside("vars")
    if variables is None:
        return Arrays(None, ())
    count = len(variables.names())
    if count > _MOST_VARIABLES:
        raise CheckpointError(f"is damaged: a layer has {count} weights")
    return Arrays(variables, ((str(number),) for number in range(count)))


def of_named(group: Group, name: str) -> Arrays:
    """The weights of a layer of an ``.h5`` file, by the layer's name."""
    found = group.inside(*name.split("/"))
    names = None if found is None else found.attribute("weight_names")
    if not isinstance(names, list) or len(names) > _MOST_VARIABLES:
        return Arrays(None, ())
    return Arrays(found, (tuple(str(each).split("/")) for each in names))


def _snake_case(kind: str) -> str:
    """A class's name as Keras writes it in the files."""
    name = re.sub(r"\W+", "", kind)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
