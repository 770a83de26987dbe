"""The tables of the page about numerics, from ``bench/results/numerics.json``."""

from __future__ import annotations

from typing import Any

from pyconv.reporting import Table
from pyconv.reporting.page import markdown_table

OPERATIONS = {"forward": "forward", "input_grad": "gradient of the images", "weight_grad": "gradient of the filters"}


def tables(content: dict[str, Any]) -> str:
    """The largest error over its window's sum by image and algorithm, and what the guard costs."""
    found: dict[tuple[str, str], dict[str, float | None]] = {}
    columns: list[str] = []
    shares: dict[str, list[str]] = {}
    costs = []
    for record in content["records"]:
        if record["operation"] in OPERATIONS:
            columns += [record["column"]] if record["column"] not in columns else []
            found.setdefault((record["case"], record["operation"]), {})[record["column"]] = record["worst"]
        elif "share" in record:
            shares.setdefault(record["case"], []).append(f"{100 * record['share']:.1f} %")
        else:
            step = f"{record['case']}, {record['operation']}"
            costs.append((step, record["column"], f"{1e3 * record['median_s']:.1f}", f"{record['ratio']:.3f}"))
    shown = [name.removeprefix("winograd_") for name in columns]
    lines = []
    for operation, words in OPERATIONS.items():
        rows = [
            (image, *("not bounded" if worst is None else f"{worst:.0e}" for worst in worsts.values()))
            for (image, what), worsts in found.items()
            if what == operation
        ]
        title = f"Largest error over the sum of its window's magnitudes, {words}, float32"
        lines += markdown_table(Table(("image", *shown), rows, title))
    header = ("images", "by the guard", "by the smallest weights", "by the result")
    rows = [(case, *found_shares) for case, found_shares in shares.items()]
    lines += markdown_table(Table(header, rows, "Share of results that would be summed again, by three designs"))
    header = ("step", "guard", "ms", "ratio")
    lines += markdown_table(Table(header, costs, f"What the guard costs; {content['machine']['cpu']}, one thread"))
    return "\n".join(lines)
