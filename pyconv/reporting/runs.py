"""Comparing runs: curves, confusion matrices, scores by class, time to accuracy, speed-up."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from .. import datasets, nn
from ..documents import parse_json, read_text
from ..errors import DataError, InputError, PyconvError
from ..loop import read_config, reading
from ..loop.folder import METRICS, MODEL
from ..loop.metrics import check_line
from ..values import flag
from ..values import path as as_path
from . import run_pictures
from .page import Picture, Section, Table
from .scores import Scores, scores

CURVES = (
    "Training loss and validation accuracy against epochs, and validation accuracy against seconds since the start of "
    "the run."
)


@dataclass(frozen=True)
class Run:
    """What a run folder tells.

    Attributes
    ----------
    name : str
        The folder's name, made different from other runs' where they are the same.
    config : dict
        ``config.toml``.
    history : list of dict
        Lines of ``metrics.jsonl``, one an epoch; at least one.
    scores : Scores or None
        Of the saved model on the validation split.
    note : str
        Why there are no scores, or "".
    """

    name: str
    config: dict[str, Any]
    history: list[dict[str, Any]]
    scores: Scores | None
    note: str = ""

    @property
    def images_per_s(self) -> float:
        """Images a second of training, over all epochs."""
        seconds = sum(line["seconds"] for line in self.history)
        return sum(line["images"] for line in self.history) / seconds if seconds > 0 else 0.0

    @property
    def best_accuracy(self) -> float | None:
        """The best validation accuracy, 0 to 1; None for a run without validation."""
        known = [line["val_accuracy"] for line in self.history if line["val_accuracy"] is not None]
        return max(known, default=None)

    @property
    def work(self) -> object:
        """What is trained on what: only the times of runs in which it is equal compare."""
        model, data = self.config.get("model", {}), self.config.get("data", {})
        network: object = model.get("name")
        with contextlib.suppress(KeyError, ValueError, TypeError, AttributeError):  # a file written by hand
            network = {name: value for name, value in parse_json(model["config"]).items() if name != "seed"}
        return network, data.get("fingerprint", data.get("source"))

    def seconds_to(self, accuracy: float) -> float | None:
        """Time until the run had reached an accuracy.

        Parameters
        ----------
        accuracy : float
            On the validation split, 0 to 1.

        Returns
        -------
        float or None
            Seconds from the run's start to the end of the first epoch with it; None if none has it.
        """
        reached = (line for line in self.history if (line["val_accuracy"] or 0) >= accuracy)
        return next((float(line["elapsed_s"]) for line in reached), None)

    @property
    def description(self) -> str:
        """ "fer, 2 workers, sync"."""
        last = self.history[-1]
        model = self.config.get("model", {}).get("name", "model")
        return f"{model}, {last['workers']} worker{'s' * (last['workers'] != 1)}, {last['update']}"


def read_run(folder: str | Path, *, evaluate: bool = True) -> Run:
    """Read a run folder.

    Parameters
    ----------
    folder : path
        As ``--out`` left it.
    evaluate : bool
        Whether to run the saved model on the validation data, for its scores by class.

    Returns
    -------
    Run

    Raises
    ------
    InputError
        If it holds no run.
    DataError
        If no epoch was finished or ``metrics.jsonl`` is damaged.
    """
    folder = as_path(folder, "folder")
    evaluate = flag(evaluate, "evaluate")
    config = read_config(folder)
    history = _history(folder / METRICS)
    found, note = None, "not asked for"
    if evaluate:
        try:
            found, note = _evaluate(folder, config), ""
        except (PyconvError, OSError) as error:
            note = str(error)
    return Run(folder.resolve().name, config, history, found, note)


def _history(path: Path) -> list[dict[str, Any]]:
    lines = []
    for row, line in enumerate(read_text(path).splitlines(), 1):
        try:
            entry = parse_json(line)
        except ValueError as error:
            raise DataError(f"{path}, row {row}: is not JSON: {error}; was the run killed while it wrote?") from None
        check_line(entry, f"{path}, row {row}")
        lines.append(entry)
    if not lines:
        raise DataError(f"{path}: no epoch of this run was finished; there is nothing to report yet")
    return lines


def _evaluate(folder: Path, config: dict[str, Any]) -> Scores:
    """The saved model's scores on the validation split of the data that it was trained with."""
    about = config.get("data", {})
    if "source" not in about:
        raise InputError("the run's data were arrays of a program, which the folder does not keep")
    model = nn.load(folder / MODEL)
    data = datasets.load(about["source"], **reading(about))
    validation = data.validation
    if not len(validation.y):
        raise InputError("the data have no validation split")
    if tuple(validation.x.shape[1:]) != tuple(model.input_shape):
        raise InputError(f"{about['source']} has images of another shape than the model was trained on")
    classes = model.classes or [f"class {index}" for index in range(model.output_shape[0])]
    return scores(validation.y, model.predict(validation.x), list(classes))


def common_target(runs: Sequence[Run]) -> float | None:
    """The highest whole per cent of accuracy that every run has reached; None where one has no validation."""
    best = [run.best_accuracy for run in runs]
    known = [value for value in best if value is not None]
    return int(100 * min(known)) / 100 if known and len(known) == len(best) else None


def summary(runs: Sequence[Run]) -> Table:
    """One row a run: what it was, how good, how fast, and the speed-up over the first.

    Parameters
    ----------
    runs : sequence of Run
        At least one.

    Returns
    -------
    Table
    """
    target = common_target(runs)
    first = runs[0]
    rows = []
    others = False
    for run in runs:
        seconds = run.seconds_to(target) if target is not None else None
        base = first.seconds_to(target) if target is not None else None
        alike = run.work == first.work
        others = others or not alike
        rows.append(
            (
                run.name,
                run.description,
                str(len(run.history)),
                _percent(run.best_accuracy),
                "–" if run.scores is None else f"{run.scores.macro_f1:.3f}",
                f"{run.images_per_s:.0f}",
                f"{run.images_per_s / first.images_per_s:.2f}" if alike and first.images_per_s else "–",
                "–" if seconds is None else f"{seconds:.1f} s",
                "–" if not alike or not seconds or not base else f"{base / seconds:.2f}",
            )
        )
    reach = "time to accuracy" if target is None else f"time to {100 * target:.0f}\N{NO-BREAK SPACE}%"
    header = ("run", "what", "epochs", "best accuracy", "macro-F1", "images/s", "speed-up", reach, "speed-up of that")
    caption = f"Speed-ups are over the first run, {first.name}"
    if others:
        caption += "; there is none for a run of another network or of other data"
    return Table(header, rows, caption, words=(1,))


def run_sections(runs: Sequence[Run]) -> list[Section]:
    """Everything that a comparison of runs has.

    Parameters
    ----------
    runs : sequence of Run
        At least one.

    Returns
    -------
    list of Section
        The runs, their curves, and each one's confusion matrix and scores by class.
    """
    runs = distinct(runs)
    sections = [
        Section("The runs", [summary(runs), *_time_split(runs)]),
        Section("Curves", [Picture("curves", partial(run_pictures.curves, runs), CURVES)]),
    ]
    for number, run in enumerate(runs):
        if run.scores is None:
            sections.append(Section(f"{run.name}: classes", [f"No scores by class: {run.note}."]))
            continue
        caption = (
            f"Confusion matrix of {run.name} on {run.scores.support.sum()} validation images: rows are the true "
            "classes, in per cent of each."
        )
        picture = Picture(f"confusion-{number + 1}", partial(run_pictures.confusion, run.scores), caption)
        sections.append(Section(f"{run.name}: classes", [picture, class_table(run.scores)]))
    return sections


def distinct(runs: Sequence[Run]) -> list[Run]:
    """The same runs, those of one name numbered."""
    names = [run.name for run in runs]
    made = []
    for number, run in enumerate(runs):
        same = names[:number].count(run.name)
        name = run.name if names.count(run.name) == 1 else f"{run.name} ({same + 1})"
        made.append(Run(name, run.config, run.history, run.scores, run.note))
    return made


def class_table(found: Scores) -> Table:
    """Precision, recall, F1 and number of examples of each class, and the means over classes."""
    rows = [
        (name, f"{p:.3f}", f"{r:.3f}", f"{f:.3f}", str(n))
        for name, p, r, f, n in zip(found.classes, found.precision, found.recall, found.f1, found.support)
    ]
    means = (f"{found.precision.mean():.3f}", f"{found.recall.mean():.3f}", f"{found.macro_f1:.3f}")
    rows.append(("mean over classes", *means, str(found.support.sum())))
    return Table(("class", "precision", "recall", "F1", "examples"), rows, f"Accuracy {_percent(found.accuracy)}")


def _time_split(runs: Sequence[Run]) -> list[Table]:
    """Where the workers' time went, by run."""
    rows = []
    for run in runs:
        compute, communication = (
            sum(line.get(name) or 0.0 for line in run.history) for name in ("compute_s", "communication_s")
        )
        stale = max(line.get("staleness_max") or 0 for line in run.history)
        restarts = sum(line.get("restarts") or 0 for line in run.history)
        rows.append((run.name, f"{compute:.1f} s", f"{communication:.1f} s", str(stale), str(restarts)))
    header = ("run", "computation", "communication", "largest staleness", "restarts")
    return [Table(header, rows, "Where a worker's time went, and how asynchronous it was")]


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f} %"
