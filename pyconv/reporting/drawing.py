"""The look of all pictures: sizes, axes, and colours that can be told apart in grey and by colour-blind readers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Okabe and Ito's colours.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8a8a00")
MARKERS = "osD^vPX*"
PREDICTED, SIMULATED = "cost model", "simulation"
LINES: dict[str, Any] = {PREDICTED: ":", SIMULATED: "--"}


def figure(panels: int = 1, *, width: float = 8.5, height: float = 3.8) -> tuple[Figure, list[Axes]]:
    """A figure with `panels` panels side by side, and the panels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # takes a second to import, for pictures only
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    axes = made.subplots(1, panels, squeeze=False)[0]
    for one in axes:
        one.grid(alpha=0.25)
        one.spines[["top", "right"]].set_visible(False)
    return made, list(axes)


def style(index: int) -> dict[str, Any]:
    """Colour and marker of the `index`-th curve."""
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)], "markersize": 4}


def ticks(axes: Axes, values: list[float]) -> None:
    """Label exactly these positions of a logarithmic x axis."""
    from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

    axes.xaxis.set_major_locator(FixedLocator(values))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())


def plain_ordinate(axes: Axes) -> None:
    """Label a logarithmic y axis as 0.5, 20, 1000 instead of powers of ten, with few labels."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))


def dotted(axes: Axes, x: list[float], y: list[float], index: int) -> None:
    """Draw the cost model's prediction for the `index`-th curve; the legend has one line for all predictions."""
    _beside(axes, x, y, index, PREDICTED)


def dashed(axes: Axes, x: list[float], y: list[float], index: int) -> None:
    """The same for what was simulated."""
    _beside(axes, x, y, index, SIMULATED)


def _beside(axes: Axes, x: list[float], y: list[float], index: int, kind: str) -> None:
    if x:
        axes.plot(x, y, LINES[kind], linewidth=1.2, color=COLOURS[index % len(COLOURS)], label=f"_{kind}")


def legend(axes: Axes) -> None:
    """Add a legend, if there is anything to explain."""
    from matplotlib.lines import Line2D

    handles, labels = axes.get_legend_handles_labels()
    for kind, style in LINES.items():
        if any(line.get_label() == f"_{kind}" for line in axes.get_lines()):
            handles.append(Line2D([], [], linestyle=style, linewidth=1.2, color="#444"))
            labels.append(kind)
    if handles:
        axes.legend(handles, labels, frameon=False, fontsize=8)
