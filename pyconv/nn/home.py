"""Home: where a network's parameters and arrays are (main memory or a GPU), and the passes that are run there.

A :class:`Home` is in main memory: it uses the network's own parameters and copies nothing. For a backend with memory of
its own there is :class:`~pyconv.nn.on_device.OnDevice`, which differs only in what it copies and when.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pyconv.arithmetic import own
from pyconv.backends import Backend

from .executor import Executor, Pass
from .layer import Step
from .losses import count_correct
from .plan import Graph

if TYPE_CHECKING:
    from .normalization import Normalization
    from .weighting import Weighting


@dataclass(slots=True)
class How:
    """The settings of a pass.

    Attributes
    ----------
    ops : Backend
    threads : int
        Of every operation.
    algorithm : str
        Of every convolution.
    normalization : Normalization
        Applied to the examples.
    weights : object or None
        The same object as long as the parameters are the same (:attr:`pyconv.nn.lending.Lending.state`).
    """

    ops: Backend
    threads: int
    algorithm: str
    normalization: Normalization
    weights: object | None = None


class Batch(Protocol):
    """Examples and labels, which may still be on their way to a device."""

    def arrived(self) -> tuple[Any, Any]:
        """Examples, and labels or None, once they are on the device."""
        ...

    def error(self, how: How, logits: Any, labels: Any) -> tuple[Any, Any]:
        """The losses, and the gradient of the batch's loss with respect to the logits."""
        ...

    def loss(self, losses: Any) -> float:
        """The batch's loss, from the losses that :meth:`error` returned."""
        ...


class Here:
    """A batch in main memory; nothing is copied."""

    def __init__(
        self, examples: np.ndarray, labels: np.ndarray | None = None, weighting: Weighting | None = None
    ) -> None:
        self._arrays, self._weighting = (examples, labels), weighting

    def arrived(self) -> tuple[Any, Any]:
        """The arrays, at once."""
        return self._arrays

    def error(self, how: How, logits: Any, labels: Any) -> tuple[Any, Any]:
        """The losses (or the weighted mean, if there are weights), and the gradient."""
        if self._weighting is None:
            return how.ops.mean_cross_entropy(logits, labels, threads=how.threads)
        losses, gradient = how.ops.softmax_cross_entropy(logits, labels, threads=how.threads)
        return self._weighting.apply(losses, gradient, logits, labels)

    def loss(self, losses: Any) -> float:
        """The mean of the losses, accumulated in float64."""
        if self._weighting is not None:
            return losses
        return float(np.add.reduce(losses, dtype=np.float64) / len(losses))  # as ndarray.mean does, but faster


class Home:
    """A network's parameters in main memory, and the passes that use them.

    Parameters
    ----------
    graph : Graph
        The network's steps, which are bound to its parameters.
    dtype : dtype
    seed : int
        The model's seed, for dropout.
    input_grad : bool
        Whether backward passes also compute the gradient of the examples.
    """

    def __init__(self, graph: Graph, dtype: np.dtype, seed: int, *, input_grad: bool = False) -> None:
        self._dtype = dtype
        self._executor = Executor(graph, dtype, seed, input_grad=input_grad)
        self._pass: Pass | None = None
        self._logits: Any = None
        self.between: Callable[[], None] | None = None
        """Called between the forward and the backward pass of a training step."""
        self.before: Callable[[Step], None] | None = None
        """Called with each step before its forward pass, in training steps."""
        self.after: Callable[[Step], None] | None = None
        """Called with each step after its backward pass."""

    @property
    def valid(self) -> bool:
        """Whether it can still be used: a GPU's may not."""
        return True

    @property
    def nbytes(self) -> int:
        """Bytes of work arrays."""
        return self._executor.nbytes

    # ---- copies: in main memory there are none ----------------------------------------------------------------------

    def push(self, flat: np.ndarray, buffers: np.ndarray) -> None:
        """Take the parameters and running statistics from main memory."""

    def pull(self, flat: np.ndarray | None, buffers: np.ndarray) -> None:
        """Copy the running statistics, and the parameters unless `flat` is None, to main memory."""

    def stage(
        self, examples: np.ndarray, labels: np.ndarray | None = None, weighting: Weighting | None = None
    ) -> Batch:
        """Start to copy a batch to the device, with the weights of its examples and classes."""
        return Here(examples, labels, weighting)

    def fetched(self, array: Any) -> np.ndarray:
        """`array` as a new array in main memory."""
        return array.copy()

    def gradients(self, out: np.ndarray, views: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
        """Where a step's gradients are written, if `out` is the gradient vector and `views` are its parts."""
        return views

    def gradient_of(self, step: Step) -> None:
        """Called when the gradients of `step` have been started; here they are computed."""
        if self.after is not None:
            self.after(step)

    def pull_gradient(self, out: np.ndarray) -> None:
        """Bring the whole gradient to `out`."""

    def _ready(self, x: Any, normalization: Normalization) -> bool:
        """Whether the steps can use the examples as they are, without normalising or copying."""
        return x.dtype == self._dtype and normalization.identity and x.flags.c_contiguous and x.flags.aligned

    def _normalised(self, x: Any, normalization: Normalization, out: Any) -> Any:
        return normalization.apply(x, out)

    # ---- passes -----------------------------------------------------------------------------------------------------

    def forward(self, batch: Batch, how: How, *, training: bool = False, step: int = 0, first: int = 0) -> Any:
        """The network's result, in a work array (or the caller's array, if the network computes nothing)."""
        taken, x = self._taken(batch.arrived()[0], how, training)
        return self._executor.forward(taken, x, step, first)

    def infer(self, batch: Batch, how: How) -> np.ndarray:
        """The network's result in inference, as a new array in main memory."""
        taken, x = self._taken(batch.arrived()[0], how, False)
        result: np.ndarray
        result = self._executor.infer(taken, x, how.weights) if how.ops.records else self._by_steps(taken, x)
        return result

    @own
    def _by_steps(self, taken: Pass, x: Any) -> np.ndarray:
        return self.fetched(self._executor.forward(taken, x))

    def _taken(self, x: Any, how: How, training: bool) -> tuple[Pass, Any]:
        """The pass for these examples, and the examples as its steps read them: normalised, in the network's dtype."""
        owned = not self._ready(x, how.normalization)
        self._pass = taken = self._executor.prepared(
            len(x), how.ops, how.threads, how.algorithm, training=training, owned=owned
        )
        return taken, self._normalised(x, how.normalization, taken.examples) if owned else x

    def step(self, batch: Batch, how: How, gradients: Mapping[str, Any], step: int, first: int) -> Any:
        """Run, or on a device start, the forward and backward pass of a training batch.

        Parameters
        ----------
        batch : Batch
            With labels.
        how : How
        gradients : mapping of str to array
            The arrays that each parameter's gradient of the mean loss is written to.
        step, first : int
            Number of the training step, and position of the first example in the global batch.

        Returns
        -------
        array or float
            The examples' losses, for ``batch.loss``. On a device, they and the gradients may still be computed when
            this returns.
        """
        examples, labels = batch.arrived()
        taken, x = self._taken(examples, how, True)
        self._logits = logits = self._executor.forward(taken, x, step, first, self.before)
        if self.between is not None:
            self.between()
        losses, error = batch.error(how, logits, labels)
        self._executor.backward(taken, error, gradients, self.gradient_of)
        return losses

    def backward(self, error: Any, gradients: Mapping[str, Any]) -> Any:
        """The backward pass after a :meth:`forward` in training; returns the gradient of the examples, if asked for."""
        assert self._pass is not None
        return self._executor.backward(self._pass, error, gradients)

    def correct(self, labels: np.ndarray) -> int:
        """How many examples of the last :meth:`step` have their largest logit at their label in `labels`."""
        return count_correct(self.fetched(self._logits), labels)

    def forget(self) -> None:
        """Drop the arrays that the last pass keeps: the examples belong to the caller."""
        self._logits = None
        if self._pass is not None:
            self._executor.forget(self._pass)
            self._pass = None
