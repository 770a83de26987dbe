"""Draws ``curves.png``: loss and accuracy of a run against its epochs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..files import write_atomically
from ..plotting import content, own_style


def draw(history: list[dict[str, Any]], path: Path) -> None:
    """Draw the curves of a run.

    Parameters
    ----------
    history : list of dict
        Lines of metrics: ``epoch, train_loss, train_accuracy, val_loss, val_accuracy``; the last two may be None.
    path : Path
        PNG file, replaced.

    Raises
    ------
    OSError
        If the file cannot be written. Any error of matplotlib is passed on, too.
    """
    with own_style():
        png = _png(history)
    write_atomically(path, png)


def _png(history: list[dict[str, Any]]) -> bytes:
    """The picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # takes a second to import, once, at the end
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    loss, accuracy = figure.subplots(1, 2)
    epochs = [line["epoch"] for line in history]
    loss.plot(epochs, [line["train_loss"] for line in history], "o-", markersize=3, label="training")
    accurate = [line for line in history if line.get("train_accuracy") is not None]
    accuracy.plot(
        [line["epoch"] for line in accurate], [100 * line["train_accuracy"] for line in accurate], "o-", markersize=3,
        label="training",
    )  # fmt: skip
    validated = [line for line in history if line["val_loss"] is not None]
    if validated:
        at = [line["epoch"] for line in validated]
        loss.plot(at, [line["val_loss"] for line in validated], "s-", markersize=3, label="validation")
        accuracy.plot(
            at, [100 * line["val_accuracy"] for line in validated], "s-", markersize=3, color="C1", label="validation"
        )
    loss.set(xlabel="epoch", ylabel="cross-entropy, nats")
    loss.legend(frameon=False)
    accuracy.set(xlabel="epoch", ylabel="accuracy, %")
    accuracy.legend(frameon=False)
    for axes in (loss, accuracy):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    return content(figure, "png", dots_per_inch=120)
