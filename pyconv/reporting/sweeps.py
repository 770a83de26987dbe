"""The report of a sweep: runs by update rule, with error bars over their seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ..values import mapping
from . import drawing
from .page import Picture, Section, Table
from .runs import Run, some

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Groups = Mapping[str, Sequence[Run]]

PICTURE = (
    "Validation accuracy under each update rule: points are means over the seeds, bars reach from the worst seed to "
    "the best. Left against epochs (shifted, so that no bar hides another), right against the mean time."
)


def sweep_sections(groups: Groups) -> list[Section]:
    """The table and the picture of a sweep of update rules over seeds.

    Parameters
    ----------
    groups : mapping of str to sequence of Run
        By update rule, the runs of its seeds; at least one each.

    Returns
    -------
    list of Section
    """
    groups = _groups(groups)
    picture = Picture("sweep", partial(sweep_picture, groups), PICTURE)
    return [Section("Update rules over seeds", [sweep_table(groups), picture])]


def sweep_table(groups: Groups) -> Table:
    """One row for each rule: accuracy after the last epoch that all seeds have, its range, time and speed.

    Parameters
    ----------
    groups : mapping of str to sequence of Run
        See :func:`sweep_sections`.

    Returns
    -------
    Table
    """
    groups = _groups(groups)
    rows = []
    for rule, runs in groups.items():
        accuracy, elapsed = curves(runs)
        last = 100 * accuracy[:, -1]
        speed = np.mean([run.images_per_s for run in runs])
        cells = (f"{last.mean():.1f} %", f"{last.min():.1f} to {last.max():.1f} %", f"{elapsed[:, -1].mean():.1f} s")
        rows.append((rule, str(len(runs)), str(accuracy.shape[1]), *cells, f"{speed:.0f}"))
    header = ("update rule", "seeds", "epochs", "accuracy, mean", "worst to best seed", "time", "images/s")
    return Table(header, rows, "Validation accuracy after the last epoch")


def _groups(groups: Groups) -> Groups:
    return {rule: some(runs) for rule, runs in mapping(groups, "groups", "{'sync': runs}").items()}


def sweep_picture(groups: Groups) -> Figure:
    """Accuracy against epochs and against time, a curve for each rule."""
    figure, (by_epoch, by_time) = drawing.figure(2, width=10, height=4)
    for index, (rule, runs) in enumerate(groups.items()):
        accuracy, elapsed = curves(runs)
        mean = 100 * accuracy.mean(axis=0)
        bars = np.stack([mean - 100 * accuracy.min(axis=0), 100 * accuracy.max(axis=0) - mean])
        look = {**drawing.style(index), "capsize": 2.5, "linewidth": 1.3, "label": rule}
        shift = 0.06 * (index - (len(groups) - 1) / 2)
        by_epoch.errorbar(np.arange(1, mean.size + 1) + shift, mean, yerr=bars, **look)
        by_time.errorbar(elapsed.mean(axis=0), mean, yerr=bars, **look)
    by_epoch.set(xlabel="epoch", ylabel="validation accuracy, %")
    by_time.set(xlabel="time since the start, s")
    by_epoch.set_xticks(range(1, 1 + max(curves(runs)[0].shape[1] for runs in groups.values())))
    drawing.legend(by_epoch)
    return figure


def curves(runs: Sequence[Run]) -> tuple[np.ndarray, np.ndarray]:
    """Validation accuracy and seconds in the epochs that all runs have, each (runs, epochs); NaN without validation."""
    epochs = min(len(run.history) for run in runs)
    accuracy = [[line["val_accuracy"] for line in run.history[:epochs]] for run in runs]
    elapsed = [[line["elapsed_s"] for line in run.history[:epochs]] for run in runs]
    return np.array(accuracy, float), np.array(elapsed, float)
