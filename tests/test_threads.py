"""How many threads: affinity, control groups, the user's wish, and forks."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyconv import threads
from pyconv.errors import BackendUnavailable, InputError

backends = importlib.import_module("pyconv.backends")  # the name in the package is the function's


def test_affinity_counts_the_cpus_that_the_scheduler_allows() -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system has no CPU affinity")
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert threads.affinity() == 1
        assert threads.usable_cpus() == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a/b/cpu.max": "150000 100000", "a/cpu.max": "max 100000"}, 1.5),
        ({"a/b/cpu.max": "max 100000", "a/cpu.max": "50000 100000"}, 0.5),
        ({"a/b/cpu.max": "max 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"a/b/cpu.max": "nonsense"}, None),
        ({}, None),
    ],
)
def test_cgroup_quota_is_the_tightest_limit(tmp_path: Path, files: dict, expected: float | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    own = tmp_path / "self"
    own.write_text("0::/a/b\n")
    assert threads.cgroup_quota(tmp_path, own) == expected


@pytest.mark.parametrize(("quota", "cpus"), [(None, 8), (0.5, 1), (1.5, 2), (3.0, 3), (20.0, 8)])
def test_a_quota_of_a_part_of_a_cpu_is_one_more(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, cpus: int
) -> None:  # fmt: skip
    monkeypatch.setattr(threads, "affinity", lambda: 8)
    monkeypatch.setattr(threads, "cgroup_quota", lambda: quota)
    assert threads.usable_cpus() == cpus


def test_the_environment_sets_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(threads.VARIABLE, "3")
    assert threads.resolve(None) == 3
    assert threads.resolve(2) == 2
    for wrong in ("0", "many", "-1"):
        monkeypatch.setenv(threads.VARIABLE, wrong)
        with pytest.raises(InputError, match=threads.VARIABLE):
            threads.resolve(None)


def test_workers_and_threads_share_the_cpus() -> None:
    assert [threads.split(workers, cpus=8) for workers in (1, 2, 3, 8, 16)] == [8, 4, 2, 1, 1]
    assert threads.split(16, threads_per_worker=2, cpus=8) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [("3", 3), ("2,4", 2), (" 5 ", 5), ("0", None), ("-1", None), ("many", None), ("", None)],
)
def test_the_limit_of_openmp(monkeypatch: pytest.MonkeyPatch, text: str, expected: int | None) -> None:
    monkeypatch.setenv(threads.OPENMPS, text)
    assert threads.openmps_limit() == expected


def test_openmps_limit_bounds_where_pyconvs_own_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(threads.VARIABLE, raising=False)
    monkeypatch.setattr(threads, "usable_cpus", lambda: 8)
    assert (threads.default(), threads.split(1), threads.split(2)) == (8, 8, 4)
    monkeypatch.setattr(threads, "_openmps_limit", 3)
    assert (threads.default(), threads.split(1), threads.split(2), threads.split(4)) == (3, 3, 3, 2)
    assert (threads.resolve(6), threads.split(2, 6)) == (6, 6), "asked for"
    monkeypatch.setattr(threads, "_openmps_limit", 100)
    assert (threads.default(), threads.split(1), threads.split(2)) == (8, 8, 4)
    monkeypatch.setenv(threads.VARIABLE, "5")
    assert (threads.default(), threads.split(1), threads.split(2), threads.split(1, cpus=16)) == (5, 5, 4, 5)


def test_a_schedulers_variable_is_heard() -> None:
    environment = {name: text for name, text in os.environ.items() if name != threads.VARIABLE}
    program = "from pyconv import threads; print(threads.default(), threads.split(1))"
    done = subprocess.run(
        [sys.executable, "-c", program], env={**environment, threads.OPENMPS: "1"}, capture_output=True, timeout=60
    )
    assert done.stdout == b"1 1\n"


def _convolve_in_child(queue: multiprocessing.Queue) -> None:
    import numpy as np

    import pyconv

    x, weight = np.ones((8, 32, 32, 8), np.float32), np.ones((3, 3, 8, 64), np.float32)
    queue.put((threads.resolve(4), float(pyconv.conv2d(x, weight).sum())))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_computes_on_one_thread_and_does_not_hang() -> None:
    import numpy as np

    import pyconv

    x, weight = np.ones((8, 32, 32, 8), np.float32), np.ones((3, 3, 8, 64), np.float32)
    expected = float(pyconv.conv2d(x, weight, threads=2).sum())  # a parallel region, before the fork
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_convolve_in_child, args=(queue,))
    child.start()
    try:
        assert queue.get(timeout=30) == (1, expected)
    finally:
        child.kill()
        child.join()


def test_more_threads_than_any_machine_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert threads.resolve(threads.MOST) == threads.split(1, threads.MOST) == threads.MOST
    for ask in (threads.resolve, lambda count: threads.split(1, count)):
        with pytest.raises(InputError, match=f"at most {threads.MOST}, not 100000000"):
            ask(100_000_000)
    monkeypatch.setenv(threads.VARIABLE, "100000000")
    with pytest.raises(InputError, match=f"from 1 to {threads.MOST}, not '100000000'"):
        threads.default()


@pytest.fixture
def without_openmp(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a build by a compiler that has no OpenMP."""

    def refuse() -> object:
        raise BackendUnavailable("pyconv was built without OpenMP: install a compiler with it and build again")

    monkeypatch.setitem(backends._TABLE, "multicore", refuse)
    caches = backends._loaded, backends._auto
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.mark.usefixtures("without_openmp")
def test_a_build_without_openmp_is_a_warning_once(caplog: pytest.LogCaptureFixture) -> None:
    assert [backends.get("auto").name for _ in range(2)] == ["serial", "serial"]
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith("backend auto: serial (one thread: pyconv was built without OpenMP")


@pytest.mark.usefixtures("without_openmp")
def test_make_says_that_it_built_without_openmp(capsys: pytest.CaptureFixture[str]) -> None:
    makefile = (Path(__file__).parent.parent / "Makefile").read_text()
    (check,) = re.findall(r"^\t@\$\(BIN\)/python -c '(import pyconv; .*?)'$", makefile, re.MULTILINE)
    exec(check)
    assert capsys.readouterr().out.startswith("warning: pyconv was built without OpenMP: install a compiler with it")
