"""Parts of pages that are made when the pages are: help texts, tables and pictures from bench/results."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import pyconv
from pyconv.reporting import Picture, Section, Table, experiment_sections, read_results
from pyconv.reporting.page import markdown_table

COMMANDS = ("train", "predict", "info", "report")
RESULTS = Path(__file__).parent.parent / "bench" / "results"

#: Sections of the report that pages show, and the file that each becomes.
SECTIONS = {
    "prediction": "The cost model against the clock",
    "simulation": "Beyond this machine: a simulated cluster",
    "constants": "The machine's constants",
}


def everything(folder: Path) -> None:
    """Write all parts into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for command in COMMANDS:
        call = [sys.executable, "-m", f"pyconv.{command}", "--help"]
        done = subprocess.run(call, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "100"})
        (folder / f"{command}.txt").write_text(done.stdout)
    (folder / "rounding.txt").write_text(rounding())
    trace(folder)
    results = read_results(RESULTS / f"{name}.json" for name in SECTIONS)
    sections = {section.title: section for section in experiment_sections(results)}
    machine = f"Measured on: {results.machine['cpu']}, {results.machine['usable_cpus']} CPUs, "
    machine += f"{results.machine['instruction_set']}, pyconv {results.versions['pyconv']}."
    for name, title in SECTIONS.items():
        (folder / f"{name}.inc").write_text(_markdown(sections[title], folder, machine))


def _markdown(section: Section, folder: Path, machine: str) -> str:
    lines = []
    for block in section.blocks:
        if isinstance(block, Table):
            lines += markdown_table(block)
        elif isinstance(block, Picture):
            block.figure.savefig(folder / f"{block.name}.png", dpi=150)
        else:
            lines += [block, ""]
    return "\n".join([*lines, machine, ""])


def trace(folder: Path) -> None:
    """Run the commands of the page about traces."""
    script = Path(__file__).parent / "how-to" / "draw_trace.py"
    with tempfile.TemporaryDirectory() as place:
        training = "--model lenet --limit 1000 --epochs 2 --workers 2 --update ssp"
        train = ["-m", "pyconv.train", *training.split(), "--progress", "off", "--trace", "timeline.json"]
        subprocess.run([sys.executable, *train], cwd=place, check=True, stdout=subprocess.DEVNULL)
        draw = [sys.executable, str(script), "timeline.json", str(folder / "trace.png")]
        done = subprocess.run(draw, cwd=place, check=True, capture_output=True, text=True)
    (folder / "trace.txt").write_text(done.stdout)


def rounding() -> str:
    """Relative error of every algorithm on a 3×3 layer in float32, against the same in float64."""
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((4, 24, 24, 64)), rng.standard_normal((3, 3, 64, 64))
    exact = pyconv.conv2d(x, weight, padding=1, backend="serial", algorithm="direct")
    narrow = x.astype(np.float32), weight.astype(np.float32)
    lines = ["3×3, 64 → 64 channels, sums of 576 products of standard normal numbers; relative errors"]
    lines += ["algorithm      largest    root mean square"]
    for algorithm in pyconv.algorithms("serial"):
        error = pyconv.conv2d(*narrow, padding=1, backend="serial", algorithm=algorithm) - exact
        largest, mean = np.abs(error).max() / np.abs(exact).max(), np.sqrt((error**2).mean() / (exact**2).mean())
        lines.append(f"{algorithm:<14} {largest:<10.1e} {mean:.1e}")
    return "\n".join(lines) + "\n"
