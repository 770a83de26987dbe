"""Where predictions over ranks are made: on these ranks, all together, or in one process, for ranks elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..backends import get as get_backend
from ..cluster.session import Session, session
from ..errors import InputError
from ..values import integer
from .calibration import Calibration, calibrate, calibration_of


@dataclass(frozen=True)
class Place:
    """The ranks.

    Attributes
    ----------
    ranks : int
    threads : int
        Of each.
    calibration : Calibration
    session : Session or None
        These ranks, if they are the ones.
    """

    ranks: int
    threads: int
    calibration: Calibration
    session: Session | None


@contextlib.contextmanager
def at_ranks(
    ranks: int | None, cluster: bool, backend: str, threads: int | None, calibration: Calibration | None,
    asked: Mapping[str, Any],
) -> Iterator[Place]:  # fmt: skip
    """Within it, predictions can be made; with `cluster`, all ranks enter it alike.

    Parameters
    ----------
    ranks : int or None
        How many, if these are not the ones.
    cluster : bool
    backend : str
    threads : int or None
        Of each rank; by default what a rank has here, or the calibration's CPUs.
    calibration : Calibration or None
        By default measured.
    asked : mapping of str to object
        What all ranks must ask alike.

    Raises
    ------
    InputError
        If there are no ranks here, or not so many, or they ask for different things.
    """
    name = get_backend(backend).name
    single = get_backend(backend).threads(2) == 1
    if threads is not None:
        threads = integer(threads, "threads", minimum=1)
    if calibration is not None:
        calibration_of(calibration)
    if not cluster:
        made = calibrate(name, seconds=0.01) if calibration is None else calibration
        yield Place(integer(ranks, "ranks", minimum=1), 1 if single else threads or made.cpus, made, None)
        return
    here = session("mpi")
    assert here is not None
    if ranks not in (None, here.size):
        raise InputError(f"there are {here.size} ranks, not {ranks}: leave ranks out with cluster=True")
    with here.together():
        here.agree({"backend": name, "threads": threads, **asked}, remedy="ask the same on all ranks")
        made = calibrate(name, seconds=0.01, cluster=True) if calibration is None else calibration
        yield Place(here.size, 1 if single else here.threads(threads), made, here)
