"""Losses: which rank is lost, seen from this one, and who reports it."""

from __future__ import annotations

from .hosts import Hosts
from .watch import Watch


class Losses:
    """What happens to other ranks: on this host by :class:`Hosts`, on other hosts by :class:`Watch`.

    Parameters
    ----------
    hosts : Hosts
    watch : Watch
    rank : int
        This one.
    """

    def __init__(self, hosts: Hosts, watch: Watch, rank: int) -> None:
        self._hosts, self._watch, self._rank = hosts, watch, rank

    def look(self) -> tuple[str, bool] | None:
        """What has happened to a rank, and whether this rank reports it; None if all are there.

        It is called four times a second while this rank waits. One rank reports: on the host of a rank that has died,
        or, if no other is there or that host cannot be reached, on the first host that can.
        """
        what, far = self._hosts.lost(), self._watch.lost()
        if what is not None:
            return what, self._hosts.speaks()
        if far is not None:
            rank, what = far
            return f"{self._hosts.names[rank]} {what}", self._watch.speaks(self._rank)
        return None

    @property
    def unreachable(self) -> bool:
        """Whether a host that is lost cannot be reached."""
        return self._watch.unreachable

    def unwatched(self) -> list[str]:
        """A warning for each other host whose loss would not be noticed."""
        return [
            f"{self._hosts.names[rank]} takes no connection: if its host is lost, the others wait for it"
            for rank in self._watch.unwatched
        ]
