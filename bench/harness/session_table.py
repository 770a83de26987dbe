"""The tables that a session prints at its end: case by case, every variant beside the first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyconv.reporting.experiments import milliseconds

Record = dict[str, Any]

#: What `x` of a record counts, by experiment.
ABSCISSA = dict.fromkeys(("fig1", "fig2"), "image side")
ABSCISSA |= dict.fromkeys(("fig4", "parallel", "prediction", "simulation", "two_workers", "update_rules"), "workers")

HEADER = ("", "ms", "ratio", "GFLOP/s", "of peak", "")


def lines(records: list[Record]) -> list[str]:
    """The records of one experiment as lines of text; a block for each case and operation, a line for each variant.

    A variant's ratio is the first one's time over its own; its share is of the peak of as many threads as it ran on.
    """
    experiment = records[0]["experiment"]
    blocks: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        blocks.setdefault(tuple(record.get(key) for key in ("case", "operation", "x")), []).append(record)
    tables = [(key, _rows(own)) for key, own in blocks.items()]
    firsts = {first["column"] for own in blocks.values() if (first := _first(own)) is not None}
    cells = [HEADER, *(row for _, rows in tables for row in rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(HEADER))]
    made = []
    if firsts:
        name = firsts.pop() if len(firsts) == 1 else "the first variant"
        made.append(f"ratio: {name}'s time over the variant's; of peak: of the measured peak of as many threads")
        made.append(_line(HEADER, widths))
    for (case, operation, x), rows in tables:
        if rows:
            made.append(f"{case}, {operation}" + (f", {ABSCISSA[experiment]} {x}" if experiment in ABSCISSA else ""))
            made += [_line(row, widths) for row in rows]
    return [*made, *_not_run(records)]


def _first(records: list[Record]) -> Record | None:
    """The variant that the others are compared with."""
    return next((record for record in records if record["median_s"] is not None), None)


def _rows(records: list[Record]) -> list[tuple[str, ...]]:
    """The cells of the records that ran."""
    first = _first(records)
    rows = []
    for record in records:
        if record.get("unavailable"):
            continue
        seconds = record["median_s"]
        ratio = "" if not seconds or first is None else f"{first['median_s'] / seconds:.2f}"
        rows.append(
            (
                record["column"],
                "" if seconds is None else milliseconds(seconds),
                ratio,
                _number(record, "gflops", lambda value: f"{value:#.3g}" if value < 100 else f"{value:.0f}"),
                _number(record, "share_of_peak", lambda value: f"{100 * value:.{0 if value >= 0.02 else 1}f} %"),
                ", ".join(filter(None, (_number(record, key, form) for key, form in MORE.items()))),
            )
        )
    return [row for row in rows if any(row[1:])]


#: Further fields of a record that a line may show, in words.
MORE: dict[str, Callable[[Any], str]] = {
    "images_per_s": lambda value: f"{value:.0f} images/s",
    "speedup": lambda value: f"speed-up {value:.3g}",
    "best_accuracy": lambda value: f"accuracy {100 * value:.2f} %",
    "to_target_s": lambda value: f"{value:.1f} s to the target",
    "predicted_s": lambda value: f"predicted {1e3 * value:.3g} ms",
    "bytes": lambda value: f"{value / 2**20:.0f} MiB",
    "value": lambda value: f"{value:.3g}",
    "unit": str,
    "ratio": lambda value: f"ratio {value:.2f}",
}


def _number(record: Record, key: str, form: Callable[[Any], str]) -> str:
    value = record.get(key)
    return "" if value is None else form(value)


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    """The first and the last cell begin at the left, numbers end at the right."""
    middle = (cell.rjust(width) for cell, width in zip(cells[1:-1], widths[1:-1]))
    return "  ".join(["  " + cells[0].ljust(widths[0]), *middle, cells[-1]]).rstrip()


def _not_run(records: list[Record]) -> list[str]:
    """Lines about what could not run: one for each reason, with the cases if it does not hold for all."""
    every = {record["case"] for record in records}
    by_reason: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
    for record in records:
        if record.get("unavailable"):
            columns, cases = by_reason.setdefault(record["unavailable"], ({}, {}))
            columns[record["column"]] = cases[record["case"]] = None
    made = []
    for reason, (columns, cases) in by_reason.items():
        where = "" if set(cases) == every else f" on {', '.join(cases)}"
        made.append(f"not run{where}: {', '.join(columns)}: {reason}")
    return made
