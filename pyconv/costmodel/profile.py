"""The profile of a network's training step: each layer's forward and backward pass, measured or estimated."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .. import nn, optim
from ..nn.layer import Step
from ..nn.reach import Reach
from .calibration import Calibration
from .network import example, layer_seconds, passes_of

#: Steps that are measured at least, after one that is not.
FEWEST = 3


@dataclass(frozen=True)
class LayerTime:
    """A layer, or several that are computed together.

    Attributes
    ----------
    layer : int
        The network's layer; an inner one counts for the layer that it is in.
    forward_s, backward_s : float
        Seconds of its passes.
    reads, left : int
        Where in the vector of all parameters its own end (0 if it has none), and from where on the gradient is complete
        after its backward pass.
    """

    layer: int
    forward_s: float
    backward_s: float
    reads: int
    left: int


@dataclass(frozen=True)
class Profile:
    """The times of one worker's training step.

    Attributes
    ----------
    batch : int
        Images of it.
    layers : tuple of LayerTime
        In the order of the forward pass.
    aside_s : float
        Seconds that belong to no layer: to gather and normalise the images, before the first.
    update_s : float
        Seconds of one update of all parameters.
    spread : float
        Standard deviation of a step's time over its mean, at most 0.1.
    """

    batch: int
    layers: tuple[LayerTime, ...]
    aside_s: float
    update_s: float
    spread: float = 0.0

    @property
    def gradient_s(self) -> float:
        """Seconds of a gradient."""
        return self.aside_s + sum(each.forward_s + each.backward_s for each in self.layers)

    def scaled(self, factor: float) -> Profile:
        """With all times multiplied."""
        layers = tuple(
            LayerTime(each.layer, factor * each.forward_s, factor * each.backward_s, each.reads, each.left)
            for each in self.layers
        )
        return Profile(self.batch, layers, factor * self.aside_s, factor * self.update_s, self.spread)

    def other(self, *, update_s: float | None = None, spread: float | None = None) -> Profile:
        """With another time of an update, or spread, unless these are None."""
        return dataclasses.replace(
            self,
            update_s=self.update_s if update_s is None else update_s,
            spread=self.spread if spread is None else spread,
        )

    def of_layers(self) -> list[tuple[float, float]]:
        """Seconds forward and back of each layer of the network, up to the last that takes time."""
        found = [(0.0, 0.0)] * (1 + max((each.layer for each in self.layers), default=-1))
        for each in self.layers:
            forward, back = found[each.layer]
            found[each.layer] = (forward + each.forward_s, back + each.backward_s)
        return found

    def times(self) -> list[float]:
        """All times in a list, for a message; :meth:`with_times` takes such a list back."""
        passes = [seconds for each in self.layers for seconds in (each.forward_s, each.backward_s)]
        return [self.aside_s, self.update_s, self.spread, *passes]

    def with_times(self, times: Sequence[float]) -> Profile:
        """The same layers with other times."""
        aside, update, spread, *rest = times
        layers = tuple(
            LayerTime(each.layer, rest[2 * at], rest[2 * at + 1], each.reads, each.left)
            for at, each in enumerate(self.layers)
        )
        return Profile(self.batch, layers, aside, update, spread)


def measured_profile(
    model: nn.Sequential, batch: int, *, backend: str = "auto", threads: int = 1, seconds: float = 1.0
) -> Profile:
    """Train a copy of a network for a moment, and measure each layer's passes.

    Parameters
    ----------
    model : Sequential
        Its parameters and buffers do not change.
    batch : int
        Images of a step.
    backend : str
    threads : int
    seconds : float
        How long; at least three steps are measured.

    Returns
    -------
    Profile
        Means over the steps.
    """
    twin, x, labels = example(model, batch, backend=backend, threads=threads)
    steps, reach, rng = list(twin.steps), Reach(twin), np.random.default_rng()
    place = {id(step): number for number, step in enumerate(steps)}
    gradient = np.empty_like(twin.flat)
    optimizer = optim.SGD(lr=1e-6, momentum=0.9)
    state = optimizer.init(twin.flat.size, twin.flat.dtype)
    marks: list[
        tuple[int, float]
    ] = []  # a step's number: from there on its forward pass; ~number: its backward is done
    twin.before_forward = lambda step: marks.append((place[id(step)], time.perf_counter()))
    twin.between_passes = lambda: marks.append((len(steps), time.perf_counter()))
    twin.after_backward = lambda step: marks.append((~place[id(step)], time.perf_counter()))
    rows: list[np.ndarray] = []
    end = time.perf_counter() + seconds
    while len(rows) < FEWEST + 1 or time.perf_counter() < end:
        marks.clear()
        begin = time.perf_counter()
        chosen = rng.integers(0, len(x), batch)
        twin.loss_and_gradient(x[chosen], labels[chosen], out=gradient, step=len(rows))
        middle = time.perf_counter()
        optimizer.update(twin.flat, gradient, state, len(rows) + 1)
        rows.append(_row(marks, len(steps), begin, middle, time.perf_counter()))
    table = np.array(rows[1:])
    aside, update, *times = table.mean(axis=0).tolist()
    whole = table.sum(axis=1) - table[:, 1]
    low, high = np.percentile(whole, [25, 75])
    spread = float(min((high - low) / 1.35 / whole.mean(), 0.1))
    layers = tuple(
        LayerTime(_layer(step), times[2 * at], times[2 * at + 1], reach.reads[step], reach.left[step])
        for at, step in enumerate(steps)
    )
    return Profile(batch, layers, aside, update, spread)


def _layer(step: Step) -> int:
    return int(str(step.index).partition(".")[0])


def _row(marks: list[tuple[int, float]], steps: int, begin: float, middle: float, end: float) -> np.ndarray:
    """Seconds aside and of the update, then of each step's forward and backward pass."""
    row = np.zeros(2 + 2 * steps)
    row[1] = end - middle
    now, last = begin, -1  # the pass that is running: -1 none yet
    for number, moment in marks:
        if number >= 0:  # what has run until now is the forward pass of the step before
            row[0 if last < 0 else 2 + 2 * last] += moment - now
            last = number
        else:
            row[3 + 2 * ~number] += moment - now
        now = moment
    row[0] += middle - now
    return row


def estimated_profile(
    model: nn.Sequential, batch: int, calibration: Calibration, *, backend: str = "auto", threads: int = 1
) -> Profile:
    """The same, estimated from operations and bytes, as :func:`.estimated_seconds` does; nothing runs.

    Parameters
    ----------
    model : Sequential
    batch : int
    calibration : Calibration
    backend : str
    threads : int

    Returns
    -------
    Profile
        A layer's seconds are divided evenly among its passes.
    """
    seconds = layer_seconds(model, batch, calibration, backend=backend, threads=threads)
    shares, ends = [[0, 0] for _ in seconds], [0] * len(seconds)
    for index, layer, shape, trained in model.leaves():
        own = shares[int(str(index).partition(".")[0])]
        weight = max(1, layer.own_flops(shape))
        own[0] += weight
        own[1] += weight * passes_of(model, index, layer, shape, trained)
    place = 0
    for name, view in model.parameters.items():
        place += view.size
        ends[int(name.partition(".")[0])] = place
    made, before = [], 0
    for number, whole in enumerate(seconds):
        forward = whole * shares[number][0] / max(1, shares[number][1])
        made.append(LayerTime(number, forward, whole - forward, ends[number], before))
        before = max(before, ends[number])
    return Profile(batch, tuple(made), 0.0, calibration.t_u.value * model.trained.count)


def results(model: nn.Sequential) -> list[int]:
    """Bytes of each layer's result for one image; before them, those of the image as the layers read it."""
    shape, found = model.input_shape, [math.prod(model.input_shape)]
    for layer in model.layers:
        shape = tuple(layer.output_shape(shape))
        found.append(math.prod(shape))
    return [each * model.flat.itemsize for each in found]
