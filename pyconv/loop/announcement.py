"""What a run logs before its first step: data, model, engine, recipe."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..threads import counted
from . import texts, weights

if TYPE_CHECKING:
    from .training import Training


def announcement(run: Training) -> Iterator[tuple[int, str]]:
    """The lines, each with its level of logging."""
    for line in _work(run):
        yield logging.INFO, line
    for line in run.warnings:
        yield logging.WARNING, line
    for line in (*_recipe(run), *_place(run)):
        yield logging.INFO, line


def _work(run: Training) -> Iterator[str]:
    model = run.model
    size = "×".join(map(str, run.x.shape[1:]))
    held_out = "no validation" if run.validation is None else f"{len(run.validation[0])} for validation"
    name = run.names.get("data", "")
    yield f"data      {name}{len(run.x)} training images of {size}, {held_out}, {model.output_shape[-1]} classes"
    mega = model.flops() / 1e6
    yield f"model     {run.names.get('model', '')}{model.flat.size:,} parameters, {mega:.1f} MFLOP an image forward"
    if model.frozen:
        trained = f"{model.trained.count:,} of {model.flat.size:,} parameters"
        yield f"          frozen: {counted(len(model.frozen), 'layer')}; trains {trained}"


def _recipe(run: Training) -> Iterator[str]:
    job = run.job
    for line in f"runs on   {run.engine.describe()}".splitlines():
        yield line
    yield f"training  {texts.recipe(job)}"
    yield (
        f"          effective batch {job.workers * job.batch_size}, {counted(run.engine.steps_per_epoch, 'step')} and "
        f"{len(run.x)} samples an epoch, {counted(job.epochs, 'epoch')}"
    )
    if job.weighing is not None:
        yield f"          {weights.words(job.weighing)}"
    if job.clip_norm is not None:
        yield f"          gradients clipped at norm {job.clip_norm:g}"
    if run.stopping.epochs is not None:
        epochs = counted(run.stopping.epochs, "epoch")
        yield f"          stops after {epochs} without a better {run.stopping.metric}"
    for line in run.said:
        yield f"          {line}"


def _place(run: Training) -> Iterator[str]:
    if run.folder is not None:
        yield f"run       {run.folder.path}"
    if run.position.total_steps:
        left = run.show.eta()
        yield f"continues after epoch {run.position.epoch} and {run.position.step} steps of the next" + (
            f", about {left} to go" if left != "?" else ""
        )
    for change in run.changes:
        yield f"          {change}"
