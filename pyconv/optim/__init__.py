"""Optimizers, which turn a gradient into a step of a flat vector; and learning-rate schedules.

Each follows PyTorch's optimizer of the same name, step by step; :mod:`.table` lists them.
"""

from __future__ import annotations

import dataclasses

from pyconv.errors import unknown_name
from pyconv.values import choice

from .adadelta import Adadelta
from .adagrad import Adagrad
from .adam import Adam, AdamW
from .adamax import AdaMax
from .base import DeviceStep, Optimizer
from .schedules import SCHEDULES, CosineSchedule, Schedule, StepSchedule, schedule
from .sgd import SGD
from .table import OPTIMIZERS

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "SGD",
    "AdaMax",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "CosineSchedule",
    "DeviceStep",
    "Optimizer",
    "Schedule",
    "StepSchedule",
    "by_name",
    "schedule",
]


def by_name(name: str, **options: float) -> Optimizer:
    """Make an optimizer from its name and settings.

    Parameters
    ----------
    name : {"sgd", "adagrad", "adadelta", "adam", "adamw", "adamax"}
        In upper or lower case.
    **options : float or bool
        The optimizer's settings, such as ``lr=0.01``; those left out have their defaults.

    Returns
    -------
    Optimizer

    Raises
    ------
    UnknownNameError
        If there is no such optimizer or setting; the message lists the known ones.
    InputError
        If a setting has an impossible value.

    Examples
    --------
    >>> from pyconv import optim
    >>> optim.by_name("sgd", lr=0.1, momentum=0.9)
    SGD(lr=0.1, momentum=0.9, nesterov=False, weight_decay=0.0)
    """
    key = choice(name.lower() if isinstance(name, str) else name, "optimizer", OPTIMIZERS)
    known = [field.name for field in dataclasses.fields(OPTIMIZERS[key])]
    for option in options:
        if option not in known:
            raise unknown_name(f"setting of {OPTIMIZERS[key].__name__}", option, known)
    return OPTIMIZERS[key](**options)
