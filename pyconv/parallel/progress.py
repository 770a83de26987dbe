"""Turns the workers' finished mini-batches of an epoch into reports of global steps, for the parent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from . import store as s

STALENESS = 256  # entries of the histogram; the last one counts everything larger


def in_figures(histogram: np.ndarray) -> dict[str, Any]:
    """What a line of metrics says of the staleness of pushes: mean, maximum and histogram."""
    pushes = histogram.sum()
    return {
        "staleness_mean": float((histogram * np.arange(len(histogram))).sum() / pushes) if pushes else 0.0,
        "staleness_max": int(np.flatnonzero(histogram).max(initial=0)),
        "staleness_histogram": np.trim_zeros(histogram, "b").tolist(),
    }


class Progress:
    """Follows the epoch's table of mini-batches.

    Under lockstep rules the k-th report is the k-th step. Under the other rules it is the next W mini-batches that were
    finished, whichever they are.

    Parameters
    ----------
    store : Store
    lockstep : bool
    count : callable
        ``count(unit)``: images of a mini-batch.

    Attributes
    ----------
    reported : int
        Reports given in this epoch.
    """

    def __init__(self, store: s.Store, lockstep: bool, count: Callable[[int], int]) -> None:
        self._store, self._lockstep, self._count = store, lockstep, count
        self.reported = 0
        self._finished: list[int] = []  # mini-batches in the order of their steps, or of the times when they ended
        self._seen = np.zeros(store.plan.units, bool)
        self._staleness = np.zeros(STALENESS, np.int64)

    def reset(self, first_step: int) -> None:
        """Begin an epoch of which `first_step` steps are done already."""
        done = first_step * self._store.plan.lanes
        self._finished = list(range(done))
        self._seen[:] = False
        self._seen[:done] = True
        self.reported = first_step

    def rewind(self, reported: int) -> None:
        """Continue after `reported` reports: what was done beyond them is reported again."""
        self.reported = reported

    def look(self) -> None:
        """Read what has been finished since the last look."""
        store, lanes = self._store, self._store.plan.lanes
        used = store.unit_states == s.USED
        if self._lockstep:
            step = len(self._finished) // lanes
            while (step + 1) * lanes <= store.plan.units and used[step * lanes : (step + 1) * lanes].all():
                self._finished.extend(range(step * lanes, (step + 1) * lanes))
                step += 1
            return
        new = np.flatnonzero(used & ~self._seen)
        new = new[np.argsort(store.unit_time[new], kind="stable")]
        self._seen[new] = True
        self._finished.extend(new.tolist())
        pushed = new[store.unit_push[new] > 0]
        staleness = store.unit_push[pushed] - 1 - store.unit_pulled[pushed]
        self._staleness += np.bincount(np.clip(staleness, 0, STALENESS - 1), minlength=STALENESS)

    def reports(self) -> Iterator[tuple[int, float, int]]:
        """Images, mean loss and correct images of each step that was not reported yet."""
        self.look()
        lanes = self._store.plan.lanes
        while (self.reported + 1) * lanes <= len(self._finished):
            units = self._finished[self.reported * lanes : (self.reported + 1) * lanes]
            counts = [self._count(unit) for unit in units]
            images = sum(counts)
            losses = self._store.unit_loss[units]
            self.reported += 1
            yield images, float(np.dot(losses, counts)) / max(images, 1), int(self._store.unit_correct[units].sum())

    def take_staleness(self) -> np.ndarray:
        """Histogram of the staleness of the pushes since the last call, ``(256,)``."""
        taken, self._staleness = self._staleness, np.zeros(STALENESS, np.int64)
        return taken

    def state(self) -> dict[str, np.ndarray]:
        """What a later run needs to continue in the middle of the epoch."""
        return {
            "used": (self._store.unit_states == s.USED).astype(np.uint8),
            "losses": self._store.unit_loss.copy(),
            "correct": self._store.unit_correct.copy(),
            "finished": np.array(self._finished, np.int64),
        }

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from a :meth:`state`."""
        store = self._store
        store.unit_loss[:] = state["losses"]
        store.unit_correct[:] = state["correct"]
        store.unit_states[:] = np.where(state["used"] > 0, s.USED, s.FREE)
        for table in (store.unit_push, store.unit_pulled, store.unit_time):
            table[:] = 0
        self._finished = state["finished"].tolist()
        self._seen[:] = state["used"] > 0
