"""One layer of a Keras file that is being read: its settings, its weights, its result, and how it is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from pyconv.errors import CheckpointError, PyconvError, short, shown

from ..foreign import Item
from ..layer import Layer, Shape
from .config import Described
from .weights import Arrays

_MOST = 350


@dataclass(frozen=True)
class Value:
    """An input or a result of a layer.

    Attributes
    ----------
    shape : tuple of int
        Shape of one example: ``(H, W, C)`` or ``(features,)``.
    item : Item or None
        The item that made it; None is the network's input.
    gray : bool
        Whether the file has it as ``(H, W)``, without an axis for its one channel.
    """

    shape: Shape
    item: Item | None = None
    gray: bool = False


class Entry:
    """A layer of the file.

    Parameters
    ----------
    described : Described
    arrays : Arrays
        Its weights.
    values : sequence of Value
        Its inputs.
    """

    def __init__(self, described: Described, arrays: Arrays, values: Sequence[Value]) -> None:
        self.title, self.kind, self._config = described.title, described.kind, described.config
        self.values = list(values)
        self._arrays = arrays

    def refuse(self, reason: str) -> NoReturn:
        """Raise the error that this layer cannot be read."""
        raise CheckpointError(f"{self.title}: {short(reason, _MOST)}")

    @property
    def value(self) -> Value:
        """The input of a layer that has one input."""
        if len(self.values) != 1:
            self.refuse(f"takes {len(self.values)} values; it must take one")
        return self.values[0]

    @property
    def images(self) -> Value:
        """Its input, which must be images."""
        if len(self.value.shape) != 3 or self.value.gray:
            self.refuse(f"takes images (height, width, channels), not {self.value.shape}")
        if self.get("data_format", "channels_last") not in (None, "channels_last"):
            self.refuse("has the channels first; build the model with data_format='channels_last'")
        return self.value

    def get(self, name: str, default: Any = None) -> Any:
        """A setting."""
        return self._config.get(name, default)

    def whole(self, name: str, default: int = 1) -> int:
        """A setting that is an integer."""
        value = self.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int):
            self.refuse(f"its {name} is {shown(value)}; it must be an integer")
        return value

    def number(self, name: str, default: float) -> float:
        """A setting that is a number; Keras 2 may have written it as an array."""
        value = self.get(name, default)
        if isinstance(value, dict) and isinstance(value.get("config"), dict):
            value = value["config"].get("value")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
            self.refuse(f"its {name} is {shown(value)}; it must be a number")
        return float(value)

    def pair(self, name: str, default: Any = None) -> int | tuple[int, int]:
        """A setting for height and width; one number if both are the same."""
        value = self.get(name, default)
        numbers = [value, value] if isinstance(value, int) else value
        if not isinstance(numbers, list) or len(numbers) != 2 or not all(type(each) is int for each in numbers):
            self.refuse(f"its {name} is {shown(value)}; it must be two integers")
        return numbers[0] if numbers[0] == numbers[1] else (numbers[0], numbers[1])

    def padding(self) -> str | int:
        """A setting of convolutions and pools."""
        value = self.get("padding", "valid")
        if value not in ("same", "valid"):
            self.refuse(f"its padding is {shown(value)}; it must be 'same' or 'valid'")
        return "same" if value == "same" else 0

    def vector(self, name: str, channels: int, default: float) -> np.ndarray:
        """A setting of one number, or of one for each channel."""
        value = self.get(name, default)
        try:
            found = np.asarray(value, np.float64)
        except (TypeError, ValueError, OverflowError):
            found = np.empty(0)
        if found.size not in (1, channels) or not np.isfinite(found).all():
            self.refuse(f"its {name} is {shown(value)}; it must be one number, or one for each of {channels} channels")
        return found.ravel()

    def weights(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
        """Its weights in the file's order, by the names in `shapes`."""
        there = self._arrays.shapes
        if there != list(shapes.values()):
            needed = ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "none"
            self.refuse(f"its weights in the file are {', '.join(map(str, there)) or 'none'}; it needs {needed}")
        return {name: self._arrays.read(place) for place, name in enumerate(shapes)}

    def emit(self, value: Value, layer: Layer, values: Mapping[str, np.ndarray] | None = None) -> Value:
        """The result of a layer on `value`."""
        shape = self._shape_after(layer, value.shape)
        return Value(shape, Item(self.title, (value.item,), "layer", shape, layer, values or {}))

    def _shape_after(self, layer: Layer, shape: Shape) -> Shape:
        try:
            return tuple(layer.output_shape(shape))
        except PyconvError as error:
            self.refuse(str(error))

    def affine(self, value: Value, scale: np.ndarray, shift: np.ndarray) -> Value:
        """``scale x + shift`` with a number for each channel or feature."""
        channels = value.shape[-1]
        values = {"scale": np.broadcast_to(scale, channels), "shift": np.broadcast_to(shift, channels)}
        item = Item(self.title, (value.item,), "affine", value.shape, values=values, adds=bool(shift.any()))
        return Value(value.shape, item, value.gray)

    def note(self, value: Value, kind: str, shape: Shape | None = None, **about: Any) -> Value:
        """The result of something that is not a layer by itself."""
        shape = value.shape if shape is None else shape
        return Value(shape, Item(self.title, (value.item,), kind, shape, **about), value.gray)
