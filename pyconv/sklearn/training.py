"""Trains a classifier: an engine's epochs, early stopping, and the network of the best epoch.

The engines are those of :func:`pyconv.fit`, for one worker or several. A run folder, checkpoints and signals are of no
use to an estimator.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from .. import runlog
from ..arithmetic import quiet
from ..errors import DivergedError
from ..parallel import Engine, Job, check_main_guard, engine_for

if TYPE_CHECKING:
    from ..nn import Sequential

LEAST_EPOCHS, LEAST_STEPS = 10, 300
"""Epochs and steps of a fit if the user gives none: enough for small tables, and for many images."""
WORK = 4e9
"""Floating-point operations for one chunk of a prediction's images."""

_log = runlog.logger("pyconv")


def default_epochs(steps: int) -> int:
    """Epochs, of `steps` steps each, if the user gives no number."""
    return max(LEAST_EPOCHS, -(-LEAST_STEPS // steps))


@dataclass(frozen=True)
class Held:
    """Held-out examples, for early stopping.

    Attributes
    ----------
    x : (M, ...) ndarray
    labels : (M,) int64 ndarray
    weights : (M,) float64 ndarray or None
    """

    x: np.ndarray
    labels: np.ndarray
    weights: np.ndarray | None


@dataclass(frozen=True)
class Patience:
    """When to stop early: after `epochs` epochs in a row that were not better than the best one by more than `tol`."""

    held: Held
    epochs: int
    tol: float


@dataclass
class Record:
    """The results of a training.

    Attributes
    ----------
    losses : list of float
        Mean training loss of each epoch.
    scores : list of float
        Accuracy on the held-out examples after each epoch; empty without early stopping.
    state : dict of str to ndarray
        The engine's state, to continue from.
    """

    losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    state: dict[str, np.ndarray] = field(default_factory=dict)


@quiet
def train(
    model: Sequential,
    x: np.ndarray,
    labels: np.ndarray,
    job: Job,
    *,
    first_epoch: int = 0,
    epochs: int | None = None,
    state: Mapping[str, np.ndarray] | None = None,
    patience: Patience | None = None,
) -> Record:
    """Train `model` in place.

    Parameters
    ----------
    model : Sequential
    x : (N, ...) ndarray, C-contiguous
    labels : (N,) int64 ndarray
    job : Job
        Its number of epochs is for the learning rate's schedule.
    first_epoch : int
        Number of the first epoch, for the order of the examples.
    epochs : int, optional
        How many to run; by default the job's.
    state : mapping, optional
        The engine's state after an earlier training.
    patience : Patience, optional
        Stop early, and keep the network of the best epoch.

    Raises
    ------
    DivergedError
        If the loss is no longer finite.
    """
    if job.workers > 1:
        check_main_guard()
    record = Record()
    stale, best = 0, (-math.inf, -math.inf)
    values = (model.flat.copy(), model.flat_buffers.copy())
    with contextlib.closing(engine_for(model, x, labels, job)) as engine:
        if state:
            engine.load_state(state)
        for epoch in range(first_epoch, first_epoch + (job.epochs if epochs is None else epochs)):
            record.losses.append(_epoch(engine, epoch, job.optimizer.lr))
            if patience is None:
                _log.info("epoch %d: loss %.4f", epoch + 1, record.losses[-1])
                continue
            score, loss = scores(model, patience.held)
            record.scores.append(score)
            _log.info("epoch %d: loss %.4f, validation accuracy %.4f", epoch + 1, record.losses[-1], score)
            stale = 0 if score > best[0] + patience.tol else stale + 1
            if (score, -loss) > best:
                best, values = (score, -loss), (model.flat.copy(), model.flat_buffers.copy())
            if stale >= patience.epochs:
                break
        record.state = {name: np.array(value) for name, value in engine.state().items()}
    if patience is not None:
        model.flat[...], model.flat_buffers[...] = values
    return record


def _epoch(engine: Engine, epoch: int, rate: float) -> float:
    """Run an epoch; returns the mean loss of its examples."""
    loss, images = 0.0, 0
    for report in engine.epoch(epoch):
        if not math.isfinite(report.loss):
            raise DivergedError(
                f"training diverged: the loss became {report.loss} in epoch {epoch + 1}; take a smaller lr than "
                f"{rate:g}, such as {rate / 10:.1g}"
            )
        loss, images = loss + report.loss * report.images, images + report.images
    return loss / images


@quiet
def logits(model: Sequential, x: np.ndarray) -> np.ndarray:
    """The network's result for all examples, chunk by chunk, ``(N, classes)`` float64."""
    chunk = int(min(max(WORK / max(model.flops(), 1), 16), 512))
    parts = [model.forward(x[begin : begin + chunk]) for begin in range(0, len(x), chunk)]
    return np.concatenate(parts).astype(np.float64)


def log_probabilities(found: np.ndarray) -> np.ndarray:
    """Logarithms of the softmax of ``(N, classes)`` logits."""
    shifted = found - found.max(axis=1, keepdims=True)
    with np.errstate(under="ignore"):
        return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


@quiet
def scores(model: Sequential, held: Held) -> tuple[float, float]:
    """Accuracy and mean cross-entropy on held-out examples, with their weights."""
    found = logits(model, held.x)
    right = found.argmax(axis=1) == held.labels
    losses = -log_probabilities(found)[np.arange(len(found)), held.labels]
    return float(np.average(right, weights=held.weights)), float(np.average(losses, weights=held.weights))
