"""The classes behind `fit` check their arguments too: jobs, shares of an epoch and shared arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pyconv import optim, parallel
from pyconv.errors import InputError, PyconvError, RunError


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("optimizer", "sgd", "must be one of pyconv.optim's"), ("batch_size", 0, "must be at least 1"),
        ("batch_size", 2.5, "must be an integer"), ("epochs", None, "must be an integer"),
        ("seed", -1, "must be at least 0"), ("workers", "auto", "must be an integer"),
        ("threads_per_worker", 0, "must be at least 1"), ("schedule", "cosine", "must be callable"),
        ("options", [4], "must be a mapping"), ("augment", 3, "must be a mapping"),
    ],
)  # fmt: skip
def test_a_job_names_what_is_of_another_kind(name: str, value: Any, words: str) -> None:
    with pytest.raises(InputError, match=f"^{name} {words}"):
        parallel.Job(**{"optimizer": optim.SGD(0.1), "batch_size": 4, "epochs": 1, name: value})


def test_a_jobs_augmentation_is_that_of_fit() -> None:
    job = parallel.Job(optim.SGD(0.1), np.int64(4), 1, augment={"flip": np.True_, "shift": np.int8(2)})
    assert job.augment == {"flip": True, "shift": 2} and job.batch_size == 4
    assert parallel.Job(optim.SGD(0.1), 4, 1, augment={}).augment is None
    with pytest.raises(InputError, match="unknown augmentation 'turn'"):
        parallel.Job(optim.SGD(0.1), 4, 1, augment={"turn": 90})


def test_a_schedule_that_fails_is_named() -> None:
    job = parallel.Job(optim.SGD(0.1), 4, 1, schedule=lambda step, total: 1 / (step - 2))
    with pytest.raises(RunError, match=r"the schedule fails when it is called as schedule\(step, total\): ZeroDiv"):
        job.learning_rate(2, 3)
    for step, steps in (("1", 3), (0, 3), (1, None)):
        with pytest.raises(InputError, match="must be"):
            job.learning_rate(step, steps)


@pytest.mark.parametrize("check", [parallel.check_shares, parallel.smallest_batch])
def test_shares_are_counted_in_integers(check: Any) -> None:
    for numbers in (("7", 3, 1, 2), (7, 0, 1, 2), (7, 3, None, 2), (7, 3, 1, 1.5)):
        with pytest.raises(InputError, match=r"^(examples|batch_size|workers|least) must be"):
            check(*numbers)


@pytest.mark.parametrize("value", [[1, 2], np.array([None]), np.ma.masked_array([1, 2], [True, False]), None])
def test_what_cannot_be_shared(value: Any) -> None:
    with pytest.raises(PyconvError, match="array must be an array without Python objects or a mask, not "):
        parallel.share(value)
