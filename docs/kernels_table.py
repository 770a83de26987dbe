"""The table of the CPU's kernels of convolution, as the page of the reference shows it."""

from __future__ import annotations

import importlib

from pyconv.reporting import Table
from pyconv.reporting.page import markdown_table

OPERATIONS = ("forward", "input gradient", "weight gradient")


def table() -> str:
    """One line for each kernel, in the order in which the estimates are compared.

    Returns
    -------
    str
        Markdown.
    """
    rows = []
    for line in importlib.import_module("pyconv._cpu").table():
        passes = ", ".join(OPERATIONS[what] for what in line["operations"])
        rows.append((f"`{line['name']}`", f"`{line['algorithm']}`", passes, line["does"], line["lanes"], line["unit"],
                     _rule(line), f"`{line['file']}`"))  # fmt: skip
    header = (
        "kernel",
        "algorithm",
        "operations",
        "does",
        "lanes hold",
        "a tile is",
        "preferred if its estimate is",
        "file",
    )
    return "\n".join(markdown_table(Table(header, rows, "The kernels of convolution", text=True)))


def _rule(line: dict) -> str:
    """By how much it must be cheaper."""
    rule = "lower" if line["worth"] == 1 else f"under {100 / line['worth']:.0f} %"
    return rule if line["instead"] is None else f"{rule} of `{line['instead']}`'s, where that is chosen"
