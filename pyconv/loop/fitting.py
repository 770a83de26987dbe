"""fit(): the one training loop. A single process is the case of one worker.

The loop asks an engine (:mod:`pyconv.parallel`) for the steps of each epoch and does what surrounds them:
validation, metrics, checkpoints, signals, progress. Algorithm 1 of the paper is the engine's step.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .. import runlog
from ..arithmetic import quiet
from ..backends import NAMES as BACKENDS
from ..datasets import Split, normalization
from ..descriptors import open_standard
from ..errors import InputError, shown, unknown_name
from ..nn import Sequential
from ..optim import Optimizer
from ..parallel import Job, Rule, advised_workers, check_main_guard, worker_count
from ..parallel.choose import ON_FAILURE
from ..threads import asked_for
from ..values import choice, flag, integer, real, sequence
from ..values import path as as_path
from . import inputs
from . import recipe as recipes
from .folder import check_free, folder_named, holds_run, read_config
from .progress import Progress, choose
from .recipe import Asked
from .signals import StopSignals
from .training import Training

if TYPE_CHECKING:
    from ..nn import Sequential


_log = runlog.logger("pyconv")


@quiet
def fit(
    model: Sequential,
    x: ArrayLike,
    labels: ArrayLike,
    *,
    validation: tuple[ArrayLike, ArrayLike] | None = None,
    epochs: int = 5,
    batch_size: int | None = None,
    optimizer: Optimizer | str | Mapping[str, Any] | None = None,
    workers: int | str = 1,
    update: str | Rule = "sync",
    threads_per_worker: int | None = None,
    backend: str = "auto",
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: str | Progress = "auto",
    on_worker_failure: str = "restart",
    schedule: Callable[[int, int], float] | str | Mapping[str, Any] | None = None,
    augment: Mapping[str, Any] | None = None,
    normalize: str | bool = "auto",
    target_accuracy: float | None = None,
    checkpoint_every: float = 60.0,
    update_options: Mapping[str, Any] | None = None,
    trace: str | Path | None = None,
    description: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Train a model by mini-batch SGD: Algorithm 1 of the paper, on one worker or many.

    The model is trained in place. Everything random is a function of the seeds: the same call gives the same bits,
    and a run that was interrupted continues to the bits of the undisturbed one, with one worker or under "sync" and
    "local". Under the other rules the order in which several workers step follows from their speed.

    Parameters
    ----------
    model : Sequential
    x : (N, H, W, C) array of uint8, float32 or float64
        Training images, of the model's input shape. The model normalises them.
    labels : (N,) array of integers
        Classes, from 0.
    validation : (array, array), optional
        Images and labels, like `x` and `labels`, to measure accuracy on after each epoch. The images have the dtype
        of `x`; a far other scale is told of in the log.
    epochs : int
        Passes over the data. When a run is resumed: in all, those done included.
    batch_size : int, optional
        Images of one worker's step; a step of all takes ``workers * batch_size``. By default 64 images are shared out
        over the workers.
    optimizer : Optimizer, str or mapping, optional
        A name or a mapping, as ``{"name": "adam", "lr": 1e-3}``, has the settings that are left out chosen: what one
        worker needs at a batch of 64, changed as the batch size, the number of workers and the update rule need it.
        SGD by default. An Optimizer is taken as it is.
    workers : int or "auto"
        Training processes; "auto" times the network for some seconds and takes as many as the cost model advises, at
        most one for each CPU that the process may use.
    update : {"sync", "async", "ssp", "hogwild", "local", "easgd"} or Rule
        How workers' gradients or parameters meet; one worker is plain SGD.
    threads_per_worker : int, optional
        OpenMP threads of each worker; by default the CPUs that the process may use are shared out.
    backend : str
        Where operations run; see :func:`pyconv.backends`.
    seed : int
        Of the order of the images and of augmentation. Weights and dropout follow the model's own seed.
    out : path, optional
        Run folder to leave: settings, metrics, checkpoint, model, log and curves. None leaves nothing.
    resume : bool
        Continue the run in `out`, with the same model, data and settings; begin it if there is none yet.
        `epochs`, `target_accuracy`, the learning rate and what only concerns speed may differ. Batch size, optimizer,
        schedule and the rule's settings are the run's own where they are left out.
    progress : {"auto", "rich", "plain", "off"} or Progress
        A live bar on a terminal, lines of text elsewhere, or nothing.
    on_worker_failure : {"restart", "drop", "abort"}
        What to do when a worker process dies.
    schedule : callable, str or mapping, optional
        ``schedule(step, total)``, the factor of the learning rate; see :func:`pyconv.optim.schedule`. A name or a
        mapping, as ``{"name": "step"}``, has the warm-up chosen where it is left out. A cosine by default.
    augment : mapping, optional
        ``{"flip": True, "shift": 2}``: random flips and shifts of the training images, in pixels.
    normalize : {"auto", True, False}
        Whether to set the model's normalisation from `x`. "auto" does so for uint8 images and a model that has none.
    target_accuracy : float, optional
        Stop after the epoch whose validation accuracy reaches this share.
    checkpoint_every : float
        Seconds between checkpoints inside an epoch. One is written after every epoch anyway.
    update_options : mapping, optional
        Settings of the update rule, as ``{"staleness": 4}``; see :mod:`pyconv.parallel.rules`.
    trace : path, optional
        File for a timeline of the workers.
    description : mapping of mappings, optional
        Entries to add to sections of ``config.toml``: what the caller knows about the data and the model.

    Returns
    -------
    list of dict
        A dict for each epoch, the lines of ``metrics.jsonl``: epoch (from 1), step (in all), images (in the epoch),
        seconds (of training in the epoch), images_per_s, train_loss, val_loss and val_accuracy (None without
        `validation`), lr, workers, update, compute_s, communication_s, staleness_mean, staleness_max, restarts,
        elapsed_s (since the run began, validation included).

    Raises
    ------
    InputError
        If an argument or the data is wrong, or `out` holds a run and `resume` is false. Nothing was written over.
    CheckpointError
        If `out` holds a run of another model, of other data or with other settings.
    DivergedError
        If the loss or the parameters become NaN or infinite; the last good checkpoint is kept.
    RunError
        If the run folder can no longer be written; the last good checkpoint is kept.
    Interrupted
        At the first step's boundary after SIGINT, SIGTERM or SIGHUP, after a checkpoint where `out` is given.

    Examples
    --------
    >>> import numpy as np, pyconv
    >>> from pyconv import nn
    >>> rng = np.random.default_rng(0)
    >>> x = rng.integers(0, 256, (64, 8, 8, 1), dtype=np.uint8)
    >>> y = (x.mean(axis=(1, 2, 3)) > 127).astype(int)
    >>> model = nn.Sequential([nn.Flatten(), nn.Dense(2)], input_shape=(8, 8, 1))
    >>> history = pyconv.fit(model, x, y, epochs=2, batch_size=16, progress="off")
    >>> [line["epoch"] for line in history]
    [1, 2]
    """
    open_standard()
    count = worker_count(workers)
    if count != 1:
        check_main_guard()
    if not isinstance(model, Sequential):
        raise InputError(f"model must be a network, such as nn.build('fer'), not {shown(model)}")
    show = choose(progress)
    resume = flag(resume, "resume")
    place = None if out is None else folder_named(out)
    if resume and place is None:
        raise InputError("resume=True continues the run in a folder: give it as out")
    resumed = Path(place) if resume and place is not None and holds_run(place) else None
    if place is not None and resumed is None:
        check_free(place)
    x, labels = _pair(model, (x, labels), "x", "labels")
    if len(np.unique(labels)) < 2:
        raise InputError(f"all training images are of class {labels[0]}; give at least two classes")
    if validation is not None:
        validation = _pair(model, validation, "validation images", "validation labels")
        inputs.alike(validation[0], x)
    if target_accuracy is not None:
        target_accuracy = inputs.share(target_accuracy, "target_accuracy")
        if validation is None:
            raise InputError("target_accuracy needs validation data to measure it on")
    if not isinstance(normalize, str):
        normalize = flag(normalize, "normalize")
    elif normalize != "auto":
        raise unknown_name("normalize", normalize, ("auto", "True", "False"))
    about = inputs.description(description)
    asked = Asked.of(batch_size, optimizer, schedule, update_options)
    if resumed is not None:
        asked, count = _as_recorded(asked, update, count, resumed)
    recipe = recipes.choose(asked, update, count or 1, len(x), model.least_batch)
    job = Job(
        epochs=integer(epochs, "epochs", minimum=1),
        seed=integer(seed, "seed", minimum=0),
        augment=inputs.augmentation(augment),
        backend=choice(backend, "backend", BACKENDS),
        threads_per_worker=None if threads_per_worker is None else asked_for(threads_per_worker, "threads_per_worker"),
        workers=count or 1,
        update=update,
        on_worker_failure=choice(on_worker_failure, "reaction to a worker's failure", ON_FAILURE),
        trace=None if trace is None else str(as_path(trace, "trace", text=True)),
        **recipe.settings(),
    )
    every = real(checkpoint_every, "checkpoint_every", above=0)
    inputs.fits(job, model, x)
    if normalize is True or (normalize == "auto" and x.dtype == np.uint8 and model.normalization.identity):
        _normalize(model, x, labels)
    scales = _scales(model, x, None if validation is None else validation[0])
    with contextlib.ExitStack() as stack:
        stack.enter_context(show.shown())
        job, said = (job, recipe.said) if count is not None else _advised(model, len(x), job, asked)
        signals = stack.enter_context(StopSignals())
        training = Training(model, x, labels, validation, job, show, signals, target_accuracy, every)
        training.said, training.warnings = said, scales
        training.open(stack, place, resumed, about)
        return training.go()


def _as_recorded(asked: Asked, update: str | Rule, count: int | None, resumed: Path) -> tuple[Asked, int]:
    """What the user leaves out of a run that is resumed: as its folder has it."""
    config = read_config(resumed)
    try:
        return asked.as_in(config, update), int(config["training"]["workers"]) if count is None else count
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"{resumed / 'config.toml'}: the settings are not those of a run ({type(error).__name__}: {error}); put "
            "the file back as it was"
        ) from None


def _advised(model: Sequential, images: int, job: Job, asked: Asked) -> tuple[Job, list[str]]:
    """The job with as many workers as pay here and what they need; and the reasons, for the log."""
    _log.info("timing the network, to choose the number of workers")
    workers, reason = advised_workers(model, images, job, shared=asked.batch_size is None)
    why = f"workers auto: {workers}; {reason}"
    aside = [*asked.options, *(["trace"] if job.trace else [])]
    if workers == 1 and aside:
        why += f"; {', '.join(aside)} left aside: for several workers"
        asked, job = dataclasses.replace(asked, options={}), dataclasses.replace(job, trace=None)
    recipe = recipes.choose(asked, job.update, workers, images, model.least_batch)
    job = dataclasses.replace(job, workers=workers, **recipe.settings())
    return job, [why, *recipe.said]


def _pair(
    model: Sequential, pair: tuple[ArrayLike, ArrayLike], x_name: str, y_name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels, checked against the model."""
    both = sequence(pair)
    if both is None or len(both) != 2:
        raise InputError(f"{x_name} and {y_name} must be a pair of arrays, (images, labels)")
    x, y = both
    x = inputs.images(x, model, x_name)
    return x, inputs.labels(y, len(x), model.output_shape[-1], y_name)


def _scales(model: Sequential, x: np.ndarray, validation: np.ndarray | None) -> list[str]:
    """Tell the model the range of its training images; what there is to say about images in another scale."""
    from ..nn import InputRange

    told = [model.other_scale(x, "training images")]  # where it keeps an earlier training's normalisation
    model.input_range = InputRange.of(x)
    if validation is not None:
        told.append(model.other_scale(validation, "validation images"))
    return [line for line in told if line is not None]


def _normalize(model: Sequential, x: np.ndarray, labels: np.ndarray) -> None:
    """Set the model's normalisation from its training images."""
    from ..nn import Normalization

    model.normalization = Normalization(*(numbers.tolist() for numbers in normalization(Split(x, labels))))
