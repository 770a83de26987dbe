"""Collects failures that hit many workers at once (gradients that are not finite), to report them in one message."""

from __future__ import annotations

from dataclasses import dataclass, field

QUIET_S = 1.0  # after so long without another failure, the group is complete


@dataclass
class Together:
    """Workers that failed in the same way and were replaced, until this is reported.

    When a run diverges, every worker gives the same message within moments.
    """

    found: list[tuple[int, str]] = field(default_factory=list)
    """Worker and text, in the order in which the workers failed."""
    latest: float = 0.0

    def add(self, index: int, text: str, now: float) -> None:
        """Note that a worker has failed; `text` follows "worker 2"."""
        self.found.append((index, text))
        self.latest = now

    def due(self, now: float) -> bool:
        """Whether there is a group that no further worker has joined for a while."""
        return bool(self.found) and now - self.latest >= QUIET_S

    def take(self, workers: int) -> str | None:
        """The message about the group, which is then forgotten; None if there is no group.

        Parameters
        ----------
        workers : int
            Number of workers of the run.
        """
        found, self.found = self.found, []
        if not found:
            return None
        index, text = found[0]
        if len(found) == 1:
            return f"worker {index} {text}; a new process takes its place"
        who = len({each for each, _ in found})
        new = f"{len(found)} new processes take their places"
        return f"{who} of {workers} workers failed, first worker {index} {text}; {new}"
