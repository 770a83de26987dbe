"""A timeline of ranks that MPI has started. The tools are test_cluster_mpi's."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time

import pytest
from test_cluster_mpi import GONE_S, SMALL, Run, _data, mpi, train  # noqa: F401
from timelines import Ranks

pytestmark = [pytest.mark.timeout(180)]

STAGES = ["--micro-batches", "4", "--pipeline-stages", "2", "--cut", "2"]
WAYS = {
    "sync": (2, ["--workers", "2"]),
    "ssp": (3, ["--update", "ssp"]),
    "easgd": (2, ["--update", "easgd", "--workers", "2"]),
    "stages": (2, STAGES),
    "stages by gpipe": (2, [*STAGES, "--pipeline-schedule", "gpipe"]),
    "rows": (2, ["--split", "rows"]),
    "filters": (3, ["--split", "filters"]),
}


@pytest.mark.covering("way", most=1)
@pytest.mark.parametrize("way", WAYS)
def test_a_timeline_of_ranks(mpi, tmp_path, way):  # noqa: F811
    ranks, flags = WAYS[way]
    run = Run(mpi, train(*SMALL, *flags, "--trace", "t.json", "--out", "run"), ranks=ranks, folder=tmp_path)
    assert run.end() == 0
    assert run.said == []
    found = Ranks(tmp_path / "t.json").check(ranks)
    assert all(re.fullmatch(rf"rank {rank} on \S+", name) for rank, name in enumerate(found.processes))
    for rank in range(1, ranks):
        first = found.clocks[rank][0]
        # All ranks are on this machine, and have one clock: what was measured is right.
        assert abs(first["offset_us"]) <= first["uncertainty_us"] < 1e5
        assert len(found.clocks[rank]) >= 2  # at the beginning and at the end
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert 0 < line["wait_s"] <= line["seconds"] * 1.1
    assert re.search(rf"epoch 2/2 .* {ranks} ranks  \d+ images/s .* \d+ % waiting", run.out)


def test_a_rank_that_is_killed_leaves_a_timeline_that_can_be_read(mpi, tmp_path):  # noqa: F811
    flags = ["--epochs", "100000", "--trace", "t.json", "--out", "run"]
    run = Run(mpi, train(*SMALL, *flags), ranks=2, folder=tmp_path)
    run.until("epoch 3/")
    while not (tmp_path / "t.json").stat().st_size:
        time.sleep(0.1)
    run.ranks()[1].send_signal(signal.SIGKILL)
    assert run.end(GONE_S) != 0
    found = Ranks(tmp_path / "t.json")
    assert len(found.processes) == 2 and found.spans
    found._check_nesting()


def test_an_interrupted_run_has_its_timeline(mpi, tmp_path):  # noqa: F811
    flags = ["--epochs", "100000", "--trace", "t.json", "--out", "run"]
    run = Run(mpi, train(*SMALL, *flags), ranks=2, folder=tmp_path)
    run.until("epoch 3/")
    run.ranks()[1].send_signal(signal.SIGINT)
    assert run.end(GONE_S) == 130
    Ranks(tmp_path / "t.json").check(2)


def _other_clock() -> list[str]:
    """A command before a program that gives it another monotonic clock; empty if this system does not let us."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return []
    words = [unshare, "--time", "--fork", "--monotonic", "7000"]
    done = subprocess.run([*words, "true"], capture_output=True)
    return words if done.returncode == 0 else []


def test_ranks_with_other_clocks_are_on_rank_0s(mpi, tmp_path):  # noqa: F811
    if not (words := _other_clock()):
        pytest.skip("needs a system that gives a process a time namespace (unshare --time)")
    script = tmp_path / "other.sh"
    rank = "${PMI_RANK:-$OMPI_COMM_WORLD_RANK}"
    script.write_text(f'#!/bin/sh\nif [ "{rank}" = 1 ]; then exec {" ".join(words)} "$@"; fi\nexec "$@"\n')
    script.chmod(0o755)
    program = [str(script), str(mpi), *train(*SMALL, "--trace", "t.json", "--out", "run")]
    run = Run(mpi, ["-c", "import os, sys; os.execv(sys.argv[1], sys.argv[1:])", *program], ranks=2, folder=tmp_path)
    assert run.end() == 0
    found = Ranks(tmp_path / "t.json").check(2)
    for each in found.clocks[1]:
        assert abs(each["offset_us"] + 7000e6) <= each["uncertainty_us"]
