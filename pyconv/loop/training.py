"""A run of fit(): its parts, where it stands, and what is done around the engine's steps."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import runlog
from ..checkpoint import Checkpoint
from ..errors import CheckpointError, DataError, DivergedError, InputError, Interrupted, RunError, shown
from ..parallel import Engine, Job, StepReport, engine_for, rule_for
from ..threads import counted
from . import chance, inputs, recipe, texts
from .evaluation import evaluate, merge_statistics
from .folder import NewFolder, RunFolder, resume_command
from .metrics import check_line, check_statistics
from .progress import Progress
from .signals import StopSignals

if TYPE_CHECKING:
    from ..nn import Sequential

_log = runlog.logger("pyconv")

# Of the settings that a checkpoint remembers, those that may differ when a run is continued; it then says so.
MAY_CHANGE = ("epochs", "lr")


@dataclass
class _Position:
    """Where a run stands: the numbers that a checkpoint keeps beside the arrays."""

    epoch: int = 0
    """Epochs done."""
    step: int = 0
    """Steps done in the epoch after them."""
    total_steps: int = 0
    images: int = 0
    """In the epoch that runs, as the three below."""
    loss_sum: float = 0.0
    """Sum over images, so that the mean continues to the same bits after a resume."""
    correct: int = 0
    seconds: float = 0.0
    statistics: dict[str, Any] = field(default_factory=dict)
    statistics_images: int = 0
    """How many of the images `statistics` already covers."""
    elapsed: float = 0.0
    """Seconds that the sessions before this one took together."""


class Training:
    """A run of fit(): its parts, where it stands, and what is done between steps."""

    def __init__(
        self,
        model: Sequential,
        x: np.ndarray,
        labels: np.ndarray,
        validation: tuple[np.ndarray, np.ndarray] | None,
        job: Job,
        show: Progress,
        signals: StopSignals,
        target: float | None,
        every: float,
    ) -> None:
        self.model, self.x, self.labels, self.validation = model, x, labels, validation
        self.job, self.show, self.signals = job, show, signals
        self.target, self.every = target, every
        self.folder: RunFolder | None = None
        self.position = _Position()
        self.history: list[dict[str, Any]] = []
        self.rule = rule_for(job.update, job.options)
        self.settings = _settings(job, x, labels)
        self.names: dict[str, str] = {}
        self.changes: list[str] = []
        self.warnings: list[str] = []
        self.said: list[str] = []  # why the settings are what they are, where the user left them to pyconv
        self.usual_rate = recipe.usual_rate(job)
        self.engine: Engine
        self._is_new = False  # this call has begun the run folder
        self._session_began = self._checkpointed = time.monotonic()

    # ---- the beginning

    def open(
        self,
        stack: contextlib.ExitStack,
        out: Path | NewFolder | None,
        resumed: Path | None,
        description: Mapping[str, Mapping[str, Any]],
    ) -> None:
        """Open or make the run folder and the engine; all that can be refused is refused here."""
        checkpoint = None
        if resumed is not None:
            self.folder = stack.enter_context(RunFolder.reopen(resumed))
            stack.enter_context(self.folder.logging())
            checkpoint = self.folder.load_checkpoint()
            if checkpoint is not None:
                self._take_up(checkpoint)
        self.engine = engine_for(self.model, self.x, self.labels, self.job)
        stack.callback(self.engine.close)
        config = self._config(description)
        self.names = {section: f"{entries['name']}: " for section, entries in description.items() if "name" in entries}
        if checkpoint is not None:
            self.engine.load_state(checkpoint.engine)
        if resumed is not None:
            self.folder.write_config(config)  # type: ignore[union-attr]
            self.folder.rewrite_metrics(self.history)  # type: ignore[union-attr]
            if not self.position.step:
                self._keep_best()
        elif out is not None:
            self._begin(stack, out, config)

    def _begin(self, stack: contextlib.ExitStack, out: Path | NewFolder, config: dict[str, Any]) -> None:
        """Make the run folder, with settings and a checkpoint in it; or nothing."""
        self.folder = stack.enter_context(RunFolder.create(out))
        try:
            self.folder.write_config(config)
            self._save_checkpoint()
        except RunError as error:  # before anything was computed it is the folder that was badly chosen
            self.folder.discard()
            raise InputError(str(error).partition(";")[0] + "; make room or choose another folder") from None
        except BaseException:
            self.folder.discard()
            raise
        stack.enter_context(self.folder.logging())  # until the settings are written, the log is empty: see check_free
        self._is_new = True

    def _take_up(self, checkpoint: Checkpoint) -> None:
        """Put the run where the checkpoint left it, if it is one of this run."""
        place = f"{self.folder.path}: "  # type: ignore[union-attr]
        for name, mine in self.settings.items():
            theirs = checkpoint.settings.get(name)
            if name == "update_options" and theirs != mine and isinstance(self.job.update, str):
                theirs = recipe.as_recorded(self.job.update, theirs or {})
            if theirs != mine and name in MAY_CHANGE:
                self.changes.append(f"{name} was {theirs} and is {mine} from here on")
            elif name == "data" and theirs != mine:
                raise CheckpointError(f"{place}this run was begun with other data; give it the same images and labels")
            elif theirs != mine:
                raise CheckpointError(
                    f"{place}this run has {name} {shown(theirs)}, not {shown(mine)}; resume it with the same settings "
                    "or begin another run"
                )
        try:
            checkpoint.restore(self.model)
        except CheckpointError as error:
            raise CheckpointError(f"{place}{error}") from None
        known = {
            name: (int, float) if type(value) is float else type(value) for name, value in vars(_Position()).items()
        }
        found = checkpoint.position
        if found.keys() != known.keys() or not all(isinstance(found[name], kind) for name, kind in known.items()):
            raise CheckpointError(f"{place}the checkpoint does not say where the run stands")
        try:
            check_statistics(found["statistics"], "position")
            for line in checkpoint.history:
                check_line(line, "a line of history")
            if found["epoch"] != len(checkpoint.history):
                raise DataError(f"{found['epoch']} epochs are done, and history has {len(checkpoint.history)} lines")
        except DataError as error:
            raise CheckpointError(f"{place}the checkpoint does not say where the run stands: {error}") from None
        self.position = _Position(**found)
        self.history = checkpoint.history

    def _config(self, description: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The content of ``config.toml``."""
        job = self.job
        sections: dict[str, dict[str, Any]] = {
            "data": {"images": list(self.x.shape), "dtype": self.x.dtype.name, "fingerprint": self.settings["data"]},
            "model": {"parameters": int(self.model.flat.size), "config": json.dumps(self.model.config())},
            "training": {
                "epochs": job.epochs,
                "batch_size": job.batch_size,
                "seed": job.seed,
                "backend": job.backend,
                "threads_per_worker": job.threads_per_worker,
                "workers": job.workers,
                "update": self.rule.name,
                "on_worker_failure": job.on_worker_failure,
                "target_accuracy": self.target,
                "checkpoint_every": self.every,
            },
            "optimizer": job.optimizer.config(),
            "schedule": texts.schedule_config(job.schedule),
            "augment": dict(job.augment or {}),
            "update_options": texts.rule_options(job),
        }
        for name, entries in description.items():
            sections[name] = {**entries, **sections.get(name, {})}
        return {"pyconv": sys.modules["pyconv"].__version__, **sections}

    # ---- the epochs

    def go(self) -> list[dict[str, Any]]:
        """Run what is left of the run."""
        job, position = self.job, self.position
        if self._complete():
            if self.folder is not None and not self.folder.has_curves():
                self.folder.draw_curves(self.history)
            _log.info("nothing left to do: %s", texts.summary(self.history, self._path()))
            return self.history
        left = (job.epochs - position.epoch) * len(self.x) - position.images
        begun = position.total_steps
        try:
            known_images, known_s = self._pace()
            self.show.begin(
                epochs=job.epochs,
                steps_per_epoch=self.engine.steps_per_epoch,
                images=left,
                known_images=known_images,
                known_s=known_s,
            )
            self._announce()
            while not self._complete():
                self._train_epoch()
                self._finish_epoch()
        except (RunError, Interrupted) as error:  # the caller shows it; the log keeps it
            if self.folder is not None:
                self.folder.note(str(error))
            raise
        except BaseException as error:
            if self.position.total_steps > begun and getattr(error, "exit_status", None) == InputError.exit_status:
                raise RunError(str(error)) from error  # the arguments were taken: it is the run that failed
            if self.folder is not None and self._is_new and not self.position.total_steps:
                self.folder.discard()  # what stops a run before its first step is in its arguments
            raise
        if self.folder is not None:
            self.folder.draw_curves(self.history)
        self._warn_at_chance()
        _log.info("done: %s", texts.summary(self.history, self._path()))
        return self.history

    def _complete(self) -> bool:
        return self.position.epoch >= self.job.epochs or self._target_reached()

    def _target_reached(self) -> bool:
        if self.target is None or not self.history or self.history[-1]["val_accuracy"] is None:
            return False
        return self.history[-1]["val_accuracy"] >= self.target

    def _train_epoch(self) -> None:
        """The steps of the epoch that are left, with a checkpoint now and then."""
        position = self.position
        exhausted = False
        while not exhausted:
            exhausted = True
            with contextlib.closing(self.engine.epoch(position.epoch, position.step)) as steps:
                for report in self._finite(steps):
                    self._take(report)
                    if self.signals.received or time.monotonic() - self._checkpointed >= self.every:
                        exhausted = False
                        break
            if self.signals.received:
                raise self._interrupted()
            if not exhausted:
                self._save_checkpoint()

    def _finite(self, steps: Iterator[StepReport]) -> Iterator[StepReport]:
        """The steps; a divergence that workers met gets the advice that only the whole run can give."""
        try:
            yield from steps
        except DivergedError as error:
            raise self._diverged(str(error), where="") from None

    def _take(self, report: StepReport) -> None:
        """Book a step."""
        position = self.position
        position.step += 1
        position.total_steps = report.step
        position.images += report.images
        position.loss_sum += report.loss * report.images
        position.correct += report.correct
        position.seconds += report.seconds
        if not math.isfinite(report.loss):
            raise self._diverged(f"the loss became {report.loss} at step {report.step}")
        self.show.step(
            epoch=position.epoch + 1,
            step=position.step,
            images=report.images,
            loss=position.loss_sum / position.images,
            images_per_s=texts.rate(position.images, position.seconds),
        )

    def _finish_epoch(self) -> None:
        """Validation, the line of metrics, the model file and the checkpoint."""
        position, job = self.position, self.job
        self._check_parameters()
        val_loss = val_accuracy = None
        if self.validation is not None:
            figures = evaluate(self.model, *self.validation, stop=lambda: self.signals.received is not None)
            if figures is None:  # the epoch's steps are done; a resumed run begins with this validation
                raise self._interrupted()
            val_loss, val_accuracy = figures
            if not math.isfinite(val_loss):
                raise self._diverged(f"the validation loss became {val_loss} after step {position.total_steps}")
        self._collect_statistics()
        line = {
            "epoch": position.epoch + 1,
            "step": position.total_steps,
            "images": position.images,
            "seconds": round(position.seconds, 4),
            "images_per_s": round(texts.rate(position.images, position.seconds), 2),
            "train_loss": position.loss_sum / position.images,
            "train_accuracy": position.correct / position.images,
            "val_loss": val_loss,
            "val_accuracy": val_accuracy,
            "lr": job.learning_rate(max(position.total_steps, 1), self.engine.steps_per_epoch),
            "workers": job.workers,
            "update": self.rule.name,
            **position.statistics,
            "elapsed_s": round(self._elapsed(), 4),
        }
        self.history.append(line)
        if self._target_reached():
            line["seconds_to_target"] = line["elapsed_s"]
        self.position = _Position(epoch=position.epoch + 1, total_steps=position.total_steps, elapsed=position.elapsed)
        if self.folder is not None:
            self.folder.append_metrics(line)
            self.folder.save_model(self.model)
            self._save_checkpoint()
            self._keep_best()
        _log.info("%s", texts.epoch(line, job.epochs))
        if self.signals.received and not self._complete():
            raise self._interrupted(saved=True)

    def _keep_best(self) -> None:
        """Keep the model beside the last one if the epoch that has just ended has the best validation accuracy so far.

        After the checkpoint: a run that was killed in between comes back to this place, and a best model of an epoch
        that is repeated otherwise, as the rules that race may do, is never left behind.
        """
        found = [line["val_accuracy"] for line in self.history]
        if self.folder is None or not found or found[-1] is None:
            return
        if found[-1] > max((value for value in found[:-1] if value is not None), default=-1.0):
            self.folder.save_best(self.model)

    # ---- what a run says, and how it ends

    def _warn_at_chance(self) -> None:
        """Say so where the run has learnt nothing."""
        if self.validation is not None:
            what, accuracy, labels = "validation", self.history[-1]["val_accuracy"], self.validation[1]
        else:
            what, (accuracy, labels) = "training", chance.training_accuracy(self.model, self.x, self.labels)
        share = chance.guessing(accuracy, labels)
        if share is not None:
            steps, rate = self.position.total_steps, self.job.optimizer.lr
            _log.warning(chance.warning(what, accuracy, share, steps, rate, self.usual_rate))

    def _announce(self) -> None:
        """Say what runs."""
        job, model, steps = self.job, self.model, self.engine.steps_per_epoch
        size = "×".join(map(str, self.x.shape[1:]))
        held_out = "no validation" if self.validation is None else f"{len(self.validation[0])} for validation"
        name = self.names.get("data", "")
        _log.info(
            f"data      {name}{len(self.x)} training images of {size}, {held_out}, {model.output_shape[-1]} classes"
        )
        mega = model.flops() / 1e6
        _log.info(
            f"model     {self.names.get('model', '')}{model.flat.size:,} parameters, {mega:.1f} MFLOP an image forward"
        )
        for line in self.warnings:
            _log.warning(line)
        for line in f"runs on   {self.engine.describe()}".splitlines():
            _log.info(line)
        batch = getattr(self.engine, "effective_batch", job.batch_size)
        _log.info(f"training  {texts.recipe(job)}")
        _log.info(
            f"          effective batch {batch}, {steps} steps and {len(self.x)} samples an epoch, "
            f"{counted(job.epochs, 'epoch')}"
        )
        for line in self.said:
            _log.info(f"          {line}")
        if self.folder is not None:
            _log.info(f"run       {self.folder.path}")
        if self.position.total_steps:
            left = self.show.eta()
            _log.info(
                f"continues after epoch {self.position.epoch} and {self.position.step} steps of the next"
                + (f", about {left} to go" if left != "?" else "")
            )
        for change in self.changes:
            _log.info(f"          {change}")

    def _pace(self) -> tuple[int, float]:
        """Images of the last epoch that is done, or of the part of the first, and the seconds that they took."""
        if self.history:
            before = self.history[-2]["elapsed_s"] if len(self.history) > 1 else 0.0
            return self.history[-1]["images"], self.history[-1]["elapsed_s"] - before
        return self.position.images, self.position.seconds

    def _interrupted(self, saved: bool = False) -> Interrupted:
        """Write a checkpoint; the error that says how to go on."""
        where = f"interrupted by {self.signals.received} after step {self.position.total_steps}"
        if self.folder is None:
            return Interrupted(f"{where}; the model keeps what it has learnt, there is no run folder to resume")
        if not saved:
            self._save_checkpoint()
        return Interrupted(f"{where}; continue with: {resume_command(self.folder.path)}")

    def _diverged(self, what: str, where: str | None = None) -> DivergedError:
        where = f", in epoch {self.position.epoch + 1}" if where is None else where
        rate = self.job.learning_rate(max(self.position.total_steps, 1), self.engine.steps_per_epoch)
        kept = "" if self.folder is None else f"; the last good checkpoint is kept in {self.folder.path}"
        advice = f"take a smaller one, such as {self.job.optimizer.lr / 10:.1g}, or a warm-up"
        if self.usual_rate is not None and self.job.optimizer.lr > 2 * self.usual_rate:
            advice = f"take lr {self.usual_rate:g}, which is what this run gets where none is given"
        return DivergedError(f"training diverged: {what}{where}, with learning rate {rate:.3g}; {advice}{kept}")

    # ---- the state

    def _check_parameters(self) -> None:
        """A checkpoint with NaN in it would not be a good one."""
        if not np.isfinite(self.model.flat).all():
            raise self._diverged(f"a parameter became NaN or infinite by step {self.position.total_steps}")

    def _save_checkpoint(self) -> None:
        if self.folder is None:
            self._checkpointed = time.monotonic()
            return
        self._check_parameters()
        self._collect_statistics()
        position = {**vars(self.position), "elapsed": self._elapsed()}
        self.folder.save_checkpoint(
            Checkpoint.of(self.model, self.engine.state(), self.settings, position, self.history)
        )
        self._checkpointed = time.monotonic()

    def _collect_statistics(self) -> None:
        """Add what the engine has counted since it was last asked to the epoch's figures."""
        position = self.position
        position.statistics = merge_statistics(
            position.statistics,
            position.statistics_images,
            self.engine.statistics(),
            position.images - position.statistics_images,
        )
        position.statistics_images = position.images

    def _path(self) -> Path | None:
        return None if self.folder is None else self.folder.path

    def _elapsed(self) -> float:
        return self.position.elapsed + time.monotonic() - self._session_began


def _settings(job: Job, x: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """What must be the same when a run is continued, or it would be another run."""
    optimizer = {name: value for name, value in job.optimizer.config().items() if name != "lr"}
    settings = {
        "epochs": job.epochs,
        "lr": job.optimizer.lr,
        "batch_size": job.batch_size,
        "seed": job.seed,
        "workers": job.workers,
        "update": rule_for(job.update, job.options).name,
        "update_options": texts.rule_options(job),
        "optimizer": optimizer,
        "schedule": texts.schedule_config(job.schedule),
        "augment": job.augment,
        "data": inputs.data_fingerprint(x, labels),
    }
    return json.loads(json.dumps(settings))  # as a checkpoint gives it back: tuples are lists
