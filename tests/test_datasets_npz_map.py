"""Large arrays of an ``.npz`` that are stored as they are: mapped, with the numbers that reading gives."""

from __future__ import annotations

import numpy as np
import pytest

import pyconv
from pyconv import datasets, nn
from pyconv.datasets import npz_map
from pyconv.datasets.rows import Rows
from pyconv.errors import DataError


@pytest.fixture
def everything_is_large(monkeypatch):
    monkeypatch.setattr(npz_map, "LEAST", 0)


def _arrays(rng, dtype, n=70):
    x = rng.integers(0, 256, (n, 5, 4, 1)).astype(dtype)
    return {"x": x, "y": np.arange(n) % 3}


def _root(x):
    """The map behind some images, or None."""
    x = x.array if isinstance(x, Rows) else x
    while isinstance(x, np.ndarray) and not isinstance(x, np.memmap):
        x = x.base
    return x


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("others", [False, True])
@pytest.mark.parametrize("prefix", ["", "a", "ab", "abc"])
def test_what_is_mapped_is_what_would_be_read(dtype, others, prefix, tmp_path, rng, monkeypatch):
    arrays = _arrays(rng, dtype)
    if others:
        arrays |= {"x_val": arrays["x"][:9].copy(), "y_val": arrays["y"][:9], "classes": np.array(["a", "b", "c"])}
    # What stands before an array moves it, to odd addresses too.
    np.savez(tmp_path / "d.npz", **({f"{prefix}": np.zeros(3)} if prefix else {}), **arrays)
    read = datasets.load(tmp_path / "d.npz", seed=1)
    monkeypatch.setattr(npz_map, "LEAST", 0)
    mapped = datasets.load(tmp_path / "d.npz", seed=1)
    assert _root(read.train.x) is None
    assert isinstance(_root(mapped.train.x), np.memmap)
    for one, other in ((read.train, mapped.train), (read.validation, mapped.validation)):
        assert other.x.dtype == dtype and other.x.shape == one.x.shape
        np.testing.assert_array_equal(np.asarray(other.x[:]), one.x)
        np.testing.assert_array_equal(other.y, one.y)
        assert other.x[:5].flags.aligned
    assert read.classes == mapped.classes


@pytest.mark.usefixtures("everything_is_large")
@pytest.mark.parametrize(
    ("save", "change"),
    [
        (np.savez_compressed, lambda x: x),
        (np.savez, lambda x: x.astype(np.float64)),
        (np.savez, lambda x: x.astype(np.int32)),
        (np.savez, lambda x: x.astype(">f4")),
        (np.savez, np.asfortranarray),
    ],
)
def test_what_cannot_be_mapped_is_read(save, change, tmp_path, rng):
    arrays = _arrays(rng, "uint8")
    save(tmp_path / "d.npz", x=change(arrays["x"]), y=arrays["y"])
    found = datasets.load(tmp_path / "d.npz")
    assert _root(found.train.x) is None
    assert len(found.train.x) + len(found.validation.x) == 70


@pytest.mark.usefixtures("everything_is_large")
def test_damage_is_noticed(tmp_path, rng):
    np.savez(tmp_path / "d.npz", **_arrays(rng, "uint8"))
    data = bytearray((tmp_path / "d.npz").read_bytes())
    place = data.index(b"\x93NUMPY") + 300 + int(rng.integers(0, 1000))
    data[place] ^= 1
    (tmp_path / "d.npz").write_bytes(data)
    with pytest.raises(DataError, match="array 'x' is corrupt or truncated"):
        datasets.load(tmp_path / "d.npz")


@pytest.mark.usefixtures("everything_is_large")
def test_a_pixel_that_is_not_finite_is_named(tmp_path, rng):
    arrays = _arrays(rng, "float32")
    arrays["x"][33, 2, 2] = np.nan
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(DataError, match=r"x, row 33: pixel value nan"):
        datasets.load(tmp_path / "d.npz")


@pytest.mark.covering("workers", most=1)
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_training_gives_the_same_bits(workers, dtype, tmp_path, rng, monkeypatch):
    np.savez(tmp_path / "d.npz", **_arrays(rng, dtype))
    results = []
    for least in (npz_map.LEAST, 0):
        monkeypatch.setattr(npz_map, "LEAST", least)
        data = datasets.load(tmp_path / "d.npz", limit=50)
        model = nn.Sequential([nn.Conv2D(3, 3), nn.Flatten(), nn.Dense(3)], input_shape=(5, 4, 1), seed=2)
        history = pyconv.fit(
            model, *data.train, validation=data.validation, epochs=2, batch_size=5, workers=workers, progress="off"
        )
        results.append((model.flat.tobytes(), [line["val_loss"] for line in history]))
    assert results[0] == results[1]
