"""A convolution split by rows over 2 ranks: the measured speed-up beside equation (8)'s, which knows no overlap.

The ranks are two pretended nodes of one CPU each, with a link of 1 Gbit/s: it needs root, two idle cores, and an MPI
beside an interpreter that ``PYCONV_BENCH_MPI`` names (`make cluster` sees to it). PYCONV_BENCH_RANKS can name real
nodes instead: a launcher and an interpreter with mpi4py.

t_s and t_b are the line through the times of exchanges of halos of all sizes, without a convolution. t_c and the start
of a call are the line through the times of all sizes of image with the same kernel and filters, on one rank.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import nodes

from pyconv import costmodel
from pyconv.costmodel.fits import line
from pyconv.shapes import conv_geometry

EXPERIMENT = "row_split"
BENCH = Path(__file__).parent
WORTH = 1.2  # a prediction above it has to be right within
WITHIN = 0.15
#: Large arrays stay with the process when they are freed: fresh memory would cost the more, the more nodes are
#: pretended on one machine.
KEEPS_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}


def _started(request: pytest.FixtureRequest, pace: str, target: Path) -> dict[str, Any]:
    """What the ranks have measured."""
    words = [str(BENCH / "harness" / "row_split_ranks.py"), pace, str(target)]
    named = os.environ.get("PYCONV_BENCH_RANKS")
    with contextlib.ExitStack() as stack:
        if named is None:
            mpi, why = request.getfixturevalue("mpi"), nodes.unavailable()
            if why is not None:
                pytest.skip(why)
            command = stack.enter_context(nodes.Nodes(2, "1gbit")).mpiexec(mpi, words)
            environment = nodes.environment(PYCONV_BENCH_PIN="1", **KEEPS_MEMORY)
        else:
            command = [*shlex.split(named), *words]
            paths = os.pathsep.join(filter(None, [str(BENCH.parent), os.environ.get("PYTHONPATH", "")]))
            environment = {**os.environ, "PYTHONPATH": paths, **KEEPS_MEMORY}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(target.read_text()))


def test_row_split(measure, quick: bool, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    found = measure.once(lambda: _started(request, "quick" if quick else "full", tmp_path / "found.json"))
    assert found["ranks"] == 2, "the figure is of 2 ranks"
    sizes, exchanged = zip(*((size, float(np.median(seconds))) for size, seconds in found["halos"]), strict=True)
    t_s, t_b = line(sizes, exchanged, "byte")
    families: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for record in found["records"]:
        families.setdefault((record["kernel"], record["filters"]), []).append(record)
    for (kernel, filters), records in families.items():
        layers = [
            conv_geometry((1, each["size"], each["size"], 1), (kernel, kernel, 1, filters), padding="same")
            for each in records
        ]
        alone = [float(np.median(each["alone"])) for each in records]
        start_up, t_c = line([g.flops for g in layers], alone, "operation")
        for g, each, serial_s in zip(layers, records, alone, strict=True):
            low, median_s, high = np.percentile(each["together"], [25, 50, 75])
            times = costmodel.row_split(g, 2, t_c=t_c.value, t_s=t_s.value, t_b=t_b.value, start_up=start_up.value)
            speedup = serial_s / float(median_s)
            measure.add(
                experiment=EXPERIMENT, case=f"{kernel} x {kernel}, {filters} filters, {found['hosts']}",
                operation="forward", column=f"{g.h}²", x=g.h, threads=found["threads"], library=found["library"],
                serial_s=serial_s, median_s=float(median_s), q1_s=float(low), q3_s=float(high),
                rounds=len(each["together"]), relative_error=each["relative_error"], speedup=speedup,
                speedup_with_overlap=serial_s / float(np.median(each["overlap"])),
                predicted_speedup=times.speedup, off=speedup / times.speedup - 1,
                as_predicted=bool(times.speedup <= WORTH or abs(speedup / times.speedup - 1) <= WITHIN),
                t_s=vars(t_s), t_b=vars(t_b), t_c=vars(t_c), start_up=vars(start_up),
            )  # fmt: skip
