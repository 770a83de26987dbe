"""How fast messages travel between two ranks, by ping-pong: as pyconv sends them, its looking and sleeping included."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .hosts import Here
from .patience import Patience
from .world import World

SMALL, LARGE = 8, 1 << 20  # bytes
PINGS, HAULS = 100, 7
TURNS = 25
LARGEST = 4  # sizes of large messages, each half of the next
AWAY_S, AWAY_TURNS = 0.05, 3  # how long a receiver computes, and how often
HOSTS = 3  # of which the way from rank 0 is measured, beside its own


@dataclass(frozen=True)
class Link:
    """The way between two ranks.

    Attributes
    ----------
    latency_s : float
        Of a message of 8 bytes, one way; the median.
    bytes_per_s : float
        Of messages of 1 MiB, one way; the median.
    """

    latency_s: float
    bytes_per_s: float

    def __str__(self) -> str:
        return f"{self.bytes_per_s / 1e6:,.0f} MB/s, {self.latency_s * 1e6:,.0f} microseconds"


def measured(world: World, other: int) -> Link:
    """Measure the way between rank 0 and another; both call it.

    Parameters
    ----------
    world : World
    other : int

    Returns
    -------
    Link
        As this rank has measured it.
    """
    small, large = (ping_pong(world, other, size, count) for size, count in ((SMALL, PINGS), (LARGE, HAULS)))
    return Link(float(np.median(small)), LARGE / float(np.median(large)))


def between(world: World, places: Sequence[Here], largest: int) -> dict[str, dict[int, float]]:
    """Time messages of several sizes between rank 0 and other ranks; all ranks call it.

    Parameters
    ----------
    world : World
    places : sequence of Here
        Of all ranks.
    largest : int
        Bytes of the largest message; each of the others, down to 8 bytes, is about half as large as the next.

    Returns
    -------
    dict of str to dict of int to float
        By way, as :func:`pairs` calls them, and by bytes: seconds of a message, one way; the median. At rank 0 of all
        ways, on other ranks of their own.
    """
    sizes = sorted({max(largest >> step, SMALL) for step in range(32)})
    return {
        way: {size: float(np.median(ping_pong(world, other, size, _turns(size)))) for size in sizes}
        for way, other in pairs(places).items()
        if world.rank in (0, other)
    }


def _turns(size: int) -> int:
    """How often a message of so many bytes goes there and back."""
    return TURNS if size < LARGE else HAULS


@dataclass(frozen=True)
class Exchange:
    """An exchange in which every rank sends every other one a message.

    Attributes
    ----------
    size : int
        Bytes that a rank sends.
    seconds : float
        As this rank has measured it; the median.
    cpu_s : float
        At rank 0: seconds of its process on a CPU, if it sleeps between its looks, without what these take; the median.
    """

    size: int
    seconds: float
    cpu_s: float


def exchanges(world: World, largest: int, patience: Patience | None = None) -> list[Exchange]:
    """Time exchanges in which every rank sends every other one a message; all ranks call it.

    Parameters
    ----------
    world : World
    largest : int
        Bytes that a rank sends in the largest of them.
    patience : Patience, optional
        The world's, which is not allowed while CPUs are timed: looking without a pause is not the messages' work.

    Returns
    -------
    list of Exchange
        The smallest, of 8 bytes a message, and some large ones, as training has them: what lies between may travel
        another way, in the buffers of MPI or of the network.
    """
    others = [rank for rank in range(world.size) if rank != world.rank]
    most = largest // max(len(others), 1)
    sleeping = patience.forbidden if patience is not None else contextlib.nullcontext
    with sleeping():
        looking = _of_looking(world)
    found = []
    for size in sorted({SMALL, *(max(most >> step, SMALL) for step in range(LARGEST))}):
        sent, came = np.ones(size, np.uint8), [np.empty(size, np.uint8) for _ in others]
        swap = functools.partial(world.swap, [(rank, sent) for rank in others], list(zip(others, came)))
        turns = 1 + (TURNS if size == SMALL else HAULS)
        taken_s, _ = _timed(swap, turns)
        with sleeping():
            waited_s, cpu_s = _timed(swap, turns)
        found.append(Exchange(size * len(others), taken_s, max(cpu_s - looking * waited_s, 0.0)))
    return found


def _timed(function: Callable[[], None], turns: int) -> tuple[float, float]:
    """Seconds of a call, and those of the process on a CPU: the medians of all turns but the first."""
    taken, used = [], []
    for _ in range(turns):
        began, worked = time.perf_counter(), time.process_time()
        function()
        taken.append(time.perf_counter() - began)
        used.append(time.process_time() - worked)
    return float(np.median(taken[1:])), float(np.median(used[1:]))


def _of_looking(world: World) -> float:
    """At rank 0: the share of a CPU that a wait takes in which nothing comes; all ranks call it."""
    word = np.zeros(1, np.uint8)
    if world.rank == 1:
        time.sleep(AWAY_S)
        world.swap([(0, word)], [])
    if world.rank:
        return 0.0
    began, worked = time.perf_counter(), time.process_time()
    world.swap([], [(1, word)])
    return (time.process_time() - worked) / (time.perf_counter() - began)


def ends(sizes: Sequence[int]) -> list[int]:
    """The smallest size and the largest ones, between which a line is drawn.

    Messages in between may travel in the buffers of MPI or of the network, at another speed.
    """
    known = sorted(sizes)
    return sorted({known[0], *known[-LARGEST:]})


def eager(world: World, largest: int) -> int:
    """How large a message may be that leaves at once, while the rank that gets it still computes; all ranks call it.

    MPI and the network keep so much in their buffers. A larger message begins when its receiver has come.

    Parameters
    ----------
    world : World
    largest : int
        Bytes of the largest message that is tried; each of some others is half of the next.

    Returns
    -------
    int
        At rank 0: bytes, by messages to the last rank; 0 if none of them left at once. On other ranks 0.
    """
    other, word, most = world.size - 1, np.zeros(1, np.uint8), 0
    for size in sorted(max(largest >> step, SMALL) for step in range(LARGEST)):
        message, taken = np.ones(size, np.uint8), []
        for _ in range(AWAY_TURNS):
            if world.rank == other:
                world.swap([(0, word)], [])
                time.sleep(AWAY_S)
                world.swap([], [(0, message)])
            elif world.rank == 0:
                world.swap([], [(other, word)])
                began = time.perf_counter()
                world.swap([(other, message)], [])
                taken.append(time.perf_counter() - began)
        if taken and np.median(taken) < AWAY_S / 2:
            most = size
    return most


def ping_pong(world: World, other: int, size: int, count: int) -> list[float]:
    """Seconds of each of `count` messages between rank 0 and another, one way; both call it.

    Parameters
    ----------
    world : World
    other : int
    size : int
        Bytes of a message.
    count : int

    Returns
    -------
    list of float
        Half of each round trip's time, as this rank has measured it.
    """
    peer = other if world.rank == 0 else 0
    message, found = np.ones(size, np.uint8), []
    for _ in range(count + 1):  # the first one makes the connection
        began = time.perf_counter()
        if world.rank == 0:
            world.swap([(peer, message)], [])
            world.swap([], [(peer, message)])
        else:
            world.swap([], [(peer, message)])
            world.swap([(peer, message)], [])
        found.append((time.perf_counter() - began) / 2)
    return found[1:]


def pairs(places: Sequence[Here]) -> dict[str, int]:
    """Which ways from rank 0 to measure: to a neighbour on its host, and to one rank of each of some others.

    Parameters
    ----------
    places : sequence of Here
        Of all ranks.

    Returns
    -------
    dict of str to int
        The other rank, by what the way is called.
    """
    found: dict[str, int] = {}
    for rank, place in enumerate(places):
        name = "link within " if place.host == places[0].host else "link to "
        if rank and name + place.host not in found and len(found) <= HOSTS:
            found[name + place.host] = rank
    return found
