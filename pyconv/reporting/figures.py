"""Draws Figs. 1 to 4, and the simulation, from records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Records = list[dict[str, Any]]


def _measured(records: Records) -> Records:
    return [record for record in records if record["median_s"] is not None]


def _split(records: Records, key: str) -> dict[str, Records]:
    """Records by the value of `key`, in the order of first appearance."""
    found: dict[str, Records] = {}
    for record in records:
        found.setdefault(record[key], []).append(record)
    return found


def _sorted(records: Records) -> Records:
    return sorted(records, key=lambda record: record["x"])


def _errors(records: Records, scale: float) -> np.ndarray:
    """Distances from the median to the quartiles, (2, n)."""
    return scale * np.array(
        [[r["median_s"] - r["q1_s"] for r in records], [r["q3_s"] - r["median_s"] for r in records]]
    ).clip(0)


def ratios(groups: dict[str, dict[str, float]]) -> Figure:
    """Horizontal bars of ratios, a colour for each group."""
    names = [(group, name) for group, own in groups.items() for name in own]
    figure, (axes,) = drawing.figure(1, width=7.5, height=1.1 + 0.28 * len(names))
    for index, (group, own) in enumerate(groups.items()):
        at = [names.index((group, name)) for name in own]
        bars = axes.barh(at, list(own.values()), color=drawing.COLOURS[index], label=group)
        axes.bar_label(bars, [f"{ratio:.3g}" for ratio in own.values()], padding=3, fontsize=8)
    axes.set_yticks(range(len(names)), [name for _, name in names], fontsize=8)
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="times faster than the serial loop")
    axes.set_xlim(1, 3 * max(ratio for own in groups.values() for ratio in own.values()))
    drawing.legend(axes)
    return figure


def layers(records: Records) -> Figure:
    """Fig. 1: a panel for each kind of layer; forward solid, backward dashed."""
    cases = _split(_measured(records), "case")
    figure, panels = drawing.figure(len(cases), width=9.5, height=4.4)
    for panel, (case, own) in zip(panels, cases.items()):
        for index, (column, theirs) in enumerate(_split(own, "column").items()):
            for operation, points in _split(theirs, "operation").items():
                points = _sorted(points)
                solid = operation == "forward"
                panel.errorbar(
                    [p["x"] for p in points], [1e3 * p["median_s"] for p in points], _errors(points, 1e3),
                    label=f"{column}, {operation}", linestyle="-" if solid else "--", capsize=2, linewidth=1.3,
                    fillstyle="full" if solid else "none", **drawing.style(index),
                )  # fmt: skip
                _predicted(panel, points, 1e3, index)
        panel.set(title=case, xlabel="image side, pixels", ylabel="time, ms", xscale="log", yscale="log")
        panel.title.set_fontsize(9)
        drawing.plain_ordinate(panel)
        drawing.ticks(panel, sorted({point["x"] for point in own}))
        drawing.legend(panel)
    return figure


def _predicted(axes: Axes, points: Records, scale: float, index: int) -> None:
    known = [p for p in points if p.get("predicted_s") is not None]
    drawing.dotted(axes, [p["x"] for p in known], [scale * p["predicted_s"] for p in known], index)


def speedups(records: Records) -> Figure:
    """Fig. 2: every column's speed-up over the serial loop."""
    columns = _split(_measured(records), "column")
    base = {record["x"]: record for record in columns.get("serial naive", [])}
    figure, (axes,) = drawing.figure(1, width=7.5, height=4.2)
    others = {name: own for name, own in columns.items() if name != "serial naive"}
    for index, (column, own) in enumerate(others.items()):
        points = _sorted([record for record in own if record["x"] in base])
        if not points:
            continue
        x = [p["x"] for p in points]
        ratio = np.array([base[p["x"]]["median_s"] / p["median_s"] for p in points])
        low, high = (np.array([base[p["x"]]["median_s"] / p[key] for p in points]) for key in ("q3_s", "q1_s"))
        axes.errorbar(x, ratio, np.array([ratio - low, high - ratio]).clip(0), label=column, capsize=2,
                      **drawing.style(index))  # fmt: skip
        known = [p for p in points if p.get("predicted_s") and base[p["x"]].get("predicted_s")]
        values = [base[p["x"]]["predicted_s"] / p["predicted_s"] for p in known]
        drawing.dotted(axes, [p["x"] for p in known], values, index)
    axes.axhline(1, color="#999", linewidth=0.8)
    axes.set(xlabel="image side, pixels", ylabel="times faster than the serial loop", xscale="log", yscale="log")
    drawing.ticks(axes, sorted(base))
    drawing.plain_ordinate(axes)
    drawing.legend(axes)
    return figure


def architectures(records: Records, images: int) -> Figure:
    """Fig. 3: grouped bars, seconds of an epoch of `images` images."""
    columns = _split(_measured(records), "column")
    cases = list(dict.fromkeys(record["case"] for record in _measured(records)))
    figure, (axes,) = drawing.figure(1, height=4.2)
    width = 0.8 / len(columns)
    for index, (column, own) in enumerate(columns.items()):
        own = [record for case in cases for record in own if record["case"] == case]
        scale = np.array([images / record["images"] for record in own])
        at = np.array([cases.index(r["case"]) for r in own]) + (index - (len(columns) - 1) / 2) * width
        heights = scale * [r["median_s"] for r in own]
        axes.bar(at, heights, width * 0.92, yerr=_errors(own, 1.0) * scale, label=column, capsize=2,
                 color=drawing.COLOURS[index % len(drawing.COLOURS)], error_kw={"linewidth": 0.8})  # fmt: skip
        known = [(x, s * r["predicted_s"]) for x, s, r in zip(at, scale, own) if r.get("predicted_s") is not None]
        if known:
            first = drawing.PREDICTED not in axes.get_legend_handles_labels()[1]
            axes.plot(*zip(*known), "D", color="white", markeredgecolor="black", markersize=4, markeredgewidth=0.8,
                      label=drawing.PREDICTED if first else None)  # fmt: skip
    axes.set_xticks(range(len(cases)), cases, rotation=20, ha="right")
    axes.set(ylabel="seconds an epoch", yscale="log")
    drawing.plain_ordinate(axes)
    drawing.legend(axes)
    return figure


def workers(records: Records, nodes: Records = ()) -> Figure:  # type: ignore[assignment]
    """Fig. 4: seconds of an epoch against workers, a panel for each network; the speed-up of all; and images a second
    against the ranks of a cluster, a panel for each network and link."""
    networks, clusters = _split(_measured(records), "case"), _split(nodes, "case")
    count = len(networks) + 1 + len(clusters)
    figure, every = drawing.figure(count, width=4.2 * count, height=4.2)
    panels, speed = every[: len(networks)], every[len(networks)]
    for axes, (case, theirs) in zip(every[len(networks) + 1 :], clusters.items()):
        _over_ranks(axes, case, theirs)
    counts = sorted({record["x"] for record in _measured(records)})
    colours = iter(range(len(records)))
    for time, (network, theirs) in zip(panels, networks.items()):
        for column, own in _split(theirs, "column").items():
            index, points = next(colours), _sorted(own)
            x, rule = [p["x"] for p in points], column.removeprefix(f"{network} ")
            time.errorbar(x, [p["median_s"] for p in points], _errors(points, 1.0), label=rule, capsize=2,
                          **drawing.style(index))  # fmt: skip
            _predicted(time, points, 1.0, index)
            known = [p for p in points if p.get("simulated_s") is not None]
            drawing.dashed(time, [p["x"] for p in known], [p["simulated_s"] for p in known], index)
            _speedup(speed, points, column, index)
        time.set(title=network, xlabel="workers", ylabel="seconds an epoch", xscale="log", yscale="log")
    speed.plot(counts, counts, color="#999", linewidth=0.8, label="ideal")
    speed.set(title="over one worker", xlabel="workers", ylabel="speed-up", xscale="log", yscale="log")
    for axes in (*panels, speed):
        axes.title.set_fontsize(9)
        drawing.ticks(axes, counts)
        drawing.plain_ordinate(axes)
        drawing.legend(axes)
    return figure


def _over_ranks(axes: Axes, case: str, records: Records) -> None:
    """Images a second against ranks, by split: measured, predicted and simulated."""
    for index, (column, own) in enumerate(_split(records, "column").items()):
        points, played = _sorted(_measured(own)), _sorted([r for r in own if r.get("simulated_images_per_s")])
        rates = [p["images"] / p["median_s"] for p in points]
        ends = [[p["images"] / p[quartile] for p in points] for quartile in ("q3_s", "q1_s")]
        bars = np.abs(np.array(ends) - rates) if points else None
        axes.errorbar([p["x"] for p in points], rates, bars, label=column, capsize=2, linestyle="",
                      **drawing.style(index))  # fmt: skip
        known = [p for p in points if p.get("predicted_s") is not None]
        drawing.dotted(axes, [p["x"] for p in known], [p["images"] / p["predicted_s"] for p in known], index)
        drawing.dashed(axes, [p["x"] for p in played], [p["simulated_images_per_s"] for p in played], index)
    axes.set(title=case, xlabel="ranks", ylabel="images a second", xscale="log", yscale="log")
    axes.title.set_fontsize(9)
    counts = sorted({record["x"] for record in records})
    drawing.ticks(axes, [x for x in counts if x < 8 or x in (8, 32, 128, 512)])
    drawing.plain_ordinate(axes)
    drawing.legend(axes)


def _speedup(axes: Axes, points: Records, column: str, index: int) -> None:
    """One curve of speed-ups over the fewest workers; its error bars come from the quartiles of its own times."""
    base = points[0]
    scale = base["x"] * base["median_s"]
    values = np.array([scale / p["median_s"] for p in points])
    low, high = (np.array([scale / p[key] for p in points]) for key in ("q3_s", "q1_s"))
    bars = np.array([values - low, high - values]).clip(0)
    bars[:, 0] = 0  # the point with which the others are compared
    axes.errorbar([p["x"] for p in points], values, bars, label=column, capsize=2, **drawing.style(index))
    known = [p for p in points if p.get("predicted_s")]
    if known and known[0] is base:
        predicted = [base["x"] * base["predicted_s"] / p["predicted_s"] for p in known]
        drawing.dotted(axes, [p["x"] for p in known], predicted, index)


def simulated(records: Records) -> Figure:
    """Speed-up of a simulated cluster against workers."""
    figure, (axes,) = drawing.figure(1, width=7.5, height=4.4)
    counts = sorted({record["x"] for record in records})
    for index, (column, own) in enumerate(_split(records, "column").items()):
        points = _sorted(own)
        width = 3.2 - 0.45 * index  # so that a curve under another one shows
        axes.plot([p["x"] for p in points], [p["speedup"] for p in points], label=column, linewidth=width,
                  **drawing.style(index))  # fmt: skip
    axes.plot(counts, counts, color="#999", linewidth=0.8, label="ideal")
    axes.set(xlabel="workers", ylabel="speed-up", xscale="log", yscale="log")
    drawing.ticks(axes, counts)
    drawing.plain_ordinate(axes)
    drawing.legend(axes)
    return figure
