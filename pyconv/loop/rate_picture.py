"""Draws a learning-rate sweep: the loss of each step against its learning rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..plotting import content, own_style

if TYPE_CHECKING:
    from .rates import LearningRates


def png(found: LearningRates) -> bytes:
    """The picture, as a PNG file."""
    with own_style():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.4, 3.8), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        axes.semilogx(found.rates, found.losses, ".", markersize=3, color="0.7", label="mini-batches")
        axes.semilogx(found.rates, found.smoothed, label="smoothed")
        if found.suggestion is not None:
            axes.axvline(found.suggestion, color="C1", linestyle="--", label=f"suggested: {found.suggestion:g}")
        start = float(found.smoothed[0])
        low = min(float(found.losses.min()), float(found.smoothed.min()))
        axes.set_ylim(low - 0.05 * abs(start - low), max(1.3 * start, start + 0.1))
        axes.set(xlabel="learning rate", ylabel="cross-entropy, nats")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        return content(figure, "png", dots_per_inch=120)
