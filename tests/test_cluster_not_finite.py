"""A number that is not finite ends a run on all ranks in the same step, by the name of its rank, in every split."""

from __future__ import annotations

import numpy as np
import pytest
from cluster_threads import with_sessions
from parallel_runs import data

import pyconv
from pyconv import nn
from pyconv.backends import compiled
from pyconv.cluster.pipeline.stage import Stage
from pyconv.errors import DivergedError
from pyconv.loop import fitting

RANKS, STEP = 3, 5
SPLITS = {
    "none": {"batch_size": 8},
    "filters": {"batch_size": 8, "split": "filters"},
    "rows": {"batch_size": 8, "split": "rows"},
    "gpipe": {"batch_size": 16, "micro_batches": 2, "cut": [2, 4], "pipeline_schedule": "gpipe"},
    "1f1b": {"batch_size": 16, "micro_batches": 2, "cut": [2, 4]},
}


def network():
    layers = [
        nn.Conv2D(6, 3, padding="same", activation="relu"), nn.BatchNorm(), nn.Conv2D(6, 3, padding="same"),
        nn.Flatten(), nn.Dense(9, activation="relu"), nn.Dense(3),
    ]  # fmt: skip
    return nn.Sequential(layers, input_shape=(6, 6, 1), seed=3)


@pytest.fixture
def play(monkeypatch):
    """``play(size, body)``: what `body(session)` gives on each rank, whose session fit() finds."""
    return with_sessions(monkeypatch, fitting)


def fit(play, **settings):
    """The error of each rank, and the number of steps that rank 0 reports."""
    steps = []

    def body(session):
        pyconv.fit(network(), *data(120), progress="off", epochs=3, on_step=lambda step: steps.append(step), **settings)

    return play(RANKS, body), len(steps)


def assert_named(errors, guilty, what):
    for error in errors:
        assert isinstance(error, DivergedError)
        name = f"rank {guilty} on here: " if guilty else ""
        assert f"{name}the {what} is not finite" in str(error)
    assert not guilty or "training diverged: " in str(errors[0])


@pytest.mark.parametrize("guilty", range(RANKS))
@pytest.mark.parametrize("split", SPLITS)
def test_a_gradient_that_is_not_finite_is_named_by_its_rank(play, monkeypatch, split, guilty):
    counts = np.zeros(RANKS, int)

    def spoil(usual):
        def operation(*arrays, **how):
            found = usual(*arrays, **how)
            session = fitting.session()
            if session is not None:
                counts[session.rank] += 1
                if session.rank == guilty and counts[guilty] == 20:
                    (how["out"] if found is None else found)[...] = np.nan
            return found

        return staticmethod(operation)

    for name in ("conv2d_weight_grad", "dense_weight_grad"):
        monkeypatch.setattr(compiled.Serial, name, spoil(getattr(compiled.Serial, name)))
    errors, steps = fit(play, **SPLITS[split])
    assert_named(errors, guilty, "gradient")
    assert 2 < steps < 3 * 15
    assert "in epoch" in str(errors[0])


@pytest.mark.parametrize("guilty", range(RANKS))
@pytest.mark.parametrize("split", ["gpipe", "1f1b"])
def test_the_first_stage_whose_result_is_not_finite_is_named(play, monkeypatch, split, guilty):
    usual, calls = Stage._forward, [0]

    def forward(self, *args):
        found = usual(self, *args)
        if self.stage == guilty:
            calls[0] += 1
            if calls[0] == 2 * STEP:
                return np.full_like(found, np.inf)
        return found

    monkeypatch.setattr(Stage, "_forward", forward)
    errors, steps = fit(play, **SPLITS[split])
    assert_named(errors, guilty, "result")
    assert steps == STEP - 1
    assert f"in epoch 1, step {STEP}" in str(errors[0])
