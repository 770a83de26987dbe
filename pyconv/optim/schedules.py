"""Learning-rate schedules: the factor of the learning rate at each step."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pyconv.errors import InputError, shown, unknown_name
from pyconv.values import MOST, choice, integer, real, sequence


@dataclass(frozen=True)
class Schedule:
    """A constant learning rate after a linear warm-up; base class of the other schedules.

    Call it with the number of the step, from 1 on, and the number of steps of the whole run; it returns the factor of
    the optimizer's learning rate. It keeps no state, so a resumed run needs only the number of the step.

    Parameters
    ----------
    warmup : int or float
        Steps (an int), or the share of the run (a float below 1), over which the factor rises linearly to 1.
    """

    warmup: int | float = 0

    def __post_init__(self) -> None:
        warmup = real(self.warmup, "warmup", minimum=0, maximum=MOST)
        if warmup >= 1 and warmup != int(warmup):
            raise InputError(f"warmup must be a number of steps or a share below 1, not {shown(self.warmup)}")
        object.__setattr__(self, "warmup", int(warmup) if warmup == int(warmup) else warmup)

    @property
    def name(self) -> str:
        """The name for :func:`schedule`; for a class of your own, the class's name."""
        kind = type(self)
        return next((name for name, known in SCHEDULES.items() if known is kind), kind.__name__)

    def config(self) -> dict[str, Any]:
        """Name and settings as a dict that JSON and TOML can hold.

        Returns
        -------
        dict of str to object
            ``optim.schedule(**config)`` makes the same schedule.
        """
        settings = dataclasses.asdict(self)
        return {"name": self.name, **{k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}}

    def warmup_steps(self, total: int) -> int:
        """Length of the warm-up.

        Parameters
        ----------
        total : int
            Steps of the whole run.

        Returns
        -------
        int
            Steps; a share of the run is rounded up.
        """
        total = integer(total, "total", minimum=1)
        return int(self.warmup) if self.warmup >= 1 else math.ceil(self.warmup * total)

    def __call__(self, step: int, total: int) -> float:
        """Factor of the learning rate.

        Parameters
        ----------
        step : int
            From 1 on; steps beyond the total count as the last.
        total : int
            Steps of the whole run.

        Returns
        -------
        float

        Raises
        ------
        InputError
            If one of them is below 1.
        """
        step, total = integer(step, "step", minimum=1), integer(total, "total", minimum=1)
        warmup = self.warmup_steps(total)
        if step <= warmup:
            return step / warmup
        done = min(step - 1 - warmup, max(total - 1 - warmup, 0))
        return self._after_warmup(done / max(total - warmup, 1))

    def _after_warmup(self, progress: float) -> float:
        """The factor after the share `progress`, in [0, 1), of the steps after the warm-up."""
        return 1.0


@dataclass(frozen=True)
class StepSchedule(Schedule):
    """The learning rate falls by a factor at given shares of the run.

    Parameters
    ----------
    warmup : int or float
        As in :class:`Schedule`.
    drops : sequence of float
        Shares of the steps after the warm-up, each in [0, 1), at which the rate falls.
    gamma : float
        Factor of the rate at each drop.
    """

    drops: tuple[float, ...] = (0.5, 0.75)
    gamma: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        drops = sequence(self.drops)
        drops = (self.drops,) if drops is None else drops
        object.__setattr__(self, "drops", tuple(real(drop, "drops", minimum=0, below=1) for drop in drops))
        object.__setattr__(self, "gamma", real(self.gamma, "gamma", minimum=0))

    def _after_warmup(self, progress: float) -> float:
        return math.prod(self.gamma for drop in self.drops if progress >= drop)


@dataclass(frozen=True)
class CosineSchedule(Schedule):
    """The learning rate falls along half a cosine, to `floor` at the end of the run.

    Parameters
    ----------
    warmup : int or float
        As in :class:`Schedule`.
    floor : float
        Factor that is reached at the end, in [0, 1).

    Notes
    -----
    Loshchilov and Hutter, "SGDR" (2017), eq. 5, without restarts.
    """

    floor: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "floor", real(self.floor, "floor", minimum=0, below=1))

    def _after_warmup(self, progress: float) -> float:
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * progress))


#: The schedules by name.
SCHEDULES: dict[str, type[Schedule]] = {"constant": Schedule, "step": StepSchedule, "cosine": CosineSchedule}


def schedule(name: str = "constant", **options: float | Sequence[float]) -> Schedule:
    """Make a schedule from its name and settings.

    Parameters
    ----------
    name : {"constant", "step", "cosine"}
    **options : float or sequence of float
        The schedule's settings, such as ``warmup=500``.

    Returns
    -------
    Schedule
        Call it as ``schedule(step, total)``, steps from 1 on.

    Raises
    ------
    UnknownNameError
        If there is no such schedule or setting.

    Examples
    --------
    >>> from pyconv import optim
    >>> cosine = optim.schedule("cosine", warmup=2)
    >>> [round(cosine(step, 6), 3) for step in range(1, 7)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """
    made: Any = SCHEDULES[choice(name, "schedule", SCHEDULES)]
    known = [field.name for field in dataclasses.fields(made)]
    for option in options:
        if option not in known:
            raise unknown_name(f"setting of the {name} schedule", option, known)
    return made(**options)
