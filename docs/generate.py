"""Makes parts of pages when the pages are built: help texts, and tables and pictures from bench/results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import architecture
import communication_pictures
import defaults_table
import kernels_table
import numerics_table
import numpy as np
import scipy_tables

import pyconv
from pyconv.plotting import own_style
from pyconv.reporting import Picture, Section, Table, experiment_sections, read_results, write
from pyconv.reporting.page import markdown_table

COMMANDS = ("train", "sweep", "predict", "export", "info", "report")
RESULTS = Path(__file__).parent.parent / "bench" / "results"

#: Sections of the report that pages show, by experiment.
SECTIONS = {
    "prediction": "The cost model against the clock",
    "cluster_prediction": "The cost model against the clock, on ranks",
    "simulation": "Beyond this machine: a simulated cluster",
    "constants": "The machine's constants",
}


def everything(folder: Path) -> None:
    """Write all parts into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for command in COMMANDS:
        call = [sys.executable, "-m", f"pyconv.{command}", "--help"]
        done = subprocess.run(call, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "90"})
        (folder / f"{command}.txt").write_text(done.stdout)
    architecture.draw(folder / "architecture.svg")
    communication_pictures.draw(folder)
    (folder / "kernels.inc").write_text(kernels_table.table())
    (folder / "rounding.txt").write_text(rounding())
    (folder / "bounds.txt").write_text(bounds())
    trace(folder)
    trace_of_ranks(folder)
    times = json.loads((RESULTS / "peers.json").read_text())
    (folder / "peers.inc").write_text(peers(times))
    (folder / "losses.inc").write_text(losses(times))
    (folder / "scipy.inc").write_text(scipy_tables.tables(json.loads((RESULTS / "scipy.json").read_text())))
    (folder / "neighbour.inc").write_text(neighbour(json.loads((RESULTS / "neighbour.json").read_text())))
    (folder / "subnormals.inc").write_text(subnormals(json.loads((RESULTS / "subnormals.json").read_text())))
    (folder / "numerics.inc").write_text(numerics_table.tables(json.loads((RESULTS / "numerics.json").read_text())))
    (folder / "defaults.inc").write_text(
        defaults_table.tables(json.loads((RESULTS / "rule_defaults.json").read_text()))
    )
    results = read_results(sorted(RESULTS.glob("*.json")))
    found = experiment_sections(results)
    write(folder / "report", "Tables and figures", found)
    sections = {section.title: section for section in found}
    machine = f"Measured on: {results.machine['cpu']}, {results.machine['usable_cpus']} CPUs, "
    machine += f"{results.machine['instruction_set']}, pyconv {results.versions['pyconv']}."
    sections.setdefault(SECTIONS["cluster_prediction"], Section("", ["Not measured yet: `make cluster-prediction`."]))
    for name, title in SECTIONS.items():
        (folder / f"{name}.inc").write_text(_markdown(sections[title], folder, machine))


def _markdown(section: Section, folder: Path, machine: str) -> str:
    lines = []
    for block in section.blocks:
        if isinstance(block, Table):
            lines += markdown_table(block)
        elif isinstance(block, Picture):
            with own_style():
                block.draw().savefig(folder / f"{block.name}.png", dpi=150)
        else:
            lines += [block, ""]
    return "\n".join([*lines, machine, ""])


def peers(content: dict[str, Any]) -> str:
    """Ratios of the best peer's time to pyconv's: geometric means by group of layers, and each whole task's."""
    ratios: dict[str, dict[str, list[float]]] = {}
    rows = []
    for (group, case, operation), by, others in _contests(content):
        best = min(others, key=others.__getitem__)
        if group is None:
            cells = (f"{case}, {operation}", f"{1e3 * by['pyconv']:.3g} ms", f"{1e3 * others[best]:.3g} ms, {best}")
            rows.append((*cells, f"{others[best] / by['pyconv']:.2f}"))
        else:
            ratios.setdefault(group, {}).setdefault(operation, []).append(others[best] / by["pyconv"])
    passes = ("forward", "input_grad", "weight_grad")
    means = {group: [np.exp(np.mean(np.log(by[name]))) for name in passes] for group, by in ratios.items()}
    layers = [(group, *(f"{mean:.2f}" for mean in by)) for group, by in means.items()]
    machine, versions = content["machine"], content["versions"]
    where = f"{machine['cpu']}, {machine['instruction_set']}, one thread, float32; PyTorch {versions['torch']} in the "
    where += f"better of its two memory layouts, SciPy {versions['scipy']}. Above 1 pyconv is faster."
    header = ("layers", "forward", "input gradient", "weight gradient")
    tables = markdown_table(Table(header, layers, "The best peer's time over pyconv's, geometric means"))
    tables += markdown_table(Table(("task", "pyconv", "best peer", "ratio"), rows, "Whole tasks"))
    return "\n".join([*tables, where, ""])


Contest = tuple[tuple[str | None, str, str], dict[str, float], dict[str, float]]


def _contests(content: dict[str, Any]) -> Iterator[Contest]:
    """For each task that others did too: its group, case and operation, all seconds by column, the others' seconds."""
    times: dict[tuple[str | None, str, str], dict[str, float]] = {}
    for record in content["records"]:
        if record["median_s"] is not None and not record.get("isa"):
            key = record.get("group"), record["case"], record["operation"]
            times.setdefault(key, {})[record["column"]] = record["median_s"]
    for key, by in times.items():
        others = {column: seconds for column, seconds in by.items() if not column.startswith("pyconv")}
        if "pyconv" in by and others:
            yield key, by, others


def losses(content: dict[str, Any]) -> str:
    """The passes that a peer does faster than pyconv: the best peer's time over pyconv's."""
    passes = {"forward": "forward", "input_grad": "input gradient", "weight_grad": "weight gradient"}
    found: dict[str, list[str]] = {}
    count = 0
    for (_, case, operation), by, others in _contests(content):
        count += 1
        ratio = min(others.values()) / by["pyconv"]
        if ratio < 1:
            found.setdefault(case, []).append(f"{passes.get(operation, operation)} {ratio:.2f}")
    slower = sum(map(len, found.values()))
    caption = f"In {slower} of {count} measurements a peer is faster: the best peer's time over pyconv's"
    rows = [(case, ", ".join(own)) for case, own in found.items()]
    return "\n".join(markdown_table(Table(("layer or task", "passes"), rows, caption, text=True)))


def neighbour(content: dict[str, Any]) -> str:
    """Times of each column, alone and beside a busy process, in milliseconds."""
    by: dict[tuple[str, str], dict[str, float]] = {}
    for record in content["records"]:
        by.setdefault((record["case"], record["operation"]), {})[record["column"]] = 1e3 * record["median_s"]
    columns = list(next(iter(by.values())))
    rows = [(f"{case}: {what}", *(f"{times[column]:.3g}" for column in columns)) for (case, what), times in by.items()]
    machine, versions = content["machine"], content["versions"]
    caption = f"Milliseconds, medians; {machine['cpu']}, {machine['usable_cpus']} CPUs, PyTorch {versions['torch']}"
    return "\n".join(markdown_table(Table(("", *columns), rows, caption)))


def subnormals(content: dict[str, Any]) -> str:
    """Time of a step over a run, and of operations on tiny numbers beside usual ones."""
    steps, pairs = [], {}
    for record in content["records"]:
        if record.get("x"):
            share = f"{100 * record['subnormal_share']:.0f} %"
            steps.append((f"up to {record['x']}", f"{1e3 * record['median_s']:.2f}", f"{record['ratio']:.3f}", share))
        else:
            pairs.setdefault((record["case"], record["operation"]), []).append(record["median_s"])
    rows = [(f"{case}: {what}", *(f"{1e3 * t:.3g}" for t in times)) for (case, what), times in pairs.items()]
    header = ("steps", "ms a step", "to the median", "subnormal means at the end")
    lines = markdown_table(Table(header, steps, f"Training steps; {content['machine']['cpu']}, one thread"))
    lines += markdown_table(Table(("operation", "usual, ms", "tiny, ms"), rows, "Operations"))
    return "\n".join(lines)


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


def trace_of_ranks(folder: Path) -> None:
    """Run the commands of the page about traces that are of ranks, with the MPI that ``PYCONV_DOCS_MPI`` names."""
    script = Path(__file__).parent / "how-to" / "draw_trace.py"
    python = Path(os.environ.get("PYCONV_DOCS_MPI", sys.executable))
    if not (python.parent / "mpiexec").exists():
        raise SystemExit("the page about traces needs an MPI: build with make docs, or name one in PYCONV_DOCS_MPI")
    environment = {**os.environ, "PYTHONPATH": str(Path(pyconv.__file__).parent.parent), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as place:
        training = "--model lenet --limit 1000 --epochs 2 --progress off --out run --trace timeline.json"
        ranks = [python.parent / "mpiexec", "-n", "2", python, "-m", "pyconv.train", *training.split()]
        subprocess.run(ranks, cwd=place, check=True, stdout=subprocess.DEVNULL, env=environment)
        draw = [sys.executable, str(script), "timeline.json", str(folder / "trace_of_ranks.png")]
        done = subprocess.run(draw, cwd=place, check=True, capture_output=True, text=True)
    (folder / "trace_of_ranks.txt").write_text(done.stdout)


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


def bounds() -> str:
    """Largest error of a large kernel, over the sum of magnitudes of the number's own window."""
    rng = np.random.default_rng(0)
    size, weight = (1, 256, 256, 1), rng.standard_normal((81, 81, 1, 1)).astype(np.float32)
    sensor = np.where(rng.random(size) < 0.001, 60000, rng.integers(1, 4096, size))
    images = {
        "noise": rng.standard_normal(size),
        "12 bits, hot pixels": sensor,
        "one pixel of 1e9": np.where(np.arange(size[1] * size[2]).reshape(size) == 3333, 1e9, rng.random(size)),
        "black half": rng.random(size) * (np.arange(size[2]) < 128)[:, None],
    }
    lines = [f"{'image':<22} {'direct':<10} {'fft':<10} auto"]
    for name, image in images.items():
        x = image.astype(np.float32)
        wide = x.astype(np.float64), weight.astype(np.float64)
        exact = pyconv.conv2d(*wide, padding="same", backend="serial", algorithm="direct")
        sums = pyconv.conv2d(*map(np.abs, wide), padding="same", backend="serial", algorithm="direct")
        found = []
        for algorithm in ("direct", "fft", "auto"):
            error = np.abs(pyconv.conv2d(x, weight, padding="same", backend="serial", algorithm=algorithm) - exact)
            found.append(float(np.divide(error, sums, out=np.where(error > 0, np.inf, 0.0), where=sums > 0).max()))
        lines.append(f"{name:<22} {found[0]:<10.1e} {found[1]:<10.1e} {found[2]:.1e}")
    return "\n".join(lines) + "\n"
