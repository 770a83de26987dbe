"""The order of the examples: every one once, every window representative, the same for any number of workers."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyconv.errors import InputError, ShapeError
from pyconv.parallel import EpochOrder, check_shares

sizes = st.integers(1, 300)
small = st.integers(1, 9)


def some_labels(n, classes, seed=0):
    return np.random.default_rng(seed).integers(0, classes, n)


@given(n=sizes, classes=small, workers=small, batch_size=small, seed=st.integers(0, 2**32), epoch=st.integers(0, 99))
def test_every_example_is_used_exactly_once(n, classes, workers, batch_size, seed, epoch):
    plan = EpochOrder(some_labels(n, classes), seed=seed, epoch=epoch, workers=workers, batch_size=batch_size)
    batches = [[plan.batch(s, w) for w in range(workers)] for s in range(plan.steps)]
    assert sorted(np.concatenate([b for step in batches for b in step])) == list(range(n))
    for s, step in enumerate(batches):
        counts = [len(b) for b in step]
        assert sum(counts) == plan.count(s)
        assert max(counts) <= batch_size and max(counts) - min(counts) <= 1
        assert [plan.span(s, w)[0] for w in range(workers)] == list(np.cumsum([0, *counts])[:-1])


@given(n=sizes, workers=small, batch_size=small)
def test_workers_together_see_what_one_worker_sees(n, workers, batch_size):
    labels = some_labels(n, 5)
    many = EpochOrder(labels, seed=3, epoch=1, workers=workers, batch_size=batch_size)
    one = EpochOrder(labels, seed=3, epoch=1, workers=1, batch_size=workers * batch_size)
    assert many.steps == one.steps
    for s in range(one.steps):
        np.testing.assert_array_equal(np.concatenate([many.batch(s, w) for w in range(workers)]), one.batch(s))


@given(n=sizes, workers=small, batch_size=small)
def test_no_share_is_smaller_than_the_network_needs(n, workers, batch_size):
    settings = {"seed": 1, "epoch": 0, "workers": workers, "batch_size": batch_size}
    usual = EpochOrder(some_labels(n, 3), **settings)
    shares = [usual.span(s, w) for s in range(usual.steps) for w in range(workers)]
    fits = all(last - first != 1 for first, last in shares)
    try:
        check_shares(n, batch_size, workers, least=2)
    except InputError as error:
        assert not fits and (batch_size < 3 or n < 2)
        advice = re.search(r"take batch_size (\d+)(?: and at most (\d+) worker)?", str(error))
        assert advice or n < 3, error
        if advice:
            check_shares(n, int(advice[1]), int(advice[2] or workers), least=2)
        with pytest.raises(InputError, match="BatchNorm needs"):
            EpochOrder(some_labels(n, 3), **settings, least=2)
        return
    plan = EpochOrder(some_labels(n, 3), **settings, least=2)
    assert plan.steps == usual.steps
    counts = [[len(plan.batch(s, w)) for w in range(workers)] for s in range(plan.steps)]
    assert [sum(step) for step in counts] == [plan.count(s) for s in range(plan.steps)]
    assert 1 not in np.concatenate(counts) and np.max(counts) <= batch_size
    batches = [plan.batch(s, w) for s in range(plan.steps) for w in range(workers)]
    np.testing.assert_array_equal(np.concatenate(batches), plan.order)  # every image once
    if fits:  # what fits is not changed
        assert [plan.span(s, w) for s in range(plan.steps) for w in range(workers)] == shares


@given(classes=st.integers(1, 7), seed=st.integers(0, 1000), window=st.integers(1, 120))
def test_every_window_is_nearly_class_balanced(classes, seed, window):
    labels = some_labels(400, classes, seed)
    order = EpochOrder(labels, seed=seed, epoch=0, workers=1, batch_size=1).order
    share = np.bincount(labels, minlength=classes) / len(labels)
    counts = np.array([np.bincount(labels[order[i : i + window]], minlength=classes) for i in range(401 - window)])
    # A class's examples are equally spaced, to within one place and the rounding of the other classes.
    assert np.abs(counts - share * window).max() <= 1 + classes


def test_seed_and_epoch_change_the_order_and_nothing_else_does():
    labels = some_labels(200, 4)

    def order(seed, epoch, **split):
        return EpochOrder(labels, seed=seed, epoch=epoch, **split).order

    base = order(1, 2, workers=4, batch_size=8)
    np.testing.assert_array_equal(base, order(1, 2, workers=3, batch_size=5))
    assert (base != order(1, 3, workers=4, batch_size=8)).any()
    assert (base != order(2, 2, workers=4, batch_size=8)).any()


def test_bad_arguments_are_named():
    with pytest.raises(ShapeError, match="labels"):
        EpochOrder(np.zeros((3, 2), int), seed=0, epoch=0, workers=1, batch_size=1)
    with pytest.raises(ShapeError, match="float64"):
        EpochOrder(np.zeros(3), seed=0, epoch=0, workers=1, batch_size=1)
    with pytest.raises(InputError, match="empty"):
        EpochOrder(np.zeros(0, int), seed=0, epoch=0, workers=1, batch_size=1)
    with pytest.raises(InputError, match="workers"):
        EpochOrder(np.zeros(3, int), seed=0, epoch=0, workers=0, batch_size=1)
    plan = EpochOrder(np.zeros(3, int), seed=0, epoch=0, workers=2, batch_size=1)
    with pytest.raises(IndexError):
        plan.batch(2, 0)
    with pytest.raises(IndexError):
        plan.batch(0, 2)
