"""Base classes of layers: Layer, the settings and shapes of a layer, and Step, the code that computes it.

A :class:`Layer` is a small immutable record of settings: it can be compared, printed, saved and used in several
networks. A :class:`Step` computes one layer, or several that are fused; a network makes it, and it knows where its
parameters are. A new layer is one file with both classes, and one line in :mod:`.registry`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyconv.errors import PyconvError, ShapeError, shown
from pyconv.values import flag, integer, masked, sequence

if TYPE_CHECKING:
    from pyconv.backends import Backend

    from .run import Run

#: The shape of one example, without the batch: ``(H, W, C)`` or ``(features,)``.
Shape = tuple[int, ...]

#: Path to some layers in a row inside another layer, and these layers.
Chain = tuple[str, tuple["Layer", ...]]

#: Makes layers from the tables of a file; the path to them is for messages.
LayersReader = Callable[[Any, str], "list[Layer]"]


@dataclass(frozen=True)
class Parameter:
    """Shape and first value of a parameter or buffer.

    Attributes
    ----------
    shape : tuple of int
    start : "he" or float
        He initialisation, or one number for all elements.
    fan_in : int
        How many inputs one output is computed from; for He initialisation.
    scale : float
        Factor of He initialisation's standard deviation.
    """

    shape: Shape
    start: str | float
    fan_in: int = 1
    scale: float = 1.0

    @property
    def size(self) -> int:
        """Numbers in it."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Layer:
    """Base class of the layers: settings, and the shapes that follow from them.

    A subclass is a frozen dataclass: its fields are the settings. :attr:`pyconv.nn.LAYERS` lists the layers that files
    may name.

    Raises
    ------
    InputError, ShapeError
        If a setting has an impossible value, when the layer is made.

    Notes
    -----
    Settings become Python's own numbers and tuples, so that equal layers compare equal and never change.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = _settled(getattr(self, field.name))
            self._settle(field.name, flag(value, field.name) if field.type == "bool" else value)

    def _settle(self, name: str, value: Any) -> None:
        """Set a field of this frozen record while it is made."""
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
        """The parameters: what is trained.

        Parameters
        ----------
        input_shape : tuple of int
            Of one example, without the batch: ``(H, W, C)`` or ``(features,)``.

        Returns
        -------
        dict of str to Parameter
            By name, in their order in the flat vector; empty for most layers.

        Raises
        ------
        ShapeError
            As :meth:`output_shape`.
        """
        return {}

    def buffers(self, input_shape: Shape) -> dict[str, Parameter]:
        """The buffers: what is kept but not trained, such as running statistics.

        Parameters
        ----------
        input_shape : tuple of int
            Of one example, without the batch: ``(H, W, C)`` or ``(features,)``.

        Returns
        -------
        dict of str to Parameter
            By name, in their order in the flat vector of buffers.
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

    def own_flops(self, input_shape: Shape) -> int:
        """The operations of :meth:`flops` that this layer does itself, without those of inner layers.

        Parameters
        ----------
        input_shape : tuple of int
            Of one example, without the batch: ``(H, W, C)`` or ``(features,)``.

        Returns
        -------
        int
        """
        return self.flops(input_shape)

    def least_batch(self, input_shape: Shape) -> int:
        """The fewest examples that a batch may have in training.

        Parameters
        ----------
        input_shape : tuple of int
            Of one example, without the batch: ``(H, W, C)`` or ``(features,)``.

        Returns
        -------
        int
            1, except for layers that compute statistics over the batch.
        """
        return 1

    def step(self, index: int | str, input_shape: Shape, following: Sequence[Layer]) -> Step:
        """The step that computes this layer, and as many of the following layers as it can fuse.

        Parameters
        ----------
        index : int or str
            Position of the layer in the network, from 0; for an inner layer, its path.
        input_shape : tuple of int
            Of one example, without the batch: ``(H, W, C)`` or ``(features,)``.
        following : sequence of Layer
            The layers after this one.

        Returns
        -------
        Step
            Its attribute ``layers`` says how many layers it computes.
        """
        raise TypeError(f"{type(self).__name__} is not a layer of its own: it has no step")

    def chains(self) -> tuple[Chain, ...]:
        """The layers inside this one, side by side on its input, each chain with its path; usually none.

        Returns
        -------
        tuple of (str, tuple of Layer)
            The path is the part of a parameter's name before the inner layer's position.
        """
        return ()

    def meeting(self, index: int | str, following: Sequence[Layer]) -> Join:
        """The step that joins the results of :meth:`chains`, and computes as many of the following layers as it can
        fuse. A layer with chains has no :meth:`step`.

        Parameters
        ----------
        index, following : see :meth:`step`

        Returns
        -------
        Join
        """
        raise TypeError(f"{type(self).__name__} has no branches that meet")

    @classmethod
    def read(cls, settings: Mapping[str, Any], layers: LayersReader) -> dict[str, Any]:
        """The settings from a file, in the form in which the layer takes them.

        Parameters
        ----------
        settings : mapping
            By name.
        layers : callable
            ``layers(tables, way)``: makes the layers that a list of tables describes.

        Returns
        -------
        dict
        """
        return dict(settings)

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

    Settings are at most two levels deep; deeper ones are left as they are, and refused elsewhere.
    """
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf" and not masked(value):
        value = value.tolist()
    if isinstance(value, (tuple, list)) and levels:
        return tuple(_settled(item, levels - 1) for item in value)
    return value.item() if isinstance(value, np.generic) and not masked(value) else value


def _plain(value: Any) -> Any:
    """`value` with tuples as lists, and layers as their tables."""
    if isinstance(value, Layer):
        return value.config()
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Buffer:
    """Memory that a step needs besides its result and its input's gradient.

    Attributes
    ----------
    name : str
        The name with which the step asks for it: ``run.kept((index, name), shape)``.
    shape : tuple of int
        For one example.
    dtype : dtype or None
        None: the network's dtype.
    span : "pass", "forward" or "backward"
        How long it is needed: from the forward pass to the step's backward pass, or within one of them only.
    """

    name: str
    shape: Shape
    dtype: np.dtype | None = None
    span: str = "pass"


class Step:
    """The unit that a network runs: one layer, or several fused layers.

    Parameters
    ----------
    index : int or str
        Position of the first layer; for an inner layer its path, such as ``"3.0"``.
    layers : int
        How many layers the step computes.
    parameters : sequence of str
        Names of the parameters within the layer, such as ``("weight", "bias")``.

    Attributes
    ----------
    fresh : bool
        Whether the result is always another array than the input.
    over : bool
        Whether the step overwrites its input with its result if ``run.owned``. In training it may do so only if every
        number that was above 0 stays above 0 or gets no gradient.
    over_in_inference : bool
        The same, in inference only.
    keeps_input : bool
        Whether the backward pass reads the input.
    keeps_output : "values", "sign" or ""
        Whether the backward pass reads the result, or only where it is above 0, or not at all.
    grad_shares : bool or None
        Whether the input's gradient is in the same array as the result's (True), in another (False), or either (None).
    grad_over : bool
        Whether the backward pass may overwrite the gradient that it is given.
    frozen : bool
        Whether training leaves the parameters as they are: the backward pass then need not compute their gradients.
    recorded : bool
        Whether all that the forward pass does in inference are operations of ``run.ops``, on arrays of `run` and of the
        step, and views of them: then they may be repeated without the step. A class says it of itself; it is not
        inherited.

    Notes
    -----
    The memory of a pass is planned from these attributes; their defaults are safe for every step.
    """

    fresh = True
    over = False
    over_in_inference = False
    keeps_input = True
    keeps_output: str = "values"
    grad_shares: bool | None = None
    grad_over = True
    frozen = False
    recorded = False

    def __init__(self, index: int | str, layers: int = 1, parameters: Sequence[str] = ()) -> None:
        self.index = index
        self.layers = layers
        self.names = {name: f"{index}.{name}" for name in parameters}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.layers} layers from {self.index}>"

    @property
    def trainable(self) -> bool:
        """Whether the step has parameters, and training changes them."""
        return bool(self.names) and not self.frozen

    def shares(self, training: bool) -> bool | None:
        """Whether the result shares the input's memory, when the input is not overwritten.

        Parameters
        ----------
        training : bool
            Whether a backward pass follows.

        Returns
        -------
        bool or None
            None if it depends on the input.
        """
        return False if self.fresh else None

    def buffers(self, input_shape: Shape, training: bool, ops: Backend) -> Sequence[Buffer]:
        """The memory that the step needs besides its result and its input's gradient.

        Parameters
        ----------
        input_shape : tuple of int
            Of one example.
        training : bool
            Whether a backward pass follows.
        ops : Backend
            The backend that will run the step.

        Returns
        -------
        sequence of Buffer
            An array that is not listed works too, but gets memory of its own.
        """
        return ()

    def bind(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take the step's parameters and buffers.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            Views into the flat vectors, by full name, such as ``"0.weight"``; the step keeps and reads them.
        """

    def forward(self, x: np.ndarray, run: Run) -> np.ndarray:
        """Compute the step on a batch; if ``run.training``, keep what :meth:`backward` needs.

        Parameters
        ----------
        x : (N, ...) ndarray, C-contiguous, of the network's dtype
            May be overwritten if ``run.owned``.
        run : Run
            How to compute, and the memory for results.

        Returns
        -------
        (N, ...) ndarray
            The result; valid until the pass is over.
        """
        raise TypeError(f"{type(self).__name__} has no forward pass")

    def backward(self, grad: np.ndarray, run: Run, input_grad: bool) -> np.ndarray | None:
        """Write the parameters' gradients to ``run.gradients``, and compute the input's gradient.

        Parameters
        ----------
        grad : (N, ...) ndarray
            Gradient of the loss with respect to the step's result; may be overwritten if ``grad_over``.
        run : Run
            The same as in the forward pass.
        input_grad : bool
            Whether the input's gradient is needed; the first trained step need not compute it.

        Returns
        -------
        (N, ...) ndarray or None
            Gradient of the loss with respect to the step's input; anything if it is not needed.
        """
        raise TypeError(f"{type(self).__name__} has no backward pass")

    def forget(self) -> None:
        """Drop the arrays that a forward pass keeps: some belong to the caller, others to the network's memory."""


class Join(Step):
    """A step that joins several values into one."""

    def meet(self, inputs: Sequence[np.ndarray], run: Run) -> np.ndarray:
        """Compute the joined value.

        Parameters
        ----------
        inputs : sequence of (N, ...) ndarray
            None of them may be overwritten.
        run : Run
            As for :meth:`Step.forward`.

        Returns
        -------
        (N, ...) ndarray
            The result.
        """
        raise TypeError(f"{type(self).__name__} joins nothing")

    def part(self, grad: np.ndarray, run: Run) -> Sequence[np.ndarray]:
        """The gradients of all inputs.

        Parameters
        ----------
        grad : (N, ...) ndarray
            Gradient of the loss with respect to the result; may be overwritten if ``grad_over``.
        run : Run
            The same as in the forward pass.

        Returns
        -------
        sequence of (N, ...) ndarray
            One for each input; they may be the same array.
        """
        raise TypeError(f"{type(self).__name__} parts nothing")


def example_shape(shape: Any, name: str = "input_shape") -> Shape:
    """`shape` as ``(H, W, C)`` or ``(features,)``; else an error that names the argument."""
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


def layer_of(name: str) -> str:
    """The way to the layer that the parameter or buffer of this full name belongs to."""
    return name.rpartition(".")[0]


def stream_of(index: int | str) -> int:
    """The number of the layer's random streams: its position, or for an inner layer a number from its path."""
    if isinstance(index, int) or index.isdigit():
        return int(index)
    digest = hashlib.blake2b(index.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") | 1 << 63  # no position is so large


def in_layer(index: int | str, kind: str, error: PyconvError) -> PyconvError:
    """`error` with the layer's position (from 0, as in the parameters' names) and type in front."""
    return type(error)(f"layer {index} ({kind}): {error}")


def remember(known: dict[int, Any], n: int, found: Any) -> None:
    """Keep what was computed for batches of `n` examples, but only for a few batch sizes."""
    if len(known) >= 64:
        known.clear()
    known[n] = found
