"""Runs whose workers fail; the parent is this process."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import signal
import threading
import time

import numpy as np
from parallel_runs import Faults, Leavings

from pyconv.errors import RunError
from pyconv.parallel import RULES
from pyconv.parallel.engine import constant
from pyconv.parallel.server import ParameterServer

from .plan import BATCH, EPOCHS, IMAGES, STEPS, WORKERS, Plan, images, job, model

NAMED_S = 5.0  # seconds within which a dead worker must be named


class Problem(AssertionError):
    """A run did something that it must never do."""


class Said(logging.Handler):
    """The lines of the parent's log, with their times."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[float, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((time.monotonic(), record.getMessage()))

    def first(self, words: str) -> float | None:
        """The time of the first line with these words."""
        return next((when for when, text in self.lines if words in text), None)


def need(condition: bool, problem: str) -> None:
    """Raise a :class:`Problem` unless the condition holds."""
    if not condition:
        raise Problem(problem)


def play(plan: Plan, folder: str) -> str:
    """Run a plan; returns how it ended, in a few words."""
    leavings = Leavings()
    said = Said()
    logger = logging.getLogger("pyconv")
    logger.addHandler(said)
    propagate, logger.propagate = logger.propagate, False
    try:
        outcome = _play(plan, folder, said)
    finally:
        logger.removeHandler(said)
        logger.propagate = propagate
    leavings.assert_nothing_new()
    return outcome


def _play(plan: Plan, folder: str, said: Said) -> str:
    network = model()
    engine = ParameterServer(network, *images(), job(plan, Faults(plan.inside, folder)))
    sent: list[tuple[float, int, str]] = []
    todo = list(plan.outside)
    reports = 0
    failure: RunError | None = None
    try:
        for epoch in range(EPOCHS):
            seen = 0
            for report in engine.epoch(epoch):
                reports += 1
                seen += report.images
                need(bool(np.isfinite(report.loss)), f"a loss of {report.loss}")
                while todo and reports >= todo[0][0]:
                    _, seconds, which, fault = todo.pop(0)
                    time.sleep(seconds)
                    pids = engine.worker_pids()
                    if pids:
                        sent.append((time.monotonic(), pids[which % len(pids)], fault))
                        _send(*sent[-1][1:])
            need(seen == IMAGES, f"{seen} of {IMAGES} images in epoch {epoch + 1}")
            _check_record(plan, engine)
        ended = time.monotonic()
        restarts = engine.statistics()["restarts"]
    except RunError as error:
        failure, ended = error, time.monotonic()
    finally:
        engine.close()
    if failure is not None:
        return _check_failure(plan, failure, sent, ended)
    found = (re.search(r"; (a|\d+) new process", text) for _, text in said.lines)
    replaced = sum(1 if match[1] == "a" else int(match[1]) for match in found if match)
    need(restarts == replaced, f"{restarts} restarts, and {replaced} of them were said")
    _check_named(said, sent, ended)
    need(bool(np.isfinite(network.flat).all()), "a parameter is not finite")
    if RULES[plan.update].lockstep:
        need(
            bool((network.flat == undisturbed(plan.update, plan.optimizer)).all()),
            "other bits than those of an undisturbed run",
        )
    return f"finished, {len(said.lines)} messages, {restarts} restarts"


def _send(pid: int, fault: str) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP if fault == "pause" else getattr(signal, fault))
        if fault == "pause":
            threading.Timer(0.5, _go_on, [pid]).start()


def _go_on(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def _check_record(plan: Plan, engine: ParameterServer) -> None:
    """Check the order of pushes, if the rule records it: each mini-batch was pushed once, and no number is missing."""
    if plan.update not in ("async", "ssp"):
        return
    record = engine.record()
    need(sorted(record["unit"].tolist()) == list(range(STEPS * WORKERS)), "a mini-batch was not pushed exactly once")
    need(bool((np.diff(record["push"]) == 1).all()), "a number in the order of pushes is missing")


def _check_named(said: Said, sent: list[tuple[float, int, str]], ended: float) -> None:
    """Check that each killed worker was named in time; a stopped one too, if the run lasted long enough."""
    for when, pid, fault in sent:
        named = said.first(f"(pid {pid})")
        if fault == "pause" or (named is None and ended - when < NAMED_S):
            continue
        need(named is not None, f"nothing was said of pid {pid}, which had been sent {fault}")
        assert named is not None
        need(named - when < NAMED_S, f"pid {pid} was named {named - when:.1f} s after it had been sent {fault}")


def _check_failure(plan: Plan, failure: RunError, sent: list[tuple[float, int, str]], ended: float) -> str:
    """Check the error that ended a run: the plan must lead to it, and the error must name the worker and the cause."""
    text = str(failure)
    if plan.policy == "abort":
        need("worker " in text and "(pid " in text and "aborted, as asked" in text, f"it ended with: {text}")
        killed = [when for when, pid, fault in sent if f"(pid {pid})" in text]
        need(not killed or ended - killed[0] < NAMED_S, f"it took {ended - (killed or [0])[0]:.1f} s to abort")
        return f"aborted: {text}"
    deaths = len(plan.inside) + len(plan.outside)
    need(plan.policy == "drop" and deaths >= WORKERS, f"it ended with: {text}")
    return f"failed: {text}"


@functools.cache
def undisturbed(update: str, optimizer: str) -> np.ndarray:
    """The parameters after an undisturbed run."""
    plan = Plan(0, update, "abort", optimizer, {}, (), ())
    network = model()
    engine = ParameterServer(network, *images(), job(plan, constant))
    try:
        for epoch in range(EPOCHS):
            need(sum(report.images for report in engine.epoch(epoch)) == IMAGES, "an undisturbed run lost images")
    finally:
        engine.close()
    assert STEPS * WORKERS * BATCH == IMAGES
    return network.flat.copy()
