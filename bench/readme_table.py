"""The README's table of figures, from the result file: ``python bench/readme_table.py`` writes it there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness import peers_table
from harness.layers import GROUPS

HERE = Path(__file__).parent
RESULTS, README = HERE / "results" / "peers.json", HERE.parent / "README.md"
BEGIN, END = "<!-- figures: begin -->\n", "<!-- figures: end -->\n"


def _verdict(value: float, target: float | None) -> str:
    """ "≥ 2.5" with "met" or "missed", or nothing."""
    if target is None:
        return ""
    return f"≥ {target:g}: {'met' if value >= target else 'missed'}"


def rows(records: list[dict[str, Any]]) -> list[tuple[str, str, float, float | None]]:
    """(what, figures, how many times better pyconv is, target) of the whole steps and of each group's mean."""
    found = []
    alone = [r for r in records if "group" not in r and r.get("ratio") is None]
    for case, operation in dict.fromkeys((r["case"], r["operation"]) for r in alone):
        same = [r for r in alone if (r["case"], r["operation"]) == (case, operation)]
        better = peers_table.other_ratio(same)
        if better is not None:
            figures = "; ".join(peers_table.figure(r) for r in same)
            found.append((f"{case}, {operation}", figures, better, same[0].get("target")))
    groups = {group.name: group for group in GROUPS}
    for name, operation, mean, least in peers_table.means(records):
        what = f"{name}, {peers_table.NAMES[operation]}"
        target = groups[name].geometric_mean.get(operation)
        found.append((what, f"geometric mean of {len(groups[name].layers)} layers; least {least:.2f}", mean, target))
    return found


def table(content: dict[str, Any]) -> str:
    """The Markdown between the README's marks."""
    machine, versions, peak = content["machine"], content["versions"], content["peak"]
    head = (
        f"{machine['cpu']}, {machine['instruction_set']}, FMA peak {peak['gflops']:.0f} GFLOP/s a thread; one thread, "
        f"float32, against the better of PyTorch {versions['torch']}'s two memory layouts and against SciPy "
        f"{versions['scipy']}:"
    )
    lines = ["", head, "", "| | | pyconv better by | target |", "| --- | --- | --- | --- |"]
    lines += [f"| {what} | {figures} | {better:.2f} | {_verdict(better, target)} |"
              for what, figures, better, target in rows(content["records"])]  # fmt: skip
    return "\n".join([*lines, "", ""])


def replaced(readme: str, content: dict[str, Any]) -> str:
    """The README's text with the table of `content`."""
    before, mark, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise SystemExit(f"README.md has no lines {BEGIN.strip()!r} and {END.strip()!r} to put the table between")
    return before + BEGIN + table(content) + END + after


def main() -> None:
    content = json.loads(RESULTS.read_text(encoding="utf-8"))
    README.write_text(replaced(README.read_text(encoding="utf-8"), content), encoding="utf-8")


if __name__ == "__main__":
    main()
