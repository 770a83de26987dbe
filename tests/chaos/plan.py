"""Plans of failures in a run; each is drawn from a seed, so that it can be repeated."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from parallel_runs import data

from pyconv import nn, optim
from pyconv.parallel import RULES, Job

IMAGES, WORKERS, BATCH, EPOCHS = 1200, 4, 5, 3
STEPS = IMAGES // (WORKERS * BATCH)  # an epoch
POLICIES = ("restart", "restart", "drop", "abort")  # the default twice as often
OPTIMIZERS = {"sgd": optim.SGD(0.02, momentum=0.9), "adam": optim.Adam(1e-3)}
OPTIONS: dict[str, dict[str, Any]] = {"local": {"sync_every": 7}, "ssp": {"staleness": 2}, "easgd": {"sync_every": 3}}

#: Signals from outside, at any moment of the worker; a pause is a SIGSTOP followed by SIGCONT.
OUTSIDE = ("SIGKILL", "SIGKILL", "SIGSEGV", "SIGBUS", "SIGSTOP", "pause")
#: Faults of the first worker that asks for the learning rate of a certain step: before a transaction, or inside it.
INSIDE = ("exception", "segfault", "exit", "nan", "slow", "SIGKILL", "memory")
#: The signals for the parent; "group" is SIGKILL for the parent and its workers.
PARENT = ("SIGINT", "SIGTERM", "SIGKILL", "group")


@dataclasses.dataclass(frozen=True)
class Plan:
    """One run of the campaign.

    Attributes
    ----------
    seed : int
        The seed from which it was drawn.
    update, policy, optimizer : str
    inside : dict of int to str
        Faults, by the global step from which on a worker has them.
    outside : tuple of (int, float, int, str)
        How many reports to wait for, how many seconds after that, which of the living workers, and the signal for it.
    parent : tuple of (int, float, str)
        How many reports and seconds to wait, and the signal for the parent; then the run is resumed.
    """

    seed: int
    update: str
    policy: str
    optimizer: str
    inside: dict[int, str]
    outside: tuple[tuple[int, float, int, str], ...]
    parent: tuple[tuple[int, float, str], ...]

    def __str__(self) -> str:
        inside = [f"{fault} at step {step}" for step, fault in self.inside.items()]
        outside = [f"{fault} after {reports} reports" for reports, _, _, fault in self.outside]
        parent = [f"parent: {fault} after {reports} reports" for reports, _, fault in self.parent]
        return f"seed {self.seed}: {self.update}, {self.policy}, {self.optimizer}; " + ", ".join(
            inside + outside + parent
        )


def draw(seed: int) -> Plan:
    """The plan of that seed."""
    rng = np.random.default_rng(seed)
    update = list(RULES)[seed % len(RULES)]
    whole = seed // len(RULES) % 4 == 3  # every fourth round of rules, the parent fails too
    policy = "restart" if whole else str(rng.choice(POLICIES))
    count = {"restart": 5, "drop": 3, "abort": 2}[policy]
    moments = rng.choice(np.arange(3, EPOCHS * STEPS - 20), count, replace=False).tolist()
    split = int(rng.integers(0, count + 1))
    inside = {int(step): str(rng.choice(INSIDE)) for step in sorted(moments[:split])}
    outside = tuple(
        (int(step), float(rng.uniform(0, 0.02)), int(rng.integers(WORKERS)), str(rng.choice(OUTSIDE)))
        for step in sorted(moments[split:])
    )
    parent: tuple[tuple[int, float, str], ...] = ()
    if whole:
        parent = tuple(
            (int(rng.integers(2, STEPS)), float(rng.uniform(0, 0.1)), str(rng.choice(PARENT))) for _ in range(2)
        )
        outside = outside[:2]
    return Plan(seed, update, policy, str(rng.choice(list(OPTIMIZERS))), inside, outside, parent)


def job(plan: Plan, schedule: Any) -> Job:
    """The job of the plan, with a schedule that may carry faults."""
    return Job(
        optimizer=OPTIMIZERS[plan.optimizer],
        batch_size=BATCH,
        epochs=EPOCHS,
        schedule=schedule,
        workers=WORKERS,
        threads_per_worker=1,
        update=plan.update,
        options=OPTIONS.get(plan.update, {}),
        on_worker_failure=plan.policy,
    )


def model() -> nn.Sequential:
    """A network whose parameters are several chunks of a transaction."""
    layers = [nn.Flatten(), nn.Dense(256, activation="relu"), nn.Dense(256, activation="relu"), nn.Dense(3)]
    return nn.Sequential(layers, input_shape=(6, 6, 1), seed=1)


def images() -> tuple[np.ndarray, np.ndarray]:
    """The data of every run."""
    return data(IMAGES)
