"""Small parallel runs for the tests, and faults of their workers. Worker processes import this module."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import gc
import multiprocessing
import os
import resource
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from pyconv import nn, optim
from pyconv.parallel import Job, Rule
from pyconv.parallel.kernels import kernel
from pyconv.parallel.server import ParameterServer

IMAGES = 240


def data(n: int = IMAGES) -> tuple[np.ndarray, np.ndarray]:
    """Images of three classes that are easy to tell apart."""
    rng = np.random.default_rng(3)
    y = rng.integers(0, 3, n)
    x = rng.normal(size=(n, 6, 6, 1)).astype(np.float32)
    x[np.arange(n), y, y, 0] += 3
    return x, y


def small_model(dtype: str = "float32", norm: bool = False) -> nn.Sequential:
    """A network that takes a fraction of a millisecond."""
    layers: list[Any] = [nn.Flatten(), nn.Dense(16, activation="relu"), nn.Dense(3)]
    if norm:
        layers.insert(0, nn.BatchNorm())
    return nn.Sequential(layers, input_shape=(6, 6, 1), seed=1, dtype=dtype)


def job(update: Any = "sync", workers: int = 4, batch_size: int = 5, epochs: int = 2, **settings: Any) -> Job:
    """A job of 12 steps an epoch."""
    settings.setdefault("optimizer", optim.SGD(0.05, momentum=0.9))
    return Job(batch_size=batch_size, epochs=epochs, workers=workers, update=update, **settings)


@dataclasses.dataclass
class Result:
    """The result of a run."""

    model: nn.Sequential
    losses: list[float]
    images: list[int]
    restarts: int
    statistics: dict[str, Any]
    records: list[dict[str, np.ndarray]]


def train(plan: Job, model: nn.Sequential | None = None, each: Any = None, images: int = IMAGES) -> Result:
    """Run all epochs; `each(engine, number of reports)` is called after every report."""
    model = model or small_model()
    x, y = data(images)
    engine = ParameterServer(model, x, y, plan)
    losses, counts, records = [], [], []
    try:
        for epoch in range(plan.epochs):
            before = len(counts)
            for report in engine.epoch(epoch):
                losses.append(report.loss)
                counts.append(report.images)
                if each is not None:
                    each(engine, len(losses))
            assert sum(counts[before:]) == len(x)
            records.append(engine.record())
        statistics = engine.statistics()
        return Result(model, losses, counts, statistics["restarts"], statistics, records)
    finally:
        engine.close()


def workers_of(process: psutil.Process) -> set[int]:
    """The living worker processes of a process, without multiprocessing's own tracker."""
    found = set()
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if child.status() != psutil.STATUS_ZOMBIE and "resource_tracker" not in " ".join(child.cmdline()):
                found.add(child.pid)
    return found


class Leavings:
    """What a run could leave behind: processes, names in /dev/shm, temporary files, descriptors."""

    def __init__(self) -> None:
        gc.collect()
        self._names = self._places()
        self._descriptors = len(list(Path("/proc/self/fd").iterdir()))

    @staticmethod
    def _places() -> set[Path]:
        temporary = Path(tempfile.gettempdir())
        return {*Path("/dev/shm").iterdir(), *temporary.glob("pymp-*"), *temporary.glob("pyconv*")}

    def assert_nothing_new(self) -> None:
        """Compare with the present state. Files that other programs hold open do not count."""
        gc.collect()
        workers = workers_of(psutil.Process())
        assert workers == set(), f"worker processes {workers} are left"
        for _ in range(20):
            left = {path for path in self._places() - self._names if not _held_by_another(path)}
            if not left:
                break
            time.sleep(0.1)
        assert left == set(), f"{left} are left"
        more = len(list(Path("/proc/self/fd").iterdir())) - self._descriptors
        assert more <= 4, f"{more} descriptors are left open"  # multiprocessing's tracker has one pipe


def _held_by_another(path: Path) -> bool:
    """Whether an unrelated process has the file open or mapped, or the file is gone by now."""
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if str(path) in Path(f"/proc/{process.pid}/maps").read_text():
                return True
            for entry in Path(f"/proc/{process.pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    if entry.readlink() == path:
                        return True
    return not path.exists()


@dataclasses.dataclass
class Faults:
    """A constant learning-rate schedule that makes workers fail: the first worker that asks at a step of `plan`.

    Under every rule, workers ask for the learning rate once a mini-batch, so this works in every kind of run.
    """

    plan: dict[int, str]
    folder: str

    def __call__(self, step: int, total: int) -> float:
        if multiprocessing.parent_process() is not None:
            for at, fault in self.plan.items():
                if step >= at and self._first(at):
                    suffer(fault)
        return 1.0

    def _first(self, at: int) -> bool:
        try:
            os.close(os.open(Path(self.folder) / str(at), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True


def suffer(fault: str) -> None:
    """Make this process fail in this way."""
    if fault == "exception":
        raise ValueError("planted")
    if fault == "segfault":
        ctypes.string_at(0)
    elif fault == "exit":
        os._exit(7)
    elif fault in ("SIGKILL", "SIGSTOP"):
        os.kill(os.getpid(), getattr(signal, fault))
    elif fault == "nan":
        _once(lambda loss, gradient: gradient.fill(np.nan))
    elif fault == "slow":
        _always(lambda: time.sleep(0.2))
    elif fault == "stuck":
        _always(lambda: time.sleep(1000))
    elif fault == "memory":
        resource.setrlimit(resource.RLIMIT_AS, (1 << 28, resource.RLIM_INFINITY))
        bytearray(1 << 29)


def _once(spoil: Any) -> None:
    compute = nn.Sequential.loss_and_gradient

    def spoilt(self: Any, *args: Any, **settings: Any) -> Any:
        loss, gradient = compute(self, *args, **settings)
        spoil(loss, gradient)
        nn.Sequential.loss_and_gradient = compute
        return loss, gradient

    nn.Sequential.loss_and_gradient = spoilt


def _always(first: Any) -> None:
    compute = nn.Sequential.loss_and_gradient

    def spoilt(self: Any, *args: Any, **settings: Any) -> Any:
        first()
        return compute(self, *args, **settings)

    nn.Sequential.loss_and_gradient = spoilt


@dataclasses.dataclass(frozen=True)
class MajorityVote(Rule):
    """signSGD with majority vote, as a rule that a user has written in a module."""

    name = "majority-vote"
    lockstep = True
    scale: float = 0.01

    def step(self, lane):
        yield lane.everyone()
        yield lane.gradient("centre")
        yield lane.everyone()
        yield lane.sweep(self.vote, share=True)

    @kernel(writes=("centre",))
    def vote(self, c):
        c.centre[...] -= self.scale * np.sign(np.sign(c.gradients[c.weights > 0]).sum(axis=0))
