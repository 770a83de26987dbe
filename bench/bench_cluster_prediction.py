"""The cost model beside the clock on the ranks of a cluster: predicted and measured epochs for every split.

2 and 4 pretended nodes of one rank each, with links of 1 Gbit/s and 100 Mbit/s. It needs root, two idle cores, and an
MPI beside an interpreter that ``PYCONV_BENCH_MPI`` names (`make cluster-prediction` sees to it). All ranks share the
cores, so constants are measured while all of them compute and send. The least of each counts, as in
:mod:`bench_prediction`. Simulated curves go on to 1024 nodes that each have a core.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from harness import nodes

from pyconv import costmodel, nn, threads
from pyconv.costmodel import Calibration
from pyconv.errors import InputError

EXPERIMENT = "cluster_prediction"
NAME, BATCH, MICRO = "fer", 64, 8
RATES = {"1gbit": "1 Gbit/s", "100mbit": "100 Mbit/s"}
EPOCHS = {"1gbit": 4, "100mbit": 3}  # of a training, of which the first warms up
TURNS = {"1gbit": 3, "100mbit": 1}
RANKS = (2, 4)
WITHIN = 0.15
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
#: By column of the simulated curves, arguments of simulate_split().
CURVES: dict[str, dict[str, Any]] = {
    "images": {},
    "rows": {"split": "rows"},
    "filters": {"split": "filters"},
    "2 stages, 1f1b": {"split": "pipeline", "stages": 2, "micro_batches": MICRO},
}
QUICK = ("images", "rows", "2 stages, 1f1b")


def on_nodes(made: nodes.Nodes, mpi: Path, settings: dict[str, Any], target: Path) -> dict[str, Any]:
    """What the ranks have measured, one on each node."""
    words = ["-m", "harness.prediction_ranks", json.dumps(settings), str(target)]
    subprocess.run(made.mpiexec(mpi, words), env=nodes.environment(), check=True, timeout=600)
    found: dict[str, Any] = json.loads(target.read_text())
    return found


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("ranks", RANKS)
def test_epochs(ranks: int, rate: str, mpi: Path, measure, tmp_path: Path, two_cpus: None, quick: bool) -> None:
    """Seconds of an epoch by split, measured, predicted and simulated."""
    why = nodes.unavailable()
    if why is not None:
        pytest.skip(why)
    if quick and (ranks, rate) not in ((2, "1gbit"), (4, "100mbit")):
        pytest.skip("left out by --quick")
    settings = {
        "network": NAME, "batch": BATCH, "micro_batches": MICRO, "cpus": threads.usable_cpus(), "largest": 1 << 21,
        "steps": 4 if quick else 6, "epochs": 2 if quick else EPOCHS[rate],
        "turns": 1 if quick else TURNS[rate], "seconds": 0.2 if quick else 0.5,
        "cases": QUICK if quick else (),
    }  # fmt: skip
    with nodes.Nodes(ranks, rate) as made:
        found = measure.once(lambda: on_nodes(made, mpi, settings, tmp_path / "result.json"))
    machine = Calibration._of(found["machine"])
    case = f"{NAME}, {RATES[rate]}"
    for column, each in found["cases"].items():
        predicted, seconds = each["predicted"], each["seconds"]
        least, images = min(seconds), each["images"]
        ratio = predicted["epoch_s"] / least
        middle = sorted(seconds)[len(seconds) // 2]
        measure.add(
            experiment=EXPERIMENT, case=case, operation="epoch", column=column, x=ranks, median_s=middle,
            q1_s=min(seconds), q3_s=max(seconds), least_s=least, rounds=len(seconds), threads=1, images=images,
            images_per_s=images / least, predicted_s=predicted["epoch_s"], compute_s=predicted["compute_s"],
            predicted_communication_s=predicted["communication_s"], sent_bytes=predicted["sent_bytes"], ratio=ratio,
            within=abs(ratio - 1) <= WITHIN, advice=found["advice"], library=found["library"],
            t_s=machine.t_s.value, t_b=machine.t_b.value, x_s=machine.x_s.value, x_b=machine.x_b.value,
            load=os.getloadavg()[0],
        )  # fmt: skip
    if ranks == RANKS[0]:
        simulated(measure, found, machine, case, quick)


def simulated(measure: Any, found: dict[str, Any], machine: Calibration, case: str, quick: bool) -> None:
    """Curves of the simulation, from the constants of 2 ranks, which have a core each."""
    model = nn.build(NAME, seed=0)
    whole = found["cases"]["images"]["predicted"]
    how = {"calibration": machine, "backend": "serial", "gradient_s": whole["gradient_s"], "spread": 0.05,
           "steps": 3 if quick else 10}  # fmt: skip
    for column, told in CURVES.items():
        for ranks in COUNTS[:: 3 if quick else 1]:
            try:
                made = costmodel.simulate_split(model, BATCH, ranks, **told, **how)
            except InputError:  # fewer rows, or no whole pipelines
                continue
            measure.add(
                experiment=EXPERIMENT, case=case, operation="simulation", column=column, x=ranks,
                simulated_images_per_s=made.images_per_s, simulated_speedup=made.speedup, busy_share=made.busy_share,
            )  # fmt: skip
