"""Runs whose parent process fails too. Each run is a separate process, and is resumed until it is complete."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
from parallel_runs import workers_of

from pyconv import nn
from pyconv.parallel import RULES

from .plan import EPOCHS, IMAGES, Plan
from .workers import need, undisturbed

GONE_S = 5.0  # seconds within which the workers of a killed parent must be gone
PATIENCE_S = 60.0  # seconds for a whole run


def play(plan: Plan, folder: str) -> str:
    """Run a plan; returns how it ended, in a few words."""
    out = Path(folder) / "run"
    todo = list(plan.parent)
    attempts = 0
    while True:
        attempts += 1
        status = _attempt(plan, folder, out, todo.pop(0) if todo else None, attempts)
        if status == 0:
            break
        need(attempts <= len(plan.parent), f"it ended with status {status}: {_errors(folder, attempts)}")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    need([line["epoch"] for line in lines] == list(range(1, EPOCHS + 1)), "an epoch is missing")
    need(all(line["images"] == IMAGES for line in lines), f"images by epoch: {[line['images'] for line in lines]}")
    network = nn.load(out / "model.safetensors")
    need(bool(np.isfinite(network.flat).all()), "a parameter is not finite")
    if RULES[plan.update].lockstep:
        same = network.flat == undisturbed(plan.update, plan.optimizer)
        need(bool(same.all()), "other bits than those of an undisturbed run")
    return f"finished, in {attempts} attempts"


def _attempt(plan: Plan, folder: str, out: Path, fault: tuple[int, float, str] | None, number: int) -> int:
    """Start or resume the run, make the parent and its workers fail; returns the exit status."""
    command = [sys.executable, "-m", "chaos.whole_run", str(plan.seed), folder]
    errors = Path(folder) / f"errors-{number}"
    with errors.open("w") as stderr:
        run = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, text=True, start_new_session=True, env=environment()
        )
    try:
        todo = list(plan.outside) if number == 1 else []
        assert run.stdout is not None
        for reports, _ in enumerate(run.stdout, 1):
            while todo and reports >= todo[0][0]:
                _, seconds, which, what = todo.pop(0)
                time.sleep(seconds)
                pids = sorted(_workers(run.pid))
                if pids and what != "pause":
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pids[which % len(pids)], getattr(signal, what))
            if fault is not None and reports >= fault[0]:
                time.sleep(fault[1])
                _strike(run, fault[2])
                break
        run.stdout.close()
        return run.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        need(False, f"it hung: {errors.read_text()[-2000:]}")
        raise
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()


def _strike(run: subprocess.Popen, what: str) -> None:
    """Make the parent fail; its workers must be gone soon."""
    pids = _workers(run.pid)
    if what == "group":
        os.killpg(run.pid, signal.SIGKILL)
    else:
        run.send_signal(getattr(signal, what))
    run.wait(PATIENCE_S)
    deadline = time.monotonic() + GONE_S
    while time.monotonic() < deadline:
        left = [pid for pid in pids if _alive(pid)]
        if not left:
            break
        time.sleep(0.05)
    need(not left, f"{len(left)} workers are there {GONE_S} s after their parent was sent {what}")
    expected = {"SIGINT": 130, "SIGTERM": 130, "SIGKILL": -9, "group": -9}[what]
    # A signal that comes after the last step finds a complete run.
    need(run.returncode in (expected, 0), f"status {run.returncode} after {what}")


def _workers(pid: int) -> set[int]:
    with contextlib.suppress(psutil.Error):
        return workers_of(psutil.Process(pid))
    return set()


def _alive(pid: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def _errors(folder: str, number: int) -> str:
    return (Path(folder) / f"errors-{number}").read_text()[-2000:]


def environment() -> dict[str, str]:
    """The environment of a process that finds this package, and the installed or checked-out pyconv."""
    tests = Path(__file__).parent.parent
    paths = [str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
