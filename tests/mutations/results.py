"""The table RESULTS.md: which test found each mistake."""

from __future__ import annotations

import datetime
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .mutation import Mutation
from .table import MUTATIONS

PLACE = Path(__file__).parent / "RESULTS.md"
HEAD = """# Planted mistakes and the tests that found them

Written by `make mutations ARGS=--record`. "quick": among the tests of that part in a quick run; "whole": by another
test of a quick run; "thorough": only with all cases. A quick run draws its cases anew each time, so that another run
may find a mistake by another test. A mistake without a row has not been planted yet.

| file | mistake | found in | by | seconds | on |
| --- | --- | --- | --- | --- | --- |
"""


class Row(NamedTuple):
    """The result for one mistake; `test` is empty if no test found it."""

    mutation: Mutation
    way: str
    test: str
    build_s: float
    seconds: float

    def words(self) -> str:
        """The row in words, for the terminal."""
        if not self.test:
            return f"NOT FOUND in {self.seconds:.0f} s"
        return f"{self.way}: {self.test} in {self.seconds:.0f} s (built in {self.build_s:.0f} s)"


def record(rows: Sequence[Row]) -> None:
    """Put rows into the table; they replace the rows of the same mistakes."""
    kept = {}
    if PLACE.is_file():
        for line in PLACE.read_text(encoding="utf-8").splitlines():
            if found := re.match(r"\| `(.*?)` \| (.*?) \| ", line):
                kept[found[1], found[2]] = line
    today = datetime.date.today().isoformat()
    for row in rows:
        test = f"`{row.test.replace('|', '¦')}`" if row.test else "**nothing**"
        key = row.mutation.file, row.mutation.why
        kept[key] = f"| `{key[0]}` | {key[1]} | {row.way} | {test} | {row.seconds:.0f} | {today} |"
    known = [(each.file, each.why) for each in MUTATIONS]
    PLACE.write_text(HEAD + "".join(f"{kept[key]}\n" for key in known if key in kept), encoding="utf-8")


def summary(rows: Sequence[Row]) -> str:
    """How many mistakes were found, and in which run."""
    ways = Counter(row.way or "not found" for row in rows)
    return f"{len(rows)} mistakes: " + ", ".join(f"{count} {way}" for way, count in ways.items())
