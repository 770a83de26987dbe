"""Synthetic faces: reproducible, balanced, varied, and too hard for a linear model."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax

from pyconv import datasets
from pyconv.datasets import synthetic
from pyconv.datasets.fer2013 import CLASSES
from pyconv.datasets.synthetic.draw import draw
from pyconv.datasets.synthetic.expressions import ACTIONS, actions
from pyconv.datasets.synthetic.person import person
from pyconv.errors import InputError


def test_shape_and_dtype() -> None:
    x, y = datasets.faces(15, 3)
    assert x.shape == (15, 48, 48, 1)
    assert x.dtype == np.uint8
    assert x.flags.c_contiguous
    assert y.shape == (15,)
    assert y.dtype == np.int64


def test_a_seed_gives_the_same_faces(rng: np.random.Generator) -> None:
    seed = int(rng.integers(2**31))
    n = int(rng.integers(1, 400))
    (x, y), (again, labels) = datasets.faces(n, seed), datasets.faces(n, seed)
    np.testing.assert_array_equal(x, again)
    np.testing.assert_array_equal(y, labels)
    other = datasets.faces(n, seed + 1).x
    assert not (x == other).all(axis=(1, 2, 3)).any()


def test_fewer_faces_are_the_first_of_more(rng: np.random.Generator) -> None:
    many = datasets.faces(600, 5)
    for n in (1, 7, 62, 63, 64, 251, 252, 253, int(rng.integers(1, 600))):
        few = datasets.faces(n, 5)
        np.testing.assert_array_equal(few.x, many.x[:n])
        np.testing.assert_array_equal(few.y, many.y[:n])


def test_expressions_are_balanced_and_mixed() -> None:
    y = datasets.faces(700, 1).y
    assert (np.sort(y.reshape(-1, 7), axis=1) == np.arange(7)).all()
    assert len(np.unique(y.reshape(-1, 7), axis=0)) > 80


def test_no_two_faces_are_alike() -> None:
    data = datasets.load("faces", limit=500, seed=9)
    images = np.concatenate([data.train.x, data.validation.x])
    assert len({image.tobytes() for image in images}) == len(images)


def test_pictures_are_well_exposed() -> None:
    x = datasets.faces(500, 2).x.reshape(500, -1)
    assert x.std(axis=1).min() > 5  # no face is blank
    assert ((x == 0) | (x == 255)).mean() < 0.25
    assert 90 < x.mean() < 160


@pytest.mark.slow
def test_the_embedded_default() -> None:
    data = datasets.load("faces")
    assert data.classes == CLASSES
    assert data.name == "faces"
    assert data.train.x.shape == (synthetic.TRAINING, 48, 48, 1)
    assert np.bincount(data.validation.y).tolist() == [synthetic.VALIDATION // 7] * 7
    some = datasets.load("faces", limit=100)
    np.testing.assert_array_equal(some.train.x, data.train.x[:100])
    np.testing.assert_array_equal(some.validation.x, data.validation.x)
    data.train.x[:] = 0  # a copy: changing it does not change the next
    assert datasets.load("faces").train.x.any()


def test_each_action_moves_something(rng: np.random.Generator) -> None:
    n = 40
    traits = person(n, rng)
    traits["bar"] *= 0
    noise = np.zeros((n, 48, 48), np.float32)
    rest = {name: np.zeros(n, np.float32) for name in ACTIONS}
    # Teeth and square corners show in an open mouth only.
    rest["open"] += 0.1
    calm = draw(traits, rest, noise).astype(int)
    for name in ACTIONS:
        moved = draw(traits, rest | {name: rest[name] + np.float32(0.15)}, noise)
        changed = (np.abs(moved - calm) > 2).sum(axis=(1, 2))
        assert np.median(changed) > 0, name


def test_neutral_faces_rest(rng: np.random.Generator) -> None:
    labels = np.repeat(np.arange(7), 2000)
    drawn = actions(labels, rng)
    assert np.abs(drawn["corner"][labels == CLASSES.index("Neutral")].mean()) < 0.01
    assert drawn["corner"][labels == CLASSES.index("Happy")].mean() > 0.1
    assert drawn["corner"][labels == CLASSES.index("Sad")].mean() < -0.1
    surprise = drawn["open"][labels == CLASSES.index("Surprise")]
    assert surprise.mean() > 0.15
    assert surprise.std() > 0.03  # intensity varies
    assert min(drawn[name].min() for name in ("open", "wrinkle", "press")) >= 0


@pytest.mark.parametrize(("n", "seed"), [(0, 0), (-1, 0), (7, -1)])
def test_refusals(n: int, seed: int) -> None:
    with pytest.raises(InputError, match="at least"):
        datasets.faces(n, seed)


@pytest.mark.slow
def test_a_linear_model_does_not_read_them() -> None:
    """Softmax regression by L-BFGS with the best of several penalties stays far under 70 %."""
    data = datasets.load("faces", limit=3_000)
    mean, std = datasets.normalization(data.train)

    def prepared(x: np.ndarray) -> np.ndarray:
        return ((x.reshape(len(x), -1) - mean) / std).astype(np.float32)

    x, y = prepared(data.train.x), data.train.y
    x_val, y_val = prepared(data.validation.x), data.validation.y
    hot = np.eye(7, dtype=np.float32)[y]

    def loss(flat: np.ndarray, penalty: float) -> tuple[float, np.ndarray]:
        weight = flat.reshape(-1, 7).astype(np.float32)
        log_p = log_softmax(x @ weight, axis=1)
        gradient = x.T @ (np.exp(log_p) - hot) / len(x) + 2 * penalty * weight
        return float(-(log_p * hot).sum() / len(x) + penalty * (weight**2).sum()), gradient.ravel().astype(float)

    accuracies = []
    for penalty in (0.1, 0.03, 0.01):
        weight = minimize(loss, np.zeros(2304 * 7), (penalty,), jac=True, method="L-BFGS-B", options={"maxiter": 60}).x
        accuracies.append(((x_val @ weight.reshape(-1, 7)).argmax(axis=1) == y_val).mean())
    assert 0.2 < max(accuracies) < 0.7
