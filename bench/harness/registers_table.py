"""The table of registers, as Markdown."""

from __future__ import annotations

import subprocess
from typing import Any


def _compiler() -> str:
    try:
        done = subprocess.run(["nvcc", "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "nvcc: not here"
    return next((line for line in done.stdout.splitlines() if "release" in line), done.stdout.strip())


def markdown(records: list[dict[str, Any]], _machine: Any, versions: dict[str, str], _peak: Any) -> str:
    """One line for each layer and kernel: the registers of a thread on each architecture.

    Parameters
    ----------
    records : list of dict
        Those of ``bench_cuda_registers.py``.
    versions : dict
        pyconv's among them.
    """
    lines = [
        "# Registers of a thread, as nvcc allots them",
        "",
        f"{_compiler()}; pyconv {versions['pyconv']}. Forward, batch 128, tiles of the static choice. Nothing spills.",
        "",
        "| layer | kernel | tile | threads | registers |",
        "|---|---|---|---|---|",
    ]
    for row in records:
        kernel, architecture = row["column"].split(" ")
        lines.append(
            f"| {row['case']} | {kernel} {architecture} | {row['tile']} | {row['block']} | {row['registers']} |"
        )
    return "\n".join(lines) + "\n"
