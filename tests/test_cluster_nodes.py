"""Training over MPI on pretended nodes, with faults: single cases of ``make chaos-cluster``, and a node that is slow.

They need root, for network namespaces, and the environments with MPIs that ``PYCONV_TEST_MPI`` names (`make test-mpi`).
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.timeout(240), pytest.mark.slow]


@pytest.fixture(scope="module")
def chaos() -> Iterator[Any]:
    """``chaos.cluster.judge``, and a rig."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent.parent / "bench")
        why = importlib.import_module("harness.nodes").unavailable()
        if why is not None:
            pytest.skip(why)
        main = importlib.import_module("chaos.cluster.__main__")
        try:
            pythons = main.pythons()
        except SystemExit as error:
            pytest.skip(str(error))
        with main.Rig(pythons) as rig:
            yield main, rig


@pytest.mark.parametrize(
    ("fault", "split", "mpi", "nodes", "each", "victim"),
    [
        ("link", "sync", "mpich", 3, 1, 0),
        ("link", "1f1b", "openmpi", 2, 2, 2),
        ("SIGSTOP", "rows", "mpich", 3, 1, 1),
        ("SIGKILL", "local", "mpich", 2, 2, 2),
        ("NaN", "filters", "openmpi", 2, 1, 1),
        ("NaN", "rows", "mpich", 2, 1, 1),
        ("NaN", "gpipe", "mpich", 3, 1, 1),
    ],
)
def test_a_fault_ends_all_and_the_run_goes_on(chaos, fault, split, mpi, nodes, each, victim):
    main, rig = chaos
    plan = main.Plan(0, split, mpi, fault, nodes, each, victim, 0.5)
    print(main.play(plan, rig))


SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17


def _ptrace(request: int, thread: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(request, thread, None, None):
        raise OSError(ctypes.get_errno(), f"ptrace {request} of {thread}")


@contextlib.contextmanager
def ends_well(chaos: Any, split: str, mpi: str, nodes: int) -> Iterator[tuple[Any, Any]]:
    """A run, and the rig, in its second epoch; at the end of the block it has to go on to its own end."""
    main, rig = chaos
    plan = main.Plan(0, split, mpi, "", nodes, 1, 1, 0.0)
    rig.fresh()
    run = rig.start(plan, ["-m", "pyconv.train", *rig.flags(plan, rig.disk / "run")])
    try:
        run.until("epoch 1/")
        yield run, rig
        assert run.process.wait(90) == 0
        assert run.said == []
    finally:
        run.end()


@pytest.mark.parametrize("mpi", ["mpich", "openmpi"])
def test_a_slow_node_is_not_taken_for_a_lost_one(chaos, mpi):
    """No thread of a rank runs for ten seconds, as if it were swapped out."""
    with ends_well(chaos, "sync", mpi, 2) as (run, _):
        threads = [int(each.name) for each in Path(f"/proc/{run.ranks()[1].pid}/task").iterdir()]
        for thread in threads:
            _ptrace(SEIZE, thread)
            _ptrace(INTERRUPT, thread)
        time.sleep(10)
        assert len(run.ranks()) == 2
        for thread in threads:
            os.waitpid(thread, 0x40000000)  # __WALL: it is stopped
            _ptrace(DETACH, thread)


@pytest.mark.parametrize("mpi", ["mpich", "openmpi"])
def test_a_link_that_is_lost_for_two_seconds_is_waited_for(chaos, mpi):
    with ends_well(chaos, "1f1b", mpi, 3) as (_, rig):
        try:
            rig.nodes.link(1, up=False)
            time.sleep(2)
        finally:
            rig.nodes.link(1, up=True)


ABSENT = """
import os, runpy, sys
if os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK")) == "1":
    sys.exit(3)
sys.argv[:1] = ["pyconv"]
runpy.run_module("pyconv.train", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("mpi", ["mpich", "openmpi"])
@pytest.mark.parametrize("nodes", [2, 3])
def test_a_node_whose_rank_does_not_come_to_mpis_start_ends_all(chaos, mpi, nodes):
    main, rig = chaos
    plan = main.Plan(0, "sync", mpi, "", nodes, 1, 1, 0.0)
    rig.fresh()
    run = rig.start(plan, ["-c", ABSENT, *rig.flags(plan, rig.disk / "run")])
    try:
        assert run.process.wait(10) != 0
        if mpi == "mpich":
            (said,) = run.said
            assert said.startswith(
                "pyconv: error: the ranks on another host have ended before they came to MPI's start"
            )
        time.sleep(1)
        assert not run.left()
        assert not (rig.see(0, rig.disk / "run")).exists()
    finally:
        run.end()


@pytest.mark.parametrize("mpi", ["mpich", "openmpi"])
@pytest.mark.parametrize("split", ["sync", "1f1b", "rows"])
def test_ranks_are_started_again_after_a_nodes_death(chaos, split, mpi):
    """``python -m pyconv.cluster`` goes on to the bits of an undisturbed run."""
    main, rig = chaos
    plan = main.Plan(0, split, mpi, "", 2, 2, 2, 0.0)
    rig.fresh()
    run = rig.restarted(plan, 3)
    try:
        run.until("epoch 1/")
        run.ranks()[plan.victim].kill()
        assert run.process.wait(90) == 0, run.err
        restarts = [line for line in run.said if "; restart " in line]
        assert len(restarts) == 1, run.said
        assert "; restart 1 of 3, from the checkpoint of step " in restarts[0]
        assert not run.left()
    finally:
        run.end()
    judge = importlib.import_module("chaos.cluster.judge")
    found, wanted = judge.bits(rig.see(0, rig.disk / "run")), judge.undisturbed(rig, split, 2, 2)
    assert (found[0] == wanted[0]).all()
    assert [line["train_loss"] for line in found[2]] == [line["train_loss"] for line in wanted[2]]
