"""Draws a confusion matrix."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..files import write_atomically
from ..plotting import content, own_style
from .scores import Scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUMBERED, LARGEST = 20, 24.0
"""Up to so many classes the cells have numbers; and the most inches of a side."""


def figure(found: Scores) -> Figure:
    """A confusion matrix, in per cent of each true class.

    Parameters
    ----------
    found : Scores

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # a second of import, needed only for pictures
    from matplotlib.figure import Figure

    count = len(found.classes)
    side = min(max(4.0, 0.62 * count + 1.8), LARGEST)
    made = Figure(figsize=(side + 0.8, side), layout="constrained")
    FigureCanvasAgg(made)
    axes = made.subplots()
    share = 100 * found.confusion / np.maximum(found.support, 1)[:, None]
    axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(count), found.classes, rotation=40, ha="right")
    axes.set_yticks(range(count), found.classes)
    axes.set(xlabel="answer", ylabel="true class")
    axes.spines[:].set_visible(False)
    if count <= NUMBERED:  # beyond, numbers would not be legible
        for row, column in np.ndindex(count, count):
            if found.confusion[row, column]:
                dark = share[row, column] > 55
                axes.text(column, row, f"{share[row, column]:.0f}", ha="center", va="center", fontsize=8,
                          color="white" if dark else "black")  # fmt: skip
    return made


def draw(found: Scores, path: Path) -> None:
    """Draw a confusion matrix as a PNG file; an older file is replaced.

    Parameters
    ----------
    found : Scores
    path : Path

    Raises
    ------
    OSError
        If the file cannot be written. Errors of matplotlib are raised too.
    """
    with own_style():
        png = content(figure(found), "png", dots_per_inch=120)
    write_atomically(path, png)
