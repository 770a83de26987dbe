"""``python -m chaos``: the campaign."""

from __future__ import annotations

import argparse
import faulthandler
import sys
import tempfile
import time
import traceback

from . import parents, workers
from .plan import Plan, draw

HUNG_S = 120.0


def play(plan: Plan) -> str:
    """Run one plan; if the run hangs, the process ends and prints the stacks of its threads."""
    faulthandler.dump_traceback_later(HUNG_S, exit=True)
    try:
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
            return (parents if plan.parent else workers).play(plan, folder)
    finally:
        faulthandler.cancel_dump_traceback_later()


def campaign(runs: int, seconds: float, first: int) -> int:
    """Run plans until `runs` runs are done or `seconds` have passed; returns how many have failed."""
    began, failed, done = time.monotonic(), 0, 0
    for seed in range(first, first + runs):
        if time.monotonic() - began > seconds:
            print(f"the {seconds:.0f} s are over after {done} runs")
            break
        plan = draw(seed)
        print(plan, flush=True)
        start = time.monotonic()
        try:
            outcome = play(plan)
        except Exception as error:
            failed += 1
            if not isinstance(error, AssertionError):
                traceback.print_exc()
            outcome = f"FAILED: {error}"
        done += 1
        print(f"    {outcome} ({time.monotonic() - start:.1f} s)", flush=True)
    print(f"{done} runs in {time.monotonic() - began:.0f} s, {failed} failed")
    return failed


def main() -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--runs", type=int, default=100, help="how many (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1200, help="begin no run after so long (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first run; the others count on (default: 0)")
    args = parser.parse_args()
    return 1 if campaign(args.runs, args.seconds, args.seed) else 0


if __name__ == "__main__":
    sys.exit(main())
