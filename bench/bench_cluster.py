"""Training on two pretended nodes of one thread each, by how messages travel; beside one node, and PyTorch's DDP.

Two nodes with a link of 1 Gbit/s or 100 Mbit/s between them, on this machine: it needs root, two idle cores, and an MPI
beside an interpreter that ``PYCONV_BENCH_MPI`` names (`make cluster` sees to it). The candidates take turns, each in
processes of its own. "apart" is both nodes at once, each by itself: what two nodes can do without any message.
"plain sockets" is the same while the kernel passes as many bytes, and nobody looks after them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import nodes
from harness.images import images_for
from harness.node_program import BATCH, LEFT_OUT, NAME
from harness.timing import Times

import pyconv
from pyconv import nn

EXPERIMENT = "cluster"
STEPS = 20  # of an epoch
RATES = {"1gbit": "1 Gbit/s", "100mbit": "100 Mbit/s"}
#: By column: how many nodes train together, and settings of fit().
OURS: dict[str, tuple[int, dict[str, Any]]] = {
    "one node": (1, {}),
    "two nodes": (2, {}),
    "two nodes, no overlap": (2, {"overlap": False}),
    "two nodes, float16": (2, {"wire": "float16"}),
}
FASHION = Path("/usr/share/datasets/fashion-mnist")


def program(how: str, data: Path, result: Path, **settings: Any) -> list[str]:
    """The arguments of an interpreter that runs :mod:`harness.node_program`."""
    given = [f"{name}={json.dumps(value)}" for name, value in settings.items()]
    return ["-m", "harness.node_program", how, str(data), str(result), *given]


@pytest.fixture(params=RATES)
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[str, nodes.Nodes]]:
    """A rate, and two nodes with such links."""
    why = nodes.unavailable()
    if why is not None:
        pytest.skip(why)
    with nodes.Nodes(2, request.param) as made:
        yield request.param, made


class Turns:
    """The candidates' runs, each in processes of its own."""

    def __init__(self, pair: nodes.Nodes, mpi: Path, folder: Path, images: int) -> None:
        self._pair, self._mpi, self._folder = pair, mpi, folder
        self.data: dict[int, Path] = {}
        for count in (1, 2):
            x, labels, _ = images_for(nn.build(NAME), count * images)
            self.data[count] = folder / f"{count}.npz"
            np.savez(self.data[count], x=x, labels=labels)
        self._port = 29500
        self._results = [folder / f"result-{node}.json" for node in range(2)]

    def run(self, column: str) -> list[dict[str, Any]]:
        """The results of one run: of each node, if they train apart."""
        first, second = self._results
        if column in OURS:
            count, settings = OURS[column]
            words = program("alone" if count == 1 else "ranks", self.data[count], first, **settings)
            return self.finish([self._one(0, words) if count == 1 else self._pair.mpiexec(self._mpi, words)])
        if column == "apart":
            words = [program("alone", self.data[1], result) for result in (first, second)]
            return self.finish([self._one(node, each) for node, each in enumerate(words)])
        if column == "plain sockets":
            peers = [self._pair.address(1 - node) for node in range(2)]
            words = [["-m", "harness.plain_sockets", str(self.data[1]), str(result), peer]
                     for result, peer in zip((first, second), peers)]  # fmt: skip
            return self.finish([self._one(node, each) for node, each in enumerate(words)])
        words = program("ddp", self.data[2], first, fp16="float16" in column)
        return self.finish([self._one(node, words) for node in range(2)])

    def accuracy(self, data: Path, **settings: Any) -> float:
        """The accuracy that two ranks reach."""
        words = program("accuracy", data, self._results[0], **settings)
        return float(self.finish([self._pair.mpiexec(self._mpi, words)])[0]["accuracy"][-1])

    def finish(self, commands: list[list[str]]) -> list[dict[str, Any]]:
        """The results of commands that are run at once, one on each node."""
        for path in self._results:
            path.unlink(missing_ok=True)
        self._port += 1
        common = {"WORLD_SIZE": "2", "MASTER_ADDR": self._pair.address(0), "MASTER_PORT": str(self._port)}
        processes = [
            subprocess.Popen(each, env=nodes.environment(**common, RANK=str(node)))
            for node, each in enumerate(commands)
        ]
        try:
            assert [each.wait(600) for each in processes] == [0] * len(processes)
        finally:
            for each in processes:
                each.kill()
        return [json.loads(path.read_text()) for path in self._results if path.exists()]

    def _one(self, node: int, words: list[str]) -> list[str]:
        return self._pair.on(node, [sys.executable, *words])


def counted(result: dict[str, Any]) -> list[float]:
    """The steps of a run that count."""
    return [seconds for epoch in result["seconds"][1:] for seconds in epoch[LEFT_OUT:]]


def test_two_nodes(pair, mpi: Path, measure, tmp_path: Path, two_cpus: None, quick: bool) -> None:
    """Seconds of a step, and images a second, by candidate."""
    rate, made = pair
    turns = Turns(made, mpi, tmp_path, STEPS * BATCH)
    pytest.importorskip("torch")
    columns = [*OURS, "apart", "plain sockets", "torch ddp", "torch ddp, float16"]
    if rate == "1gbit":  # float16 is for slow links
        columns = [column for column in columns if "float16" not in column]
    found: dict[str, list[list[dict[str, Any]]]] = {column: [] for column in columns}

    def rounds() -> None:
        for _ in range(1 if quick else 3):
            for column in columns:
                found[column].append(turns.run(column))

    measure.once(rounds)
    expected = _losses_of_two_workers(turns.data[2])
    for column in ("two nodes", "two nodes, no overlap"):
        assert all(run[0]["losses"] == expected for run in found[column]), f"{column}: other numbers than one machine's"
    # The median step of each run; nodes that train by themselves do two steps at once.
    times = {
        column: Times(tuple(float(np.median([counted(each) for each in run])) for run in runs))
        for column, runs in found.items()
    }
    one = BATCH / times["one node"].median
    for column, taken in times.items():
        images = BATCH * (1 if column == "one node" else 2) / taken.median
        waits = [np.mean(run[0]["wait_s"][1:]) for run in found[column] if "wait_s" in run[0]]
        measure.add(
            experiment=EXPERIMENT, case=NAME, operation=f"step, links of {RATES[rate]}", column=column,
            **taken.as_record(), threads=1, batch=BATCH, images_per_s=images, speedup=images / one,
            wait_s=float(np.median(waits)) if waits else None, load=os.getloadavg()[0],
            mpi=found[column][0][0].get("mpi"),
        )  # fmt: skip


@pytest.mark.parametrize("pair", ["1gbit"], indirect=True)
def test_accuracy(pair, mpi: Path, measure, tmp_path: Path, quick: bool) -> None:
    """Accuracy on Fashion-MNIST's held-out images after three epochs, by what travels; three seeds."""
    if not FASHION.exists():
        pytest.skip(f"Fashion-MNIST is not in {FASHION}")
    turns = Turns(pair[1], mpi, tmp_path, BATCH)
    images, seeds = (2000, 1) if quick else (24000, 3)
    found: dict[str, list[float]] = {"exact": [], "float16": []}

    def runs() -> None:
        for seed in range(seeds):
            for wire, reached in found.items():
                reached.append(turns.accuracy(FASHION, images=images, seed=seed, wire=wire))

    measure.once(runs)
    for wire, reached in found.items():
        measure.add(
            experiment=EXPERIMENT, case="5-50-100-10", operation=f"accuracy after 3 epochs of {images} images",
            column=wire, accuracy=float(np.mean(reached)), accuracies=reached,
        )  # fmt: skip


def _losses_of_two_workers(data: Path) -> list[float]:
    """The losses of as many workers on this machine."""
    from harness.node_program import EPOCHS

    with np.load(data) as arrays:
        history = pyconv.fit(
            nn.build(NAME, seed=0), arrays["x"], arrays["labels"], epochs=EPOCHS, batch_size=BATCH, workers=2,
            threads_per_worker=1, backend="serial", optimizer={"name": "sgd", "lr": 1e-3}, progress="off",
        )  # fmt: skip
    return [line["train_loss"] for line in history]
