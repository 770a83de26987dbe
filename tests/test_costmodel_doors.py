"""The cost model's arguments are checked before anything is measured; the error names the argument."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pyconv import costmodel, nn
from pyconv.errors import InputError, UnknownNameError

FIT = costmodel.Fit(1e-9, 1e-9, 2e-9, "s/operation", 5)
RATES = {"serial": {"direct": FIT}}
MACHINE = costmodel.Calibration(RATES, RATES, FIT, FIT, FIT, FIT, 2, {"serial": 0.0})
MODEL = nn.Sequential([nn.Conv2D(2, 3), nn.Flatten(), nn.Dense(3)], (6, 6, 1))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", "fer"), ("model", nn.Sequential), ("calibration", "calibration.json"), ("calibration", costmodel),
        ("batch", "64"), ("batch", [64]),
    ],
)  # fmt: skip
def test_predictions_and_advice_refuse_what_is_of_another_kind(name: str, value: Any) -> None:
    given = {"model": MODEL, "calibration": MACHINE, "batch": 4, "backend": "serial", name: value}
    with pytest.raises(InputError, match=f"^{name} must be a"):
        costmodel.predict(**given, measure=False)
    with pytest.raises(InputError, match=f"^{name} must be a"):
        costmodel.advise(**given, seconds=0)


def test_flags_are_flags_and_numbers_are_numbers() -> None:
    how = {"calibration": MACHINE, "backend": "serial"}
    with pytest.raises(InputError, match="measure must be True or False, not 1"):
        costmodel.predict(MODEL, measure=1, **how)
    with pytest.raises(InputError, match="shared must be True or False, not an array"):
        costmodel.advise(MODEL, shared=np.zeros(2), **how)
    with pytest.raises(InputError, match="seconds must be a finite number of at least 0"):
        costmodel.advise(MODEL, seconds=-1, **how)
    with pytest.raises(InputError, match="messages must be True or False"):
        costmodel.calibrate("serial", messages="no")
    for bad in ({"batch": 0}, {"threads": 0}, {"threads": "all"}, {"data": -1}, {"seconds": "long"}):
        with pytest.raises(InputError, match=f"^{next(iter(bad))} must be"):
            costmodel.measure(MODEL, **{"batch": 2, **bad})


def test_numpys_numbers_are_numbers() -> None:
    right = costmodel.predict(MODEL, 4, 2, gradient_s=2.0, calibration=MACHINE, backend="serial")
    given = {"batch": np.int8(4), "workers": np.array(2), "gradient_s": np.array(2, np.uint32)}
    assert costmodel.predict(MODEL, **given, calibration=MACHINE, backend="serial") == right


def test_a_backend_that_was_not_calibrated_is_named() -> None:
    for model in (MODEL, nn.Sequential([nn.Flatten(), nn.Dense(3)], (6, 6, 1))):
        with pytest.raises(UnknownNameError, match="unknown calibrated backend 'reference'"):
            costmodel.predict(model, calibration=MACHINE, backend="reference", measure=False)
    only = costmodel.Calibration({"serial": {"winograd": FIT}}, {}, FIT, FIT, FIT, FIT, 2, {})
    assert costmodel.predict(MODEL, calibration=only, backend="serial", measure=False).epoch_s > 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("t_c", [FIT]), ("t_c", {"serial": FIT}), ("t_c", {"serial": {"direct": 1e-9}}), ("start_up", {1: {}}),
        ("t_s", 1e-9), ("t_n", None), ("cpus", 0), ("parallel_share", {"serial": 2}), ("slowdown", 0),
    ],
)  # fmt: skip
def test_a_calibration_of_other_kinds_is_refused(name: str, value: Any) -> None:
    fits = dict.fromkeys(("t_s", "t_b", "t_u", "t_copy"), FIT)
    fields = {"t_c": RATES, "start_up": RATES, **fits, "cpus": 2, "parallel_share": {}}
    with pytest.raises(InputError, match=rf"^{name}\b.* must"):
        costmodel.Calibration(**{**fields, name: value})


def test_curves_are_of_numbers_and_bend_where_results_do() -> None:
    cluster = costmodel.Cluster(0.01, 1e6)
    with pytest.raises(InputError, match="workers must be a list of numbers of workers, not 4"):
        costmodel.curve(cluster, "sync", 4)
    with pytest.raises(InputError, match="points must be a list of results"):
        costmodel.bend(None)
    with pytest.raises(InputError, match=r"points must be a list of results of simulate\(\), and one of them is 3"):
        costmodel.bend([3])
    with pytest.raises(InputError, match="share must be a finite number"):
        costmodel.bend([], share="half")


def test_times_beyond_the_floats_are_infinite() -> None:
    found = costmodel.cost("sync", workers=3, parameters=1, itemsize=4, t_s=1e-5, t_b=1e-9, t_u=1e308)
    assert found.busy_s == float("inf")
