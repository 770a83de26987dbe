"""OnDevice: a network's parameters and work arrays in GPU memory. OptimizerOnDevice: its optimizer's state there.

The executor runs the same planned steps as on the host; a training step copies only the batch to the GPU.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pyconv import cuda
from pyconv.backends import Backend
from pyconv.cuda import layers, operations, updates
from pyconv.cuda.array import DeviceArray, empty, to_device, zeros
from pyconv.optim import clipping

from .freezing import Spans, freeze_steps
from .home import Home, How
from .layer import Step
from .vectors import size_of, views_of
from .weighting import Weighting

if TYPE_CHECKING:
    from pyconv.optim import Optimizer

    from .architecture import Architecture
    from .normalization import Normalization


class _Staging:
    """Page-locked host memory and device memory for one batch; two are used in turn, so that copying overlaps."""

    def __init__(self) -> None:
        self._host: dict[str, np.ndarray] = {}
        self._there: dict[str, DeviceArray] = {}
        self._tickets: dict[str, Any] = {}

    def send(self, name: str, array: np.ndarray) -> tuple[DeviceArray, Any]:
        """Start to copy `array`; returns the device array, and the ticket to wait for."""
        device = cuda.current()
        if name in self._tickets:  # a copy of a batch that was never used may still be reading this memory
            device.after(self._tickets[name])
        host, there = self._host.get(name), self._there.get(name)
        if host is None or there is None or host.size < array.nbytes:
            host = self._host[name] = device.page_locked((array.nbytes,), np.uint8)
            there = self._there[name] = empty((array.nbytes,), np.uint8)
            # The pool may have given memory that a running kernel still uses, and copies do not wait for kernels.
            device.synchronise()
        ours = host[: array.nbytes].view(array.dtype).reshape(array.shape)
        np.copyto(ours, array)
        ticket = self._tickets[name] = device.copy_in_async(there.address, ours)
        return DeviceArray(array.shape, array.dtype, there.address, there), ticket


class OnItsWay:
    """Examples and labels on their way to the device, with the weights of the examples."""

    def __init__(
        self, examples: np.ndarray, labels: np.ndarray | None, staging: _Staging, counts: np.ndarray | None = None
    ) -> None:
        self._examples = staging.send("x", examples)
        self._labels = None if labels is None else staging.send("labels", labels)
        self._counts = None if counts is None else staging.send("counts", counts)

    def error(self, how: How, logits: Any, labels: Any) -> tuple[Any, Any]:
        """The losses, and the gradient of the batch's loss with respect to the logits."""
        if self._counts is None:
            return how.ops.mean_cross_entropy(logits, labels)
        cuda.current().after(self._counts[1])
        return operations.mean_cross_entropy(logits, labels, counts=self._counts[0])

    def loss(self, losses: DeviceArray) -> float:
        """The batch's loss, from its examples' losses."""
        there = losses.get()
        return float(there.mean(dtype=np.float64) if self._counts is None else there.sum(dtype=np.float64))

    def arrived(self) -> tuple[DeviceArray, DeviceArray | None]:
        """The arrays, once they are on the device."""
        device = cuda.current()
        device.after(self._examples[1])
        if self._labels is None:
            return self._examples[0], None
        device.after(self._labels[1])
        return self._examples[0], self._labels[0]


class OnDevice(Home):
    """A network's parameters, running statistics, gradient and work arrays on the device.

    Parameters
    ----------
    architecture : Architecture
    dtype : dtype
    seed : int
        The model's seed, for dropout.
    frozen : tuple of str
        Ways to the layers that training leaves as they are.

    Attributes
    ----------
    flat, flat_buffers, gradient : (n,) DeviceArray
        Parameters, running statistics, and the gradient of the last training step.
    trained : Spans
        What of them is not frozen.
    """

    def __init__(
        self, architecture: Architecture, dtype: np.dtype, seed: int, frozen: tuple[str, ...] = ()
    ) -> None:  # fmt: skip
        graph = architecture.graph()
        freeze_steps(graph, frozen)
        super().__init__(graph, dtype, seed)
        self.trained = Spans.of(architecture.parameters, frozen)
        self._device = cuda.current()
        self._stagings, self._turn = (_Staging(), _Staging()), 0
        self._flat_host: np.ndarray | None = None
        self._gradient_host: np.ndarray | None = None
        self._squares: tuple[DeviceArray, DeviceArray] | None = None
        self._fetches = False
        self._fetching: list[Any] = []
        self._normalization: tuple[Any, DeviceArray, DeviceArray] | None = None
        n, m = size_of(architecture.parameters), size_of(architecture.buffers)
        self.flat, self.flat_buffers = empty((n,), dtype), empty((m,), dtype)
        self.gradient = (empty if self.trained.whole else zeros)((n,), dtype)  # nothing writes that of what is frozen
        self._gradients = views_of(self.gradient, architecture.parameters)
        sizes = [math.prod(p.shape) for p in architecture.parameters.values()]
        ends = [int(end) for end in np.cumsum(sizes)]
        self._places = dict(zip(architecture.parameters, zip([0, *ends], ends)))
        self._executor.bind(
            {**views_of(self.flat, architecture.parameters), **views_of(self.flat_buffers, architecture.buffers)}
        )

    @property
    def valid(self) -> bool:
        """Whether the device is still the current one."""
        return self._device is cuda.current()

    def push(self, flat: np.ndarray, buffers: np.ndarray) -> None:
        """Take the parameters and running statistics from main memory."""
        if self._flat_host is None:
            self._flat_host = self._device.page_locked(flat.shape, flat.dtype)
        np.copyto(self._flat_host, flat)
        self.flat.set(self._flat_host)
        self.flat_buffers.set(buffers)

    def pull(self, flat: np.ndarray | None, buffers: np.ndarray) -> None:
        """Copy the running statistics, and the parameters unless `flat` is None, to main memory."""
        if flat is not None:
            self.flat.get(flat)
        if buffers.size:
            self.flat_buffers.get(buffers)

    def gradients(self, out: np.ndarray, views: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
        """Views of the device's own gradient vector; :meth:`pull_gradient` copies it to `out`."""
        self._fetches = True
        return self._gradients

    def gradient_of(self, step: Step) -> None:
        """Start to copy a step's gradient to main memory, while the device computes the backward passes before it."""
        if not self._fetches or step.frozen:
            return
        if self._gradient_host is None:
            self._gradient_host = self._device.page_locked(self.gradient.shape, self._dtype)
        for start, stop in self._spans(step):
            part = self.gradient[start:stop]
            self._fetching.append(self._device.copy_out_async(self._gradient_host[start:stop], part.address))

    def _spans(self, step: Step) -> list[tuple[int, int]]:
        """Where the step's parameters are in the flat vector; adjacent ones are one span."""
        spans: list[tuple[int, int]] = []
        for name in step.names.values():
            start, stop = self._places[name]
            if spans and spans[-1][1] == start:
                spans[-1] = spans[-1][0], stop
            else:
                spans.append((start, stop))
        return spans

    def pull_gradient(self, out: np.ndarray) -> None:
        """Wait for the gradient of a training step whose :meth:`gradients` were asked for, and copy it to `out`."""
        for ticket in self._fetching:
            self._device.after(ticket)
        self._fetching.clear()
        self._fetches = False
        if self._gradient_host is not None:
            np.copyto(out, self._gradient_host)

    def clip(self, most: float) -> None:
        """Shorten :attr:`gradient` if its norm is larger than `most`."""
        size, columns = self.gradient.size, 32
        even = size - size % columns
        if self._squares is None:
            self._squares = empty((size,), self._dtype), empty((columns,), self._dtype)
        squares, sums = self._squares
        layers.multiply(self.gradient, self.gradient, squares)
        total = float(squares[even:].get().sum(dtype=np.float64)) if even < size else 0.0
        if even:
            layers.bias_grad(squares[:even].reshape(even // columns, columns), sums)
            total += float(sums.get().sum(dtype=np.float64))
        times = clipping.factor(math.sqrt(total), most)
        if times != 1.0:
            layers.scale(self.gradient, times, self.gradient)

    def stage(
        self, examples: np.ndarray, labels: np.ndarray | None = None, weighting: Weighting | None = None
    ) -> OnItsWay:
        """Start to copy a batch to the device while it computes; at most one batch ahead of the one in use."""
        self._turn = 1 - self._turn
        if examples.dtype not in (np.uint8, self._dtype):  # the device normalises only bytes and its own dtype
            examples = examples.astype(self._dtype)
        counts = None
        if weighting is not None:
            counts = np.concatenate([weighting.rows, weighting.hits, weighting.smooth]).astype(self._dtype)
        return OnItsWay(examples, labels, self._stagings[self._turn], counts)

    def fetched(self, array: Any) -> np.ndarray:
        """`array` in main memory."""
        return array.get()

    def _ready(self, x: Any, normalization: Normalization) -> bool:
        return x.dtype == self._dtype and normalization.identity

    def _normalised(self, x: Any, normalization: Normalization, out: Any) -> Any:
        if self._normalization is None or self._normalization[0] != normalization:
            mean, inverse = np.broadcast_arrays(normalization.mean, 1 / normalization.std)
            there = [to_device(array.astype(self._dtype)) for array in (mean, inverse)]
            self._normalization = (normalization, there[0], there[1])
        layers.normalise(x, self._normalization[1], self._normalization[2], out)
        return out

    def begin(
        self, batch: OnItsWay, ops: Backend, algorithm: str, normalization: Normalization, step: int, first: int
    ) -> DeviceArray:
        """Start the forward and backward pass of a batch. Its losses, and :attr:`gradient` of the mean loss, may still
        be computed when this returns.

        Returns
        -------
        (N,) DeviceArray
            The examples' losses; :meth:`OnItsWay.loss` makes the batch's loss of them.
        """
        self._fetches = False
        return self.step(batch, How(ops, 1, algorithm, normalization), self._gradients, step, first)


class OptimizerOnDevice:
    """An optimizer's state on the device."""

    def __init__(self, optimizer: Optimizer, network: OnDevice) -> None:
        self._optimizer, self._network = optimizer, network
        flat, self._spans = network.flat, network.trained.spans
        self._state = {name: zeros(flat.shape, flat.dtype) for name in optimizer.state_names}

    def update(self, step: int, lr: float) -> None:
        """Start the optimizer's step with the network's gradient."""
        for start, end in self._spans:
            flat, gradient = (each[start:end] for each in (self._network.flat, self._network.gradient))
            state = {name: there[start:end] for name, there in self._state.items()}
            updates.update(self._optimizer, flat, gradient, state, step, lr)

    def push(self, state: Mapping[str, np.ndarray]) -> None:
        """Copy the state from main memory."""
        for name, there in self._state.items():
            there.set(state[name])

    def pull(self, state: Mapping[str, np.ndarray]) -> None:
        """Copy the state to main memory."""
        for name, there in self._state.items():
            there.get(state[name])
