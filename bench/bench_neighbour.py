"""Two threads, and two workers, on an idle machine and beside a program that keeps one CPU busy.

A thread that has nothing to do waits for the next work. If it spins, it takes a CPU that another thread could use, on a
shared machine perhaps the thread that it waits for. pyconv's threads spin or sleep, depending on whether they have to
wait for a CPU. "spinning" is GNU OpenMP's default, "passive" sleeps at once; an environment variable chooses it, and
OpenMP's library reads that when it is loaded. So each column is a process of its own. The columns take turns in one
run, in one order and then in the reverse order.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from harness import epochs, torch_peer, training
from harness.timing import Times
from harness.torch_network import Twin
from harness.torch_workers import TorchWorkers
from harness.turns import QUIET
from harness.waiting import Waiter, neighbour

import pyconv
from pyconv import nn

EXPERIMENT = "neighbour"
#: The variables of each column. GNU OpenMP looks 300000 times by default; if they are set, pyconv does not decide.
COLUMNS = {
    "pyconv": {},
    "pyconv, spinning": {"GOMP_SPINCOUNT": "300000"},
    "pyconv, passive": {"OMP_WAIT_POLICY": "passive"},
}
SMALL, WHOLE, WORKERS = "32→64 3×3, 24², batch 2", "fer", "fer, 2 workers"
OPERATIONS = {SMALL: "forward", WHOLE: "training step, batch 64", WORKERS: "epoch of 256 images"}
IMAGES, BATCH = 256, 64
#: The question whether pyconv's threads sleep by now, which is asked beside the tasks.
SLEEP = "whether threads sleep"
#: Targets: shares of the default's speed on an idle machine, and of passive threads' speed beside a busy program.
IDLE, BUSY = 0.97, 0.9
#: On a shared machine, ``chrt -f 10 pytest … -k idle`` runs before other programs; the record says so.
SCHEDULERS = {os.SCHED_OTHER: "usual", os.SCHED_FIFO: "real time"}


def _small() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.standard_normal((2, 24, 24, 32), np.float32), rng.standard_normal((3, 3, 32, 64), np.float32)


def _faces() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    return rng.integers(0, 256, (IMAGES, 48, 48, 1)).astype(np.uint8), rng.integers(0, 7, IMAGES)


class _Workers:
    """An epoch of two workers under ``sync``, as :func:`pyconv.fit` trains."""

    def __init__(self) -> None:
        self._epochs = epochs.Epochs("fer", "sync", 2, *_faces())

    def __call__(self) -> float:
        return self._epochs()

    def close(self) -> None:
        self._epochs.engine.close()


def pyconv_works(threads: int) -> dict[str, Callable[[], float]]:
    """The tasks of pyconv's columns; each returns a number for verification."""
    x, weight = _small()
    model = nn.build("fer")
    model.backend, model.threads = "multicore", threads
    batch = training.batch_for(model, BATCH, np.random.default_rng(3))
    step = training.train_step(model, *batch)
    small = functools.partial(pyconv.conv2d, x, weight, padding=1, backend="multicore", threads=threads)
    waiting = importlib.import_module("pyconv._waiting")
    works = {SMALL: lambda: small()[0, 5, 5, 7], WHOLE: step, WORKERS: _Workers()}
    return {**works, SLEEP: lambda: waiting.state()[0]}


def torch_works(threads: int) -> dict[str, Callable[[], Any]]:
    """The same tasks in PyTorch, in the memory layout that is faster for them."""
    torch = torch_peer.import_torch()
    torch.set_num_threads(threads)
    x, weight = _small()
    images = torch_peer.to_torch(torch, x, "channels_last")
    filters = torch_peer.filters_to_torch(torch, weight, "channels_last")

    def small() -> float:
        with torch.inference_mode():
            return torch.nn.functional.conv2d(images, filters, padding=1)[0, 7, 5, 5].item()

    model = nn.build("fer")
    model.backend = "serial"
    twin = Twin(torch, model, "channels_last")
    batch, labels = training.batch_for(model, BATCH, np.random.default_rng(3))
    batch, labels = twin.images(batch), torch.from_numpy(labels)
    workers = TorchWorkers("ddp", "fer", "channels_last", 2, BATCH, *_faces(), model.flat)
    return {SMALL: small, WHOLE: lambda: twin.train_step(batch, labels), WORKERS: workers}


@pytest.mark.parametrize(
    ("state", "target", "than"), [("idle", IDLE, "pyconv, spinning"), ("busy", BUSY, "pyconv, passive")]
)
def test_two_threads(state: str, target: float, than: str, measure, two_cpus: None, quick: bool) -> None:
    torch_peer.import_torch()
    rounds, seconds, settle = (2, 0.05, 0.1) if quick else (7, 0.12, 1)
    with contextlib.ExitStack() as stack:
        waiters = {column: Waiter(pyconv_works, 2, how) for column, how in COLUMNS.items()}
        waiters["torch"] = Waiter(torch_works, 2, {})
        for waiter in waiters.values():
            stack.callback(waiter.close)
        _verify({column: {work: waiter.turn(work, 0)[1] for work in OPERATIONS} for column, waiter in waiters.items()})
        if state == "busy":
            stack.enter_context(neighbour())
        turns = [(work, column) for work in OPERATIONS for column in waiters]
        found: dict[tuple[str, str], list[tuple[float, float]]] = {turn: [] for turn in turns}
        asleep: dict[str, list[bool]] = {work: [] for work in OPERATIONS}

        def play() -> None:
            for waiter in waiters.values():  # by then pyconv has noticed how busy the machine is
                waiter.turn(SMALL, settle)
            for number in range(rounds):
                for work, column in turns if number % 2 == 0 else turns[::-1]:
                    found[work, column].append(waiters[column].quiet_turn(work, seconds))
                    if column == "pyconv":
                        asleep[work].append(bool(waiters[column].turn(SLEEP, 0)[1]))

        measure.once(play)
    for work, operation in OPERATIONS.items():
        times = {column: Times(tuple(taken for taken, _ in found[work, column])) for column in waiters}
        for column, taken in times.items():
            own = column == "pyconv"
            measure.add(
                experiment=EXPERIMENT, case=work, operation=f"{operation}, {state}", column=column, threads=2,
                **taken.as_record(), target=target if own else None, ratio_to=than,
                ratio=times[than].median / taken.median, scheduler=SCHEDULERS.get(os.sched_getscheduler(0)),
                asleep=sum(asleep[work]) if own and work != WORKERS else None,
                disturbed_rounds=sum(others >= QUIET for _, others in found[work, column]),
            )  # fmt: skip


def _verify(results: dict[str, dict[str, float]]) -> None:
    """How threads wait changes no bit, and PyTorch computes the same."""
    mine = results["pyconv"]
    for column, theirs in results.items():
        for work, result in theirs.items():
            if column == "torch" and work != WORKERS:  # its images are normalised by other numbers
                assert result == pytest.approx(mine[work], rel=1e-4), (column, work)
            elif column != "torch":
                assert result == mine[work], (column, work)
