"""Simulates clusters of 1 to 1024 workers on many nodes: the speed-up under each update rule.

The cluster is a plausible one of 16-core nodes on 10 Gbit/s Ethernet. A gradient of `fer` takes the time that it takes
here; the time varies by a tenth, and one gradient in a hundred takes three times as long. Workers meet as rarely as the
rules' papers have them: under `local` once an epoch of FER2013's training images, which they share; under `easgd` every
4 steps.
"""

from __future__ import annotations

import dataclasses
import math

import pytest

from pyconv import costmodel, nn
from pyconv.costmodel.network import measure as measured
from pyconv.errors import install_line
from pyconv.parallel import RULES

EXPERIMENT = "simulation"
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
BATCH = 64
IMAGES = 28709
EPOCH = math.ceil(IMAGES / BATCH)


@pytest.fixture(scope="module")
def cluster() -> costmodel.Cluster:
    """Nodes of 16 workers, each as fast as one thread of this machine."""
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


def agrees_with_closed_forms(cluster: costmodel.Cluster, update: str) -> None:
    """Verify the simulation at both ends of each rule's curve, where for even workers a closed form is known."""
    wrong = "the simulation is wrong and is not recorded"
    even = dataclasses.replace(cluster, spread=0.0, straggler_share=0.0, workers_per_node=1, tree=True)
    size, every = even.parameter_bytes, 2 if update in ("local", "easgd") else 1
    # In shared memory and without updates no worker waits.
    memory = dataclasses.replace(even, workers_per_node=16, update_s=0.0)
    made = costmodel.simulate(memory, 16, update, steps=4, every=every).steps_per_s
    assert made == pytest.approx(16 / even.gradient_s), wrong
    if update in ("sync", "local"):  # they average in a tree, as Algorithm 4 does
        for workers in (16, 256):
            average_s = costmodel.averaging_time(workers, size, t_s=even.t_s, t_b=even.t_b)
            updates_s = even.update_s / workers if update == "sync" else every * even.update_s
            made = costmodel.simulate(even, workers, update, steps=2 * every, every=every).steps_per_s
            assert made == pytest.approx(every * workers / (every * even.gradient_s + average_s + updates_s)), wrong
        return
    # The other rules share the server's link: every so many steps, a message of each worker passes it.
    message_s = even.t_s + even.t_b * size
    many = dataclasses.replace(even, gradient_s=10 * message_s, update_s=0.0)
    made = costmodel.simulate(many, 256, update, steps=10, every=every).steps_per_s
    assert made == pytest.approx(every / (even.t_b * size), rel=0.1), wrong


@pytest.mark.parametrize("update", RULES)
def test_curve(update: str, measure, cluster: costmodel.Cluster, quick: bool) -> None:
    pytest.importorskip("simpy", reason=f"SimPy is not installed: {install_line('simulate')}")
    agrees_with_closed_forms(cluster, update)
    counts = COUNTS[::3] if quick else COUNTS
    steps = 5 if quick else 40
    how = {"steps": steps, "epoch": EPOCH, **({"every": 4} if update == "easgd" else {})}
    points = measure.once(lambda: costmodel.curve(cluster, update, list(counts), **how))
    for point in points:
        measure.add(
            experiment=EXPERIMENT, case="fer, 16 workers a node, 10 Gbit/s", operation="training", column=update,
            x=point.workers, speedup=point.speedup, busy_share=point.busy_share, staleness=point.staleness,
            every=point.every, epoch=EPOCH, bends_at=costmodel.bend(points),
        )  # fmt: skip
