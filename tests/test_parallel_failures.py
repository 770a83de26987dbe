"""Training when workers die, stop, fail, compute NaN or become slow; and when the parent does."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from parallel_runs import Faults, Leavings, data, job, small_model, train

from pyconv import optim
from pyconv.errors import DivergedError, InputError, WorkerError
from pyconv.parallel import RULES, server, supervisor
from pyconv.parallel.server import ParameterServer

pytestmark = pytest.mark.timeout(120)

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _nothing_is_left():
    before = Leavings()
    yield
    before.assert_nothing_new()


def faults(tmp_path, **plan) -> Faults:
    return Faults({int(step[1:]): fault for step, fault in plan.items()}, str(tmp_path))


MANY = {"_3": "SIGKILL", "_6": "exception", "_9": "segfault", "_13": "nan", "_17": "exit"}


@pytest.mark.slow
@pytest.mark.parametrize("update", RULES)
def test_a_run_survives_many_faults(update, tmp_path, caplog):
    calm = optim.SGD(0.05)  # with momentum and stale gradients, so few steps may not reduce the loss
    undisturbed = train(job(update, optimizer=calm))
    result = train(job(update, optimizer=calm, schedule=faults(tmp_path, **MANY)))
    said = "\n".join(record.getMessage() for record in caplog.records)
    for words in ("SIGKILL", "ValueError: planted", "SIGSEGV, a segmentation fault", "not finite", "exit status 7"):
        assert words in said
    assert said.count("a new process takes its place") == 5 == result.restarts
    assert sum(result.images) == sum(undisturbed.images) == 2 * 240
    assert np.mean(result.losses[-6:]) < np.mean(result.losses[:6])
    if RULES[update].lockstep:
        np.testing.assert_array_equal(result.model.flat, undisturbed.model.flat)
        assert result.losses == undisturbed.losses


@pytest.mark.covering("update", most=1)
@pytest.mark.parametrize("update", ["sync", "ssp", "easgd"])
def test_drop_goes_on_with_fewer(update, tmp_path, caplog):
    result = train(job(update, on_worker_failure="drop", schedule=faults(tmp_path, _2="SIGKILL", _14="exception")))
    assert "going on with 3 workers" in caplog.text and "going on with 2 workers" in caplog.text
    assert sum(result.images) == 2 * 240
    if update == "sync":
        np.testing.assert_array_equal(result.model.flat, train(job(update)).model.flat)


@pytest.mark.slow
def test_drop_ends_when_nobody_is_left(tmp_path):
    plan = faults(tmp_path, _2="exit", _3="exit", _4="exit", _5="exit")
    with pytest.raises(WorkerError, match="no worker is left"):
        train(job("sync", on_worker_failure="drop", schedule=plan))


def test_abort_names_the_worker_and_the_cause(tmp_path):
    with pytest.raises(WorkerError, match=r"worker \d \(pid \d+\) failed in epoch 1, step 4: .*ValueError: planted"):
        train(job("sync", on_worker_failure="abort", schedule=faults(tmp_path, _4="exception")))


@pytest.mark.covering("update", most=1)
@pytest.mark.parametrize("update", ["sync", "async"])
def test_a_stopped_worker_is_named_within_seconds_and_replaced(update, tmp_path, caplog):
    began = time.monotonic()
    result = train(job(update, schedule=faults(tmp_path, _5="SIGSTOP")))
    assert time.monotonic() - began < 15
    assert "was stopped by a signal" in caplog.text
    assert sum(result.images) == 2 * 240 and result.restarts == 1


@pytest.mark.slow
def test_a_slow_worker_is_named_and_kept(tmp_path, caplog):
    result = train(job("async", schedule=faults(tmp_path, _5="slow"), epochs=4))
    assert "is slow" in caplog.text and "the others go on" in caplog.text
    assert result.restarts == 0


@pytest.mark.slow
def test_a_worker_that_is_stuck_is_replaced(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(supervisor, "STUCK_S", 2.0)
    result = train(job("sync", schedule=faults(tmp_path, _5="stuck")))
    assert "has been at one mini-batch for" in caplog.text and result.restarts == 1
    assert sum(result.images) == 2 * 240


@pytest.mark.slow
def test_the_stacks_of_a_crash_are_logged_with_the_worker(tmp_path, caplog, capfd):
    train(job("sync", schedule=faults(tmp_path, _5="segfault")))
    crash = next(record for record in caplog.records if "Fatal Python error" in record.getMessage())
    assert crash.getMessage().startswith("[worker ") and "in suffer" in crash.getMessage()
    assert "Fatal Python error" not in capfd.readouterr().err


def test_nan_that_comes_back_is_divergence():
    x, y = data()
    x = x.copy()
    x[7] = np.nan
    engine = ParameterServer(small_model(), x, y, job("sync", workers=2))
    with pytest.raises(DivergedError, match=r"not finite .* in epoch 1, step \d+, and again"):
        list(engine.epoch(0))
    engine.close()


@pytest.mark.slow
def test_a_worker_that_always_fails_ends_the_run():
    with pytest.raises(WorkerError, match="giving up"):
        train(job("sync", workers=2, schedule=_always_fails))


def _always_fails(step: int, total: int) -> float:
    raise ZeroDivisionError("every time")


@pytest.mark.slow
def test_the_longest_wait_for_a_boundary_is_a_step():
    x, y = data()
    engine = ParameterServer(small_model(), x, y, job("local", workers=3))
    for stop in range(4):
        steps = engine.epoch(0, stop)
        next(steps)
        began = time.monotonic()
        steps.close()
        assert time.monotonic() - began < 1
    engine.close()


SCRIPT = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what it runs in the background
sys.path.insert(0, {tests!r})
from parallel_runs import *
def slowly(step, total):
    time.sleep(0.02)
    return 1.0
if {guard}:
    x, y = data()
    engine = ParameterServer(small_model(), x, y, job({update!r}, workers=3, epochs=1000, schedule=slowly))
    for epoch in range(1000):
        for report in engine.epoch(epoch):
            if report.step == 4:
                print(*engine.worker_pids(), flush=True)
"""


def script(tmp_path, update="sync", guard="__name__ == '__main__'") -> subprocess.Popen:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(tests=str(ROOT / "tests"), update=update, guard=guard))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.Popen(
        [sys.executable, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    _running.append(run)
    return run


_running: list[subprocess.Popen] = []


@pytest.fixture(autouse=True)
def _no_script_outlives_its_test():
    yield
    while _running:
        run = _running.pop()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.communicate()


def gone(pids, seconds) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.covering("update", most=1)
@pytest.mark.parametrize("update", ["sync", "hogwild"])
def test_workers_follow_a_killed_parent(update, tmp_path):
    run = script(tmp_path, update)
    workers = list(map(int, run.stdout.readline().split()))
    assert len(workers) == 3
    run.kill()
    run.communicate(timeout=20)
    assert gone(workers, 5)


def test_ctrl_c_reaches_the_parent_alone(tmp_path):
    run = script(tmp_path)
    workers = list(map(int, run.stdout.readline().split()))
    os.killpg(run.pid, signal.SIGINT)
    _, errors = run.communicate(timeout=20)
    assert run.returncode in (-signal.SIGINT, 130, 1)
    assert errors.count("KeyboardInterrupt") == 1 and "worker-" not in errors
    assert gone(workers, 5)


@pytest.mark.slow
def test_a_script_without_a_guard_is_told_so(tmp_path):
    run = script(tmp_path, guard="True")
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 1
    assert errors.strip().splitlines()[-1].endswith('put that call under: if __name__ == "__main__":')
    assert errors.count("Traceback") == 1


@pytest.mark.slow
def test_a_parent_that_was_stopped_with_its_workers_goes_on(tmp_path):
    run = script(tmp_path)
    workers = list(map(int, run.stdout.readline().split()))
    os.killpg(run.pid, signal.SIGSTOP)
    time.sleep(3)
    os.killpg(run.pid, signal.SIGCONT)
    time.sleep(1.5)
    assert run.poll() is None and all(psutil.pid_exists(pid) for pid in workers)
    os.killpg(run.pid, signal.SIGKILL)
    _, errors = run.communicate(timeout=20)
    assert errors == ""


LONG_STOP = """
import sys, time
sys.path.insert(0, {tests!r})
from parallel_runs import data, job, small_model
from pyconv import nn
from pyconv.parallel import supervisor
from pyconv.parallel.server import ParameterServer

supervisor.SILENT_S = supervisor.STUCK_S = 2.5
supervisor.STUCK = 2
compute = nn.Sequential.loss_and_gradient


def slowly(self, *args, **settings):
    for _ in range(30):  # one sleep would be over at the end of the stop
        time.sleep(0.04)
    return compute(self, *args, **settings)


nn.Sequential.loss_and_gradient = slowly  # in the workers too: they import this

if __name__ == "__main__":
    engine = ParameterServer(small_model(), *data(), job(workers=2))
    for report in engine.epoch(0):
        if report.step == 2:
            print("running", flush=True)
        if report.step == 4:
            break
    print(engine.statistics()["restarts"])
    engine.close()
"""


@pytest.mark.slow
def test_time_in_which_nobody_ran_is_held_against_no_worker(tmp_path):
    """The whole run is stopped within a mini-batch, for longer than a worker may be silent or a mini-batch may take."""
    (tmp_path / "script.py").write_text(LONG_STOP.format(tests=str(ROOT / "tests")))
    run = subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    _running.append(run)
    assert run.stdout.readline() == "running\n"
    time.sleep(0.3)
    os.killpg(run.pid, signal.SIGSTOP)
    time.sleep(3.5)
    os.killpg(run.pid, signal.SIGCONT)
    output, errors = run.communicate(timeout=60)
    assert (run.returncode, output, errors) == (0, "0\n", "")


@pytest.mark.slow
def test_workers_leave_in_their_own_way(monkeypatch):
    """When the thread that started the workers ends, the kernel kills those that still exist."""
    monkeypatch.setattr(server, "GRACE_S", 20.0)
    engine = ParameterServer(small_model(), *data(), job(workers=2, epochs=1))
    for _ in engine.epoch(0):
        pass
    processes = [member.process for member in engine._supervisor._members.values()]
    for process in processes:
        os.kill(process.pid, signal.SIGSTOP)
    late = [threading.Timer(1.0, os.kill, (process.pid, signal.SIGCONT)) for process in processes]
    for timer in late:
        timer.start()
    engine.close()
    assert [process.exitcode for process in processes] == [0, 0]


def test_a_small_dev_shm_is_an_error_before_the_first_step(tmp_path):
    command = (
        "mount -t tmpfs -o size=64k tmpfs /dev/shm && exec "
        + sys.executable
        + " -c '{}'".format("from parallel_runs import *; x, y = data(); ParameterServer(small_model(), x, y, job())")
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    try:
        done = subprocess.run(
            ["unshare", "-rm", "sh", "-c", command], capture_output=True, text=True, timeout=60, env=environment
        )
    except FileNotFoundError:
        pytest.skip("unshare is not installed")
    if "unshare:" in done.stderr or "mount:" in done.stderr:
        pytest.skip("this machine does not let a user mount")
    assert done.returncode == 1
    assert "SharedMemoryError" in done.stderr and "--shm-size" in done.stderr


def test_bad_scripts_do_not_hang(monkeypatch):
    monkeypatch.setitem(sys.modules, "cloudpickle", None)  # it sends a lambda by value
    with pytest.raises(InputError, match="worker processes"):
        train(job("sync", workers=2, schedule=lambda step, total: 1.0))
