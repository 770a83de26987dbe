"""What a network asks of a machine: operations, bytes, and seconds for the gradient of a batch."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .. import nn, optim
from ..backends import get as get_backend
from ..shapes import ConvGeometry
from .calibration import Calibration
from .checks import counts, network


@dataclass(frozen=True)
class Workload:
    """A training step of a network on one worker.

    Attributes
    ----------
    convolution_flops, other_flops : int
        Operations an image, forward and backward.
    activation_bytes : int
        Bytes that all layers' results take, an image.
    calls : int
        Convolutions, counting each pass.
    parameters, itemsize : int
        Number of parameters, and the bytes of one.
    """

    convolution_flops: int
    other_flops: int
    activation_bytes: int
    calls: int
    parameters: int
    itemsize: int

    @property
    def flops(self) -> int:
        """Operations of a training step, an image."""
        return self.convolution_flops + self.other_flops


def workload(model: nn.Sequential) -> Workload:
    """Count the work of a training step from the network's own layers.

    Parameters
    ----------
    model : Sequential

    Returns
    -------
    Workload
    """
    network(model)
    shape: tuple[int, ...] = tuple(model.input_shape)
    flops = {True: 0, False: 0}
    calls = values = 0
    first = True
    for layer in model.layers:
        is_convolution = isinstance(layer, nn.Conv2D)
        passes = 1
        if layer.parameters(shape):  # forward, the parameters' gradient, and the input's but for the first layer
            passes = 2 if first else 3
            first = False
        elif not first:
            passes = 2
        flops[is_convolution] += passes * layer.flops(shape)
        calls += passes * is_convolution
        shape = tuple(layer.output_shape(shape))
        values += math.prod(shape)
    itemsize = model.flat.itemsize
    return Workload(flops[True], flops[False], values * itemsize, calls, model.flat.size, itemsize)


def _convolutions(model: nn.Sequential) -> Iterator[tuple[ConvGeometry, int]]:
    """Each convolution on one image, and its passes in training: the first parameters need no input's gradient."""
    shape: tuple[int, ...] = tuple(model.input_shape)
    first = True
    for layer in model.layers:
        if isinstance(layer, nn.Conv2D):
            yield layer.geometry(1, shape), 2 if first else 3
        first = first and not layer.parameters(shape)
        shape = tuple(layer.output_shape(shape))


def estimated_seconds(
    model: nn.Sequential, batch: int, calibration: Calibration, *, backend: str = "auto", algorithm: str = "auto",
    threads: int = 1,
) -> float:  # fmt: skip
    """Seconds of one gradient of a batch, from the network's operations and bytes alone.

    Convolutions cost their operations at t_c and a start-up each; what is not a convolution costs its operations at
    the t_c of direct convolution; every layer's result is written and read again in each direction at the speed of a
    copy.

    Notes
    -----
    A kernel's rate depends on a layer's shape: expect this to be too low, by some tens of per cent for large networks
    and by several times for the smallest (the report's Fig. 3 shows how far), and :func:`measure` to be right within
    some per cent.
    """
    counts(batch=batch, threads=threads)
    name = get_backend(backend).name
    work = workload(model)
    start = min((fit.value for fit in calibration.start_up[name].values()), default=0.0)
    convolutions = work.calls * start
    for g, passes in _convolutions(model):
        convolutions += batch * passes * g.flops * calibration.rate(name, algorithm, g).value
    plain = {algorithm: fit.value for algorithm, fit in calibration.t_c[name].items() if "winograd" not in algorithm}
    others = batch * work.other_flops * min(plain.values())  # one multiplication for each, as in direct convolution
    traffic = 4 * batch * work.activation_bytes * calibration.t_copy.value
    share = calibration.parallel_share.get(name, 0.0)
    # t_c is of all threads together where a backend has several: scale from those to the threads asked for.
    scale = amdahl(share, threads) / amdahl(share, calibration.cpus)
    return (convolutions + others + traffic) * scale


def amdahl(parallel_share: float, threads: int) -> float:
    """Time on `threads` threads over the time on one, when `parallel_share` of the work is divided."""
    return 1 - parallel_share + parallel_share / threads


@dataclass(frozen=True)
class Measured:
    """Steps of training on one worker, timed.

    Attributes
    ----------
    gradients, updates : tuple of float
        Seconds of each gradient, its batch gathered first, and of each update by SGD with momentum.
    """

    gradients: tuple[float, ...]
    updates: tuple[float, ...]

    @property
    def gradient_s(self) -> float:
        """The mean, which an epoch's steps add up to."""
        return float(np.mean(self.gradients))

    @property
    def update_s(self) -> float:
        """The mean."""
        return float(np.mean(self.updates))

    @property
    def spread(self) -> float:
        """Standard deviation of a gradient's seconds over their mean, as if they were normal; at most 0.1."""
        low, high = np.percentile(self.gradients, [25, 75])  # 1.35 deviations apart, whatever the outliers
        return float(min((high - low) / 1.35 / self.gradient_s, 0.1))


def measure(
    model: nn.Sequential, batch: int, *, backend: str = "auto", threads: int = 1, seconds: float = 1.0, data: int = 2048
) -> Measured:
    """Train a copy of this network for a moment, on one worker, and time its steps.

    Parameters
    ----------
    model : Sequential
        Its parameters and buffers stay as they are.
    batch : int
        Images.
    backend : str
        Where; see :func:`pyconv.backends`.
    threads : int
        On how many threads.
    seconds : float
        To measure for; at least three steps are timed after one that is not.
    data : int
        Random images that batches are drawn from, so that the cost of gathering a batch is part of it.

    Returns
    -------
    Measured

    Notes
    -----
    Gradients and updates take turns as in training: an update finds the parameters in no cache after a gradient, and
    took up to twice as long as updates one after the other.
    """
    counts(batch=batch)
    twin = copy.deepcopy(model)
    twin.backend, twin.threads = backend, threads
    rng = np.random.default_rng()
    count = max(batch, min(data, (64 << 20) // (4 * math.prod(model.input_shape))))
    x = rng.integers(0, 256, (count, *model.input_shape)).astype(np.uint8)
    labels = rng.integers(0, model.output_shape[0], count)
    # Training normalises, and that matters here too: on all-positive images pooling and ReLU are easier to foresee.
    channels = model.input_shape[-1]
    twin.normalization = nn.Normalization([float(x.mean())] * channels, [float(x.std())] * channels)
    gradient = np.empty_like(twin.flat)
    optimizer = optim.SGD(lr=1e-6, momentum=0.9)
    state = optimizer.init(twin.flat.size, twin.flat.dtype)
    gradients: list[float] = []
    updates: list[float] = []
    end = time.perf_counter() + seconds
    while len(updates) < 4 or time.perf_counter() < end:
        start = time.perf_counter()
        chosen = rng.integers(0, count, batch)
        twin.loss_and_gradient(x[chosen], labels[chosen], out=gradient, step=len(updates))
        middle = time.perf_counter()
        optimizer.update(twin.flat, gradient, state, len(updates) + 1)
        updates.append(time.perf_counter() - middle)
        gradients.append(middle - start)
    return Measured(tuple(gradients[1:]), tuple(updates[1:]))
