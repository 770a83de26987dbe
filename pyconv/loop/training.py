"""Training: one run of fit(), with everything around the engine's steps: folder, checkpoints, validation, metrics."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import runlog
from ..checkpoint import Checkpoint
from ..cluster import Session, Shard
from ..errors import CheckpointError, DataError, DivergedError, InputError, Interrupted, RunError, shown
from ..parallel import RULES, Engine, Job, StepReport, engine_for
from ..version import __version__
from . import announcement, chance, inputs, pipelines, recipe, texts, weights
from .callbacks import Callbacks
from .evaluation import examine, merge_statistics
from .folder import BEST, CLASSES, CURVES, MODEL, NewFolder, RunFolder, resume_command
from .position import Position
from .progress import Progress
from .scores import of_model
from .signals import StopSignals
from .stopping import Stopping

if TYPE_CHECKING:
    from ..nn import Sequential

_log = runlog.logger("pyconv")

# Settings in a checkpoint that may differ when a run is continued; the run then says so.
MAY_CHANGE = ("epochs", "lr")


class Training:
    """A run of fit(): its parts, how far it has come, and what it does between steps."""

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
        self.position = Position()
        self.history: list[dict[str, Any]] = []
        self.rule = job.rule
        self.settings = settings_of(job, x, labels, model.frozen)
        self.names: dict[str, str] = {}
        self.changes: list[str] = []
        self.warnings: list[str] = []
        self.said: list[str] = []  # why pyconv chose the settings that the user left out
        self.stopping, self.callbacks = Stopping(), Callbacks()
        self.tensorboard = False  # whether the run folder gets event files
        self._best: tuple[int, np.ndarray, np.ndarray] | None = None  # an epoch, and parameters and buffers after it
        self._answers: np.ndarray | None = None  # the present model's classes for the validation images
        self.usual_rate = recipe.usual_rate(job)
        self.ranks: Session | None = None
        self._begun = 0.0, 0.0  # seconds of the epoch, and seconds that ranks had waited, when this part of it began
        self.engine: Engine
        self._is_new = False  # whether this call has begun the run folder
        self._session_began = self._checkpointed = time.monotonic()

    # ---- the beginning

    def open(
        self,
        stack: contextlib.ExitStack,
        out: Path | NewFolder | None,
        resumed: Path | None,
        description: Mapping[str, Mapping[str, Any]],
    ) -> None:
        """Open or make the run folder and the engine; an impossible run is refused here."""
        checkpoint = None
        if resumed is not None:
            self.folder = stack.enter_context(RunFolder.reopen(resumed))
            stack.enter_context(self.folder.logging())
            checkpoint = self.folder.load_checkpoint()
            if checkpoint is not None:
                self._take_up(checkpoint)
        if self.ranks is None:
            self.engine = engine_for(self.model, self.x, self.labels, self.job)
        else:
            self.engine = self.ranks.engine(self.model, self.x, self.labels, self.job, self.signals.hear)
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
        """Make the run folder, with settings and a checkpoint in it; if that fails, leave nothing."""
        self.folder = stack.enter_context(RunFolder.create(out))
        try:
            self.folder.write_config(config)
            self._save_checkpoint()
        except RunError as error:  # nothing was computed yet, so the folder was badly chosen
            self.folder.discard()
            raise InputError(str(error).partition(";")[0] + "; make room or choose another folder") from None
        except BaseException:
            self.folder.discard()
            raise
        stack.enter_context(self.folder.logging())  # the log is empty until the settings are written: see check_free
        self._is_new = True

    def _take_up(self, checkpoint: Checkpoint) -> None:
        """Continue from the checkpoint, if it is one of this run."""
        place = f"{self.folder.path}: "  # type: ignore[union-attr]
        for name, mine in self.settings.items():
            theirs = checkpoint.settings.get(name)
            if name == "update_options" and theirs != mine:
                theirs = self._options_of_older(theirs or {})
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
        try:
            self.position = Position.of(checkpoint)
        except DataError as error:
            raise CheckpointError(f"{place}the checkpoint does not say where the run stands: {error}") from None
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
                "ranks": None if self.ranks is None else self.ranks.size,
                "split": job.split,
                "update": self.rule.name,
                "on_worker_failure": job.on_worker_failure,
                "target_accuracy": self.target,
                "checkpoint_every": self.every,
                "clip_norm": job.clip_norm,
                "wire": None if job.wire == "exact" else job.wire,
                "freeze": list(self.model.frozen) or None,
                "early_stopping": self.stopping.config(),
                "tensorboard": self.tensorboard or None,
                **weights.recorded(job.weighing),
                **pipelines.recorded(job),
            },
            "optimizer": job.optimizer.config(),
            "schedule": texts.schedule_config(job.schedule),
            "augment": dict(job.augment or {}),
            "update_options": texts.rule_options(job),
        }
        for name, entries in description.items():
            sections[name] = {**entries, **sections.get(name, {})}
        return {"pyconv": __version__, **sections}

    # ---- the epochs

    def go(self) -> list[dict[str, Any]]:
        """Do the rest of the run."""
        job, position = self.job, self.position
        if self._complete():
            self._take_best()
            if self.folder is not None:
                self._make_up_for_what_is_missing(self.folder)
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
            self.show.ranks = 0 if self.ranks is None else self.ranks.size
            while not self._complete():
                if not self._train_epoch():
                    break
                self._finish_epoch()
                if self.callbacks.stopped_by or self.callbacks.call("on_epoch", self.history[-1]):
                    break
        except (RunError, Interrupted) as error:  # the caller shows it; the log gets it too
            if self.folder is not None:
                self.folder.note(str(error))
            raise
        except BaseException as error:
            if self.position.total_steps > begun and getattr(error, "exit_status", None) == InputError.exit_status:
                raise RunError(str(error)) from error  # the arguments were accepted, so the run has failed
            if self.folder is not None and self._is_new and not self.position.total_steps:
                self.folder.discard()  # an error before the first step is one of the arguments
            raise
        if self.callbacks.stopped_by:
            _log.info(
                f"stopped by {self.callbacks.stopped_by} after step {position.total_steps}"
                + ("" if self.folder is None else f"; continue with: {resume_command(self.folder.path)}")
            )
        self._take_best()
        if not self.history:
            return self.history
        if self.folder is not None:
            self.folder.draw_curves(self.history)
            self._tell_classes(self.folder)
        self._warn_at_chance()
        _log.info("done: %s", texts.summary(self.history, self._path()))
        return self.history

    def _complete(self) -> bool:
        reached = self.position.epoch >= self.job.epochs or self._target_reached()
        return reached or (not self.position.step and self.stopping.reached(self.history))

    def _target_reached(self) -> bool:
        if self.target is None or not self.history or self.history[-1]["val_accuracy"] is None:
            return False
        return self.history[-1]["val_accuracy"] >= self.target

    def _train_epoch(self) -> bool:
        """Do the rest of the epoch's steps, with a checkpoint now and then; returns whether all are done."""
        position = self.position
        exhausted = False
        if self.ranks is not None:
            self._begun = position.seconds, self.ranks.waited_s()
        while not exhausted:
            with contextlib.closing(self.engine.epoch(position.epoch, position.step)) as steps:
                while True:
                    try:
                        report = next(steps, None)
                    except DivergedError as error:  # of a worker; only the run can add its advice
                        raise self._diverged(str(error), where="") from None
                    if report is None:
                        exhausted = True
                        break
                    self._take(report)
                    if self._stops_at(report) and position.step < self.engine.steps_per_epoch:
                        break
                    if self.signals.received or time.monotonic() - self._checkpointed >= self.every:
                        break
            if self.signals.received:
                raise self._interrupted()
            if not exhausted:
                self._save_checkpoint()
            if self.callbacks.stopped_by and not exhausted:
                if self.folder is not None:
                    self.folder.save_model(self.model)
                return False
        return True

    def _stops_at(self, report: StepReport) -> bool:
        """Call the user's function after a step; returns whether it wants to stop."""
        if not self.callbacks.has("on_step"):
            return False
        return self.callbacks.call(
            "on_step",
            {
                "epoch": self.position.epoch + 1,
                "step": report.step,
                "images": report.images,
                "loss": report.loss,
                "accuracy": report.correct / report.images,
                "seconds": report.seconds,
                "lr": self.job.learning_rate(report.step, self.engine.steps_per_epoch),
            },
        )

    def _take(self, report: StepReport) -> None:
        """Add a step's report to the epoch's figures."""
        position, self._answers = self.position, None
        position.step += 1
        position.total_steps = report.step
        position.images += report.images
        position.loss_sum += report.loss * report.images
        position.correct += report.correct
        position.seconds += report.seconds
        if not math.isfinite(report.loss):
            raise self._diverged(f"the loss became {report.loss} at step {report.step}")
        if self.ranks is not None:
            seconds, waited = self._begun
            self.show.waiting = min(texts.rate(self.ranks.waited_s() - waited, position.seconds - seconds), 1.0)
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
            found = examine(self.model, *self.validation, stop=lambda: self.signals.received is not None)
            if found is None:  # the epoch's steps are done; a resumed run begins with the validation
                raise self._interrupted()
            val_loss, val_accuracy, self._answers = found.loss, found.accuracy, found.classes
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
        self.position = Position(epoch=position.epoch + 1, total_steps=position.total_steps, elapsed=position.elapsed)
        if self.folder is not None:
            self.folder.append_metrics(line)
            self.folder.save_model(self.model)
            if self.tensorboard:  # before the checkpoint: an epoch that is repeated is written again, none is left out
                self.folder.write_events(self.history)
            self._save_checkpoint()
        self._keep_best()
        _log.info("%s", texts.epoch(line, job.epochs, ranks=0 if self.ranks is None else self.ranks.size))
        if self.signals.received and not self._complete():
            raise self._interrupted(saved=True)

    def _keep_best(self) -> None:
        """Keep the model as the best one, if the epoch that has just ended is the best so far.

        This comes after the checkpoint. A run that was killed in between continues at this place. And if an epoch is
        repeated with another result, as under rules that race, no best model of the first result is left.
        """
        if not self.history or self.stopping.best(self.history) != len(self.history) - 1:
            return
        if self.stopping.epochs is not None:
            self._best = len(self.history), self.model.flat.copy(), self.model.flat_buffers.copy()
        if self.folder is not None:
            self.folder.save_best(self.model)

    def _take_best(self) -> None:
        """With early stopping: give the model the parameters of the best epoch, and save it as the run's model."""
        best = self.stopping.best(self.history)
        if self.stopping.epochs is None or best is None or (best == len(self.history) - 1 and not self.position.step):
            return
        epoch, metric = best + 1, self.stopping.metric
        if self._best is not None and self._best[0] == epoch:
            self.model.flat[...], self.model.flat_buffers[...] = self._best[1:]
        elif self.folder is not None and self.folder.has(BEST):
            self.folder.load_best(self.model)
        else:
            _log.warning("the model is that of the last epoch: that of epoch %d, the best, was not kept", epoch)
            return
        self._answers = None
        if self.folder is not None:
            self.folder.save_model(self.model)
        value = self.history[best][metric]
        _log.info("the model is that of epoch %d, the best by %s (%.4f)", epoch, metric, value)

    def _make_up_for_what_is_missing(self, folder: RunFolder) -> None:
        """Write missing files of a finished run again, from its checkpoint."""
        if not folder.has(CURVES):
            folder.draw_curves(self.history)
        if not folder.has(CLASSES):
            self._tell_classes(folder)
        if not folder.has(MODEL):
            folder.save_model(self.model)
            _log.info("%s was missing: written again from the checkpoint", folder.path / MODEL)
        best = self.stopping.best(self.history)
        if best is not None and not folder.has(BEST):  # the last epoch's exists: see _keep_best
            _log.warning(
                "%s is missing: the best epoch was %d, and the checkpoint holds the last; it cannot be made again",
                folder.path / BEST,
                best + 1,
            )

    # ---- what a run says, and how it ends

    def _tell_classes(self, folder: RunFolder) -> None:
        """Log and write the model's results on each class of the validation images."""
        if self.validation is None:
            return
        x, labels = self.validation
        if self._answers is None:
            found = examine(self.model, x, labels, stop=lambda: self.signals.received is not None)
            if found is None:  # the run is done; a resumed run writes them
                return
            self._answers = found.classes
        classes = of_model(self.model, labels, self._answers)
        for line in classes.lines():
            _log.info("%s", line)
        folder.write_classes(classes, self.position.total_steps)

    def _warn_at_chance(self) -> None:
        """Warn if the run has learnt nothing."""
        if self.validation is not None:
            what, accuracy, labels = "validation", self.history[-1]["val_accuracy"], self.validation[1]
        else:
            held = self.x.held if isinstance(self.x, Shard) else None
            what, (accuracy, labels) = "training", chance.training_accuracy(self.model, self.x, self.labels, held)
        share = chance.guessing(accuracy, labels)
        if share is not None:
            steps, rate, batch = self.position.total_steps, self.job.optimizer.lr, self.job.batch_size
            _log.warning(chance.warning(what, accuracy, share, steps, batch, rate, self.usual_rate))

    def _announce(self) -> None:
        """Log what is about to run."""
        held_out = None if self.validation is None else len(self.validation[0])
        _info(announcement.work(self.model, self.x, held_out, self.names))
        for line in self.warnings:
            _log.warning(line)
        _info(announcement.recipe(self.job, self.engine, len(self.x), self.stopping))
        _info(f"          {line}" for line in self.said)
        if self.folder is not None:
            _info([f"run       {self.folder.path}"])
        _info(announcement.place(self.position, self.show.eta()))
        _info(f"          {change}" for change in self.changes)

    def _pace(self) -> tuple[int, float]:
        """Images of the last finished epoch (or of the first epoch so far), and the seconds that they took."""
        if self.history:
            before = self.history[-2]["elapsed_s"] if len(self.history) > 1 else 0.0
            return self.history[-1]["images"], self.history[-1]["elapsed_s"] - before
        return self.position.images, self.position.seconds

    def _interrupted(self, saved: bool = False) -> Interrupted:
        """Write a checkpoint; returns the error that says how to continue."""
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
        """Raise an error for NaN in the parameters: such a checkpoint would be of no use."""
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
        """Add the engine's figures since the last call to the epoch's."""
        position = self.position
        position.statistics = merge_statistics(
            position.statistics,
            position.statistics_images,
            self.engine.statistics(),
            position.images - position.statistics_images,
        )
        position.statistics_images = position.images

    def _options_of_older(self, recorded: dict[str, Any]) -> dict[str, Any]:
        """The rule's options of a run whose folder holds `recorded`: an older one has more, or fewer."""
        if self.job.workers == 1:  # its options, if they were recorded, changed nothing
            return texts.rule_options(self.job)
        if type(self.rule) is RULES.get(self.rule.name):  # options that had their defaults are missing
            return recipe.as_recorded(self.rule, recorded)
        return recorded

    def _path(self) -> Path | None:
        return None if self.folder is None else self.folder.path

    def _elapsed(self) -> float:
        return self.position.elapsed + time.monotonic() - self._session_began


def settings_of(job: Job, x: np.ndarray, labels: np.ndarray, frozen: tuple[str, ...]) -> dict[str, Any]:
    """The settings that must be the same when a run is continued."""
    optimizer = {name: value for name, value in job.optimizer.config().items() if name != "lr"}
    settings = {
        "epochs": job.epochs,
        "lr": job.optimizer.lr,
        "batch_size": job.batch_size,
        "seed": job.seed,
        "workers": job.workers,
        "update": job.rule.name,
        "update_options": texts.rule_options(job),
        "optimizer": optimizer,
        "schedule": texts.schedule_config(job.schedule),
        "augment": job.augment,
        "clip_norm": job.clip_norm,
        "freeze": frozen or None,
        "wire": None if job.wire == "exact" else job.wire,
        **weights.settings(job.weighing),
        "micro_batches": job.micro_batches if job.micro_batches > 1 else None,
        "data": inputs.data_fingerprint(x, labels),
    }
    return json.loads(json.dumps(settings))  # as a checkpoint returns them: tuples become lists


def _info(lines: Iterable[str]) -> None:
    for line in lines:
        _log.info("%s", line)
