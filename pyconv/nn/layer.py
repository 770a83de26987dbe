"""What a layer is: its settings, the shapes it makes, and the step that computes it.

A layer (:class:`Layer`) is a small immutable record of settings: it can be compared, printed, saved and used in several
networks. What runs is a :class:`Step`, which a network makes from one layer or from several that are fused, and which
knows where its parameters are. A new layer is one file with both, and one line in :data:`pyconv.nn.LAYERS`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyconv.errors import PyconvError, ShapeError, shown
from pyconv.values import flag, integer, masked, sequence

if TYPE_CHECKING:
    from .run import Run

#: The shape of one example, without the batch: ``(H, W, C)`` or ``(features,)``.
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Parameter:
    """Shape and first value of a parameter or buffer.

    Attributes
    ----------
    shape : tuple of int
    start : "he" or float
        He initialisation, or one number for all elements.
    fan_in : int
        Inputs that one output is computed from; He initialisation needs it.
    scale : float
        Factor of He initialisation's standard deviation.
    """

    shape: Shape
    start: str | float
    fan_in: int = 1
    scale: float = 1.0


@dataclass(frozen=True)
class Layer:
    """Base class of the layers: settings, and the shapes that follow from them.

    A subclass is a frozen dataclass: its fields are the settings. :attr:`pyconv.nn.LAYERS` lists those that files may
    name.

    Raises
    ------
    InputError, ShapeError
        At once, if a setting has an impossible value.

    Notes
    -----
    Settings are taken as Python's own numbers and tuples, so that equal layers compare equal, and never change.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = _settled(getattr(self, field.name))
            self._settle(field.name, flag(value, field.name) if field.type == "bool" else value)

    def _settle(self, name: str, value: Any) -> None:
        """Set a field of this frozen record, while it is made."""
        object.__setattr__(self, name, value)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape of one example after the layer.

        Parameters
        ----------
        input_shape : tuple of int
            Of one example, without the batch: ``(H, W, C)`` or ``(features,)``.

        Returns
        -------
        tuple of int

        Raises
        ------
        ShapeError
            If the layer cannot take an example of `input_shape`.
        """
        return input_shape

    def parameters(self, input_shape: Shape) -> dict[str, Parameter]:
        """What is trained.

        Parameters
        ----------
        input_shape : tuple of int
            Of one example, without the batch: ``(H, W, C)`` or ``(features,)``.

        Returns
        -------
        dict of str to Parameter
            By name, in the order in which it lies in the flat vector; empty for most layers.

        Raises
        ------
        ShapeError
            As :meth:`output_shape`.
        """
        return {}

    def buffers(self, input_shape: Shape) -> dict[str, Parameter]:
        """What is kept but not trained: running statistics.

        Parameters
        ----------
        input_shape : tuple of int
            Of one example, without the batch: ``(H, W, C)`` or ``(features,)``.

        Returns
        -------
        dict of str to Parameter
            By name, in the order in which it lies in the flat vector of buffers.
        """
        return {}

    def flops(self, input_shape: Shape) -> int:
        """Floating-point operations of one example's forward pass, in inference.

        Parameters
        ----------
        input_shape : tuple of int
            Of one example, without the batch: ``(H, W, C)`` or ``(features,)``.

        Returns
        -------
        int
            A multiply-add counts as two.
        """
        return 0

    def least_batch(self, input_shape: Shape) -> int:
        """Examples that a batch needs at least in training.

        Parameters
        ----------
        input_shape : tuple of int
            Of one example, without the batch: ``(H, W, C)`` or ``(features,)``.

        Returns
        -------
        int
            1 but for layers that compute statistics over the batch.
        """
        return 1

    def step(self, index: int, input_shape: Shape, following: Sequence[Layer]) -> Step:
        """The step that computes this layer, and with it as many of the following ones as it can fuse.

        Parameters
        ----------
        index : int
            Position of the layer in the network, from 0.
        input_shape : tuple of int
            Of one example, without the batch: ``(H, W, C)`` or ``(features,)``.
        following : sequence of Layer
            The layers after this one.

        Returns
        -------
        Step
            Its ``layers`` says how many it computes.
        """
        raise TypeError(f"{type(self).__name__} is not a layer of its own: it has no step")

    def config(self) -> dict[str, Any]:
        """The layer as a dict that JSON and TOML can hold.

        Returns
        -------
        dict of str to object
            Its type, and every setting that is not None; tuples become lists.
        """
        settings = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {"type": type(self).__name__} | {k: _plain(v) for k, v in settings.items() if v is not None}


def _settled(value: Any, levels: int = 2) -> Any:
    """`value` with lists as tuples and NumPy's numbers as Python's, so that equal settings compare equal.

    Settings are two levels deep at most; what is deeper is left to those who refuse it.
    """
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf" and not masked(value):
        value = value.tolist()
    if isinstance(value, (tuple, list)) and levels:
        return tuple(_settled(item, levels - 1) for item in value)
    return value.item() if isinstance(value, np.generic) and not masked(value) else value


def _plain(value: Any) -> Any:
    """`value` with tuples as lists."""
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


class Step:
    """What a network runs in one go: a layer, or several that are fused.

    Parameters
    ----------
    index : int
        Position of the first layer.
    layers : int
        How many layers the step computes.
    parameters : sequence of str
        Names of the parameters within the layer, such as ``("weight", "bias")``.

    Attributes
    ----------
    fresh : bool
        Whether the result is always another array than the input, so that later steps may write over it.
    """

    fresh = True

    def __init__(self, index: int, layers: int = 1, parameters: Sequence[str] = ()) -> None:
        self.index = index
        self.layers = layers
        self.names = {name: f"{index}.{name}" for name in parameters}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.layers} layers from {self.index}>"

    @property
    def trainable(self) -> bool:
        """Whether the step has parameters."""
        return bool(self.names)

    def bind(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take the step's parameters and buffers.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            Views into the flat vectors, by full name, such as ``"0.weight"``; the step keeps and reads them.
        """

    def forward(self, x: np.ndarray, run: Run) -> np.ndarray:
        """Compute the step on a batch, keeping what :meth:`backward` needs if ``run.training``.

        Parameters
        ----------
        x : (N, ...) ndarray, C-contiguous, of the network's dtype
            May be written over if ``run.owned``.
        run : Run
            Where and how to compute, and the memory for results.

        Returns
        -------
        (N, ...) ndarray
            The result; valid until ``run``'s work arrays are used again.
        """
        raise TypeError(f"{type(self).__name__} has no forward pass")

    def backward(self, grad: np.ndarray, run: Run, input_grad: bool) -> np.ndarray | None:
        """Write the parameters' gradients to ``run.gradients``, and compute the input's.

        Parameters
        ----------
        grad : (N, ...) ndarray
            Gradient of the loss with respect to the step's result; may be written over.
        run : Run
            Of the forward pass before.
        input_grad : bool
            Whether the input's gradient is asked for: of the first trained step it is not.

        Returns
        -------
        (N, ...) ndarray or None
            Gradient of the loss with respect to the step's input; anything where it was not asked for.
        """
        raise TypeError(f"{type(self).__name__} has no backward pass")

    def forget(self) -> None:
        """Drop the arrays that a forward pass kept and that belong to the caller."""


def example_shape(shape: Any, name: str = "input_shape") -> Shape:
    """`shape` as ``(H, W, C)`` or ``(features,)``, or an error that names the argument."""
    items = sequence(shape)
    if items is None or len(items) not in (1, 3):
        raise ShapeError(f"{name} must be (height, width, channels) or (features,), not {shown(shape)}")
    return tuple(integer(size, f"every size of {name}", minimum=1) for size in items)


def expect_images(input_shape: Shape) -> tuple[int, int, int]:
    """`input_shape` as ``(H, W, C)``, or a `ShapeError`."""
    input_shape = example_shape(input_shape)
    if len(input_shape) != 3:
        raise ShapeError(f"needs images (height, width, channels), but gets examples of shape {input_shape}")
    h, w, c = input_shape
    return h, w, c


def expect_vectors(input_shape: Shape) -> int:
    """The number of features of `input_shape`, or a `ShapeError`."""
    input_shape = example_shape(input_shape)
    if len(input_shape) != 1:
        raise ShapeError(f"needs vectors, but gets examples of shape {input_shape}: put a Flatten before it")
    return input_shape[0]


def in_layer(index: int, kind: str, error: PyconvError) -> PyconvError:
    """`error` with the layer's position, from 0 as in the parameters' names, and type in front."""
    return type(error)(f"layer {index} ({kind}): {error}")
