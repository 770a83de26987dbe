"""Values of the wrong kind at the public doors: each is refused by the argument's name, in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pyconv import optim
from pyconv.errors import PyconvError

MASKED = np.ma.array([1.0, 2.0], mask=[False, True], dtype=np.float32)
VECTOR = np.ones(2, np.float32)


def refused(call: Callable[[], Any], words: str) -> None:
    """Check that a call is refused, in one short line that has these words."""
    with pytest.raises(PyconvError) as caught:
        call()
    message = str(caught.value)
    assert words in message
    assert len(message.splitlines()) == 1
    assert len(message) < 400


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"gradient": [1.0, 2.0]}, "gradient must be a vector of NumPy's"),
        ({"gradient": MASKED}, "gradient must be a vector of NumPy's without a mask"),
        ({"flat": VECTOR.astype(">f4"), "gradient": VECTOR.astype(">f4")}, "must all be float32 or all float64"),
        ({"state": None}, "state must be what init() gave, not None"),
        ({"state": {"momentum": None}}, "state['momentum'] must be a vector"),
        ({"state": {"momentum": np.broadcast_to(np.float32(0), 2)}}, "state['momentum'] is read-only"),
        ({"step": "1"}, "step must be an integer, not '1'"),
        ({"step": True}, "step must be an integer, not True"),
        ({"step": 10**400}, "step must be at most"),
        ({"lr": "0.1"}, "lr must be a finite number of at least 0, not '0.1'"),
        ({"lr": 10**400}, "lr must be a finite number of at least 0, not an integer of 1329 bits"),
    ],
)
def test_an_optimiser_takes_vectors_and_numbers(arguments: dict[str, Any], words: str) -> None:
    rule = optim.SGD(0.1, momentum=0.5)
    right: dict[str, Any] = {"flat": VECTOR.copy(), "gradient": VECTOR, "state": rule.init(2), "step": 1, "lr": None}
    rule.update(**right)
    refused(lambda: rule.update(**{**right, **arguments}), words)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: optim.SGD(10**400), "lr must be a finite number of at least 0, not an integer of"),
        (lambda: optim.SGD("0.1"), "lr must be a finite number"),
        (lambda: optim.SGD(True), "lr must be a finite number"),
        (lambda: optim.SGD(0.1, momentum=1j), "momentum must be a finite number"),
        (lambda: optim.SGD(0.1, momentum=0.5, nesterov=1), "nesterov must be True or False, not 1"),
        (lambda: optim.by_name([]), "unknown optimizer []"),
        (lambda: optim.schedule({}), "unknown schedule {}"),
        (lambda: optim.schedule("cosine", warmup=2**64), "warmup must be a finite number of at least 0 and at most"),
        (lambda: optim.schedule("step", drops="0.5"), "drops must be a finite number"),
        (lambda: optim.schedule("cosine")(None, 3), "step must be an integer, not None"),
        (lambda: optim.schedule("cosine", warmup=0.5).warmup_steps([1, 2]), "total must be an integer, not [1, 2]"),
        (lambda: optim.Adam(0.1).init(2, "032"), "dtype must be float32 or float64, not '032'"),
        (lambda: optim.Adam(0.1).init(2**62), "n must be at most"),
    ],
)
def test_settings_of_optimisers_and_schedules(call: Callable[[], Any], words: str) -> None:
    refused(call, words)


def test_a_large_gamma_gives_infinity_and_no_error() -> None:
    assert optim.schedule("step", drops=(0, 0), gamma=1e308)(1, 2) == np.inf
