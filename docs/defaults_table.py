"""Accuracy with the defaults under each update rule, from ``bench/results/rule_defaults.json``."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyconv.parallel import RULES
from pyconv.reporting import Table
from pyconv.reporting.page import markdown_table

NEAR = 1.5
"""By so many points a rule may be below one worker."""


def tables(content: dict[str, Any]) -> str:
    """A table for each data set: mean over the seeds, the worst of them, and the difference to one worker's mean.

    Parameters
    ----------
    content : dict
        The result file's.

    Returns
    -------
    str
        Markdown.
    """
    found: dict[str, dict[tuple[str, int], dict[int, float]]] = {}
    for record in content["records"]:
        by = found.setdefault(record["case"], {}).setdefault((record["column"], record["x"]), {})
        by[record["seed"]] = 100 * record["accuracy"]
    lines = []
    for case, cells in found.items():
        alone = cells.get(("one worker", 1), {})
        workers = sorted({x for _, x in cells if x > 1})
        rows = [_row("one worker", 1, alone, alone)] if alone else []
        rows += [_row(rule, count, cells[rule, count], alone) for rule in RULES for count in workers
                 if (rule, count) in cells]  # fmt: skip
        header = ("update rule", "workers", "accuracy", "worst seed", "to one worker", "seeds")
        lines += markdown_table(Table(header, rows, f"{case}: validation accuracy with the defaults, %"))
    processors = "; ".join(dict.fromkeys(record["processor"] for record in content["records"]))
    where = f"{processors}; pyconv {content['versions']['pyconv']}. Points more than {NEAR} below "
    return "\n".join([*lines, where + "one worker, over the same seeds, are set in bold.", ""])


def _row(rule: str, workers: int, mine: dict[int, float], alone: dict[int, float]) -> tuple[str, ...]:
    """One rule with one number of workers; compared with one worker over the seeds that both have."""
    both = sorted(mine.keys() & alone.keys())
    points = "–"
    if both:
        difference = float(np.mean([mine[seed] for seed in both]) - np.mean([alone[seed] for seed in both]))
        points = f"**{difference:+.2f}**" if difference < -NEAR else f"{difference:+.2f}"
    accuracy = list(mine.values())
    return rule, str(workers), f"{np.mean(accuracy):.2f}", f"{min(accuracy):.2f}", points, str(len(accuracy))
