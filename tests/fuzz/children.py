"""Runs cases in child processes; a child that dies or hangs is a finding, and another continues after its case."""

from __future__ import annotations

import concurrent.futures
import json
import os
import shutil
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

_ROOM = 1 << 30

SHARES = {"arguments": 0.79, "commands": 0.05, "files": 0.15, "places": 0.01}
"""Shares of the cases, by kind: quick ones are tried more often."""


@dataclass(frozen=True)
class Finding:
    """A case that neither succeeded nor ended in one short line."""

    kind: str
    number: int
    words: str
    wrong: str

    def __str__(self) -> str:
        again = f"python -m fuzz --kind {self.kind} --first {self.number} --cases 1"
        return f"{self.kind} {self.number}: {self.words}\n    {self.wrong}\n    again: {again}"


def shared_out(cases: int) -> dict[str, int]:
    """How many cases each kind gets, for a total number of cases."""
    found = {kind: int(share * cases) for kind, share in SHARES.items()}
    found["arguments"] += cases - sum(found.values())
    return found


def run(plan: dict[str, range], *, processes: int = 2, block: int = 10_000, seconds: float = 60.0) -> Iterator[Any]:
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


def _in_memory() -> Path | None:
    """A folder in memory, where writing to the disk takes no time; None if there is no such folder with room."""
    folder = Path("/dev/shm")
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return None
    return folder if free > _ROOM and os.access(folder, os.W_OK) else None


def _block(kind: str, first: int, last: int, seconds: float) -> tuple[str, int, int, list[Finding]]:
    """A block of cases, in as many processes as it takes."""
    findings: list[Finding] = []
    begin = first
    while begin < last:
        with tempfile.TemporaryDirectory(prefix="pyconv-fuzz-", dir=_in_memory()) as folder:
            report = Path(folder) / "report.jsonl"
            arguments = [kind, str(begin), str(last), str(seconds), str(MEMORY), str(report)]
            environment = {
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]),
                "TMPDIR": folder,
                **({} if kind == "arguments" else {"PYCONV_NUM_THREADS": "1"}),  # others need no threads
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
