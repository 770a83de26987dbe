"""Ranks that do not all come to MPI's start: a launcher that is a program of the test's, and no MPI."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from pyconv.cluster.joining import GONE_S, NEVER_S, TURN_S, Missing
from pyconv.cluster.launch import Launch

ROOT = Path(__file__).parent.parent

LAUNCHER = """
import json, os, subprocess, sys
size, commands = int(sys.argv[1]), json.loads(sys.argv[2])
children = []
for rank, command in enumerate(commands):
    own = {"PMI_SIZE": str(size), "PMI_RANK": str(rank), "OMPI_COMM_WORLD_LOCAL_SIZE": str(len(commands)),
           "OMPI_COMM_WORLD_LOCAL_RANK": str(rank)}
    children.append(subprocess.Popen(command, env={**os.environ, **own}))
print(" ".join(str(each.wait()) for each in children), flush=True)
"""


class Launched:
    """Ranks of one host, each with a command of its own; another host has the others."""

    def __init__(self, folder: Path, *commands: list[str], size: int | None = None) -> None:
        words = [sys.executable, "-c", LAUNCHER, str(size or len(commands)), json.dumps(commands)]
        settings = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": ""}  # lines are written whole
        self._count = len(commands)
        self._process = subprocess.Popen(
            words, cwd=folder, env={**os.environ, **settings}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def signal(self, number: int) -> None:
        """Send all ranks a signal once they have begun MPI's start."""
        assert self._process.stdout is not None
        for _ in range(self._count):
            assert self._process.stdout.readline() == "begun\n"
        for rank in psutil.Process(self._process.pid).children():
            rank.send_signal(number)

    def end(self) -> tuple[list[str], str, list[int]]:
        """What the ranks have written to standard output and error, and their statuses."""
        try:
            out, err = self._process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            for each in psutil.Process(self._process.pid).children(recursive=True):
                each.kill()
            raise
        *lines, statuses = out.splitlines()
        return sorted(lines), err, [int(each) for each in statuses.split()]


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


# ---- who is there ---------------------------------------------------------------------------------

SEE = """
import pathlib, time
from pyconv.cluster.siblings import siblings
near = siblings()
while len(near.present()) < 3:
    time.sleep(0.01)
print(f"{near.launch.rank}, {near.first}, {near.count}, {sorted(near.present())}", flush=True)
pathlib.Path(f"seen{near.launch.rank}").touch()
"""
WAIT = ["sh", "-c", "until [ -e seen0 ] && [ -e seen1 ]; do sleep 0.05; done"]


def test_ranks_of_a_host_see_each_other(tmp_path):
    within = ["sh", "-c", f'{sys.executable} -c "$0"; {WAIT[-1]}', SEE]  # a rank may be started by a script
    out, err, statuses = Launched(tmp_path, within, within, WAIT, size=5).end()
    assert statuses == [0, 0, 0], err
    assert out == ["0, True, 3, [0, 1, 2]", "1, False, 3, [0, 1, 2]"]


class Near:
    """What :class:`Missing` is told of the ranks on a host."""

    def __init__(self, size, count, rank=0):
        self.launch, self.count = Launch(size, rank), count
        self.here, self.others = set(range(count or size)), set()

    def present(self):
        return dict.fromkeys(self.here, 1)

    def hosts(self):
        return self.others


def looks(near: Near, begin: float, end: float, missing: Missing | None = None) -> str:
    """What is said by then."""
    missing = missing or Missing(near)
    found = [missing.look(now) for now in np.arange(begin, end, 0.25)]
    assert not any(found[:-1])
    return str(found[-1] or "")


def test_a_rank_that_has_ended_is_missed():
    near = Near(3, 3)
    missing = Missing(near)
    assert looks(near, 0.5, 20, missing) == ""
    near.here = {0, 2}
    assert looks(near, 20, 20 + GONE_S - 0.3, missing) == ""
    assert "rank 1 has ended before it came to MPI's start" in str(missing.look(20 + GONE_S + 0.3))


def test_a_rank_that_never_was_there_is_missed():
    near = Near(3, 3)
    near.here = {0, 1}
    assert looks(near, 0.5, NEVER_S) == ""
    assert "rank 2 has ended" in looks(near, NEVER_S + 0.01, NEVER_S + 0.02)
    near = Near(8, 3)
    near.here = {0, 2}
    assert "a rank on the host of rank 0 has ended" in looks(near, NEVER_S + 0.01, NEVER_S + 0.02)


def test_ranks_that_cannot_be_seen_are_not_missed():
    near = Near(3, None)
    assert looks(near, 0.5, 60) == ""
    near.here = set()
    assert looks(near, 60, 90) == ""


@pytest.mark.parametrize("hosts", [{0}, {0, 2}, {1, 2}])
def test_a_host_whose_ranks_have_all_ended_is_missed(hosts):
    near = Near(3, 1)
    near.others = {0, 1, 2}
    missing = Missing(near)
    assert looks(near, 0.5, 20, missing) == ""
    near.others = hosts
    assert looks(near, 20, 20 + GONE_S - 0.3, missing) == ""
    assert "the ranks on another host have ended" in str(missing.look(20 + GONE_S))
    assert looks(near, 0.5, NEVER_S) == ""
    assert "the ranks on another host have ended" in looks(near, NEVER_S + 0.01, NEVER_S + 0.02)


def test_a_host_whose_ranks_end_before_the_first_look_is_missed():
    near = Near(3, 1)
    near.others = {0, 1, 2}
    missing = Missing(near)
    near.others = {0, 1}
    assert looks(near, 0.5, GONE_S, missing) == ""
    assert "the ranks on another host have ended" in str(missing.look(GONE_S + 0.1))


def test_nobody_waits_for_ever():
    for rank in (0, 2):
        missing = Missing(Near(3, None, rank), 40.0)
        assert missing.look(40.0 + TURN_S * rank) is None
        assert f"rank {rank} has waited " in str(missing.look(40.1 + TURN_S * rank))


# ---- MPI's start ----------------------------------------------------------------------------------

START = """
import time, types
from pyconv.cluster import joining
def begin(level):
    print("begun", flush=True)
    time.sleep({seconds})
mpi = types.SimpleNamespace(__file__="/nowhere", THREAD_SERIALIZED=2, Init_thread=begin)
joining.start(mpi, {patience})
print("over", flush=True)
"""


def test_a_start_that_all_come_to_is_over(tmp_path):
    out, err, statuses = Launched(tmp_path, *[python(START.format(seconds=1, patience=60))] * 2).end()
    assert (out, err, statuses) == (["begun", "begun", "over", "over"], "", [0, 0])


@pytest.mark.parametrize(
    "late", ["pass", pytest.param("import time; time.sleep(2.5); raise SystemExit(3)", marks=pytest.mark.slow)]
)
def test_a_rank_that_ends_before_ends_all(tmp_path, late):
    ranks = [*[python(START.format(seconds=60, patience=60))] * 2, python(late)]
    began = time.monotonic()
    _, err, statuses = Launched(tmp_path, *ranks).end()
    print(time.monotonic() - began)
    assert statuses[:2] == [1, 1]
    lines = set(err.splitlines())  # without a launcher that ends all, the second one says it too
    assert lines == {"pyconv: error: rank 2 has ended before it came to MPI's start, at which all others wait"}


def test_a_rank_that_waits_too_long_ends(tmp_path):
    """The only one on its host: nobody can see the others."""
    _, err, statuses = Launched(tmp_path, python(START.format(seconds=60, patience=1)), size=2).end()
    assert statuses == [1]
    assert re.fullmatch(r"pyconv: error: rank 0 has waited 1 s for all 2 ranks to begin MPI: .*\n", err)


def test_a_signal_ends_a_rank_that_waits(tmp_path):
    code = "import signal; signal.signal(signal.SIGTERM, lambda *_: None)\n" + START.format(seconds=60, patience=60)
    launched = Launched(tmp_path, *[python(code)] * 2)
    launched.signal(signal.SIGTERM)
    _, err, statuses = launched.end()
    assert statuses == [130, 130]
    assert set(err.splitlines()) == {"pyconv: interrupted before there was anything to keep"}


# ---- some alone, some together --------------------------------------------------------------------


@pytest.mark.parametrize("size", [3, pytest.param(5, marks=pytest.mark.slow)])
def test_cluster_off_on_one_rank_is_refused_by_all(tmp_path, size):
    train = [sys.executable, "-m", "pyconv.train", "--epochs", "1", "--out", "run"]
    commands = [train, [*train, "--cluster", "off"], [*train, "--cluster=auto"]]
    out, err, statuses = Launched(tmp_path, *commands, size=size).end()
    assert (out, statuses) == ([], [2, 2, 2])
    assert re.fullmatch(
        r"pyconv: error: rank 1 was started with --cluster off, and rank 0 without: give it to all ranks, .*\n", err
    )
    assert not (tmp_path / "run").exists()


def test_a_signal_to_all_ranks_is_told_once(tmp_path):
    code = "import os, runpy, signal; import pyconv.train, pyconv.flags.ranks as r\n" + (
        "r.session = lambda *how: os.kill(os.getpid(), signal.SIGINT)\npyconv.command.script(pyconv.train.main)"
    )
    _, err, statuses = Launched(tmp_path, *[python(code)] * 2).end()
    assert statuses == [130, 130]
    assert err == "pyconv: interrupted before there was anything to keep\n"
