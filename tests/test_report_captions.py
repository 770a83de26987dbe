"""The ends of captions, which depend on the records."""

from __future__ import annotations

from pyconv.reporting.captions import range_of_estimates, rare_meetings


def test_the_range_of_estimates_is_that_of_the_records() -> None:
    records = [
        {"case": "small", "median_s": 2.0, "predicted_s": 0.5},
        {"case": "large", "median_s": 10.0, "predicted_s": 8.0},
        {"case": "middle", "median_s": 10.0, "predicted_s": 6.0},
        {"case": "nowhere", "median_s": None, "predicted_s": None},
        {"case": "a peer's", "median_s": 1.0},
    ]
    assert range_of_estimates(records) == ": 0.25 (small) to 0.80 (large) of the measured time."
    assert range_of_estimates(records[3:]) == "."


def test_steps_between_meetings_are_told_for_rules_that_meet_rarely() -> None:
    every = {"sync": (1, 1, 1), "local": (40, 15, 1), "easgd": (4, 4, 4)}
    records = [
        {"column": column, "x": x, "every": steps, "epoch": 60}
        for column, counts in every.items()
        for x, steps in zip((1, 4, 64), counts)
    ]
    assert rare_meetings(records) == (
        " H, the steps of a worker between two meetings: 15 to 1 under local, once in an epoch of 60 steps that the "
        "workers share; 4 under easgd."
    )
    assert rare_meetings([{"column": "local", "x": 4}]) == "", "records of before do not say"
