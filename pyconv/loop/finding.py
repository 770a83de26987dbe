"""find_lr(): searches for a learning rate by a training whose rate rises from far too small to far too large.

Smith (2017), *Cyclical learning rates for training neural networks*, section 3.3, the "LR range test", with rates that
rise geometrically.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .. import runlog
from ..arithmetic import quiet
from ..backends import NAMES as BACKENDS
from ..descriptors import open_standard
from ..errors import DivergedError, InputError, Interrupted, RunError, shown
from ..files import place_for, write_atomically
from ..nn import Sequential
from ..optim import Optimizer
from ..parallel import Engine, Job, Rule, StepReport, check_main_guard, engine_for
from ..threads import asked_for, counted
from ..values import choice, integer, real
from ..values import path as as_path
from . import inputs, rate_picture, texts, weights
from . import recipe as recipes
from .progress import Progress, choose
from .rates import LearningRates, judged
from .recipe import Asked
from .signals import StopSignals

STEPS, FEWEST, MOST = 200, 20, 5000
REACH = 1000.0
"""The sweep begins so many times below the learning rate that training would have, and ends so many times above."""
EXPLODED, FIRST = 2.0, 5
"""The sweep ends at so many times the loss of the first steps; and how many first steps there are."""

_log = runlog.logger("pyconv")


@quiet
def find_lr(
    model: Sequential,
    x: ArrayLike,
    labels: ArrayLike,
    *,
    first: float | None = None,
    last: float | None = None,
    steps: int = STEPS,
    batch_size: int | None = None,
    optimizer: Optimizer | str | Mapping[str, Any] | None = None,
    workers: int = 1,
    update: str | Rule = "sync",
    update_options: Mapping[str, Any] | None = None,
    threads_per_worker: int | None = None,
    backend: str = "auto",
    seed: int = 0,
    progress: str | Progress = "auto",
    augment: Mapping[str, Any] | None = None,
    normalize: str | bool = "auto",
    class_weight: str | Mapping[int, float] | Mapping[str, float] | ArrayLike | None = None,
    label_smoothing: float = 0.0,
    sample_weight: ArrayLike | None = None,
    clip_norm: float | None = None,
    picture: str | os.PathLike[str] | None = None,
) -> LearningRates:
    """Search for a learning rate: train with one that rises at each step, and see where the loss falls and explodes.

    The learning-rate range test of Smith (2017), *Cyclical learning rates for training neural networks*, section 3.3,
    with rates that rise geometrically. The training begins with the model's parameters and restores them
    afterwards: the model does not change. It ends when the loss explodes. Only the picture is written.

    Parameters
    ----------
    model : Sequential
    x : (N, H, W, C) array of uint8, float32 or float64
        Training images.
    labels : (N,) array of integers
        Classes, from 0.
    first, last : float, optional
        Learning rates of the first and the last step. By default a thousandth and a thousand times of what
        :func:`pyconv.fit` would take.
    steps : int
        From 20 to 5000. If an epoch has fewer, the next one follows.
    batch_size, optimizer, workers, update, update_options : optional
        As of :func:`pyconv.fit`, with its defaults; an optimizer's own learning rate is ignored. The number of
        `workers` must be given, because the learning rate depends on it.
    threads_per_worker, backend, seed, progress, augment, normalize : optional
        As of :func:`pyconv.fit`.
    class_weight, label_smoothing, sample_weight, clip_norm : optional
        As of :func:`pyconv.fit`.
    picture : path, optional
        PNG file for a picture of the losses; an older file is replaced.

    Returns
    -------
    LearningRates
        With the rates, the losses, and a suggestion.

    Raises
    ------
    InputError
        If an argument, the images or the labels are wrong; the message names the first that is.
    RunError
        If the picture cannot be written.
    Interrupted
        If SIGINT, SIGTERM or SIGHUP ended it.

    Examples
    --------
    >>> import numpy as np, pyconv
    >>> from pyconv import nn
    >>> rng = np.random.default_rng(0)
    >>> x = rng.integers(0, 256, (64, 8, 8, 1), dtype=np.uint8)
    >>> y = (x.mean(axis=(1, 2, 3)) > 127).astype(int)
    >>> model = nn.Sequential([nn.Flatten(), nn.Dense(2)], input_shape=(8, 8, 1))
    >>> found = pyconv.find_lr(model, x, y, batch_size=16, progress="off")
    >>> bool(1e-5 < found.suggestion < 1)
    True
    """
    open_standard()
    count = integer(workers, "workers", minimum=1)
    if count != 1:
        check_main_guard()
    if not isinstance(model, Sequential):
        raise InputError(f"model must be a network, such as nn.build('fer'), not {shown(model)}")
    show = choose(progress)
    place = None if picture is None else _place(picture)
    steps = integer(steps, "steps", minimum=FEWEST, maximum=MOST)
    x, labels = inputs.training_pair(model, x, labels)
    normalize = inputs.normalizing(normalize)
    weighing = weights.weighing(model, labels, class_weight, label_smoothing, sample_weight)
    asked = Asked.of(batch_size, optimizer, None, update, update_options)
    recipe = recipes.choose(asked, count, len(x), model.least_batch)
    job = Job(
        epochs=-(-steps // -(-len(x) // (recipe.batch_size * count))),
        seed=integer(seed, "seed", minimum=0),
        augment=augment,
        backend=choice(backend, "backend", BACKENDS),
        threads_per_worker=None if threads_per_worker is None else asked_for(threads_per_worker, "threads_per_worker"),
        workers=count,
        weighing=weighing,
        clip_norm=None if clip_norm is None else real(clip_norm, "clip_norm", above=0),
        **recipe.settings(),
    )
    rising = _rising(first, last, recipes.usual_rate(job) or job.optimizer.lr or 1e-3, steps)
    job = dataclasses.replace(job, optimizer=dataclasses.replace(job.optimizer, lr=1.0), schedule=rising)
    inputs.fits(job, model, x)
    with contextlib.ExitStack() as stack:
        stack.enter_context(show.shown())
        signals = stack.enter_context(StopSignals())
        stack.enter_context(_given_back(model))
        inputs.normalize(model, x, labels, normalize)
        engine = engine_for(model, x, labels, job)
        stack.callback(engine.close)
        _log.info(
            f"looking for a learning rate: {steps} steps of {counted(count * job.batch_size, 'image')}, from "
            f"{rising.first:.3g} to {rising.last:.3g}, {texts.optimizer(job, without=['lr'])}"
        )
        found = _swept(engine, rising, math.log(model.output_shape[-1]), show, signals, count * job.batch_size)
    _log.info(rates_in_words(found))
    if place is not None:
        _draw(found, place)
    return found


@dataclass(frozen=True)
class Rising:
    """The schedule of a sweep, for an optimizer whose learning rate is 1: it rises geometrically.

    Attributes
    ----------
    first, last : float
        Learning rates of the first and the last step.
    steps : int
    """

    first: float
    last: float
    steps: int

    def __call__(self, step: int, total: int) -> float:
        """The learning rate of a step, from 1 on; `total`, the steps of whole epochs, is ignored."""
        return self.first * (self.last / self.first) ** ((step - 1) / (self.steps - 1))


def _rising(first: float | None, last: float | None, usual: float, steps: int) -> Rising:
    """The rates of a sweep, from `first` to `last` or around the usual rate."""
    low = usual / REACH if first is None else real(first, "first", above=0)
    high = usual * REACH if last is None else real(last, "last", above=0)
    if low >= high:
        raise InputError(f"first must be below last: the learning rate rises from {low:g} to {high:g}")
    return Rising(low, high, steps)


def _place(picture: str | os.PathLike[str]) -> Path:
    """The path of the picture; an error if it cannot be written there."""
    path = as_path(picture, "picture")
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: the picture is a PNG file; give a name that ends in .png")
    return place_for(path)


def _draw(found: LearningRates, place: Path) -> None:
    try:
        write_atomically(place, rate_picture.png(found))
    except OSError as error:
        raise RunError(f"{place}: cannot be written: {error.strerror or error}; make room there") from None


@contextlib.contextmanager
def _given_back(model: Sequential) -> Iterator[None]:
    """Within it `model` may be trained; afterwards it is restored."""
    flat, buffers, normalization = model.flat.copy(), model.flat_buffers.copy(), model.normalization
    try:
        yield
    finally:
        model.flat[...], model.flat_buffers[...], model.normalization = flat, buffers, normalization


def _swept(
    engine: Engine, rising: Rising, guessing: float, show: Progress, signals: StopSignals, together: int
) -> LearningRates:
    """Run the steps until the loss explodes: `guessing` is an untrained network's, `together` a step's images."""
    rates: list[float] = []
    losses: list[float] = []
    show.begin(epochs=1, steps_per_epoch=rising.steps, images=rising.steps * together)
    images = seconds = 0.0
    exploded = False
    with contextlib.closing(_steps(engine)) as steps:
        for report in steps:
            rate = rising(report.step, 0)
            if not math.isfinite(report.loss):
                exploded = True
                break
            rates.append(rate)
            losses.append(report.loss)
            images, seconds = images + report.images, seconds + report.seconds
            show.step(
                epoch=1, step=len(losses), images=report.images, loss=float(np.mean(losses[-FIRST:])),
                images_per_s=texts.rate(int(images), seconds),
            )  # fmt: skip
            if signals.received:
                raise Interrupted(f"interrupted by {signals.received} after step {len(losses)}; nothing was written")
            limit = EXPLODED * max(float(np.mean(losses[:FIRST])), guessing / EXPLODED)
            exploded = len(losses) > FIRST and float(np.median(losses[-3:])) > limit
            if exploded or len(losses) == rising.steps:
                break
    if len(losses) < FIRST:
        raise RunError(
            f"the loss is not finite at step {len(losses) + 1}, with learning rate {rising(len(losses) + 1, 0):.3g}; "
            "begin with a smaller one, or look at the images and the weights"
        )
    return judged(rates, losses, rising.steps, exploded or len(losses) < rising.steps)


def _steps(engine: Engine) -> Generator[StepReport, None, None]:
    """The steps of one epoch after another, until the training diverges."""
    epoch = 0
    try:
        while True:
            with contextlib.closing(engine.epoch(epoch)) as steps:
                yield from steps
            epoch += 1
    except DivergedError:
        return


def rates_in_words(found: LearningRates) -> str:
    """The result of a sweep in a line of words.

    Parameters
    ----------
    found : LearningRates

    Returns
    -------
    str
    """
    lowest = int(found.smoothed.argmin())
    end = "exploded" if found.exploded else "had not exploded"
    ending = f"the loss {end} at {found.rates[-1]:.2g}"
    if found.suggestion is None:
        return f"no learning rate to suggest: the loss fell at none; {ending}; look at the data, or take another model"
    return (
        f"suggested learning rate: {found.suggestion:g}, a quarter of where the loss was smallest "
        f"({found.smoothed[lowest]:.3g} at {found.rates[lowest]:.2g}); {ending}"
    )
