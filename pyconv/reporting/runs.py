"""Reads run folders and compares runs: scores by class, time to an accuracy, speed-up."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import datasets, nn
from ..documents import parse_json, read_text
from ..errors import DataError, InputError, PyconvError
from ..loop import examine, read_config, reading
from ..loop.folder import METRICS, MODEL, read_classes
from ..loop.metrics import check_line
from ..loop.scores import Scores, of_model
from ..values import all_of, flag
from ..values import path as as_path
from .page import Table


@dataclass(frozen=True)
class Run:
    """The content of a run folder.

    Attributes
    ----------
    name : str
        The folder's name; numbered if several runs have the same.
    config : dict
        ``config.toml``.
    history : list of dict
        Lines of ``metrics.jsonl``, one an epoch; at least one.
    scores : Scores or None
        Scores of the saved model on the validation split.
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
        """The network and its data: only runs for which this is equal can be compared in time."""
        model, data = self.config.get("model", {}), self.config.get("data", {})
        network: object = model.get("name")
        with contextlib.suppress(KeyError, ValueError, TypeError, AttributeError):  # if the file was written by hand
            network = {name: value for name, value in parse_json(model["config"]).items() if name != "seed"}
        return network, data.get("fingerprint", data.get("source"))

    def seconds_to(self, accuracy: float) -> float | None:
        """Time until the run reached an accuracy.

        Parameters
        ----------
        accuracy : float
            On the validation split, 0 to 1.

        Returns
        -------
        float or None
            Seconds from the run's start to the end of the first epoch with that accuracy; None if there is none.
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
        Folder that ``--out`` named.
    evaluate : bool
        Whether to run the saved model on the validation data, for its scores by class, where the folder does not hold
        those that the run ended with.

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
    note = ""
    try:
        found = read_classes(folder, history[-1]["step"])
        if found is None and evaluate:
            found = _evaluate(folder, config)
        elif found is None:
            note = "not asked for"
    except (PyconvError, OSError) as error:
        found, note = None, str(error)
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
    """The saved model's scores on the validation split of its training data."""
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
    answers: Any = examine(model, validation.x, validation.y)  # None only for one that is stopped
    return of_model(model, validation.y, answers.classes)


def common_target(runs: Sequence[Run]) -> float | None:
    """The highest whole per cent of accuracy that every run reached; None if one has no validation."""
    best = [run.best_accuracy for run in runs]
    known = [value for value in best if value is not None]
    return int(100 * min(known)) / 100 if known and len(known) == len(best) else None


def summary(runs: Sequence[Run]) -> Table:
    """One row for each run: what it trained, its accuracy, its speed, and the speed-up over the first.

    Parameters
    ----------
    runs : sequence of Run
        At least one.

    Returns
    -------
    Table
    """
    runs = some(runs)
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
                percent(run.best_accuracy),
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


def some(runs: Sequence[Run]) -> tuple[Run, ...]:
    """The runs of a table, at least one, or an `InputError`."""
    return all_of(runs, "runs", Run, "runs, as read_run gives them", least=1)


def distinct(runs: Sequence[Run]) -> list[Run]:
    """The same runs; those with the same name get numbers."""
    names = [run.name for run in runs]
    made = []
    for number, run in enumerate(runs):
        same = names[:number].count(run.name)
        name = run.name if names.count(run.name) == 1 else f"{run.name} ({same + 1})"
        made.append(Run(name, run.config, run.history, run.scores, run.note))
    return made


def percent(value: float | None) -> str:
    """A share in per cent, or a dash."""
    return "–" if value is None else f"{100 * value:.2f} %"
