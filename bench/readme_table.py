"""The README's table of figures, from the result files: ``python bench/readme_table.py`` writes it there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import peers_table
from harness.layers import GROUPS

HERE = Path(__file__).parent
RESULTS, README = HERE / "results", HERE.parent / "README.md"
BEGIN, END = "<!-- figures: begin -->\n", "<!-- figures: end -->\n"


@dataclass(frozen=True)
class Row:
    """How many times better than its best peer pyconv is at something, its own figure in words, and the target."""

    better: float
    figure: str
    target: float | None

    def cell(self) -> str:
        missed = self.target is not None and self.better < self.target
        return f"{self.better:.2f}: {self.figure}{', **missed**' if missed else ''}"


def rows(records: list[dict[str, Any]]) -> dict[str, Row]:
    """The whole steps, and the mean of each group of layers, by what they are."""
    found = {}
    alone = [r for r in records if "group" not in r and r.get("ratio") is None]
    for case, operation in dict.fromkeys((r["case"], r["operation"]) for r in alone):
        same = [r for r in alone if (r["case"], r["operation"]) == (case, operation)]
        better = peers_table.other_ratio(same)
        if better is not None:
            figure = peers_table.figure(same[0]).removeprefix(f"{same[0]['column']} ")
            found[f"{case}, {operation}"] = Row(better, figure, same[0].get("target"))
    groups = {group.name: group for group in GROUPS}
    for name, operation, mean, least in peers_table.means(records):
        what = f"{name}, {peers_table.NAMES[operation]}: mean of {len(groups[name].layers)}"
        found[what] = Row(mean, f"least {least:.2f}", groups[name].geometric_mean.get(operation))
    return found


def contents() -> list[dict[str, Any]]:
    """What was measured on the machine of all other results, then on others."""
    paths = [RESULTS / "peers.json", *sorted((RESULTS / "elsewhere").glob("peers-*.json"))]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def table(measured: list[dict[str, Any]]) -> str:
    """The Markdown between the README's marks: a column for each machine."""
    heads = [
        f"{m['machine']['cpu']}, {m['machine']['instruction_set']}, {m['peak']['gflops']:.0f} GFLOP/s, {m['when'][:10]}"
        for m in measured
    ]
    versions = measured[0]["versions"]
    found = [rows(m["records"]) for m in measured]
    lines = [
        "",
        f"How many times better pyconv is than the better of PyTorch {versions['torch']}'s two memory layouts, or the "
        f"best of SciPy {versions['scipy']}, one thread, float32; the machine's FMA peak is a thread's:",
        "",
        f"| | target | {' | '.join(heads)} |",
        f"| --- | --- |{' --- |' * len(heads)}",
    ]
    for what, first in found[0].items():
        cells = [mine[what].cell() if what in mine else "–" for mine in found]
        lines.append(f"| {what} | {'' if first.target is None else f'≥ {first.target:g}'} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", ""])


def replaced(readme: str, measured: list[dict[str, Any]]) -> str:
    """The README's text with the table."""
    before, mark, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise SystemExit(f"README.md has no lines {BEGIN.strip()!r} and {END.strip()!r} to put the table between")
    return before + BEGIN + table(measured) + END + after


def main() -> None:
    README.write_text(replaced(README.read_text(encoding="utf-8"), contents()), encoding="utf-8")


if __name__ == "__main__":
    main()
