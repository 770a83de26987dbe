"""Where a pass is in the flat vector: the hooks of a training step, and what they may rely on."""

from __future__ import annotations

import numpy as np
import pytest

from pyconv import nn
from pyconv.nn.reach import Reach

LAYERS = {
    "chain": [
        nn.Conv2D(3, 3, padding="same", activation="relu"),
        nn.BatchNorm(),
        nn.MaxPool2D(2),
        nn.SeparableConv2D(4, 3, padding="same"),
        nn.Flatten(),
        nn.Dense(5, activation="relu"),
        nn.Dropout(0.3),
        nn.Dense(3),
    ],
    "branches": [
        nn.Conv2D(3, 1),
        nn.Residual([nn.Conv2D(2, 3, padding="same"), nn.Conv2D(4, 1)], shortcut=[nn.Conv2D(4, 1)]),
        nn.Parallel([[nn.Conv2D(2, 1)], [nn.Residual([nn.Conv2D(4, 3, padding="same")])], []]),
        nn.Flatten(),
        nn.Dense(3),
    ],
}


@pytest.mark.parametrize("name", LAYERS)
def test_what_a_step_leaves_complete_does_not_change_any_more(name, rng):
    model = nn.Sequential(LAYERS[name], input_shape=(6, 6, 2), seed=4)
    x, labels = rng.standard_normal((5, 6, 6, 2)).astype(np.float32), rng.integers(0, 3, 5)
    reach, out, seen = Reach(model), np.full_like(model.flat, np.nan), []
    model.after_backward = lambda step: seen.append((reach.left[step], out.copy()))
    model.loss_and_gradient(x, labels, out=out)
    assert np.isfinite(out).all()
    assert seen[-1][0] == 0
    for start, then in seen:
        np.testing.assert_array_equal(then[start:], out[start:])


@pytest.mark.parametrize("name", LAYERS)
def test_a_step_reads_nothing_behind_its_reach(name, rng):
    """Parameters that are put in place just before a step's forward pass are in time."""
    whole, late = (nn.Sequential(LAYERS[name], input_shape=(6, 6, 2), seed=4) for _ in range(2))
    x, labels = rng.standard_normal((5, 6, 6, 2)).astype(np.float32), rng.integers(0, 3, 5)
    expected, gradient = whole.loss_and_gradient(x, labels)
    values, reach = late.flat.copy(), Reach(late)
    late.flat[...] = np.nan

    def come(step):
        late.flat[: reach.reads[step]] = values[: reach.reads[step]]

    late.before_forward = come
    loss, found = late.loss_and_gradient(x, labels)
    assert loss == expected
    np.testing.assert_array_equal(found, gradient)


def test_hooks_are_called_in_training_steps_only(rng):
    model = nn.Sequential(LAYERS["chain"], input_shape=(6, 6, 2), seed=4)
    calls = []
    model.before_forward = model.after_backward = calls.append
    model.predict(rng.standard_normal((5, 6, 6, 2)).astype(np.float32))
    assert not calls
