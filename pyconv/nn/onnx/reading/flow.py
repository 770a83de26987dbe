"""Flow: a value of an ONNX graph that depends on the images, with the order of its axes in the file."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...foreign import Item
from ...layer import Shape


@dataclass(frozen=True)
class Flow:
    """A value on its way from the images to the result.

    Attributes
    ----------
    axes : str
        Axes of the value in the file, without the batch: "CHW", "HWC" or another order of the axes of images (an axis
        of size 1 may be missing); "F" for vectors.
    shape : tuple of int
        In pyconv: ``(H, W, C)`` or ``(features,)``.
    item : Item or None
        What makes it; None for the network's input.
    order : ndarray or None
        For vectors: where feature i of the file is in pyconv's vector; None if the order is the same.
    """

    axes: str
    shape: Shape
    item: Item | None
    order: np.ndarray | None = None

    @property
    def is_vector(self) -> bool:
        """Whether examples are vectors."""
        return self.axes == "F"

    def size(self, axis: str) -> int:
        """Size of an axis, in pixels, channels or features."""
        return self.shape["HWC".index(axis)] if axis != "F" else self.shape[0]

    @property
    def sizes(self) -> list[int]:
        """Sizes of the value in the file, without the batch."""
        return [self.size(axis) for axis in self.axes]

    def arranged(self, axes: str) -> bool:
        """Whether the axes are in the order `axes`, apart from axes of size 1."""
        if self.is_vector or len(self.axes) != len(axes):
            return False
        return all(a == b or self.size(a) == self.size(b) == 1 for a, b in zip(self.axes, axes))

    def labelled(self, sizes: list[int]) -> str | None:
        """The axes of the same numbers in a value of these `sizes`; None if more than axes of size 1 changed."""
        real = [axis for axis in self.axes if self.size(axis) > 1]
        if [size for size in sizes if size != 1] != [self.size(axis) for axis in real]:
            return None
        ones = [axis for axis in "CHW" if self.size(axis) == 1]
        if sizes.count(1) > len(ones):
            return None
        wanted = [axes for axes in ("CHW", "HWC") if len(sizes) == 3]
        found = []
        for size in sizes:
            found.append(real.pop(0) if size != 1 else ones.pop(0))
        named = "".join(found)
        again = replace(self, axes=named)
        return next((axes for axes in wanted if again.arranged(axes)), named)

    def flattened_order(self) -> np.ndarray | None:
        """For each number of an image, in the file's order, its place in pyconv's flattened vector."""
        places = np.arange(int(np.prod(self.shape))).reshape(self.shape)
        letters = self.axes + "".join(axis for axis in "HWC" if axis not in self.axes)
        order = places.transpose(["HWC".index(axis) for axis in letters]).ravel()
        return None if np.array_equal(order, places.ravel()) else order

    def in_order(self, values: np.ndarray) -> np.ndarray:
        """`values`, whose first axis runs over the features of the file, in pyconv's order."""
        if self.order is None:
            return values
        turned = np.empty_like(values)
        turned[self.order] = values
        return turned
