"""Training images over the ranks of a cluster: each holds its own, and they exchange them between two epochs."""

from __future__ import annotations

import numpy as np
import pytest
from cluster_threads import on_ranks, with_sessions
from parallel_runs import data, small_model

import pyconv
from pyconv import cluster, datasets
from pyconv.cluster import data as sharing
from pyconv.cluster import shards
from pyconv.cluster.shards import Facts, Shard
from pyconv.datasets.rows import Rows
from pyconv.errors import DtypeError, InputError, ShapeError
from pyconv.loop import fitting

pytestmark = pytest.mark.timeout(120)


def _some(rng, n=61, dtype="uint8", shape=(3, 2, 2)):
    x = rng.integers(0, 256, (n, *shape)).astype(dtype)
    return x, rng.integers(0, 3, n)


@pytest.mark.parametrize("how", ["read", "scatter"])
@pytest.mark.parametrize(
    ("size", "n", "dtype"), [(2, 61, "uint8"), (3, 7, "float64"), (4, 50, "float32"), (3, 2, "uint8")]
)
def test_each_rank_has_its_part_and_all_labels(how, size, n, dtype, rng, monkeypatch):
    monkeypatch.setattr(sharing, "PIECE", 40)
    x, y = _some(rng, n, dtype)
    expected = Facts.of(x, y.astype(np.int64))

    def body(session):
        given = (x, y) if session.leads or how == "read" else (None, None)
        shard, labels = sharing.distribute(session, *given, how)
        assert shard.facts == expected
        assert (shard.shape, shard.dtype, len(shard), shard.ndim, shard.size) == (x.shape, x.dtype, n, 4, x.size)
        assert (shard.min(), shard.max()) == (x.min(), x.max())
        np.testing.assert_array_equal(labels, y)
        np.testing.assert_array_equal(shard[shard.held], x[shard.held])
        assert shard[shard.held].dtype == x.dtype
        return shard.held

    held = on_ranks(size, body)
    assert np.concatenate(held).tolist() == list(range(n))


@pytest.mark.parametrize("piece", [1, 100, 1 << 24])
@pytest.mark.parametrize("size", [2, 3, 5])
def test_images_move_to_whoever_is_to_hold_them(size, piece, rng, monkeypatch):
    monkeypatch.setattr(shards, "PIECE", piece)
    x, y = _some(rng, 83)
    owners = [rng.integers(0, size, 83).astype(np.uint16) for _ in range(3)]
    owners.append(np.zeros(83, np.uint16))  # all at one rank
    owners.append(np.sort(owners[0]))
    blocks = np.concatenate([np.full(83 * (r + 1) // size - 83 * r // size, r) for r in range(size)])

    def body(session):
        shard, _ = sharing.distribute(session, x, y, "read")
        for before, owner in zip([blocks, *owners], owners):
            sent = session.world.swapped
            shard.arrange(owner)
            held = np.flatnonzero(owner == session.rank)
            np.testing.assert_array_equal(shard.held, held)
            mixed = np.random.default_rng(1).permutation(held)
            np.testing.assert_array_equal(shard[mixed], x[mixed])
            assert shard.nbytes == x[held].nbytes
            moved = int(((before == session.rank) & (owner != session.rank)).sum())
            assert session.world.swapped - sent == moved * x[0].nbytes, "an image is sent when it moves, and once"
        return True

    assert on_ranks(size, body) == [True] * size


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_extremes_are_those_of_all_images(dtype, rng):
    x, y = rng.integers(0, 256, (30, 4, 3, 1)).astype(dtype), rng.integers(0, 3, 30)

    def body(session):
        mine, _ = sharing.distribute(session, x, y, "read")
        for name, function in (("min", np.min), ("max", np.max)):
            np.testing.assert_array_equal(function(mine), function(x), strict=True)
            np.testing.assert_array_equal(getattr(mine, name)(), function(x), strict=True)
            for options in ({"axis": 0}, {"out": np.empty(())}, {"keepdims": True}, {"initial": 3}):
                word = next(iter(options))
                with pytest.raises(InputError, match=f"^{name} of Shard.* takes no {word}$"):
                    function(mine, **options)
        return len(mine)

    assert on_ranks(2, body) == [30, 30]


def test_what_is_elsewhere_is_refused(rng):
    x, y = _some(rng)

    def body(session):
        shard, _ = sharing.distribute(session, x, y, "read")
        other = np.setdiff1d(np.arange(61), shard.held)[:1]
        for asked in (other, np.array([61]), slice(0, 3), np.ones(3)):
            with pytest.raises(InputError, match="Shard"):
                shard[asked]
        with pytest.raises(InputError, match="is no array"):
            np.asarray(shard)
        assert len(shard[np.array([], np.int64)]) == 0
        return repr(shard)

    assert on_ranks(2, body) == ["Shard(30 of 61 images, uint8 (3, 2, 2))", "Shard(31 of 61 images, uint8 (3, 2, 2))"]


@pytest.mark.parametrize(
    ("spoil", "kind", "message"),
    [
        (lambda x, y: (None, y), InputError, "there are no images or labels"),
        (lambda x, y: (x[..., 0], y), InputError, "must be images of shape"),
        (lambda x, y: (x.astype(np.int16), y), DtypeError, "dtype int16"),
        (lambda x, y: (x, y[1:]), ShapeError, "an integer for each of 61 images"),
        (lambda x, y: (x, y * 0.5), ShapeError, "not float64"),
        (
            lambda x, y: (np.where(np.arange(61)[:, None, None, None] == 7, np.nan, x), y),
            InputError,
            "first in image 7",
        ),
    ],
)
@pytest.mark.parametrize("how", ["read", "scatter"])
def test_bad_data_end_all_ranks_alike(how, spoil, kind, message, rng):
    given = spoil(*_some(rng))
    errors = on_ranks(2, lambda session: sharing.distribute(session, *given, how))
    assert all(isinstance(error, kind) and message in str(error) for error in errors)


def test_no_memory_is_said(rng, monkeypatch):
    monkeypatch.setattr(sharing, "shortage", lambda needed: f"{needed} bytes are too many")
    errors = on_ranks(2, lambda session: sharing.distribute(session, *_some(rng), "read"))
    assert all("372 bytes are too many; or start more ranks" in str(error) for error in errors), errors


def test_one_process_keeps_all(rng):
    x, y = _some(rng)
    assert cluster.shard(x, y)[0] is x
    with pytest.raises(InputError, match="how"):
        cluster.shard(x, y, how="off")


def test_facts_of_rows_are_those_of_their_copy(rng):
    x, y = _some(rng)
    rows = rng.permutation(61)[:40]
    assert Facts.of(Rows(x, rows), y[rows]) == Facts.of(x[rows], y[rows])


@pytest.mark.parametrize("how", ["read", "scatter", "off"])
def test_a_data_set_is_loaded_by_those_who_need_it(how, rng):
    def body(session):
        loaded = []

        def read():
            loaded.append(session.rank)
            return datasets.load("faces", limit=40, seed=2)

        found = sharing.load(session, read, how)
        assert loaded == ([session.rank] if how != "scatter" or session.leads else [])
        assert isinstance(found.train.x, Shard) == (how != "off")
        return found.name, found.classes, found.train.x.shape, len(found.validation.y), found.train.y.tolist()

    whole = datasets.load("faces", limit=40, seed=2)
    results = on_ranks(3, body)
    for rank, (name, classes, shape, validation, labels) in enumerate(results):
        assert (name, classes, shape, labels) == (
            whole.name,
            whole.classes,
            whole.train.x.shape,
            whole.train.y.tolist(),
        )
        assert validation == (len(whole.validation.y) if rank == 0 or how == "off" else 1)


def test_ranks_that_disagree_on_sharing_are_refused():
    errors = on_ranks(2, lambda session: sharing.load(session, None, "off" if session.rank else "scatter"))
    assert all("was given another --shard ('off') than rank 0 on here ('scatter')" in str(error) for error in errors)


# ---- training -------------------------------------------------------------------------------------


def _fit(monkeypatch, size, how, **settings):
    """fit() on ranks, each with its part of the images; history and model, or the error, of each."""
    play = with_sessions(monkeypatch, fitting)

    def body(session):
        model = small_model(norm=True)
        given = data() if session.leads or how == "read" else (None, None)
        x, y = sharing.distribute(session, *given, how)
        del given
        history = pyconv.fit(model, x, y, batch_size=5, progress="off", normalize=True, **{"epochs": 3, **settings})
        return history, model, x.nbytes

    return play(size, body)


def _numbers(history):
    return [(line["train_loss"], line["train_accuracy"], line["val_accuracy"]) for line in history]


@pytest.mark.parametrize(("size", "workers", "update", "how"), [(2, 2, "sync", "scatter"), (3, 1, "local", "read")])
def test_shards_give_the_bits_of_one_machine(size, workers, update, how, monkeypatch, tmp_path):
    settings = {"update": update, "augment": {"flip": True, "shift": 1}, "sample_weight": np.linspace(1, 2, 240)}
    results = _fit(monkeypatch, size, how, workers=workers, validation=data(60), **settings)
    model = small_model(norm=True)
    history = pyconv.fit(
        model, *data(), epochs=3, batch_size=5, progress="off", normalize=True, workers=size * workers,
        validation=data(60), cluster="off", **settings,
    )  # fmt: skip
    for theirs, their_model, held in results:
        assert _numbers(theirs) == _numbers(history)
        np.testing.assert_array_equal(their_model.flat, model.flat)
        np.testing.assert_array_equal(their_model.flat_buffers, model.flat_buffers)
        assert abs(held - data()[0].nbytes / size) < 0.05 * data()[0].nbytes


def test_a_run_goes_on_on_other_shards_and_without(monkeypatch, tmp_path):
    whole = _fit(monkeypatch, 2, "scatter", workers=2)[0]
    _fit(monkeypatch, 4, "read", out=tmp_path / "a", on_step=lambda step: step["step"] == 17, checkpoint_every=0.01)
    # Three ranks share four lanes unevenly: one of them holds half of the images.
    history, model, _ = _fit(monkeypatch, 3, "scatter", out=tmp_path / "a", resume=True)[0]
    assert _numbers(history) == _numbers(whole[0])
    np.testing.assert_array_equal(model.flat, whole[1].flat)


def test_a_run_that_learns_nothing_is_noticed_by_what_rank_0_holds(monkeypatch, caplog):
    _fit(monkeypatch, 2, "scatter", optimizer={"name": "sgd", "lr": 1e-9}, epochs=1)
    assert any("training accuracy" in message and "no better" in message for message in caplog.messages), (
        caplog.messages
    )


def test_a_shard_is_for_the_ranks_that_made_it(monkeypatch):
    def body(session):
        return sharing.distribute(session, *data(), "read")

    x, y = on_ranks(2, body)[0]
    with pytest.raises(InputError, match="one rank's part of the images"):
        pyconv.fit(small_model(), x, y, epochs=1, progress="off", cluster="off")
