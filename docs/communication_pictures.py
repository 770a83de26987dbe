"""The pictures of the page about communication: what ranks send, when, and to whom.

Who needs what is asked of the code that sends it; when it travels is played with times that are easy to see. The
documentation's build draws them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyconv.cluster.flow import cut
from pyconv.cluster.halo import Halo
from pyconv.cluster.pipeline.schedule import FORWARD, passes
from pyconv.cluster.rows import RowSplit, evenly
from pyconv.cluster.spread import Spread
from pyconv.plotting import content, own_style
from pyconv.shapes import conv_geometry

BLUE, ORANGE, GREY, GREEN, RED = "#4477aa", "#ee8866", "#dddddd", "#44aa77", "#cc6677"
RANKS = (BLUE, GREEN, ORANGE)  # a rank's colour
FORWARD_S, BACKWARD_S, UPDATE_S = 1.0, 2.0, 0.6
MESSAGES_S = (0.5, 0.8, 1.6, 1.8)  # of the gradient, and of the parameters, of each layer


@dataclass(frozen=True)
class Span:
    """Something that takes time.

    Attributes
    ----------
    row : str
        Who does it.
    start, stop : float
    text : str
        What is written on it.
    """

    row: str
    start: float
    stop: float
    text: str


# ---- what is played -------------------------------------------------------------------------------


def step(overlap: bool, messages: Sequence[float] = MESSAGES_S) -> list[Span]:
    """A step of one of several equal ranks, and the next step's forward pass.

    Parameters
    ----------
    overlap : bool
        Whether gradients and parameters travel while layers are computed.
    messages : sequence of float
        For each layer, how long its gradient travels, and how long its parameters.
    """
    layers, spans, now, link = range(len(messages)), [], 0.0, 0.0

    def compute(text: str, seconds: float) -> None:
        nonlocal now
        spans.append(Span("computes", now, now + seconds, text))
        now += seconds

    def travel(text: str, ready: float, seconds: float) -> float:
        nonlocal link
        start = max(ready, link)
        link = start + seconds
        spans.append(Span("link", start, link, text))
        return link

    for layer in layers:
        compute(f"F{layer}", FORWARD_S)
    complete = {}
    for layer in reversed(layers):
        compute(f"B{layer}", BACKWARD_S)
        complete[layer] = now
    for layer in reversed(layers):
        travel(f"g{layer}", complete[layer] if overlap else now, messages[layer])
    now = max(now, link)
    compute("U", UPDATE_S)
    updated = now
    there = {layer: travel(f"p{layer}", updated, messages[layer]) for layer in layers}
    for layer in layers:
        now = max(now, there[layer] if overlap else link)
        compute(f"F{layer}", FORWARD_S)
    return spans


def pipeline(schedule: str, stages: int, micro: int) -> list[Span]:
    """A step of a pipeline whose passes all take the same time, and whose messages take none."""
    orders = [passes(schedule, stages, stage, micro) for stage in range(stages)]
    ends: dict[tuple[str, int, int], float] = {}
    free, done, spans = [0.0] * stages, [0] * stages, []
    while sum(done) < sum(map(len, orders)):
        for stage, order in enumerate(orders):
            if done[stage] == len(order):
                continue
            each = order[done[stage]]
            before = stage - 1 if each.way == FORWARD else stage + 1
            if each.way != FORWARD and stage == stages - 1:
                arrival: float | None = 0.0  # its own forward pass comes before in the order
            else:
                arrival = 0.0 if before < 0 else ends.get((each.way, before, each.micro))
            if arrival is None:
                continue
            start = max(free[stage], arrival)
            ends[each.way, stage, each.micro] = free[stage] = start + 1
            spans.append(Span(f"stage {stage}", start, start + 1, f"{each.way[0].upper()}{each.micro}"))
            done[stage] += 1
    return spans


def as_text(spans: Sequence[Span]) -> list[str]:
    """A pipeline's step as lines of text, two dots where a stage waits."""
    end = round(max(span.stop for span in spans))
    lines = []
    for row in sorted({span.row for span in spans}):
        at = {round(span.start): span.text for span in spans if span.row == row}
        lines.append(f"{row}  " + " ".join(at.get(slot, "..") for slot in range(end)))
    return lines


# ---- what is drawn --------------------------------------------------------------------------------


def _bars(axes: Any, spans: Sequence[Span], colour: Callable[[Span], str]) -> None:
    rows = sorted({span.row for span in spans})
    for span in spans:
        place = rows.index(span.row)
        axes.barh(place, span.stop - span.start, left=span.start, color=colour(span), edgecolor="white", height=0.8)
        axes.text((span.start + span.stop) / 2, place, span.text, ha="center", va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), rows)
    axes.invert_yaxis()
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_xticks([])


def overlap(figure: Any) -> None:
    """A step with overlap above one without."""
    colours = {"F": BLUE, "B": GREEN, "U": GREY, "g": ORANGE, "p": RED}
    both = [step(True), step(False)]
    end = max(span.stop for spans in both for span in spans)
    for axes, spans, title in zip(figure.subplots(2, 1), both, ("with overlap", "without (--no-overlap)")):
        _bars(axes, spans, lambda span: colours[span.text[0]])
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_xlim(0, end)
        axes.axvline(max(span.stop for span in spans), color="black", linewidth=0.8, linestyle=":")


def pieces(figure: Any) -> None:
    """A vector of parameters, the stretch of each of two ranks, and the pieces of these."""
    axes = figure.subplots()
    spread = Spread(1_000_000, 2, 2)
    for rank in range(2):
        part = spread.stretch(rank)
        for number, (begin, end) in enumerate(cut(part.start, part.stop, 4)):
            shade = 1.0 if number % 2 else 0.65
            axes.barh(0, end - begin, left=begin, color=RANKS[rank], alpha=shade, edgecolor="white", linewidth=0.6)
        axes.text((part.start + part.stop) / 2, 0.62, f"rank {rank} adds these up and updates them", ha="center")
    size = spread.parameters
    for height, start, stop, text in (
        (-0.75, size, 0, "gradients leave from the last layer to the first"),
        (-1.35, 0, size, "parameters arrive from the first layer to the last"),
    ):
        axes.annotate("", (stop, height), (start, height), arrowprops={"arrowstyle": "-|>", "linewidth": 1.2})
        axes.text(size / 2, height + 0.08, text, ha="center", va="bottom", fontsize=9)
    axes.set(xlim=(0, size), ylim=(-1.5, 1.0))
    axes.axis("off")


def halo(figure: Any) -> None:
    """Rows of an image on three ranks, and those that each gets for a kernel of five rows."""
    axes = figure.subplots()
    rows, ranks, wide = 15, 3, 9
    g = conv_geometry((1, rows, wide, 1), (5, 5, 1, 1), padding="same")
    split = RowSplit(g, tuple(evenly(rows, ranks)))
    needs = Halo(split.inputs, [split.read(part) for part in split.outputs])
    for rank, have in enumerate(split.inputs):
        _rows(axes, 0, have, wide, RANKS[rank], 1.0)
        axes.text(-0.4, -(have.start + have.stop) / 2, f"rank {rank}", ha="right", va="center", fontsize=9)
        left = 14 + 12 * rank
        _rows(axes, left, have, wide, RANKS[rank], 1.0)
        for other, part in needs.messages(rank):
            _rows(axes, left, part, wide, RANKS[other], 0.45)
            middle = -(part.start + part.stop) / 2
            axes.text(left + wide / 2, middle, f"from rank {other}", ha="center", va="center", fontsize=8)
        inside = split.read_inside(split.outputs[rank], have)  # with "same" padding, the rows of images and results
        middle = -(inside.start + inside.stop) / 2
        axes.text(left + wide / 2, middle, "needs no halo", ha="center", va="center", fontsize=8)
        axes.text(left + wide / 2, 0.5, f"rank {rank} reads", ha="center", fontsize=9)
    axes.text(wide / 2, 0.5, "the image", ha="center", fontsize=9)
    axes.set(xlim=(-4, 14 + 12 * ranks), ylim=(-rows - 0.5, 1.5))
    axes.axis("off")


def _rows(axes: Any, left: float, rows: range, width: float, colour: str, alpha: float) -> None:
    for row in rows:
        axes.barh(-row - 0.5, width, left=left, height=1, color=colour, alpha=alpha, edgecolor="white", linewidth=0.8)


def filters(figure: Any) -> None:
    """A layer whose filters three ranks share: its results, and its input's gradient."""
    axes = figure.subplots()
    for rank, colour in enumerate(RANKS):
        low = -1.3 * rank
        axes.text(-0.2, low, f"rank {rank}", ha="right", va="center", fontsize=9)
        _box(axes, 0, low, 2.4, GREY, "whole input")
        _box(axes, 3.2, low, 2.4, colour, "its filters")
        _box(axes, 6.4, low, 2.4, colour, "their results")
        _arrow(axes, 2.4, 3.2, low)
        _arrow(axes, 5.6, 6.4, low)
        for other, shade in enumerate(RANKS):
            _box(axes, 10.4 + 1.6 * other, low, 1.6, shade, f"from {other}" if other != rank else "own")
    axes.annotate("", (10.3, -1.3), (8.9, -1.3), arrowprops={"arrowstyle": "-|>", "linewidth": 2})
    axes.text(9.6, -0.95, "all to\nall", ha="center", va="bottom", fontsize=8)
    axes.text(12.8, 0.65, "the next layer's whole input", ha="center", fontsize=9)
    axes.set(xlim=(-1.6, 15.4), ylim=(-3.3, 1.0))
    axes.axis("off")


def _box(axes: Any, left: float, middle: float, width: float, colour: str, text: str) -> None:
    axes.barh(middle, width, left=left, height=0.9, color=colour, edgecolor="white")
    axes.text(left + width / 2, middle, text, ha="center", va="center", fontsize=8)


def _arrow(axes: Any, start: float, stop: float, height: float) -> None:
    axes.annotate("", (stop, height), (start, height), arrowprops={"arrowstyle": "-|>", "linewidth": 1})


def stages(figure: Any) -> None:
    """Both schedules of a pipeline of three stages."""
    for axes, schedule in zip(figure.subplots(2, 1, sharex=True), ("gpipe", "1f1b")):
        spans = pipeline(schedule, 3, 4)
        _bars(axes, spans, lambda span: BLUE if span.text[0] == "F" else GREEN)
        axes.set_title(schedule, fontsize=10, loc="left")
        axes.set_xlim(0, max(span.stop for span in spans))


#: By file name, what draws it, and its size in inches.
PICTURES: dict[str, tuple[Callable[[Any], None], tuple[float, float]]] = {
    "overlap": (overlap, (9, 3)),
    "pieces": (pieces, (9, 2.2)),
    "halo": (halo, (9, 3.4)),
    "filters": (filters, (9, 2.6)),
    "stages": (stages, (9, 3.6)),
}


def draw(folder: Path) -> None:
    """Write all pictures into a folder, as ``communication-NAME.svg``."""
    for name, (drawn, size) in PICTURES.items():
        with own_style():
            from matplotlib.figure import Figure

            figure = Figure(figsize=size, layout="constrained")
            drawn(figure)
            (folder / f"communication-{name}.svg").write_bytes(content(figure, "svg"))
