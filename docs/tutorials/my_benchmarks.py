"""Runs a file of pyconv's bench/ on small sizes, for the tutorial "Reproduce the paper"."""

import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pyconv
from pyconv.reporting import read_results

FOLDERS = (Path.cwd(), *Path.cwd().parents, Path(pyconv.__file__).parent.parent)
HERE = "bench/bench_table1_variants.py"


def quick(name):
    """Run ``bench/bench_NAME.py`` with ``--quick``; returns what it measured."""
    source = next((folder for folder in FOLDERS if (folder / HERE).is_file()), None)
    if source is None:
        sys.exit(
            "this needs pyconv's benchmarks: run the whole notebook, or unpack this "
            "page's zip here, or run it in pyconv's source folder"
        )
    with tempfile.TemporaryDirectory() as results:
        call = [sys.executable, "-m", "pytest", "-q", "--benchmark-only", "--quick"]
        call += [f"bench/bench_{name}.py", "--results", results]
        done = subprocess.run(call, cwd=source, capture_output=True, text=True)
        if done.returncode:
            last = (done.stdout + done.stderr).strip().splitlines()[-1]
            sys.exit(f"bench/bench_{name}.py could not be run: {last}")
        return read_results(sorted(Path(results).glob("*.json")))


def medians(results, experiment):
    """Seconds of each column, by case; columns that could not run are left out."""
    found = {}
    for record in sorted(results.of(experiment), key=lambda record: record["case"]):
        if record["median_s"] is not None:
            found.setdefault(record["column"], {})[record["case"]] = record["median_s"]
    return found


def seconds_in_all(results, experiment):
    """Seconds of all cases together, of the columns that ran on each."""
    cases = {record["case"] for record in results.of(experiment)}
    found = medians(results, experiment)
    return {name: sum(by.values()) for name, by in found.items() if set(by) == cases}


def as_text(results, experiment):
    """The machine, the times in milliseconds, and what could not run here."""
    versions = (f"{name} {version}" for name, version in results.versions.items())
    machine = [results.machine["cpu"], results.machine["instruction_set"], *versions]
    records = results.of(experiment)
    cases = sorted({record["case"] for record in records})
    lines = [textwrap.fill(", ".join(machine), 88), "", *cases, ""]
    titles = (f"{case.partition(':')[0]:>8}" for case in cases)
    lines.append(" ".join([f"{'ms':28}", *titles]))
    for column, by in medians(results, experiment).items():
        cells = (
            f"{1e3 * by[case]:8.3f}" if case in by else f"{'–':>8}" for case in cases
        )
        lines.append(" ".join([f"{column:28}", *cells]))
    missing = {}
    for record in records:
        if record["unavailable"]:
            missing.setdefault(record["unavailable"], {})[record["column"]] = None
    for reason, names in missing.items():
        text = f"could not run here: {', '.join(names)} ({reason})"
        lines.append(textwrap.fill(text, 88))
    return "\n".join(lines)
