"""``python -m chaos.cluster``: the campaign."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
import traceback
from pathlib import Path

from harness.nodes import unavailable

from .faults import FAULTS
from .judge import play
from .plan import MPIS, Plan, draw
from .rig import Rig


def pythons() -> dict[str, Path]:
    """The interpreters that PYCONV_TEST_MPI names, by the MPI beside them."""
    named = [Path(each) for each in os.environ.get("PYCONV_TEST_MPI", "").split(os.pathsep) if each]
    kinds = {"mpich" if (each.parent / "mpichversion").exists() else "openmpi": each for each in named}
    missing = [name for name in MPIS if name not in kinds]
    if missing:
        sys.exit(
            f"PYCONV_TEST_MPI names no interpreter with {' and '.join(missing)} beside it: make chaos-cluster does"
        )
    return kinds


def campaign(plans: list[Plan], rig: Rig) -> int:
    """Play all plans; returns how many have failed."""
    began, failed = time.monotonic(), 0
    longest: dict[tuple[str, str, str], list[float]] = {}
    for plan in plans:
        print(plan, flush=True)
        try:
            outcome, seconds = play(plan, rig)
            longest.setdefault((plan.fault, plan.split, plan.mpi), []).append(seconds)
        except Exception as error:
            failed += 1
            if not isinstance(error, AssertionError):
                traceback.print_exc()
            outcome, seconds = f"FAILED: {error}", 0.0
        print(f"    {seconds:.1f} s; {outcome}", flush=True)
    for (fault, split, mpi), found in sorted(longest.items()):
        print(f"{fault:20} {split:8} {mpi:8} {len(found)} runs, all ranks gone after {max(found):.1f} s at most")
    print(f"{len(plans)} runs in {time.monotonic() - began:.0f} s, {failed} failed")
    return failed


def main() -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m chaos.cluster", description=__doc__)
    parser.add_argument("--runs", type=int, default=60, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first run; the others count on (default: 0)")
    parser.add_argument(
        "--faults", nargs="+", choices=FAULTS, default=list(FAULTS), help="of which kinds (default: all)"
    )
    args = parser.parse_args()
    why = unavailable()
    if why is not None:
        sys.exit(why)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the nodes are taken away then, too
    plans = [draw(seed, tuple(args.faults)) for seed in range(args.seed, args.seed + args.runs)]
    with Rig(pythons()) as rig:
        return 1 if campaign(plans, rig) else 0


if __name__ == "__main__":
    sys.exit(main())
