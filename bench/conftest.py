"""Fixtures of the benchmarks: how long to measure, the machine's peak, and the records that a session writes."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import cuda_peers_table, machine, networks_table, peers_table, registers_table, session_table, timing
from harness.peak import Peak, fma_peak
from harness.records import Records, write_text

from pyconv import costmodel, threads
from pyconv.reporting.experiments import LABELS

HERE = Path(__file__).parent

#: Experiments that are also written and printed as a table.
TABLES = {
    "peers": peers_table.markdown,
    "cuda_peers": cuda_peers_table.markdown,
    "cuda_registers": registers_table.markdown,
    "networks": networks_table.markdown,
}


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RECORDS] = Records()


RECORDS = pytest.StashKey[Records]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.benchmark(timer=timing.CLOCK, disable_gc=True))
            item.add_marker(pytest.mark.timeout(3600))


@pytest.fixture(scope="session")
def quick(request: pytest.FixtureRequest) -> bool:
    """Whether small sizes are asked for."""
    return bool(request.config.getoption("quick"))


@pytest.fixture(scope="session")
def thorough(request: pytest.FixtureRequest) -> bool:
    """Whether to measure also what takes many minutes."""
    return bool(request.config.getoption("thorough"))


@pytest.fixture(scope="session")
def pace(quick: bool) -> timing.Pace:
    """How long to measure."""
    return timing.QUICK if quick else timing.FULL


@pytest.fixture
def mpi() -> Path:
    """The interpreter beside the MPI to use on pretended nodes."""
    named = os.environ.get("PYCONV_BENCH_MPI")
    if not named:
        pytest.skip("PYCONV_BENCH_MPI names no interpreter with an MPI beside it: make cluster does")
    return Path(named)


@pytest.fixture
def rng() -> np.random.Generator:
    """Fresh random numbers in every run: nothing is timed on zeros or on numbers that a kernel could have seen."""
    return np.random.default_rng()


@pytest.fixture(scope="session")
def calibration(quick: bool) -> costmodel.Calibration:
    """The cost model's constants of this machine, to draw predictions over measurements."""
    return costmodel.calibrate(seconds=0.01 if quick else 0.03, messages=False)


@pytest.fixture(scope="session")
def process_calibration(quick: bool) -> costmodel.Calibration:
    """The constants of one thread, those of messages between processes included."""
    return costmodel.calibrate("serial", seconds=0.01 if quick else 0.03)


@pytest.fixture
def two_cpus() -> None:
    """Skip if a second thread would have no CPU of its own."""
    if threads.usable_cpus() < 2:
        pytest.skip("needs 2 CPUs that this process may use")


class Measure:
    """Times candidates in turns and records each; ask for it as the fixture `measure`."""

    def __init__(self, request: pytest.FixtureRequest, benchmark: Any, pace: timing.Pace) -> None:
        self._records = request.config.stash[RECORDS]
        self._isa = request.config.getoption("isa")
        self._benchmark, self._pace = benchmark, pace

    def __call__(
        self,
        candidates: Mapping[str, Callable[[], object]],
        *,
        experiment: str,
        case: str,
        operation: str,
        flops: float | None = None,
        threads: int = 1,
        predicted: Mapping[str, float | None] | None = None,
        **fields: Any,
    ) -> dict[str, timing.Times]:
        """Time `candidates` in turns and record them; the first is the one in pytest-benchmark's table.

        Parameters
        ----------
        candidates : mapping of str to callable
            By column; their results are verified already.
        experiment, case, operation, fields
            See :mod:`harness.records`.
        flops : float, optional
            Operations of one call, 2 per multiply-add, for GFLOP/s and the share of the peak.
        threads : int
            Threads that each candidate runs on; "…, N threads" in a column's name counts for that one.
        predicted : mapping, optional
            The cost model's prediction by column, in seconds a call.
        """
        times = timing.play_under(self._benchmark, candidates, self._pace)
        common = {"experiment": experiment, "case": case, "operation": operation, "threads": threads, **fields}
        rows = []
        for column, taken in times.items():
            record = {**common, "column": column, **taken.as_record(), "unavailable": None}
            if predicted is not None and predicted.get(column) is not None:
                record["predicted_s"] = predicted[column]
            named = re.search(r"(\d+) threads", column)
            if named:
                record["threads"] = int(named[1])
            if flops is not None and not column.startswith("cuda"):
                peak = self.peak(record["threads"])
                rate = flops / taken.median / 1e9
                record |= {"flops": flops, "gflops": rate, "share_of_peak": rate / peak.gflops}
            elif flops is not None:
                record |= {"flops": flops, "gflops": flops / taken.median / 1e9}
            rows.append(self._records.add(record))
        self._note(rows, threads)
        return times

    def _note(self, rows: list[dict[str, Any]], threads: int = 1) -> None:
        """Add records to pytest-benchmark's extra_info, with where they were measured."""
        info = self._benchmark.extra_info
        info.setdefault("machine", machine.describe())
        info.setdefault("versions", machine.versions())
        info.setdefault("peak", dataclasses.asdict(self.peak(threads)))
        info.setdefault("records", []).extend(rows)

    def once(self, work: Callable[[], Any]) -> Any:
        """Do `work` once under pytest-benchmark, for a figure that is not a time in turns; returns its result."""
        result = []

        def timed() -> None:
            start = time.perf_counter()
            result.append(work())
            timing.CLOCK.advance(time.perf_counter() - start)

        self._benchmark.pedantic(timed)
        return result[-1]

    def peak(self, threads: int = 1) -> Peak:
        """The machine's measured peak on so many threads."""
        return fma_peak(threads, self._isa)

    def add(self, *, experiment: str, case: str, operation: str, column: str, **fields: Any) -> None:
        """Record a figure that is not a time in turns."""
        base = {"experiment": experiment, "case": case, "operation": operation, "column": column}
        record = self._records.add({**base, "median_s": None, "unavailable": None, **fields})
        self._note([record])

    def cannot(self, reason: str, *, experiment: str, case: str, operation: str, column: str, **fields: Any) -> None:
        """Record that a column cannot run here, and why."""
        self.add(experiment=experiment, case=case, operation=operation, column=column, unavailable=reason, **fields)


@pytest.fixture
def measure(request: pytest.FixtureRequest, benchmark: Any, pace: timing.Pace) -> Measure:
    """Times candidates in turns and records each."""
    return Measure(request, benchmark, pace)


def pytest_benchmark_update_json(config: pytest.Config, benchmarks: Any, output_json: dict[str, Any]) -> None:
    output_json["pyconv"] = {"records": config.stash[RECORDS].all}


#: With any of these options the user asks for pytest-benchmark's own table.
THEIR_OPTIONS = ("compare", "columns", "histogram", "cprofile", "verbose")


def pytest_benchmark_group_stats(config: pytest.Config, benchmarks: list[dict[str, Any]]) -> list | None:
    """Show in pytest-benchmark's table only what ours does not show: the first candidate's times alone say little."""
    if any(config.getoption(f"benchmark_{name}", None) for name in THEIR_OPTIONS):
        return None
    ours = [one for one in benchmarks if "records" in one.get("extra_info", {})]
    return [] if len(ours) == len(benchmarks) else None


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    records = config.stash[RECORDS]
    if not records.all:
        return
    measured = {experiment: records.of(experiment) for experiment in records.experiments}
    isa, is_quick = config.getoption("isa"), config.getoption("quick")
    folder = config.getoption("results") or HERE / "results" / ("quick" if is_quick else "")
    folder = folder / isa if isa else folder
    peak = dataclasses.asdict(fma_peak(1, isa))
    written = records.write(folder, peak)
    for experiment, own in measured.items():
        terminalreporter.write_sep("=", experiment)
        for line in session_table.lines(own):
            terminalreporter.write_line(line)
    for experiment, table in TABLES.items():
        if experiment in records.experiments:
            text = table(records.of(experiment), machine.describe(), machine.versions(), peak)
            write_text(folder / f"{experiment}.md", text)
            written.append(folder / f"{experiment}.md")
            terminalreporter.write_sep("=", experiment)
            terminalreporter.write_line(text)
    terminalreporter.write_sep("-", "results")
    terminalreporter.write_line(
        f"measured peak {peak['gflops']:.0f} GFLOP/s a thread; medians of turns, each result verified before"
    )
    paths = [os.path.relpath(path) for path in written]
    for path in paths:
        terminalreporter.write_line(path)
    known = [shlex.quote(path) for path in paths if Path(path).suffix == ".json" and Path(path).stem in LABELS]
    if known:
        terminalreporter.write_line(f"next: python -m pyconv.report {' '.join(known)} -o report")
