"""A network in a GPU's memory: the same steps, on device arrays; a training step copies nothing there but the batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pyconv import cuda
from pyconv.backends import Backend
from pyconv.cuda import layers, updates
from pyconv.cuda.array import DeviceArray, empty, to_device, zeros
from pyconv.errors import PyconvError

from .layer import Step, in_layer
from .losses import count_correct
from .run import Run

if TYPE_CHECKING:
    from pyconv.optim import Optimizer

    from .architecture import Architecture
    from .normalization import Normalization


class DeviceWorkspace:
    """Work arrays on the device by name, kept from pass to pass; see :class:`pyconv.nn.run.Workspace`."""

    def __init__(self) -> None:
        self._memory: dict[Any, DeviceArray] = {}
        self._arrays: dict[Any, DeviceArray] = {}

    def array(self, key: Any, shape: tuple[int, ...], dtype: np.dtype) -> DeviceArray:
        """An array called `key`, holding garbage or what it held before."""
        array = self._arrays.get(key)
        if array is not None and array.shape == shape and array.dtype == dtype:
            return array
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        memory = self._memory.get(key)
        if memory is None or memory.nbytes < size:
            self._arrays.pop(key, None)
            self._memory.pop(key, None)
            self._memory[key] = memory = empty((size,), np.uint8)
        array = self._arrays[key] = DeviceArray(shape, dtype, memory.address, memory)
        return array


class _Staging:
    """Page-locked host memory and device memory for one batch; two are used in turn, so that copies can overlap."""

    def __init__(self) -> None:
        self._host: dict[str, np.ndarray] = {}
        self._there: dict[str, DeviceArray] = {}
        self._tickets: dict[str, Any] = {}

    def send(self, name: str, array: np.ndarray) -> tuple[DeviceArray, Any]:
        """Start the copy of `array`; gives the device array and the ticket to wait for."""
        device = cuda.current()
        if name in self._tickets:  # a batch that was never used may still be being read from here
            device.after(self._tickets[name])
        host, there = self._host.get(name), self._there.get(name)
        if host is None or there is None or host.size < array.nbytes:
            host = self._host[name] = device.page_locked((array.nbytes,), np.uint8)
            there = self._there[name] = empty((array.nbytes,), np.uint8)
            # The pool may have given memory that a kernel on its way still uses, and copies do not wait for kernels.
            device.synchronise()
        ours = host[: array.nbytes].view(array.dtype).reshape(array.shape)
        np.copyto(ours, array)
        ticket = self._tickets[name] = device.copy_in_async(there.address, ours)
        return DeviceArray(array.shape, array.dtype, there.address, there), ticket


class Batch:
    """Examples and labels on their way to the device."""

    def __init__(self, examples: np.ndarray, labels: np.ndarray | None, staging: _Staging) -> None:
        self._examples = staging.send("x", examples)
        self._labels = None if labels is None else staging.send("labels", labels)
        self.size = len(examples)

    def arrived(self) -> tuple[DeviceArray, DeviceArray | None]:
        """The arrays, once they are there."""
        device = cuda.current()
        device.after(self._examples[1])
        if self._labels is None:
            return self._examples[0], None
        device.after(self._labels[1])
        return self._examples[0], self._labels[0]


class OnDevice:
    """A network's parameters, running statistics, gradient and work arrays on the device.

    Parameters
    ----------
    architecture : Architecture
    dtype : dtype
    seed : int
        The model's, for dropout.

    Attributes
    ----------
    flat, flat_buffers, gradient : (n,) DeviceArray
        Parameters, running statistics, and the gradient of the last step.
    """

    def __init__(self, architecture: Architecture, dtype: np.dtype, seed: int) -> None:
        self._architecture, self._dtype, self._seed = architecture, dtype, seed
        self._device = cuda.current()
        self._steps = architecture.steps()
        self._first_trainable = next(
            (position for position, step in enumerate(self._steps) if step.trainable), len(self._steps)
        )
        self._workspace: Any = DeviceWorkspace()
        self._stagings, self._turn = (_Staging(), _Staging()), 0
        self._flat_host: np.ndarray | None = None
        self._gradient_host: np.ndarray | None = None
        self._fetching: list[Any] = []
        self._logits: DeviceArray | None = None
        self._normalization: tuple[Any, DeviceArray, DeviceArray] | None = None
        n, m = (
            sum(_size(p.shape) for p in known.values()) for known in (architecture.parameters, architecture.buffers)
        )
        self.flat, self.gradient, self.flat_buffers = empty((n,), dtype), empty((n,), dtype), empty((m,), dtype)
        self._gradients = _views(self.gradient, architecture.parameters)
        sizes = [_size(p.shape) for p in architecture.parameters.values()]
        ends = [int(end) for end in np.cumsum(sizes)]
        self._places = dict(zip(architecture.parameters, zip([0, *ends], ends)))
        arrays: Any = {**_views(self.flat, architecture.parameters), **_views(self.flat_buffers, architecture.buffers)}
        for step in self._steps:
            step.bind(arrays)

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
        """Copy the parameters, unless None is given, and the running statistics to main memory."""
        if flat is not None:
            self.flat.get(flat)
        if buffers.size:
            self.flat_buffers.get(buffers)

    def _fetch(self, step: Step) -> None:
        """Start to copy the gradient of a step to main memory, beside the backward passes of the steps before it."""
        if self._gradient_host is None:
            self._gradient_host = self._device.page_locked(self.gradient.shape, self._dtype)
        for start, stop in self._spans(step):
            part = self.gradient[start:stop]
            self._fetching.append(self._device.copy_out_async(self._gradient_host[start:stop], part.address))

    def _spans(self, step: Step) -> list[tuple[int, int]]:
        """Where the step's parameters lie in the flat vector: adjacent ones together."""
        spans: list[tuple[int, int]] = []
        for name in step.names.values():
            start, stop = self._places[name]
            if spans and spans[-1][1] == start:
                spans[-1] = spans[-1][0], stop
            else:
                spans.append((start, stop))
        return spans

    def pull_gradient(self, out: np.ndarray) -> None:
        """Wait for the gradient that :meth:`begin` was asked to fetch, and copy it to `out`."""
        for ticket in self._fetching:
            self._device.after(ticket)
        self._fetching.clear()
        if self._gradient_host is not None:
            np.copyto(out, self._gradient_host)

    def stage(self, examples: np.ndarray, labels: np.ndarray | None = None) -> Batch:
        """Start to copy a batch to the device, beside what it computes; no more than one ahead of its use."""
        self._turn = 1 - self._turn
        if examples.dtype not in (np.uint8, self._dtype):  # the device normalises bytes and numbers of its own dtype
            examples = examples.astype(self._dtype)
        return Batch(examples, labels, self._stagings[self._turn])

    def _run(self, ops: Backend, algorithm: str, training: bool, step: int, first: int) -> Run:
        return Run(ops, 1, algorithm, self._dtype, self._workspace, training, self._seed, step, first)

    def forward(
        self, batch: Batch, normalization: Normalization, run: Run, examples: DeviceArray | None = None
    ) -> DeviceArray:
        """The network's result, in a work array."""
        x: Any = batch.arrived()[0] if examples is None else examples
        if not (x.dtype == self._dtype and normalization.identity):
            x = self._normalised(x, normalization, run)
            run.owned = True
        for step in self._steps:
            try:
                x = step.forward(x, run)
            except PyconvError as error:
                raise in_layer(step.index, type(self._architecture.layers[step.index]).__name__, error) from None
            run.owned = run.owned or step.fresh
        return x

    def _normalised(self, x: DeviceArray, normalization: Normalization, run: Run) -> Any:
        if self._normalization is None or self._normalization[0] != normalization:
            mean, inverse = np.broadcast_arrays(normalization.mean, 1 / normalization.std)
            there = [to_device(array.astype(self._dtype)) for array in (mean, inverse)]
            self._normalization = (normalization, there[0], there[1])
        out: Any = run.kept((-1, "x"), x.shape)
        layers.normalise(x, self._normalization[1], self._normalization[2], out)
        return out

    def infer(self, examples: np.ndarray, ops: Backend, algorithm: str, normalization: Normalization) -> np.ndarray:
        """The result of a batch in inference, in main memory."""
        return self.forward(self.stage(examples), normalization, self._run(ops, algorithm, False, 0, 0)).get()

    def train_forward(
        self, examples: np.ndarray, ops: Backend, algorithm: str, normalization: Normalization, step: int, first: int
    ) -> np.ndarray:
        """The result of a batch in training, in main memory; the running statistics move."""
        return self.forward(self.stage(examples), normalization, self._run(ops, algorithm, True, step, first)).get()

    def begin(
        self, batch: Batch, ops: Backend, algorithm: str, normalization: Normalization, step: int, first: int,
        *, fetch: bool = False,
    ) -> DeviceArray:  # fmt: skip
        """Start the forward and backward pass of a batch: its losses, and :attr:`gradient` of the mean loss, are being
        computed when this returns.

        Parameters
        ----------
        fetch : bool
            Copy each layer's gradient to main memory as soon as it is there, for :meth:`pull_gradient`.

        Returns
        -------
        (N,) DeviceArray
            The examples' losses, valid until the next batch.
        """
        run = self._run(ops, algorithm, True, step, first)
        run.gradients = self._gradients  # type: ignore[assignment]
        examples, labels = batch.arrived()
        logits = self.forward(batch, normalization, run, examples)
        self._logits = logits
        losses: Any = run.kept((-1, "losses"), (batch.size,))
        error: Any = run.kept((-1, "error"), logits.shape)
        layers.softmax_cross_entropy(logits, labels, losses, error, 1 / batch.size)  # type: ignore[arg-type]
        for position in range(len(self._steps) - 1, self._first_trainable - 1, -1):
            error = self._steps[position].backward(error, run, position > self._first_trainable)
            if fetch:
                self._fetch(self._steps[position])
        return losses

    def correct(self, labels: np.ndarray) -> int:
        """How many examples of the last :meth:`begin` have their largest logit at their label, of these `labels`."""
        assert self._logits is not None
        return count_correct(self._logits.get(), labels)


class OptimizerOnDevice:
    """An optimiser's state on the device."""

    def __init__(self, optimizer: Optimizer, network: OnDevice) -> None:
        self._optimizer, self._network = optimizer, network
        flat = network.flat
        self._state = {name: zeros(flat.shape, flat.dtype) for name in optimizer.state_names}

    def update(self, step: int, lr: float) -> None:
        """Start the step with the network's gradient."""
        updates.update(self._optimizer, self._network.flat, self._network.gradient, self._state, step, lr)

    def push(self, state: Mapping[str, np.ndarray]) -> None:
        """Take the state from main memory."""
        for name, there in self._state.items():
            there.set(state[name])

    def pull(self, state: Mapping[str, np.ndarray]) -> None:
        """Copy the state to main memory."""
        for name, there in self._state.items():
            there.get(state[name])


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _views(flat: DeviceArray, parameters: Mapping[str, Any]) -> dict[str, DeviceArray]:
    """Consecutive pieces of `flat` in the parameters' shapes."""
    views, start = {}, 0
    for name, parameter in parameters.items():
        views[name] = flat[start : start + _size(parameter.shape)].reshape(parameter.shape)
        start += _size(parameter.shape)
    return views
