"""A pipeline of two stages on two pretended nodes of one thread each, beside one process with the same micro-batches.

The link has 1 Gbit/s. By schedule and number of micro-batches: images a second, the measured bubble beside
(S - 1) / (M + S - 1), and the work arrays of the larger stage. It needs root, two idle cores, and an MPI beside an
interpreter that ``PYCONV_BENCH_MPI`` names (`make cluster` sees to it). The candidates take turns.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import nodes
from harness.images import images_for
from harness.node_program import BATCH, LEFT_OUT, NAME
from harness.timing import Times

from pyconv import nn
from pyconv.parallel.stages import SCHEDULES

EXPERIMENT = "pipeline"
STEPS = 12  # of an epoch
STAGES = 2
MICRO = (2, 4, 8, 16)
FIGURES = ("bubble_mean", "bubble_ideal_mean", "stage_bytes_max", "micro_batches_alive_max")
PROGRAM = ["-m", "harness.node_program"]


def _run(pair: nodes.Nodes, mpi: Path, folder: Path, column: str, micro: int) -> dict[str, Any]:
    """One candidate's run, in processes of its own."""
    result = folder / "result.json"
    result.unlink(missing_ok=True)
    given: dict[str, Any] = {"micro_batches": micro}
    if column in SCHEDULES:
        given |= {"pipeline_stages": STAGES, "pipeline_schedule": column}
    how = "ranks" if column in SCHEDULES else "alone"
    words = [*PROGRAM, how, str(folder / "data.npz"), str(result)]
    words += [f"{name}={json.dumps(value)}" for name, value in given.items()]
    command = pair.mpiexec(mpi, words) if how == "ranks" else pair.on(0, [sys.executable, *words])
    subprocess.run(command, env=nodes.environment(), check=True, timeout=300)
    found: dict[str, Any] = json.loads(result.read_text())
    return found


def _step(result: dict[str, Any]) -> float:
    """The median step; the first ones and the first epoch are left out."""
    return float(np.median([seconds for epoch in result["seconds"][1:] for seconds in epoch[LEFT_OUT:]]))


@pytest.mark.parametrize("micro", MICRO)
def test_two_stages(micro: int, mpi: Path, measure, tmp_path: Path, two_cpus: None, quick: bool) -> None:
    """Seconds of a step, and images a second, by schedule."""
    why = nodes.unavailable()
    if why is not None:
        pytest.skip(why)
    x, labels, _ = images_for(nn.build(NAME), STEPS * BATCH)
    np.savez(tmp_path / "data.npz", x=x, labels=labels)
    columns = ("one process", *SCHEDULES)
    found: dict[str, list[dict[str, Any]]] = {column: [] for column in columns}
    with nodes.Nodes(STAGES, "1gbit") as pair:

        def rounds() -> None:
            for _ in range(1 if quick else 3):
                for column in columns:
                    found[column].append(_run(pair, mpi, tmp_path, column, micro))

        measure.once(rounds)
    losses = {tuple(run["losses"]) for runs in found.values() for run in runs}
    assert len(losses) == 1, "a pipeline has other numbers than one process"
    times = {column: Times(tuple(map(_step, runs))) for column, runs in found.items()}
    for column, taken in times.items():
        figures = {name: [run[name][-1] for run in found[column] if name in run] for name in FIGURES}
        measure.add(
            experiment=EXPERIMENT, case=NAME, operation=f"step, {micro} micro-batches", column=column,
            **taken.as_record(), threads=1, batch=BATCH, micro_batches=micro, images_per_s=BATCH / taken.median,
            speedup=times["one process"].median / taken.median, load=os.getloadavg()[0],
            **{name: float(np.median(values)) for name, values in figures.items() if values},
        )  # fmt: skip
