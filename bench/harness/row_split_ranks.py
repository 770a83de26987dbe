"""What each rank does in bench_row_split.py: ``python row_split_ranks.py quick|full RESULT.json``, under a launcher.

All ranks convolve a whole image at once, each by itself: nodes that are pretended on one machine share its memory, and
each must be as busy as when they convolve an image together. Then they convolve their rows of it, first without
overlap, then with it. These take turns. All times are from the moment at which all are ready until the last one has
its result.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import pyconv
from pyconv import cluster
from pyconv.cluster.halo import Halo
from pyconv.shapes import ConvGeometry, conv_geometry

KERNELS, FILTERS = (3, 5, 7, 11), (1, 4, 16)
SIZES = {"full": (64, 128, 256, 512, 1024, 2048, 4096), "quick": (64, 256, 1024)}
ROUNDS = {"full": (5, 25), "quick": (3, 5)}
CASE_S = {"full": 1.0, "quick": 0.1}


@dataclass
class Case:
    """One image and kernel, on this rank."""

    g: ConvGeometry
    whole: np.ndarray
    rows: np.ndarray
    weight: np.ndarray
    layers: dict[bool, cluster.RowConvolution]

    @classmethod
    def of(cls, size: int, kernel: int, filters: int) -> Case:
        g = conv_geometry((1, size, size, 1), (kernel, kernel, 1, filters), padding="same")
        rng = np.random.default_rng([size, kernel, filters])
        whole, weight = (rng.standard_normal(shape, dtype=np.float32) for shape in (g.input_shape, g.weight_shape))
        rows = cluster.split_rows(whole, how="read")
        layers = {
            overlap: cluster.RowConvolution(rows.shape, weight.shape, padding="same", overlap=overlap)
            for overlap in (False, True)
        }
        return cls(g, whole, rows, weight, layers)

    def serial(self, threads: int) -> np.ndarray:
        return pyconv.conv2d(self.whole, self.weight, padding="same", threads=threads)

    def split(self, overlap: bool) -> np.ndarray:
        return self.layers[overlap](self.rows, self.weight)


def exchanges(ranks, sizes: tuple[int, ...], count: int) -> dict[int, list[float]]:
    """Seconds of exchanges of a halo and nothing else, by its bytes; at rank 0."""
    taken: dict[int, list[float]] = {}
    for size in sizes:
        for kernel in KERNELS:
            case = Case.of(size, kernel, 1)
            split = case.layers[False].split
            halo = Halo(split.inputs, [split.read(rows) for rows in split.outputs])
            seconds = taken.setdefault(size * (kernel // 2) * 4, [])
            for _ in range(count):
                ready(ranks.world)
                start = time.perf_counter_ns()
                halo.begin(ranks.world, case.rows).wait()
                found = ranks.world.gather(np.array([time.perf_counter_ns() - start], np.int64))
                if ranks.leads:
                    seconds.append(float(found.max()) / 1e9)
    return taken


def ready(world) -> None:
    """All ranks are here, and awake: who has waited for long looks rarely, so they meet a second time."""
    word = np.zeros(1, np.int64)
    for _ in range(2):
        world.gather(word)
        world.broadcast(word)


def verified(case: Case, threads: int) -> float | None:
    """Relative error of the split result; at rank 0."""
    found = [cluster.gather_rows(case.split(overlap)) for overlap in (False, True)]
    if found[0] is None:
        return None
    np.testing.assert_array_equal(*found)
    expected = case.serial(threads)
    error = float(np.abs(found[0] - expected).max() / np.abs(expected).max())
    assert error < 1e-4, f"the result is wrong by {error:.1e} and is not timed"
    return error


def measured(case: Case, ranks, pace: str) -> dict[str, list[float]]:
    """Seconds of the whole on each rank by itself, and of the split on all, without overlap and with; at rank 0."""
    world, threads = ranks.world, ranks.threads(None)
    ways = {
        "alone": lambda: case.serial(threads), "together": lambda: case.split(False),
        "overlap": lambda: case.split(True),
    }  # fmt: skip
    taken: dict[str, list[float]] = {way: [] for way in ways}
    fewest, most = ROUNDS[pace]
    begun = time.perf_counter()
    while True:
        count = len(taken["alone"])
        go = np.array([count < fewest or (count < most and time.perf_counter() - begun < CASE_S[pace])], np.int64)
        world.broadcast(go)
        if not go[0]:
            return taken
        for way, run in ways.items():
            ready(world)
            start = time.perf_counter_ns()
            run()
            found = world.gather(np.array([time.perf_counter_ns() - start], np.int64))
            if ranks.leads:
                taken[way].append(float(found.max()) / 1e9)


def pin() -> None:
    """Where nodes are pretended on one machine: stay on a CPU of one's own, else ranks may take turns on one."""
    launch = cluster.launched()
    if launch is not None and os.environ.get("PYCONV_BENCH_PIN"):
        cpus = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cpus[launch.rank % len(cpus)]})


def main() -> None:
    pace, target = sys.argv[1:3]
    pin()
    ranks = cluster.session("mpi")
    assert ranks is not None
    with ranks.together():
        threads, records = ranks.threads(None), []
        halos = exchanges(ranks, SIZES[pace], ROUNDS["full"][1])
        for filters in FILTERS:
            for kernel in KERNELS:
                for size in SIZES[pace]:
                    case = Case.of(size, kernel, filters)
                    error = verified(case, threads)
                    about = {"size": size, "kernel": kernel, "filters": filters, "relative_error": error}
                    records.append({**about, **measured(case, ranks, pace)})
        if ranks.leads:
            about = {"library": ranks.library, "ranks": ranks.size, "threads": threads, "hosts": ranks.hosts.on_hosts()}
            Path(target).write_text(json.dumps({**about, "halos": list(halos.items()), "records": records}))


if __name__ == "__main__":
    main()
