"""Cases shared out to child processes; a child that dies or hangs is a finding, and another goes on after its case."""

from __future__ import annotations

import concurrent.futures
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
MEMORY = 6 << 30
"""Bytes of addresses of a child: NumPy and its threads take one or two GiB of them."""

SHARES = {"arguments": 0.7, "commands": 0.08, "files": 0.22}
"""Of the cases, by kind: the quick ones are tried more often."""


@dataclass(frozen=True)
class Finding:
    """A case that ended otherwise than well or in one short line."""

    kind: str
    number: int
    words: str
    wrong: str

    def __str__(self) -> str:
        again = f"python -m fuzz --kind {self.kind} --first {self.number} --cases 1"
        return f"{self.kind} {self.number}: {self.words}\n    {self.wrong}\n    again: {again}"


def shared_out(cases: int) -> dict[str, int]:
    """How many cases of each kind make so many in all."""
    found = {kind: int(share * cases) for kind, share in SHARES.items()}
    found["arguments"] += cases - sum(found.values())
    return found


def run(plan: dict[str, range], *, processes: int = 2, block: int = 2000, seconds: float = 60.0) -> Iterator[Any]:
    """Try the cases of `plan`, numbers by kind, in blocks.

    Yields
    ------
    tuple of (str, int, int, list of Finding)
        Kind, first and last number of a block that is done, and what was found in it.
    """
    blocks = [
        (kind, first, min(first + block, numbers.stop))
        for kind, numbers in plan.items()
        for first in range(numbers.start, numbers.stop, block)
    ]
    with concurrent.futures.ThreadPoolExecutor(processes) as pool:
        waiting = [pool.submit(_block, kind, first, last, seconds) for kind, first, last in blocks]
        for done in concurrent.futures.as_completed(waiting):
            yield done.result()


def _block(kind: str, first: int, last: int, seconds: float) -> tuple[str, int, int, list[Finding]]:
    """A block of cases, in as many processes as it takes."""
    findings: list[Finding] = []
    begin = first
    while begin < last:
        with tempfile.TemporaryDirectory(prefix="pyconv-fuzz-") as folder:
            report = Path(folder) / "report.jsonl"
            arguments = [kind, str(begin), str(last), str(seconds), str(MEMORY), str(report)]
            environment = {
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]),
                "TMPDIR": folder,
            }
            child = subprocess.run(
                [sys.executable, "-m", "fuzz.child", *arguments],
                cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, errors="replace",
                check=False,
            )  # fmt: skip
            lines = [json.loads(line) for line in report.read_text().splitlines()] if report.exists() else []
        findings += [Finding(kind, line["case"], line["words"], line["wrong"]) for line in lines if "case" in line]
        begun = [line["begins"] for line in lines if "begins" in line]
        if lines and "done" in lines[-1]:
            break
        number = begun[-1] if begun else begin
        why = " | ".join(child.stderr.split("\n")[:12])[:600]
        findings.append(Finding(kind, number, "the process died or hung", f"status {child.returncode}: {why}"))
        if not begun:  # not even the first case was reached
            break
        begin = number + 1
    return kind, first, last, findings
