"""The connections by which ranks notice that another host is lost, with hosts that are threads of this process."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pyconv.cluster import watch as w
from pyconv.cluster.hosts import Here, Hosts
from pyconv.cluster.losses import Losses

PLACE = Here("a", -1, "-", "f", 4, 4, {"pyconv": "1"})


class Told:
    """What each of some threads tells all others."""

    def __init__(self, size: int) -> None:
        self._barrier, self._told = threading.Barrier(size), [{}] * size

    def by(self, rank: int, own: dict[str, Any]) -> list[dict[str, Any]]:
        self._told[rank] = own
        self._barrier.wait(20)
        return list(self._told)


def watches(hosts: str, spoil: Any = lambda rank, own: own) -> list[w.Watch]:
    """Each rank's watch; `hosts` has a letter for the host of each rank."""
    places, told = [dataclasses.replace(PLACE, host=host) for host in hosts], Told(len(hosts))

    def one(rank: int) -> w.Watch:
        return w.watch(places, rank, lambda own: told.by(rank, spoil(rank, own)))

    with ThreadPoolExecutor(len(hosts)) as pool:
        return list(pool.map(one, range(len(hosts))))


@pytest.fixture(autouse=True)
def _here(monkeypatch):
    monkeypatch.setattr(w, "addresses", lambda: ["127.0.0.1"])
    monkeypatch.setattr(w.Watch, "guard", lambda self: None)


def looks(watch: w.Watch, count: int = w.GONE_LOOKS) -> tuple[int, str] | None:
    for _ in range(count - 1):
        assert watch.lost() is None
    return watch.lost()


def test_the_first_ranks_of_all_hosts_watch_each_other():
    found = watches("aabcc")
    assert [sorted(each._connections) for each in found] == [[2, 3], [], [0, 3], [0, 2], []]
    assert not any(each.unwatched for each in found)
    assert all(looks(each) is None for each in found)
    found[2].close()
    assert looks(found[0]) == (2, "has died")
    assert looks(found[3]) == (2, "has died")
    assert looks(found[4]) is None
    for each in found:
        each.close()


def test_on_one_host_there_is_nothing_to_connect():
    assert all(not each._connections for each in watches("aaa"))


def test_one_rank_reports_a_lost_one():
    found = watches("abc")
    names = [dataclasses.replace(PLACE, host=host) for host in "abc"]
    losses = [Losses(Hosts(names, rank), each, rank) for rank, each in enumerate(found)]
    assert losses[0].look() is None
    found[0].close()
    said = [[one.look() for _ in range(w.GONE_LOOKS)][-1] for one in losses[1:]]
    assert said == [("rank 0 on a has died", True), ("rank 0 on a has died", False)]
    found[1].close()
    assert [losses[2].look() for _ in range(w.GONE_LOOKS)][-1] == ("rank 0 on a has died", True)
    found[2].close()


def test_what_a_sentinel_sends_names_a_stopped_rank():
    first, second = watches("ab")
    next(iter(second._connections.values())).send(w.STOPPED)
    time.sleep(0.05)
    rank, what = first.lost()
    assert rank == 1
    assert "was stopped by a signal" in what
    first.close(), second.close()


def test_a_host_that_takes_no_connection_is_told_of(monkeypatch):
    monkeypatch.setattr(w, "CONNECT_S", 0.2)
    monkeypatch.setattr(w, "MEET_S", 0.5)
    first, second = watches("ab", lambda rank, own: own if rank else {**own, "addresses": []})
    assert (first.unwatched, second.unwatched) == ([1], [0])
    names = Hosts([dataclasses.replace(PLACE, host=host) for host in "ab"], 0)
    assert Losses(names, first, 0).unwatched() == [
        "rank 1 on b takes no connection: if its host is lost, the others wait for it"
    ]
    assert first.lost() is None


def test_strangers_are_not_taken_for_ranks():
    def intrude(rank, own):
        if rank == 0:
            for words in (b"", b"x" * w.TOKEN + struct.pack("!i", 1), b"GET / HTTP/1.1\r\n\r\n"):
                with socket.create_connection(("127.0.0.1", own["port"])) as stranger:
                    stranger.sendall(words)
        return own

    first, second = watches("ab", intrude)
    assert sorted(first._connections) == [1] and sorted(second._connections) == [0]
    assert looks(first) is None
    first.close(), second.close()


def test_the_kernels_ask_each_other():
    """What only a lost host shows: the questions are on, and their time is less than it may last until all are gone."""
    first, second = watches("ab")
    for watch in (first, second):
        (one,) = watch._connections.values()
        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        if sys.platform == "linux":
            found = [
                one.getsockopt(socket.IPPROTO_TCP, getattr(socket, f"TCP_KEEP{name}"))
                for name in ("IDLE", "INTVL", "CNT")
            ]
            assert found == [w.ASK_S, w.ASK_S, w.ASKS]
    assert w.SILENT_S <= 6
    first.close(), second.close()


@pytest.mark.parametrize("stopped", [True, False])
def test_a_sentinel_tells_of_a_stopped_rank(stopped):
    rank = subprocess.Popen(
        [sys.executable, "-c", "import time; print('begun', flush=True); time.sleep(60)"], stdout=subprocess.PIPE
    )
    mine, theirs = socket.socketpair()
    program = Path(w.__file__).with_name("sentinel.py")
    words = [sys.executable, "-I", "-S", str(program), str(rank.pid), str(theirs.fileno())]
    try:
        assert rank.stdout.readline() == b"begun\n"
        sentinel = subprocess.Popen(words, stdin=subprocess.PIPE, pass_fds=[theirs.fileno()])
        theirs.close()
        if stopped:
            rank.send_signal(signal.SIGSTOP)
        mine.settimeout(6.0 if stopped else 3.5)
        if stopped:
            assert mine.recv(1) == w.STOPPED
        else:
            with pytest.raises(TimeoutError):
                mine.recv(1)
        sentinel.stdin.close()  # as when the rank ends
        assert sentinel.wait(5) == 0
        assert mine.recv(1) == b""
    finally:
        rank.kill()
        rank.wait()
        rank.stdout.close()
        mine.close()


LAUNCHER = """
import subprocess, sys, time
open("/proc/self/comm", "w").write(sys.argv[1])
code = "from pyconv.cluster import beside; beside.WAIT_S = 0.3; beside.end_waiting_launcher()"
subprocess.run([sys.executable, "-c", code], check=True)
time.sleep(2)
"""


@pytest.mark.parametrize(("name", "status"), [("prterun", -signal.SIGKILL), ("mpiexec.hydra", 0), ("prted", 0)])
def test_a_launcher_that_would_wait_for_a_lost_host_is_ended(name, status):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", LAUNCHER, name], env=environment, timeout=60)
    assert done.returncode == status
