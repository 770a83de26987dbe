"""The README's six rows of figures and the page with all of them, from the result files.

``python bench/readme_table.py`` writes both.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import peers_table
from harness.layers import GROUPS, PASSES

HERE = Path(__file__).parent
RESULTS, README = HERE / "results", HERE.parent / "README.md"
SUMMARY = RESULTS / "summary.md"
BEGIN, END = "<!-- figures: begin -->\n", "<!-- figures: end -->\n"


@dataclass(frozen=True)
class Row:
    """A row: how many times better than its best peer pyconv is, its own figure in words, and the target."""

    better: float
    figure: str
    target: float | None

    def cell(self) -> str:
        missed = self.target is not None and self.better < self.target
        return f"{self.better:.2f}: {self.figure}{', **missed**' if missed else ''}"


def rows(records: list[dict[str, Any]]) -> dict[str, Row]:
    """The rows by name: whole steps, and the mean of each group of layers."""
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
    """The result files: first that of the machine of all other results, then those of other machines."""
    paths = [RESULTS / "peers.json", *sorted((RESULTS / "elsewhere").glob("peers-*.json"))]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


#: The README's rows: the beginning of a row of :func:`rows`, and what a newcomer reads.
SHORT = {
    "fer, training step, batch 64, synthetic": "training `fer` (five convolutions, 48×48 faces), one thread",
    "5-50-100-10, training step, batch 64, Fashion": "training `5-50-100-10` on Fashion-MNIST, one thread",
    "fer, inference of one image": "one image through `fer`",
    "fer, peak memory": "memory of a training step of `fer`",
    "one 512×512 image": "one 7×7 filter over a 512×512 image, beside SciPy",
}


def head(content: dict[str, Any]) -> str:
    """A machine's name, for the head of a column."""
    machine = content["machine"]
    peak = f"{content['peak']['gflops']:.0f} GFLOP/s"
    return f"{machine['cpu']}, {machine['instruction_set']}, {peak}, {content['when'][:10]}"


def summary(measured: list[dict[str, Any]]) -> str:
    """The page with every row: a column for each machine, targets and misses."""
    found = [rows(m["records"]) for m in measured]
    counts = "; ".join(f"{misses(m)} on the {head(m)}" for m in measured)
    lines = [
        "# pyconv beside the best of its peers, on every machine",
        "",
        f"{versions(measured)}, one thread, float32; the machine's FMA peak is a thread's. Made by "
        "`python bench/readme_table.py` from `peers.json` and `elsewhere/peers-*.json`; layer by layer in "
        "[peers.md](peers.md) and [elsewhere](elsewhere/). Machines of an earlier date ran earlier kernels.",
        "",
        f"Targets missed: {counts}.",
        "",
        f"| | target | {' | '.join(map(head, measured))} |",
        f"| --- | --- |{' --- |' * len(measured)}",
    ]
    for what, first in found[0].items():
        cells = [mine[what].cell() if what in mine else "–" for mine in found]
        lines.append(f"| {what} | {'' if first.target is None else f'≥ {first.target:g}'} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def misses(content: dict[str, Any]) -> str:
    """ "3 of 14": targets that a machine misses."""
    found = [row for row in rows(content["records"]).values() if row.target is not None]
    return f"{sum('missed' in row.cell() for row in found)} of {len(found)}"


def versions(measured: list[dict[str, Any]]) -> str:
    """What the ratios compare, in words."""
    of = measured[0]["versions"]
    return (
        f"How many times better pyconv is than the better of PyTorch {of['torch']}'s two memory layouts, or the best "
        f"of SciPy {of['scipy']}"
    )


def short(records: list[dict[str, Any]]) -> dict[str, tuple[float, str]]:
    """A machine's six rows: how many times better, and pyconv's figure or the range."""
    found = {
        words: (row.better, row.figure)
        for start, words in SHORT.items()
        for what, row in rows(records).items()
        if what.startswith(start)
    }
    layers = [record for record in records if "group" in record]
    ratios = []
    for key in dict.fromkeys((record["case"], record["operation"]) for record in layers):
        same = [record for record in layers if (record["case"], record["operation"]) == key]
        if key[1] in PASSES and (one := peers_table.ratio(same)) is not None:
            ratios.append(one)
    lost = sum(one < 1 for one in ratios)
    words = f"{len(ratios)} passes of convolutional layers, geometric mean"
    found[words] = peers_table.geometric_mean(ratios), f"{min(ratios):.2f} to {max(ratios):.1f}, {lost} below 1"
    return found


def table(measured: list[dict[str, Any]]) -> str:
    """The Markdown between the README's marks: six rows, on the machine of the best ratios and on that of the worst."""
    found = [(content, short(content["records"])) for content in measured]
    found.sort(key=lambda one: peers_table.geometric_mean([better for better, _ in one[1].values()]))
    (worst, low), (best, high) = found[0], found[-1]
    lines = [
        "",
        f"{versions(measured)}: of {len(measured)} machines, that of the best and that of the worst ratios.",
        "",
        f"| times better | {head(best)} | {head(worst)} |",
        "| --- | --- | --- |",
    ]
    for what, (better, figure) in high.items():
        cells = [f"{better:.2f}: {figure}", "{:.2f}: {}".format(*low[what]) if what in low else "–"]
        lines.append(f"| {what} | {' | '.join(cells)} |")
    lines += [
        "",
        f"Of pyconv's targets it misses {misses(best)} on the first machine and {misses(worst)} on the second: "
        "[every row, with the targets, on every machine](bench/results/summary.md).",
    ]
    return "\n".join([*lines, "", ""])


def replaced(readme: str, measured: list[dict[str, Any]]) -> str:
    """The README's text with the table."""
    before, mark, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise SystemExit(f"README.md has no lines {BEGIN.strip()!r} and {END.strip()!r} to put the table between")
    return before + BEGIN + table(measured) + END + after


def main() -> None:
    measured = contents()
    README.write_text(replaced(README.read_text(encoding="utf-8"), measured), encoding="utf-8")
    SUMMARY.write_text(summary(measured), encoding="utf-8")


if __name__ == "__main__":
    main()
