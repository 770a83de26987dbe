"""Rig: what has been measured of a network for predictions over ranks, each thing once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .. import nn
from ..cluster.mpi import MOST_S
from ..cluster.session import Session
from .calibration import Calibration
from .profile import Profile, estimated_profile, measured_profile
from .silent import measured_part
from .splits import Links
from .splits.by_rows import middle


class Rig:
    """A network on ranks.

    Parameters
    ----------
    model : Sequential
    calibration : Calibration
    backend : str
    threads : int
        Of each rank.
    measure : bool
        Whether to train copies of the network for a moment; else all is estimated.
    seconds : float
        How long each thing is measured.
    session : Session or None
        The ranks, which then all measure at once, and get the same.
    gradient_s, update_s, spread : float or None
        Of one worker's whole network, if known; then nothing is measured.
    """

    def __init__(
        self, model: nn.Sequential, calibration: Calibration, *, backend: str, threads: int, measure: bool,
        seconds: float = 1.0, session: Session | None = None, gradient_s: float | None = None,
        update_s: float | None = None, spread: float | None = None,
    ) -> None:  # fmt: skip
        self.model, self.calibration, self.backend, self.threads = model, calibration, backend, threads
        self.session, self._seconds = session, seconds
        self._measure = measure and gradient_s is None
        self._given = gradient_s, update_s, spread
        self._profiles: dict[int, Profile] = {}
        self._parts: dict[tuple[str, int, int], float] = {}

    @property
    def links(self) -> Links:
        """Between ranks."""
        t_s, t_b = self.calibration.link
        known = self.calibration
        return Links(
            t_s.value, t_b.value, known.t_copy.value, known.t_s.value, known.x_c.value, MOST_S / 2, known.eager
        )  # fmt: skip

    def profile(self, batch: int, of: int | None = None) -> Profile:
        """The profile of a step of `batch` images; `of` are those for which a known gradient's time holds."""
        if batch not in self._profiles:
            gradient_s, update_s, spread = self._given
            how = {"backend": self.backend, "threads": self.threads}
            if self._measure:
                made = self._together(
                    lambda: measured_profile(self.model, batch, seconds=self._seconds, **how)  # type: ignore[arg-type]
                )
            else:
                made = estimated_profile(self.model, batch, self.calibration, **how)  # type: ignore[arg-type]
            if gradient_s is not None:
                made = made.scaled(gradient_s * batch / (of or batch) / max(made.gradient_s, 1e-30))
                made = made.other(update_s=self.calibration.t_u.value * self.model.trained.count)
            self._profiles[batch] = made.other(update_s=update_s, spread=spread)
        return self._profiles[batch]

    def part(self, split: str, ranks: int, batch: int) -> float | None:
        """Seconds in which a rank computes its part of a step of a split network; None if they are not measured."""
        if not self._measure or ranks == 1:
            return None
        key = (split, ranks, batch)
        if key not in self._parts:
            rank = middle(ranks) if self.session is None else self.session.rank
            measured = lambda: measured_part(  # noqa: E731
                self.model, split, rank, ranks, batch, backend=self.backend, threads=self.threads,
                seconds=self._seconds,
            )  # fmt: skip
            if self.session is None:
                self._parts[key] = float(np.mean(measured().seconds))
            else:
                self.session.agree({})  # from here on all measure
                own = [float(np.mean(measured().seconds))]
                self._parts[key] = float(self._of_all(own).max())
        return self._parts[key]

    def _together(self, measured: Callable[[], Profile]) -> Profile:
        if self.session is None:
            return measured()
        self.session.agree({})
        own = measured()
        return own.with_times(self._of_all(own.times()).mean(axis=0).tolist())

    def _of_all(self, own: list[float]) -> np.ndarray:
        """Every rank's numbers, ``(ranks, n)``, on all ranks."""
        assert self.session is not None
        rows = self.session.world.gather(np.array(own).view(np.int64))
        return np.array(self.session.of_leader(lambda: rows.view(np.float64).tolist()))
