"""Beyond the machine at hand: speed-up against 1 to 1024 workers on many nodes, simulated, under each update rule.

The cluster is a plausible one of 16-core nodes on 10 Gbit/s Ethernet; a gradient of `fer` takes what it takes here, its
time varies by a tenth, and one in a hundred is a straggler of three times that. Workers meet as often as in training:
under `local` once an epoch of FER2013's training images, which they share.
"""

from __future__ import annotations

import dataclasses
import math

import pytest

from pyconv import costmodel, nn
from pyconv.costmodel.network import measure as measured
from pyconv.costmodel.simulation import UPDATES

EXPERIMENT = "simulation"
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
BATCH = 64
IMAGES = 28709
EPOCH = math.ceil(IMAGES / BATCH)


@pytest.fixture(scope="module")
def cluster() -> costmodel.Cluster:
    """Nodes of 16 workers that compute as one thread does here."""
    model = nn.build("fer")
    steps = measured(model, BATCH, backend="serial")
    return costmodel.Cluster(
        gradient_s=steps.gradient_s,
        parameter_bytes=model.flat.nbytes,
        update_s=steps.update_s,
        t_s=50e-6,
        t_b=8e-10,
        workers_per_node=16,
        spread=0.1,
        straggler_share=0.01,
        straggler_factor=3.0,
    )


def agrees_with_the_closed_form(cluster: costmodel.Cluster) -> None:
    """Verification: with even workers that average in a tree, a step takes what Algorithm 4's cost says."""
    even = dataclasses.replace(cluster, spread=0.0, straggler_share=0.0, workers_per_node=1, tree=True)
    for workers in (16, 256):
        average_s = costmodel.averaging_time(workers, even.parameter_bytes, t_s=even.t_s, t_b=even.t_b)
        step_s = even.gradient_s + average_s + even.update_s / workers
        made = costmodel.simulate(even, workers, "sync", steps=3).steps_per_s
        assert made == pytest.approx(workers / step_s), "the simulation is wrong and is not recorded"


@pytest.mark.parametrize("update", UPDATES)
def test_curve(update: str, measure, cluster: costmodel.Cluster, quick: bool) -> None:
    pytest.importorskip("simpy", reason="SimPy is not installed: pip install 'pyconv[simulate]'")
    agrees_with_the_closed_form(cluster)
    counts = COUNTS[::3] if quick else COUNTS
    steps = 5 if quick else 40
    points = measure.once(lambda: costmodel.curve(cluster, update, list(counts), steps=steps, epoch=EPOCH))
    for point in points:
        measure.add(
            experiment=EXPERIMENT, case="fer, 16 workers a node, 10 Gbit/s", operation="training", column=update,
            x=point.workers, speedup=point.speedup, busy_share=point.busy_share, staleness=point.staleness,
            every=point.every, epoch=EPOCH, bends_at=costmodel.bend(points),
        )  # fmt: skip
