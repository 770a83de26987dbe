"""What a run logs before its first step: data, model, engine, recipe, and where a resumed run continues."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from ..nn import Sequential
from ..parallel import Engine, Job
from ..threads import counted
from . import texts, weights
from .position import Position
from .stopping import Stopping


def work(model: Sequential, x: np.ndarray, validation: int | None, names: Mapping[str, str]) -> Iterator[str]:
    """Lines about the data and the model; of `validation` images, or None, and with `names` for both."""
    size = "×".join(map(str, x.shape[1:]))
    held_out = "no validation" if validation is None else f"{validation} for validation"
    data = f"{names.get('data', '')}{len(x)} training images of {size}"
    yield f"data      {data}, {held_out}, {model.output_shape[-1]} classes"
    mega = model.flops() / 1e6
    yield f"model     {names.get('model', '')}{model.flat.size:,} parameters, {mega:.1f} MFLOP an image forward"
    if model.frozen:
        trained = f"{model.trained.count:,} of {model.flat.size:,} parameters"
        yield f"          frozen: {counted(len(model.frozen), 'layer')}; trains {trained}"


def recipe(job: Job, engine: Engine, images: int, stopping: Stopping) -> Iterator[str]:
    """Lines about what does the steps, and how."""
    yield from f"runs on   {engine.describe()}".splitlines()
    yield f"training  {texts.recipe(job)}"
    yield (
        f"          effective batch {job.workers * job.batch_size}, {counted(engine.steps_per_epoch, 'step')} and "
        f"{images} samples an epoch, {counted(job.epochs, 'epoch')}"
    )
    if job.weighing is not None:
        yield f"          {weights.words(job.weighing)}"
    if job.clip_norm is not None:
        yield f"          gradients clipped at norm {job.clip_norm:g}"
    if stopping.epochs is not None:
        epochs = counted(stopping.epochs, "epoch")
        yield f"          stops after {epochs} without a better {stopping.metric}"


def place(position: Position, left: str) -> Iterator[str]:
    """A line about where a resumed run continues, if it is one, and the time that is `left` ("?" if unknown)."""
    if position.total_steps:
        steps = f"continues after epoch {position.epoch} and {position.step} steps of the next"
        yield steps + (f", about {left} to go" if left != "?" else "")
