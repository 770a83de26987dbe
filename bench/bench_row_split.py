"""A convolution split by rows over 2 ranks: the measured speed-up beside equation (8)'s, which knows no overlap.

PYCONV_BENCH_RANKS says how the ranks are started, a launcher and an interpreter with mpi4py: by default the ``mpiexec
-n 2`` beside this interpreter. On one machine the ranks' messages go through shared memory; to measure a network, have
the launcher place them on different nodes, with a CPU for each. With PYCONV_BENCH_PIN=1 each rank stays on a CPU of
its own: for nodes that are pretended on one machine.

t_s and t_b are calibrated between the ranks, with messages as large as the largest halo. t_c and the start of a call
are the line through the times of all sizes of image with the same kernel and filters, on one rank.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyconv import costmodel
from pyconv.costmodel.fits import line
from pyconv.shapes import conv_geometry

EXPERIMENT = "row_split"
BENCH = Path(__file__).parent
WORTH = 1.2  # a prediction above it has to be right within
WITHIN = 0.15


def _started(pace: str, target: Path) -> dict[str, Any]:
    """What the ranks have measured."""
    beside = Path(sys.executable).with_name("mpiexec")
    words = shlex.split(os.environ.get("PYCONV_BENCH_RANKS", f"{beside} -n 2 {sys.executable}"))
    paths = os.pathsep.join(filter(None, [str(BENCH.parent), os.environ.get("PYTHONPATH", "")]))
    script = str(BENCH / "harness" / "row_split_ranks.py")
    try:
        done = subprocess.run(
            [*words, script, pace, str(target)], env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True
        )
    except FileNotFoundError:
        pytest.skip(
            f"needs MPI's launcher, and there is no {words[0]}: pip install '.[mpi]', or see PYCONV_BENCH_RANKS"
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(target.read_text()))


def test_row_split(measure, quick: bool, tmp_path: Path) -> None:
    found = measure.once(lambda: _started("quick" if quick else "full", tmp_path / "found.json"))
    assert found["ranks"] == 2, "the figure is of 2 ranks"
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
            times = costmodel.row_split(
                g, 2, t_c=t_c.value, t_s=found["t_s"]["value"], t_b=found["t_b"]["value"], start_up=start_up.value
            )
            speedup = serial_s / float(median_s)
            measure.add(
                experiment=EXPERIMENT, case=f"{kernel} x {kernel}, {filters} filters, {found['hosts']}",
                operation="forward", column=f"{g.h}²", x=g.h, threads=found["threads"], library=found["library"],
                serial_s=serial_s, median_s=float(median_s), q1_s=float(low), q3_s=float(high),
                rounds=len(each["together"]), relative_error=each["relative_error"], speedup=speedup,
                speedup_with_overlap=serial_s / float(np.median(each["overlap"])),
                predicted_speedup=times.speedup, off=speedup / times.speedup - 1,
                as_predicted=bool(times.speedup <= WORTH or abs(speedup / times.speedup - 1) <= WITHIN),
                t_s=found["t_s"], t_b=found["t_b"], t_c=vars(t_c), start_up=vars(start_up),
            )  # fmt: skip
