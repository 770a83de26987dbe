"""Pictures of runs: curves and confusion matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from . import drawing
from .scores import Scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .runs import Run


def curves(runs: Sequence[Run]) -> Figure:
    """Training loss and validation accuracy against epochs, accuracy against time."""
    figure, (loss, accuracy, timed) = drawing.figure(3, width=11, height=3.8)
    for index, run in enumerate(runs):
        look = drawing.style(index)
        beneath = min(len(runs) - 1 - index, 5)  # later runs are drawn over it and have to leave its rim to be seen
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
    """Label whole epochs, some ten at most, with room beside a single one."""
    step = max(1, -(-(last - first) // 10))
    axes.set_xticks(range(first, last + 1, step))
    room = 0.05 * (last - first) or 0.5
    axes.set_xlim(first - room, last + room)


def confusion(found: Scores) -> Figure:
    """A confusion matrix, in per cent of each true class."""
    count = len(found.classes)
    side = max(4.0, 0.62 * count + 1.8)
    figure, (axes,) = drawing.figure(1, width=side + 0.8, height=side)
    share = 100 * found.confusion / np.maximum(found.support, 1)[:, None]
    axes.grid(False)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(count), found.classes, rotation=40, ha="right")
    axes.set_yticks(range(count), found.classes)
    axes.set(xlabel="answer", ylabel="true class")
    axes.spines[:].set_visible(False)
    if count <= 20:  # beyond, numbers would not be legible
        for row, column in np.ndindex(count, count):
            if found.confusion[row, column]:
                dark = share[row, column] > 55
                axes.text(column, row, f"{share[row, column]:.0f}", ha="center", va="center", fontsize=8,
                          color="white" if dark else "black")  # fmt: skip
    return figure
