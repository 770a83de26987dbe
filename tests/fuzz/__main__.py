"""``python -m fuzz``: tries cases, and prints those that end badly."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from .children import SHARES, run, shared_out

BLOCK = 50_000
"""Cases of a process: starting one takes seconds."""


def main() -> int:
    """Run the command; returns the exit status: 1 if a case ended badly."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__, allow_abbrev=False)
    parser.add_argument("--cases", type=int, default=1_000_000, help="in all (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="number of the first case of each kind; go on from here")
    parser.add_argument("--kind", choices=list(SHARES), help="only cases of this kind (default: all)")
    parser.add_argument("--processes", type=int, default=2, help="at the same time (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="that a case may take (default: %(default)s)")
    parser.add_argument("--minutes", type=float, help="stop after so many, and say where")
    parser.add_argument("--out", type=Path, help="file to add the findings to")
    args = parser.parse_args()
    counts = {args.kind: args.cases} if args.kind else shared_out(args.cases)
    plan = {kind: range(args.first, args.first + count) for kind, count in counts.items()}
    began, tried, bad = time.monotonic(), 0, 0
    step = 100_000
    while any(plan.values()):
        now = {kind: numbers[: max(1, int(step * SHARES[kind]))] for kind, numbers in plan.items() if numbers}
        for kind, first, last, findings in run(now, processes=args.processes, block=BLOCK, seconds=args.seconds):
            tried, bad = tried + last - first, bad + len(findings)
            for finding in findings:
                print(finding, flush=True)
                if args.out:
                    with args.out.open("a", encoding="utf-8") as file:
                        file.write(f"{finding}\n")
            print(f"{kind} {first} to {last - 1}: {len(findings)} bad", file=sys.stderr, flush=True)
        plan = {kind: numbers[len(now.get(kind, ())) :] for kind, numbers in plan.items()}
        if args.minutes is not None and time.monotonic() - began > 60 * args.minutes:
            break
    left = {kind: numbers.start for kind, numbers in plan.items() if numbers}
    print(f"{tried} cases in {time.monotonic() - began:.0f} s, {bad} bad" + (f"; next: {left}" if left else ""))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
