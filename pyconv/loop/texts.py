"""The lines that a run prints about its settings, an epoch and its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..parallel import Job
from .recipe import set_options


def schedule_config(schedule: Callable[[int, int], float]) -> dict[str, Any]:
    """A schedule's settings; for a user's own function, its name."""
    config = getattr(schedule, "config", None)
    return config() if config is not None else {"name": getattr(schedule, "__name__", type(schedule).__name__)}


def optimizer(job: Job, *, without: Sequence[str] = ()) -> str:
    """The optimizer in a few words, `without` some of its settings."""
    settings = dict(job.optimizer.config())
    name = settings.pop("name")
    shown = ", ".join(
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in settings.items()
        if key not in without
    )
    return f"{name} ({shown})" if shown else name


def recipe(job: Job) -> str:
    """Optimizer and schedule in a few words."""
    return f"{optimizer(job)}, {schedule_config(job.schedule)['name']} schedule"


def rule_options(job: Job) -> dict[str, Any]:
    """The update rule's options that have a value; none for one worker, of whose steps they change nothing."""
    return set_options(job.rule) if job.workers > 1 else {}


def rate(images: float, seconds: float) -> float:
    """Images per second; 0 if no time has passed."""
    return images / seconds if seconds > 0 else 0.0


def epoch(line: Mapping[str, Any], epochs: int, *, ranks: int = 0) -> str:
    """An epoch's line of metrics: loss and accuracy in training and validation, speed, and time since the run began.

    On `ranks` of a cluster also their number, and the share of the training's time that they have waited for messages
    and each other.
    """
    text = f"epoch {line['epoch']}/{epochs}  training {line['train_loss']:.4f}, {100 * line['train_accuracy']:.2f} %"
    if line["val_accuracy"] is not None:
        text += f"  validation {line['val_loss']:.4f}, {100 * line['val_accuracy']:.2f} %"
    text += f"  {ranks} ranks" if ranks else ""
    text += f"  {line['images_per_s']:.0f} images/s  {line['elapsed_s']:.1f} s"
    if ranks and "wait_s" in line:
        text += f"  {min(100 * rate(line['wait_s'], line['seconds']), 100):.0f} % waiting"
    return text


def summary(history: Sequence[Mapping[str, Any]], folder: Path | None) -> str:
    """A whole run: accuracy, speed, time, and its folder."""
    last = history[-1]
    parts = [f"{last['epoch']} epoch{'s' * (last['epoch'] != 1)}", f"training loss {last['train_loss']:.4f}"]
    if last["val_accuracy"] is not None:
        best = max(history, key=lambda line: line["val_accuracy"])
        text = f"validation accuracy {100 * last['val_accuracy']:.2f} %"
        kept = "" if folder is None else ", kept as best.safetensors"
        if best["val_accuracy"] > last["val_accuracy"]:
            text += f" (best {100 * best['val_accuracy']:.2f} % after epoch {best['epoch']}{kept})"
        parts.append(text)
    if "seconds_to_target" in last:
        parts.append(f"target reached in {last['seconds_to_target']:.1f} s")
    images, seconds = (sum(line[name] for line in history) for name in ("images", "seconds"))
    parts += [f"{rate(images, seconds):.0f} images/s", f"{last['elapsed_s']:.1f} s"]
    if folder is not None:
        parts.append(f"run folder {folder}")
    return ", ".join(parts)
