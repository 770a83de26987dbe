"""Names and order of a timeline's rows: a process for each rank; in it its lanes, its threads, and messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...parallel import Job
from ...parallel.trace_file import meta
from ..spread import Spread
from .tape import DESK, MESSAGES, RECEIVES, SENDS

#: The numbers of rows that are no lanes. Messages that overlap need several rows; each kind has this many numbers.
FIRST = {MESSAGES: 1_000_000, DESK: 1_000_001, SENDS: 2_000_000, RECEIVES: 3_000_000}
_WORDS = {MESSAGES: "messages", DESK: "desk", SENDS: "sends", RECEIVES: "receives"}


@dataclass(frozen=True)
class Rows:
    """The rows of a rank.

    Attributes
    ----------
    rank : int
    name : str
        Of the rank, as ``"rank 2 on node-b"``.
    lanes : dict of int to str
        The names of its lanes, by their numbers.
    """

    rank: int
    name: str
    lanes: dict[int, str]

    def begin(self) -> list[str]:
        """The entries that name the rank and its lanes."""
        named = [row for lane, name in self.lanes.items() for row in self._named(lane, name)]
        sort = meta("process_sort_index", self.rank, 0, sort_index=self.rank)
        return [meta("process_name", self.rank, 0, name=self.name), sort, *named]

    def other(self, row: int, slot: int = 0) -> list[str]:
        """The entries that name another row; `slot` counts those of the same kind, from 0."""
        name = _WORDS[row] + (f" {slot + 1}" if slot else "")
        return self._named(FIRST[row] + slot, name)

    def _named(self, number: int, name: str) -> list[str]:
        return [
            meta("thread_name", self.rank, number, name=name),
            meta("thread_sort_index", self.rank, number, sort_index=number),
        ]


def rows_of(job: Job, names: Sequence[str]) -> list[Rows]:
    """The rows of all ranks.

    Parameters
    ----------
    job : Job
    names : sequence of str
        Of the ranks.
    """
    if job.stages is not None:
        count, several = job.stages.count, job.workers > 1
        return [
            Rows(rank, name, {0: f"stage {rank % count}" + f" of pipeline {rank // count}" * several})
            for rank, name in enumerate(names)
        ]
    if job.split is not None:
        return [Rows(rank, name, {0: "computing"}) for rank, name in enumerate(names)]
    spread = Spread(1, job.workers, len(names))
    return [
        Rows(rank, name, {lane: f"worker {lane}" for lane in spread.lanes_of(rank)}) for rank, name in enumerate(names)
    ]
