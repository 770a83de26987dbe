"""Networks split by filters and units over the ranks of a cluster, on ranks that are threads."""

from __future__ import annotations

import numpy as np
import pytest
from cluster_threads import ThreadWorld, on_ranks, with_sessions
from parallel_runs import data, small_model

import pyconv
from pyconv import nn
from pyconv.backends import get
from pyconv.cluster.filters import backend as split_backend
from pyconv.cluster.filters.parts import Parameters, shares
from pyconv.errors import InputError
from pyconv.loop import fitting
from pyconv.shapes import conv_geometry, pool_geometry

pytestmark = pytest.mark.timeout(120)


def _joint(size, body):
    """`body(ops, rank)` on each rank, with a backend whose operations all compute together."""

    def run(session):
        group = split_backend.Group(session.world)
        with group.together():
            return body(split_backend.split_by_filters(get("serial"), group), session.rank)

    results = on_ranks(size, run)
    for each in results:
        if isinstance(each, BaseException):
            raise each
    return results


# ---- operations -----------------------------------------------------------------------------------


def test_every_filter_is_some_ranks_and_groups_stay_whole():
    for filters, groups, ranks in [(7, 1, 3), (2, 1, 4), (12, 4, 3), (6, 6, 4), (8, 2, 4)]:
        parts = shares(filters, groups, ranks)
        assert [i for part in parts for i in range(part.start, part.stop)] == list(range(filters))
        assert groups == 1 or all(part.start % (filters // groups) == 0 for part in parts)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_a_convolution_is_that_of_one_process(size, dtype, rng):
    for _ in range(8):
        groups = int(rng.choice([1, 1, 2, 3]))
        c, k = groups * int(rng.integers(1, 4)), groups * int(rng.integers(1, 4))
        stride, kernel = int(rng.integers(1, 3)), int(rng.integers(1, 4))
        g = conv_geometry((2, 9, 8, c), (kernel, kernel, c // groups, k), stride=stride, padding="same", groups=groups)
        x, w, b, e = (
            rng.standard_normal(shape).astype(dtype) for shape in (g.input_shape, g.weight_shape, (k,), g.output_shape)
        )
        pg, ops = pool_geometry(g.output_shape, 2), get("serial")
        places = np.empty(pg.output_shape, np.uint8)
        pooled = ops.conv2d_pool(x, w, b, g, pg, activation="relu", algorithm="naive", indices=places)

        def body(split, rank, g=g, x=x, w=w, b=b, e=e, pg=pg, pooled=pooled, places=places):
            how = {"algorithm": "naive"}
            y = split.conv2d(x, w, b, g, activation="relu", **how)
            gx = split.conv2d_input_grad(e, w, g, **how)
            gw = split.conv2d_weight_grad(x, e, g, **how)
            found = np.empty_like(places)
            np.testing.assert_array_equal(
                split.conv2d_pool(x, w, b, g, pg, activation="relu", indices=found, **how), pooled
            )
            np.testing.assert_array_equal(found, places)
            assert split.conv2d_pool_weight_grad(x, e, found, y, g, pg) is None
            return y, gx, gw

        results = _joint(size, body)
        y, gx = ops.conv2d(x, w, b, g, activation="relu", algorithm="naive"), ops.conv2d_input_grad(e, w, g)
        gw = ops.conv2d_weight_grad(x, e, g)
        small = 1e-4 if dtype == "float32" else 1e-12
        for rank, (mine, mine_x, mine_w) in enumerate(results):
            np.testing.assert_array_equal(mine, y)
            np.testing.assert_allclose(mine_x, gx, rtol=0, atol=small * max(1, np.abs(gx).max()))
            np.testing.assert_array_equal(mine_x, results[0][1], err_msg="the same bits on all ranks")
            part = shares(k, groups, size)[rank]
            np.testing.assert_allclose(mine_w[..., part], gw[..., part], rtol=0, atol=small * max(1, np.abs(gw).max()))
            rest = np.ones(k, bool)
            rest[part] = False
            assert not mine_w[..., rest].any()


@pytest.mark.parametrize("size", [2, 3])
def test_a_dense_layer_is_that_of_one_process(size, rng):
    for units in (1, 5, 12):
        x, w, b, e = (rng.standard_normal(shape) for shape in ((6, 10), (10, units), (units,), (6, units)))
        results = _joint(
            size,
            lambda split, _, x=x, w=w, b=b, e=e: (
                split.dense(x, w, b, activation="relu"), split.dense_input_grad(e, w), split.dense_weight_grad(x, e),
            ),
        )  # fmt: skip
        for rank, (y, gx, gw) in enumerate(results):
            np.testing.assert_allclose(y, np.maximum(x @ w + b, 0), atol=1e-12)
            np.testing.assert_allclose(gx, e @ w.T, atol=1e-12)
            part = shares(units, 1, size)[rank]
            np.testing.assert_allclose(gw[:, part], (x.T @ e)[:, part], atol=1e-12)


def test_apart_the_backend_is_the_one_that_it_was_made_of(rng):
    group = split_backend.Group(None)
    split = split_backend.split_by_filters(get("multicore"), group)
    x, w = rng.standard_normal((2, 6, 6, 3)), rng.standard_normal((3, 3, 3, 4))
    g = conv_geometry(x.shape, w.shape)
    np.testing.assert_array_equal(split.conv2d(x, w, None, g), get("multicore").conv2d(x, w, None, g))
    assert (split.name, split.many_threads, split.algorithms) == ("multicore", True, get("multicore").algorithms)
    with pytest.raises(InputError, match="backend reference: take multicore or serial"):
        split_backend.split_by_filters(get("reference"), group)


def test_all_split_weights_are_some_ranks_and_nothing_else():
    layers = [
        nn.Conv2D(6, 3, padding="same"), nn.BatchNorm(), nn.Residual([nn.Conv2D(6, 3, padding="same", groups=2)]),
        nn.SeparableConv2D(5, 3), nn.Flatten(), nn.Dense(4),
    ]  # fmt: skip
    model = nn.Sequential(layers, input_shape=(8, 8, 2), seed=0)
    own = [Parameters(model, 3).of(rank) for rank in range(3)]
    together = np.concatenate(own)
    assert len(set(together.tolist())) == len(together)
    names = np.concatenate([np.full(view.size, name.rpartition(".")[2]) for name, view in model.parameters.items()])
    assert set(names[together]) == {"weight", "depthwise", "pointwise"}
    assert set(np.delete(names, together)) == {"bias", "gamma", "beta"}


# ---- training -------------------------------------------------------------------------------------


def _fit(monkeypatch, size, make, **settings):
    """fit() on ranks; history and model, or the error, of each."""
    play = with_sessions(monkeypatch, fitting)

    def body(session):
        model = make()
        given = {"epochs": 2, "batch_size": 16, "progress": "off", "normalize": True, "split": "filters", **settings}
        images = given.pop("data", None) or data()
        return pyconv.fit(model, *images, **given), model

    return play(size, body)


def _alone(make, **settings):
    model = make()
    given = {"epochs": 2, "batch_size": 16, "progress": "off", "normalize": True, "cluster": "off", **settings}
    return pyconv.fit(model, *data(), **given), model


def _wide(dtype="float64"):
    layers = [
        nn.Conv2D(5, 3, padding="same", activation="relu"), nn.MaxPool2D(2), nn.BatchNorm(),
        nn.Residual([nn.Conv2D(5, 3, padding="same"), nn.ReLU()]), nn.SeparableConv2D(6, 3, activation="relu"),
        nn.Dropout(0.2), nn.Flatten(), nn.Dense(7, activation="relu"), nn.Dense(3),
    ]  # fmt: skip
    return nn.Sequential(layers, input_shape=data()[0].shape[1:], seed=3, dtype=dtype)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_ranks_train_as_one_process_does(size, optimizer, monkeypatch):
    settings = {"optimizer": optimizer, "validation": data(60), "augment": {"flip": True}}
    results = _fit(monkeypatch, size, _wide, **settings)
    history, model = _alone(_wide, **settings)
    for theirs, their_model in results:
        for line, other in zip(theirs, history, strict=True):
            assert line["train_loss"] == pytest.approx(other["train_loss"], rel=1e-7)
            assert line["val_accuracy"] == other["val_accuracy"]
        np.testing.assert_allclose(their_model.flat, model.flat, rtol=0, atol=1e-7)
        np.testing.assert_array_equal(their_model.flat, results[0][1].flat)
        np.testing.assert_array_equal(their_model.flat_buffers, results[0][1].flat_buffers)
    assert results[0][0][0]["workers"] == 1


def test_two_runs_have_the_same_bits_and_float32_learns(monkeypatch):
    make = lambda: small_model(norm=True)  # noqa: E731
    one, two = (_fit(monkeypatch, 2, make, optimizer="sgd", epochs=3)[0] for _ in range(2))
    np.testing.assert_array_equal(one[1].flat, two[1].flat)
    history, _ = _alone(make, optimizer="sgd", epochs=3)
    assert one[0][-1]["train_loss"] == pytest.approx(history[-1]["train_loss"], rel=0.05)


def test_a_run_goes_on_to_the_same_bits_and_on_one_process(monkeypatch, tmp_path):
    whole = _fit(monkeypatch, 2, _wide, epochs=3, optimizer="adam")[0]
    stop = pyconv.StopTraining
    for folder in ("a", "b"):

        def after(step):
            if step["step"] == 20:
                raise stop

        _fit(monkeypatch, 2, _wide, epochs=3, optimizer="adam", out=tmp_path / folder, on_step=after)
    # As it was split: "split" stands in config.toml.
    history, model = _fit(
        monkeypatch, 2, _wide, epochs=3, optimizer="adam", out=tmp_path / "a", resume=True, split=None
    )[0]
    np.testing.assert_array_equal(model.flat, whole[1].flat)
    assert [line["train_loss"] for line in history] == [line["train_loss"] for line in whole[0]]
    _, alone = _alone(_wide, epochs=3, optimizer="adam", out=tmp_path / "b", resume=True)
    np.testing.assert_allclose(alone.flat, whole[1].flat, rtol=0, atol=1e-7)


def test_a_step_sends_activations_and_no_gradients_of_weights(monkeypatch):
    sent = []
    swap = ThreadWorld.swap

    def noted(self, sends, receives):
        sent.extend(array.nbytes for _, array in sends)
        return swap(self, sends, receives)

    monkeypatch.setattr(ThreadWorld, "swap", noted)
    make = lambda: nn.Sequential([nn.Flatten(), nn.Dense(400), nn.Dense(3)], input_shape=data()[0].shape[1:])  # noqa: E731
    _fit(monkeypatch, 2, make, epochs=1)
    weights = make().parameters["1.weight"].nbytes
    large = [size for size in sent if size > weights // 4]
    # Once after the epoch, perhaps with the optimizer's state, and the result at the end.
    assert len(large) <= 6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "columns"}, "split"),
        ({"workers": 2}, "one worker, not 2"),
        ({"clip_norm": 1.0}, "clip_norm needs the whole gradient"),
        ({"backend": "reference"}, "backend reference"),
        ({"workers": "auto", "clip_norm": 2.0}, "clip_norm"),
        ({"pipeline_stages": 2}, "do not go together"),
        ({"micro_batches": 2}, "micro-batches"),
        ({"update": "ssp"}, "update ssp changes nothing"),
        ({"update": "local", "split": "rows"}, "update local changes nothing"),
    ],
)
def test_what_cannot_be_split_is_refused(settings, message, monkeypatch, tmp_path):
    errors = _fit(monkeypatch, 2, small_model, **settings, out=tmp_path / "run")
    assert all(isinstance(error, InputError) and message in str(error) for error in errors), errors
    assert not (tmp_path / "run").exists()


def test_one_process_cannot_be_split():
    with pytest.raises(InputError, match="this is one process"):
        _alone(small_model, split="filters")


def test_ranks_that_split_differently_are_refused(monkeypatch):
    play = with_sessions(monkeypatch, fitting)

    def body(session):
        pyconv.fit(small_model(), *data(), epochs=1, progress="off", split="filters" if session.rank else None)

    errors = play(2, body)
    assert all(isinstance(error, InputError) for error in errors)
