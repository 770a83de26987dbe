"""fit(): the one training loop. A single process is the case of one worker.

The loop asks an engine (:mod:`pyconv.parallel`) for the steps of each epoch and does what surrounds them:
validation, metrics, checkpoints, signals, progress. Algorithm 1 of the paper is the engine's step.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from .. import runlog
from ..arithmetic import quiet
from ..backends import NAMES as BACKENDS
from ..cluster import WIRES, Session, Shard, session
from ..costmodel import advised_workers
from ..descriptors import open_standard
from ..digests import digest
from ..errors import InputError, shown
from ..nn import Sequential
from ..nn.freezing import Layers
from ..optim import Optimizer
from ..parallel import Job, Rule, check_main_guard, worker_count
from ..parallel.choose import ON_FAILURE
from ..threads import asked_for
from ..values import choice, flag, integer, real
from ..values import path as as_path
from . import continued, inputs, pipelines, splits, weights
from . import recipe as recipes
from .callbacks import Callback, Callbacks
from .folder import NewFolder, check_free, folder_named, holds_run, read_config
from .progress import Progress, choose
from .recipe import Asked
from .signals import StopSignals
from .stopping import Stopping
from .tensorboard import check_installed
from .training import Training, settings_of

if TYPE_CHECKING:
    from ..nn import Sequential


_log = runlog.logger("pyconv")

Given = ParamSpec("Given")
Result = TypeVar("Result")


def _together(body: Callable[Given, Result]) -> Callable[Given, Result]:
    """On several ranks, an error that ends `body` on one rank ends it on all."""

    @functools.wraps(body)
    def whole(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        cluster: Any = kwargs.get("cluster", "auto")
        ranks = session(cluster)
        with contextlib.nullcontext() if ranks is None else ranks.together():
            return body(*args, **kwargs)

    return whole


@quiet
@_together
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
    class_weight: str | Mapping[int, float] | Mapping[str, float] | ArrayLike | None = None,
    label_smoothing: float = 0.0,
    sample_weight: ArrayLike | None = None,
    clip_norm: float | None = None,
    freeze: Layers | None = None,
    early_stopping: int | Mapping[str, int | float | str] | None = None,
    on_step: Callback | None = None,
    on_epoch: Callback | None = None,
    tensorboard: bool = False,
    cluster: str = "auto",
    overlap: bool = True,
    wire: str = "exact",
    pipeline_stages: int | None = None,
    micro_batches: int | None = None,
    cut: Sequence[int] | None = None,
    pipeline_schedule: str | None = None,
    split: str | None = None,
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
        Training images, of the model's input shape. The model normalises them. A ``numpy.memmap`` is never copied
        whole: a step reads its images, and workers map the file too. On the ranks of a cluster,
        :func:`pyconv.cluster.shard` leaves each rank only its part of them.
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
        ``{"flip": True, "shift": 2, "rotate": 10, "crop": 0.8, "brightness": 0.2, "cutout": 8}``, or some of it: random
        changes of the training images; see :func:`pyconv.datasets.augment`. They follow from seed, epoch and image.
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
    class_weight : "balanced", mapping or (classes,) array, optional
        What the images of each class count in the loss: a weight for each class, or for some, by number or by name,
        others 1. "balanced" lets all classes count alike, whatever their numbers of images.
    label_smoothing : float
        Share of each label that is spread evenly over all classes, from 0 to 1.
    sample_weight : (N,) array, optional
        What each training image counts in the loss; times the weight of its class. Every step takes the weighted mean
        over its images, on however many workers. `val_loss` and accuracies are not weighted, nor are labels smoothed
        there.
    clip_norm : float, optional
        Largest norm of a gradient, over all parameters: a longer one is shortened to it. Under "sync" that of the mean
        of all workers' gradients, else of each worker's own.
    freeze : int, str, or list of them, optional
        Layers that stay as they are, whatever the update rule and the optimizer: positions from 0, as ``range(5)``;
        ways to layers inside others, as ``"3.shortcut.0"``; kinds, as ``"BatchNorm"``; or ``"body"``, all but the last
        layer with parameters. A frozen BatchNorm normalises with its running statistics, as in inference; Dropout still
        drops. Backward passes below the lowest layer that is trained are not computed. By default ``model.frozen``.
    early_stopping : int or mapping, optional
        Stop after so many epochs in a row that were no better than the best before them, and give the model the
        parameters of the best epoch, whether the run stops early or not. ``{"epochs": 5, "metric": "val_loss",
        "min_delta": 0.01}`` judges by the validation loss (by "val_accuracy" otherwise), and takes for better what is
        better by more than `min_delta`.
    on_step, on_epoch : callable, optional
        Called with a dict after every step (epoch, step in all, images, loss, accuracy, seconds, lr) or epoch (its
        line of metrics, as returned). A true result, or :class:`~pyconv.StopTraining` raised, ends the run: a folder
        is left as by an interruption, and can be continued. After an epoch the model holds its parameters; after
        a step it need not.
    tensorboard : bool
        Write each epoch's figures to event files in the run folder's ``tensorboard/``, with tensorboardX (an optional
        extra). A run that is continued adds a file to them.
    cluster : {"auto", "mpi", "off"}
        "auto": where MPI's launcher (``mpiexec``, ``srun``) has started several processes, all of them train one model,
        each with `workers` workers of its own. All call this with the same arguments and data; rank 0 shows progress,
        calls `on_step` and `on_epoch` and leaves the run folder, and all get its history and model. "off": each process
        trains by itself.
    overlap : bool
        On the ranks of a cluster, under "sync" and rules like it: send gradients and parameters while other layers are
        computed. The numbers are the same without.
    wire : {"exact", "float16"}
        How they travel then. "float16" halves what a link carries; what its rounding leaves is added to what is sent
        next. The numbers then depend on how workers are spread over ranks, and on where a run was continued.
    pipeline_stages : int, optional
        On ranks of a cluster: cut the layers of the network into so many stages, one rank each. Activations go forward
        from rank to rank, and gradients back.
    micro_batches : int, optional
        Parts of a mini-batch that are computed one after the other (BatchNorm sees one of them), and whose gradients
        are added; 1 by default. In a pipeline several are under way. With and without stages the bits are the same.
    cut : sequence of int, optional
        The first layer of each stage but the first, counted from 0, as ``[4, 9]``. By default the cost model cuts.
    pipeline_schedule : {"1f1b", "gpipe"}, optional
        The order in which a stage computes its micro-batches: one forward, one back (the default), or all forward, then
        all back, which needs memory for all.
    split : {"filters", "rows"}, optional
        On the ranks of a cluster: all ranks compute each step together. "filters": each with its filters of every
        convolution and its units of every dense layer. "rows": each with its rows of the images, and border rows of its
        neighbours', up to the first layer that needs all. It is one worker. A run that is continued on ranks is split
        as it was.
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
    ranks = session(cluster)
    count = worker_count(workers)
    if count != 1 and ranks is None:
        check_main_guard()
    if not isinstance(model, Sequential):
        raise InputError(f"model must be a network, such as nn.build('fer'), not {shown(model)}")
    show = choose(progress)
    resume = flag(resume, "resume")
    frozen = model.frozen if freeze is None else model.which(freeze)
    place = None if out is None else folder_named(out)
    if resume and place is None:
        raise InputError("resume=True continues the run in a folder: give it as out")
    config = _run_in(place, resume) if ranks is None else ranks.of_leader(lambda: _run_in(place, resume))
    resumed = None if config is None or place is None else Path(place)
    if isinstance(x, Shard) and (ranks is None or x.world is not ranks.world):
        raise InputError(
            f"x is {x!r}, one rank's part of the images: all ranks that have the others must train together"
        )
    x, labels = inputs.training_pair(model, x, labels)
    if validation is not None:
        validation = inputs.pair(model, validation, "validation images", "validation labels")
        inputs.alike(validation[0], x)
    if target_accuracy is not None:
        target_accuracy = inputs.share(target_accuracy, "target_accuracy")
        if validation is None:
            raise InputError("target_accuracy needs validation data to measure it on")
    normalize = inputs.normalizing(normalize)
    about = inputs.description(description)
    stopping, callbacks = Stopping.of(early_stopping), Callbacks(on_step, on_epoch)
    if stopping.epochs is not None and validation is None:
        raise InputError("early_stopping needs validation data to judge epochs by")
    events = flag(tensorboard, "tensorboard")
    if events and place is None:
        raise InputError("tensorboard=True writes event files to the run folder: give it as out")
    if events:
        check_installed()
    weighing = weights.weighing(model, labels, class_weight, label_smoothing, sample_weight)
    split = splits.chosen(split, ranks, config)
    asked = Asked.of(batch_size, optimizer, schedule, update, update_options)
    if config is not None and resumed is not None:
        asked, recorded = continued.as_recorded(asked, config, resumed)
        count = recorded if count is None or ranks is not None else count
    parts = pipelines.split(
        model, pipeline_stages, micro_batches, cut, pipeline_schedule, ranks, config and config["training"]
    )
    if split is not None:
        splits.check(split, parts, asked.rule, config and config["training"])
    if config is None and ranks is not None:
        count = _workers(count, ranks, parts, split)
    if parts.stages is not None and ranks is not None:
        parts.check_workers(count, ranks)
    recipe = recipes.choose(asked, count, len(x), model.least_batch)
    job = Job(
        epochs=integer(epochs, "epochs", minimum=1),
        seed=integer(seed, "seed", minimum=0),
        augment=augment,
        backend=choice(backend, "backend", BACKENDS),
        threads_per_worker=None if threads_per_worker is None else asked_for(threads_per_worker, "threads_per_worker"),
        workers=count or 1,
        on_worker_failure=choice(on_worker_failure, "reaction to a worker's failure", ON_FAILURE),
        trace=None if trace is None else str(as_path(trace, "trace", text=True)),
        weighing=weighing,
        micro_batches=parts.micro_batches,
        stages=parts.stages,
        clip_norm=None if clip_norm is None else real(clip_norm, "clip_norm", above=0),
        overlap=flag(overlap, "overlap"),
        wire=choice(wire, "wire", WIRES),
        split=split,
        **recipe.settings(),
    )
    every = real(checkpoint_every, "checkpoint_every", above=0)
    inputs.fits(job, model, x)
    inputs.normalize(model, x, labels, normalize)
    scales = _scales(model, x, None if validation is None else validation[0])
    with contextlib.ExitStack() as stack:
        stack.callback(setattr, model, "frozen", model.frozen)
        model.frozen = frozen
        if ranks is not None:
            ranks.agree({**pipelines.facts(job), **_facts(job, model, x, labels)})
            job = pipelines.decided(job, model, ranks)
            ranks.prepare(job)
            if not ranks.leads:
                signals = stack.enter_context(StopSignals())
                return ranks.follow(model, x, labels, job, lambda: signals.received)
        stack.enter_context(show.shown())
        job, said = (job, recipe.said) if count is not None else _advised(model, len(x), job, asked)
        signals = stack.enter_context(StopSignals())
        training = Training(model, x, labels, validation, job, show, signals, target_accuracy, every)
        training.said, training.warnings = said, scales
        training.stopping, training.callbacks, training.tensorboard = stopping, callbacks, events
        training.ranks = ranks
        if config is not None:
            training.changes += continued.changes(config["training"], job, 1 if ranks is None else ranks.size)
        training.changes += parts.changes
        training.open(stack, place, resumed, about)
        history = training.go()
        if ranks is not None:
            ranks.finish(model, history)
        return history


def _workers(count: int | None, ranks: Session, parts: pipelines.Split, split: str | None) -> int:
    """Workers of a new run on ranks, if each of these was to have `count`."""
    if split is not None:
        return ranks.one_worker(count)
    return ranks.lanes(count) if parts.stages is None else parts.replicas(count, ranks)


def _run_in(place: Path | NewFolder | None, resume: bool) -> dict[str, Any] | None:
    """The settings of the run in `place`, if that is to be continued; else check that a run can begin in `place`."""
    if resume and place is not None and holds_run(place):
        return read_config(place)
    if place is not None:
        check_free(place)
    return None


def _facts(job: Job, model: Sequential, x: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """The facts that must be the same on all ranks."""
    settings = settings_of(job, x, labels, model.frozen)
    network = digest([json.dumps(model.config()), model.flat, model.flat_buffers])
    return {
        **settings,
        "network": network,
        "dtype": model.dtype.name,
        "backend": job.backend,
        "overlap": job.overlap,
        "trace": job.trace is not None,
        "split": job.split,
    }


def _advised(model: Sequential, images: int, job: Job, asked: Asked) -> tuple[Job, list[str]]:
    """The job with the number of workers that is fastest here and the settings for it; and the reasons, for the log."""
    _log.info("timing the network, to choose the number of workers")
    workers, reason = advised_workers(model, images, job, shared=asked.batch_size is None)
    why = f"workers auto: {workers}; {reason}"
    aside = [*(asked.options or {}), *(["trace"] if job.trace else [])]
    if workers == 1 and aside:
        why += f"; {', '.join(aside)} left aside: for several workers"
        asked, job = dataclasses.replace(asked, options={}), dataclasses.replace(job, trace=None)
    recipe = recipes.choose(asked, workers, images, model.least_batch)
    job = dataclasses.replace(job, workers=workers, **recipe.settings())
    return job, [why, *recipe.said]


def _scales(model: Sequential, x: np.ndarray, validation: np.ndarray | None) -> list[str]:
    """Tell the model the range of its training images; returns warnings about images in another scale."""
    from ..nn import InputRange

    told = [model.other_scale(x, "training images")]  # if the model keeps the normalisation of an earlier training
    model.input_range = InputRange.of(x)
    if validation is not None:
        told.append(model.other_scale(validation, "validation images"))
    return [line for line in told if line is not None]
