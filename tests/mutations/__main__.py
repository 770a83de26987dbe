"""``python -m mutations``: plant each mistake in a copy of the sources, and see which test finds it."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from . import results
from .mutation import Mutation
from .table import MUTATIONS
from .tree import ROOT, Tree

#: The tests that are run, one set after the other until a test fails: the named tests in a quick run, all tests in a
#: quick run, and the named tests with all cases.
WAYS = ("quick", "whole", "thorough")

#: So many tests must take too long for the mistake to count as found.
MOST_LATE = 3


def main() -> int:
    """Run the command; returns the exit status: 1 if a mistake was not found."""
    parser = argparse.ArgumentParser(prog="python -m mutations", description=__doc__, allow_abbrev=False)
    parser.add_argument("words", nargs="*", metavar="WORD", help="only mistakes whose file or reason has one of these")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="to look, in turn (default: all three)")
    parser.add_argument("--tree", type=Path, default=ROOT / "build" / "mutations", help="where the copy is made")
    parser.add_argument("--record", action="store_true", help="write what was found to tests/mutations/RESULTS.md")
    args = parser.parse_args()
    chosen = [
        each for each in MUTATIONS if not args.words or any(word in f"{each.file} {each.why}" for word in args.words)
    ]
    tree = Tree(args.tree)
    rows = []
    for number, mutation in enumerate(chosen, 1):
        print(f"{number} of {len(chosen)}: {mutation.file}: {mutation.why}", flush=True)
        began = time.monotonic()
        with tree.mistaken(mutation):
            built = time.monotonic()
            way, test = _found(tree.place, mutation, args.ways)
        row = results.Row(mutation, way, test, built - began, time.monotonic() - built)
        print(f"    {row.words()}", flush=True)
        rows.append(row)
        if args.record:
            results.record(rows)
    print(results.summary(rows))
    return 0 if all(row.test for row in rows) else 1


def _found(place: Path, mutation: Mutation, ways: Sequence[str]) -> tuple[str, str]:
    """How the mistake was found, and by which test; both empty if it was not."""
    named = [f"tests/test_{name}.py" for name in mutation.tests.split()]
    arguments = {"quick": named, "whole": ["-n2", "tests"], "thorough": [*named, "--thorough"]}
    for way in ways:
        first = [[*arguments[way], "-k", mutation.words]] if mutation.words and way != "whole" else []
        for how in (*first, arguments[way]):
            if test := _first_failure(place, how):
                return way, test
    return "", ""


def _first_failure(place: Path, how: list[str]) -> str:
    """The first test that fails, or what else went wrong; empty if all pass.

    A test that takes too long may have met a busy machine, so the other tests are run before it counts.
    """
    late: list[str] = []
    while True:
        test, reason = _failure(place, [*how, *(f"--deselect=tests/{each}" for each in late)])
        if "Timeout" not in reason or len(late) == MOST_LATE:
            return test or (f"{late[0]} (timed out)" if late else "")
        late.append(test)


def _failure(place: Path, how: list[str]) -> tuple[str, str]:
    """The first test that fails and the first line of why."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "-p", "no:cacheprovider", "--timeout", "300", *how]
    environment = {**os.environ, "PYTHONPATH": str(place), "COLUMNS": "400", "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    if done.returncode in (0, 5):
        return "", ""
    if done.returncode == 4:
        raise RuntimeError(done.stderr)
    failed = re.search(r"^(?:FAILED|ERROR) tests/(\S+?\.py(?:::.+?)?)(?: - |$)", done.stdout, re.MULTILINE)
    found = re.search(r"^E +(.*)", done.stdout, re.MULTILINE)
    reason = found[1] if found else ""
    print(f"    {reason[:150]}", flush=True)
    return failed[1] if failed else f"pytest ended with status {done.returncode}", reason


if __name__ == "__main__":
    sys.exit(main())
