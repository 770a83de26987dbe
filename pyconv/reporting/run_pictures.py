"""Draws the pictures of runs: their curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .runs import Run


def curves(runs: Sequence[Run]) -> Figure:
    """Training loss and validation accuracy against epochs, accuracy against time."""
    figure, (loss, accuracy, timed) = drawing.figure(3, width=11, height=3.8)
    for index, run in enumerate(runs):
        look = drawing.style(index)
        beneath = min(len(runs) - 1 - index, 5)  # later runs are drawn over this one; its rim must stay visible
        look |= {"markersize": look["markersize"] + 3.5 * beneath, "linewidth": 1.3 + 0.9 * beneath}
        loss.plot([line["epoch"] for line in run.history], [line["train_loss"] for line in run.history],
                  label=run.name, **look)  # fmt: skip
        known = [line for line in run.history if line["val_accuracy"] is not None]
        percent = [100 * line["val_accuracy"] for line in known]
        accuracy.plot([line["epoch"] for line in known], percent, label=run.name, **look)
        timed.plot([line["elapsed_s"] for line in known], percent, label=run.name, **look)
    loss.set(xlabel="epoch", ylabel="training loss, nats")
    accuracy.set(xlabel="epoch", ylabel="validation accuracy, %")
    timed.set(xlabel="time since the start, s", ylabel="validation accuracy, %")
    epochs = [line["epoch"] for run in runs for line in run.history]
    for axes in (loss, accuracy):
        _whole_epochs(axes, min(epochs), max(epochs))
    drawing.legend(loss)
    return figure


def _whole_epochs(axes: Axes, first: int, last: int) -> None:
    """Label whole epochs, at most about ten, with room beside a single one."""
    step = max(1, -(-(last - first) // 10))
    axes.set_xticks(range(first, last + 1, step))
    room = 0.05 * (last - first) or 0.5
    axes.set_xlim(first - room, last + room)
