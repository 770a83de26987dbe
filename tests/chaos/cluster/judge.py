"""Plays a plan, and judges it."""

from __future__ import annotations

import functools
import shutil
import time
from pathlib import Path

import numpy as np

from pyconv.checkpoint import Checkpoint

from .faults import FAULTS, named, words
from .plan import SPLITS, Plan
from .rig import PATIENCE_S, Rig, Running, alive, shared_memory

GONE_S = 10.0  # seconds within which all ranks of a run that cannot go on are gone, and its launcher
SETTLE_S = 3.0  # for what the launcher has started beside the ranks


def need(condition: object, problem: str) -> None:
    """Raise unless the condition holds."""
    if not condition:
        raise AssertionError(problem)


def play(plan: Plan, rig: Rig) -> tuple[str, float]:
    """How a plan's run ended, in a few words, and the seconds from the fault to the last rank's end."""
    rig.fresh()
    memory = shared_memory(rig)
    run = rig.start(plan, words(plan, rig))
    try:
        outcome, seconds = _struck(plan, rig, run)
    finally:
        run.end()
        for node in range(plan.nodes):
            rig.nodes.link(node, up=True)
    left = {name for name in shared_memory(rig) - memory if "pyconv-filled" not in name}
    need(not left, f"left in /dev/shm: {sorted(left)}")
    if plan.fault == "disk":
        rig.see(0, rig.disk / "filled").unlink()
    return f"{outcome}; {_resumed(plan, rig)}", seconds


def _struck(plan: Plan, rig: Rig, run: Running) -> tuple[str, float]:
    """Have a run suffer; returns how it ended."""
    fault = FAULTS[plan.fault]
    run.until("epoch 1/")
    ranks = run.ranks()
    need(len(ranks) == plan.ranks, f"ranks {sorted(ranks)} of {plan.ranks} are there")
    time.sleep(plan.seconds)
    fault.strike(rig, plan, run, ranks)
    if fault.harmless:
        need(run.process.wait(PATIENCE_S) == 0, f"status {run.process.returncode}: {run.err}")
        return "went on", 0.0
    if fault.mostly:
        _until_one_ends(run, list(ranks.values()))
        if _status(run, GONE_S) == 0:
            return "went on", 0.0
    seconds = run.gone(list(ranks.values()), GONE_S)
    if seconds is None:
        there = [rank for rank, process in ranks.items() if alive(process)]
        raise AssertionError(f"ranks {there} are there after {GONE_S} s: {run.err[-1500:]}")
    began = time.monotonic()
    status = _status(run, GONE_S - seconds + 1)
    need(status is not None, f"the launcher is there {GONE_S} s after the fault: {run.err[-1500:]}")
    launcher = seconds + time.monotonic() - began
    need(status != 0, f"status 0: {run.out[-500:]} {run.err[-1500:]}")
    said = run.said
    need(len(said) <= 1, f"said {len(said)} times: {said}")
    if said:
        need(named(plan, said[0]), f"the cause is not named: {said[0]}")
    elif plan.fault == "exception" and plan.victim == 0:
        need("ValueError: planted" in run.err, "the cause is not named")
    else:
        need(fault.silent, f"nothing was said: {run.err[-1500:]}")
    _settled(plan, run)
    checkpoint = rig.see(0, rig.disk / "run") / "checkpoint" / "last.safetensors"
    done = len(Checkpoint.load(checkpoint).history)
    return f"status {status} after {launcher:.1f} s, {done} epochs, said: {said[0][8:] if said else '-'}", seconds


def _until_one_ends(run: Running, ranks: list) -> None:
    """Wait until the first rank ends."""
    end = time.monotonic() + PATIENCE_S
    while all(alive(each) for each in ranks) and run.process.poll() is None:
        need(time.monotonic() < end, "the fault has no effect")
        time.sleep(0.02)


def _status(run: Running, seconds: float) -> int | None:
    end = time.monotonic() + seconds
    while run.process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    return run.process.poll()


def _settled(plan: Plan, run: Running) -> None:
    """Check that no process is left on a node.

    On a node without a link Open MPI's daemons stay, until they notice it. They are killed with what they have started.
    """
    cut = {f"node{plan.node + 1}"} if plan.fault == "link" and plan.mpi == "openmpi" else set()
    if plan.node == 0:
        cut |= {f"node{node + 1}" for node in range(1, plan.nodes)} if cut else set()
    end = time.monotonic() + SETTLE_S
    while (left := {k: v for k, v in run.left().items() if v[:5] not in cut}) and time.monotonic() < end:
        time.sleep(0.05)
    need(not left, f"processes are left: {left}")


def _resumed(plan: Plan, rig: Rig) -> str:
    """Go on with the run, and compare its bits with those of an undisturbed one."""
    flags = rig.flags(plan, rig.disk / "run")
    run = rig.start(plan, ["-m", "pyconv.train", *flags])
    try:
        status = run.process.wait(PATIENCE_S)
        need(status == 0, f"resumed, it ended with status {status}: {run.err}")
    finally:
        run.end()
    split = SPLITS[plan.split]
    out = rig.see(0, rig.disk / "run")
    found = bits(out)
    need([line["epoch"] for line in found[2]] == list(range(1, split.epochs + 1)), "an epoch is missing")
    if not split.bits:
        return "resumed"
    wanted = undisturbed(rig, plan.split, plan.nodes, plan.each)
    need(np.array_equal(found[0], wanted[0]), "other parameters than those of an undisturbed run")
    losses = [[line["train_loss"] for line in each[2]] for each in (found, wanted)]
    need(losses[0] == losses[1], "other losses than those of an undisturbed run")
    return "resumed to the same bits"


def bits(out: Path) -> tuple:
    """Parameters, the engine's state and the history of a run."""
    checkpoint = Checkpoint.load(out / "checkpoint" / "last.safetensors")
    return checkpoint.parameters.copy(), checkpoint.engine, checkpoint.history


@functools.cache
def undisturbed(rig: Rig, split: str, nodes: int, each: int) -> tuple:
    """The bits of an undisturbed run: of one process, where it has the same."""
    plan = Plan(0, split, "mpich", "", nodes, each, 0, 0.0)
    out = rig.folder / "undisturbed"
    shutil.rmtree(out, ignore_errors=True)
    if SPLITS[split].lanes:
        flags = SPLITS[split].alone(split, plan.ranks)
        rig.alone(["-m", "pyconv.train", *rig.common(split, out), *flags])
        return bits(out)
    run = rig.start(plan, ["-m", "pyconv.train", *rig.flags(plan, out)])
    try:
        need(run.process.wait(PATIENCE_S) == 0, f"the undisturbed run: {run.err}")
    finally:
        run.end()
    return bits(out)
