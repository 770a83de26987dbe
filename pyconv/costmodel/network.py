"""The work of a training step: operations and bytes, and the gradient's time, estimated or measured."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass

import numpy as np

from .. import nn, optim
from ..backends import get as get_backend
from ..values import integer, real
from .calibration import Calibration, calibration_of
from .checks import counts, network


@dataclass(frozen=True)
class Workload:
    """A training step of a network on one worker.

    Attributes
    ----------
    convolution_flops, other_flops : int
        Operations for one image, forward and backward.
    activation_bytes : int
        Bytes of all layers' results for one image.
    calls : int
        Calls of a convolution; each pass counts.
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
        """Operations of a training step for one image."""
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
    flops = {True: 0, False: 0}
    calls = values = 0
    for index, layer, shape, trained in model.leaves():
        is_convolution = isinstance(layer, nn.Conv2D)
        passes = passes_of(model, index, layer, shape, trained)
        flops[is_convolution] += passes * layer.own_flops(shape)
        calls += passes * is_convolution
        values += math.prod(layer.output_shape(shape))
    itemsize = model.flat.itemsize
    return Workload(flops[True], flops[False], values * itemsize, calls, model.trained.count, itemsize)


def passes_of(model: nn.Sequential, index: int | str, layer: nn.Layer, shape: tuple[int, ...], trained: bool) -> int:
    """Passes of a layer in training: forward, the parameters' gradient, the input's after the first parameters."""
    own = not layer.chains() and bool(layer.parameters(shape)) and str(index) not in model.frozen
    return 1 + own + trained


def estimated_seconds(
    model: nn.Sequential, batch: int, calibration: Calibration, *, backend: str = "auto", algorithm: str = "auto",
    threads: int = 1,
) -> float:  # fmt: skip
    """Estimate the seconds of one gradient of a batch from the network's operations and bytes alone.

    A convolution takes its operations times t_c, and a start-up. Other operations take the t_c of direct convolution.
    Every layer's result is written and read again in each direction, at the speed of a copy.

    Notes
    -----
    A kernel's rate depends on a layer's shape. Expect this estimate to be too low, by some tens of per cent for large
    networks and several times for the smallest (the report's Fig. 3 shows by how much); :func:`measure` is right within
    some per cent.
    """
    return math.fsum(layer_seconds(model, batch, calibration, backend=backend, algorithm=algorithm, threads=threads))


def layer_seconds(
    model: nn.Sequential, batch: int, calibration: Calibration, *, backend: str = "auto", algorithm: str = "auto",
    threads: int = 1,
) -> list[float]:  # fmt: skip
    """Estimate the seconds of each layer in :func:`estimated_seconds`; a layer with branches counts as one.

    Parameters
    ----------
    model : Sequential
    batch : int
        Images.
    calibration : Calibration
    backend, algorithm : str
    threads : int

    Returns
    -------
    list of float
        For each of ``model.layers``.
    """
    counts(batch=batch, threads=threads)
    name = get_backend(backend).name
    calibration_of(calibration).rate(name)  # raises an error if there is none
    start = min((fit.value for fit in calibration.start_up.get(name, {}).values()), default=0.0)
    rates = {algorithm: fit.value for algorithm, fit in calibration.t_c[name].items()}
    plain = [rate for algorithm, rate in rates.items() if "winograd" not in algorithm] or list(rates.values())
    share = calibration.parallel_share.get(name, 0.0)
    # t_c is for all threads together if a backend has several: scale from these to the threads asked for.
    scale = amdahl(share, threads) / amdahl(share, calibration.cpus)
    seconds = [0.0] * len(model.layers)
    for index, layer, shape, trained in model.leaves():
        passes = passes_of(model, index, layer, shape, trained)
        flops = passes * layer.own_flops(shape)
        if isinstance(layer, nn.Conv2D):
            g = layer.geometry(1, shape)
            own = passes * start + batch * passes * g.flops * calibration.rate(name, algorithm, g).value
        else:
            own = batch * flops * min(plain)  # one multiplication each, as in direct convolution
        own += 4 * batch * math.prod(layer.output_shape(shape)) * model.flat.itemsize * calibration.t_copy.value
        seconds[int(str(index).partition(".")[0])] += own * scale
    return seconds


def amdahl(parallel_share: float, threads: int) -> float:
    """Time on `threads` threads over the time on one, if threads divide `parallel_share` of the work."""
    return 1 - parallel_share + parallel_share / threads


@dataclass(frozen=True)
class Measured:
    """Measured times of one worker's training steps.

    Attributes
    ----------
    gradients, updates : tuple of float
        Seconds of each gradient, with gathering its batch, and of each update by SGD with momentum.
    """

    gradients: tuple[float, ...]
    updates: tuple[float, ...]

    @property
    def gradient_s(self) -> float:
        """The mean of the gradients' times: an epoch's steps add up to it."""
        return float(np.mean(self.gradients))

    @property
    def update_s(self) -> float:
        """The mean of the updates' times."""
        return float(np.mean(self.updates))

    @property
    def spread(self) -> float:
        """Standard deviation of a gradient's seconds over their mean, as of a normal distribution; at most 0.1."""
        low, high = np.percentile(self.gradients, [25, 75])  # 1.35 deviations apart; outliers do not matter
        return float(min((high - low) / 1.35 / self.gradient_s, 0.1))


def measure(
    model: nn.Sequential, batch: int, *, backend: str = "auto", threads: int = 1, seconds: float = 1.0, data: int = 2048
) -> Measured:
    """Train a copy of this network for a moment on one worker, and measure its steps.

    Parameters
    ----------
    model : Sequential
        Its parameters and buffers do not change.
    batch : int
        Images of a step.
    backend : str
        Where to compute; see :func:`pyconv.backends`.
    threads : int
        Threads to compute on.
    seconds : float
        How long to measure; at least three steps are timed, after one that is not.
    data : int
        Number of random images from which batches are gathered, because gathering is part of the time.

    Returns
    -------
    Measured

    Notes
    -----
    Gradients and updates alternate as in training: after a gradient, the parameters are in no cache, and an update took
    up to twice as long as in a row of updates.
    """
    network(model)
    batch, threads = integer(batch, "batch", minimum=1), integer(threads, "threads", minimum=1)
    data = integer(data, "data", minimum=1)
    seconds = real(seconds, "seconds", minimum=0)
    twin, x, labels = example(model, batch, backend=backend, threads=threads, data=data)
    rng, count = np.random.default_rng(), len(x)
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


def example(
    model: nn.Sequential, batch: int, *, backend: str, threads: int, data: int = 2048
) -> tuple[nn.Sequential, np.ndarray, np.ndarray]:
    """A copy of a network, and random images and labels to train it on for a moment: at least `batch`, about `data`."""
    twin = copy.deepcopy(model)
    twin.backend, twin.threads = backend, threads
    rng = np.random.default_rng()
    count = max(batch, min(data, (64 << 20) // (4 * math.prod(model.input_shape))))
    x = rng.integers(0, 256, (count, *model.input_shape)).astype(np.uint8)
    labels = rng.integers(0, model.output_shape[0], count)
    # Training normalises images, and here it matters too: processors predict ReLU and pooling better for positive ones.
    channels = model.input_shape[-1]
    twin.normalization = nn.Normalization([float(x.mean())] * channels, [float(x.std())] * channels)
    return twin, x, labels
