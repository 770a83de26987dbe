"""Networks split by rows of the images over the ranks of a cluster, on ranks that are threads."""

from __future__ import annotations

import numpy as np
import pytest
from cluster_threads import fine, on_ranks, with_sessions

import pyconv
from pyconv import nn
from pyconv.cluster.by_rows.layers import OnRows
from pyconv.cluster.by_rows.network import DividedNetwork, divided
from pyconv.cluster.halo import Halo
from pyconv.errors import InputError
from pyconv.loop import fitting

pytestmark = pytest.mark.timeout(120)

SHAPE = (13, 9, 2)


def _layers(kind):
    tail = [nn.Flatten(), nn.Dropout(0.3), nn.Dense(8, activation="relu"), nn.Dense(3)]
    return {
        "plain": [nn.Conv2D(4, 3, padding="same", activation="relu"), nn.Conv2D(5, 5, padding=2), nn.ReLU(), *tail],
        "pools": [
            nn.Conv2D(4, 3, padding="same", activation="relu"), nn.MaxPool2D(2), nn.Conv2D(6, 3, padding=1),
            nn.ReLU(), nn.MaxPool2D(3, stride=2, padding=1), *tail,
        ],
        "odd": [
            nn.Conv2D(4, (4, 3), stride=(2, 1), padding=((2, 1), (1, 1))), nn.LeakyReLU(0.1),
            nn.SeparableConv2D(5, 3, padding="same", activation="relu"), nn.AvgPool2D(2, stride=1), nn.Tanh(), *tail,
        ],
        "wide": [nn.Conv2D(4, 7, padding="same", dilation=(2, 1), groups=2), nn.ReLU6(), nn.AvgPool2D(3), *tail],
        "norm": [nn.Conv2D(4, 3, padding="same"), nn.BatchNorm(), nn.ReLU(), nn.Conv2D(3, 3), *tail],
        "frozen": [nn.BatchNorm(), nn.Conv2D(4, 3, padding=1), nn.BatchNorm(), nn.Conv2D(3, 3), *tail],
    }[kind]  # fmt: skip


KINDS = ("plain", "pools", "odd", "wide", "norm", "frozen")


def _model(kind, dtype="float64", shape=SHAPE):
    model = nn.Sequential(_layers(kind), input_shape=shape, seed=5, dtype=dtype)
    if kind == "frozen":
        model.frozen = ("0", "1")
    return model


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_that_of_the_whole_network(size, kind, rng):
    x, y = rng.integers(0, 256, (7, *SHAPE)).astype(np.uint8), rng.integers(0, 3, 7)
    model = _model(kind)
    model.normalization = nn.Normalization([100.0, 120.0], [50.0, 60.0])
    model.flat[...] += 0.1 * rng.standard_normal(model.flat.size)
    start, buffers = model.flat.copy(), model.flat_buffers.copy()
    loss, gradient = model.loss_and_gradient(x, y, step=3)

    def body(session):
        mine = _model(kind)
        mine.flat[...], mine.flat_buffers[...], mine.normalization = start, buffers, model.normalization
        made = DividedNetwork(mine, session.world)
        made.backend, made.threads = "serial", 1
        out = np.full_like(start, np.nan)
        found, _ = made.loss_and_gradient(x, y, out=out, step=3)
        return found, out, mine.flat_buffers.copy(), made.correct, made.layers_on_rows

    results = fine(on_ranks(size, body))
    for found, out, their_buffers, correct, count in results:
        assert found == pytest.approx(loss, rel=1e-12)
        np.testing.assert_allclose(out, gradient, rtol=0, atol=1e-12 * max(1, np.abs(gradient).max()))
        np.testing.assert_array_equal(out, results[0][1], err_msg="the same bits on all ranks")
        np.testing.assert_allclose(their_buffers, model.flat_buffers, rtol=1e-12)
        assert correct == model.correct
        few = (kind, size) == ("pools", 4)  # three rows are left for four ranks
        assert count == {"plain": 3, "pools": 5 - few, "odd": 5, "wide": 3, "norm": 4, "frozen": 4}[kind]


def test_what_a_rank_lacks_is_its_halo_and_comes_back_as_a_sum(rng):
    have, need = [range(0, 3), range(3, 4), range(4, 9)], [range(0, 5), range(1, 7), range(3, 9)]
    x = rng.standard_normal((2, 9, 4, 3))
    parts = [rng.standard_normal((2, len(rows), 4, 3)) for rows in need]
    total = np.zeros_like(x)
    for rows, part in zip(need, parts):
        total[:, rows.start : rows.stop] += part

    def body(session):
        halo, own = Halo(have, need), have[session.rank]
        coming = halo.begin(session.world, np.ascontiguousarray(x[:, own.start : own.stop]))
        coming.wait()
        wanted = need[session.rank]
        np.testing.assert_array_equal(coming.take(wanted), x[:, wanted.start : wanted.stop])
        out = np.empty((2, len(own), 4, 3))
        halo.give_back(session.world, parts[session.rank], out)
        np.testing.assert_allclose(out, total[:, own.start : own.stop], atol=1e-12)

    fine(on_ranks(3, body))


def test_layers_that_need_no_other_rows_stay_as_they_are():
    def body(session):
        layers, rows, count = divided(_model("pools", shape=(16, 9, 2)), session.world)
        return [isinstance(layer, OnRows) for layer in layers], rows, count

    (first, rows, count), (second, others, _) = fine(on_ranks(2, body))
    assert first == second == [True, False, True, False, True, True, False, False, False]
    assert (rows, others, count) == (range(0, 8), range(8, 16), 5)


def test_small_images_come_together_early():
    """After two pools there are three rows, for four ranks."""
    layers = [nn.MaxPool2D(2), nn.MaxPool2D(2), nn.Conv2D(2, 3, padding="same"), nn.Flatten(), nn.Dense(3)]
    model = nn.Sequential(layers, input_shape=SHAPE, seed=0)
    counts = fine(on_ranks(4, lambda session: divided(model, session.world)[2]))
    assert counts == [1, 1, 1, 1] or counts == [2, 2, 2, 2]
    whole = fine(on_ranks(4, lambda session: divided(model, session.world)[0]))[0]
    assert sum(isinstance(layer, OnRows) and layer.whole for layer in whole) == 1


# ---- training -------------------------------------------------------------------------------------


def _data(rng, n=90):
    y = rng.integers(0, 3, n)
    x = rng.standard_normal((n, *SHAPE)).astype(np.float32)
    x[np.arange(n), 4 * y, y] += 3
    return x, y


def _fit(monkeypatch, size, make, data, **settings):
    play = with_sessions(monkeypatch, fitting)

    def body(session):
        model = make()
        given = {"epochs": 2, "batch_size": 16, "progress": "off", "normalize": True, "split": "rows", **settings}
        return pyconv.fit(model, *data, **given), model

    return play(size, body)


def _alone(make, data, **settings):
    model = make()
    given = {"epochs": 2, "batch_size": 16, "progress": "off", "normalize": True, "cluster": "off", **settings}
    return pyconv.fit(model, *data, **given), model


@pytest.mark.parametrize(("size", "kind"), [(2, "pools"), (3, "odd"), (4, "norm")])
def test_ranks_train_as_one_process_does(size, kind, monkeypatch, rng):
    data, validation = _data(rng), _data(rng, 30)
    settings = {"optimizer": "adam", "validation": validation, "augment": {"flip": True}, "clip_norm": 2.0}
    results = _fit(monkeypatch, size, lambda: _model(kind), data, **settings)
    history, model = _alone(lambda: _model(kind), data, **settings)
    for theirs, their_model in fine(results):
        for line, other in zip(theirs, history, strict=True):
            assert line["train_loss"] == pytest.approx(other["train_loss"], rel=1e-7)
            assert line["val_accuracy"] == other["val_accuracy"]
        np.testing.assert_allclose(their_model.flat, model.flat, rtol=0, atol=1e-7)
        np.testing.assert_array_equal(their_model.flat, results[0][1].flat)


def test_a_run_goes_on_to_the_same_bits(monkeypatch, tmp_path, rng):
    data = _data(rng)
    make = lambda: _model("pools", "float32")  # noqa: E731
    whole = fine(_fit(monkeypatch, 2, make, data, epochs=3))[0]

    def after(step):
        if step["step"] == 8:
            raise pyconv.StopTraining

    fine(_fit(monkeypatch, 2, make, data, epochs=3, out=tmp_path / "a", on_step=after))
    _, model = fine(_fit(monkeypatch, 2, make, data, epochs=3, out=tmp_path / "a", resume=True, split=None))[0]
    np.testing.assert_array_equal(model.flat, whole[1].flat)


def _vectors():
    return nn.Sequential([nn.Dense(3)], input_shape=(9,))


def _branches():
    inner = [nn.Residual([nn.Conv2D(2, 3, padding="same")]), nn.Flatten(), nn.Dense(3)]
    return nn.Sequential(inner, input_shape=SHAPE)


@pytest.mark.parametrize(
    ("make", "size", "settings", "message"),
    [
        (lambda: _model("plain"), 14, {}, "takes images of 13 rows, and there are 14 ranks"),
        (_branches, 2, {}, r"layer 0 (Residual) holds other layers"),
        (lambda: _model("plain"), 2, {"workers": 2}, "one worker, not 2"),
        (lambda: _model("plain"), 2, {"micro_batches": 3}, "micro-batches"),
    ],
)
def test_what_cannot_be_split_is_refused(make, size, settings, message, monkeypatch, tmp_path, rng):
    errors = _fit(monkeypatch, size, make, _data(rng, 60), out=tmp_path / "run", **settings)
    assert all(isinstance(error, InputError) and message in str(error) for error in errors), errors
    assert not (tmp_path / "run").exists()
