"""What all sources share: names, hold-out, limit and statistics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_files import images_of, labels_of, refused
from hypothesis import given
from hypothesis import strategies as st

from pyconv import datasets
from pyconv.datasets.split import hold_out, share_out, subset
from pyconv.errors import DataError, InputError, UnknownNameError

LABELS = st.lists(st.integers(0, 6), min_size=2, max_size=300).map(np.array)


@pytest.fixture
def archive(tmp_path: Path, rng: np.random.Generator) -> Path:
    y = labels_of(rng, 200, 5)
    np.savez(tmp_path / "a.npz", x=images_of(rng, 200, 4, 4), y=y)
    return tmp_path / "a.npz"


# Names and paths


def test_missing_paths(tmp_path: Path) -> None:
    for name in ("none.csv", "none.npz", "none", "no/such/folder"):
        refused(tmp_path / name, tmp_path / name, "no such file or folder", error=DataError)


def test_unknown_name_lists_the_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused("facse", "'facse'", "did you mean 'faces'", "known: faces", ".npz", error=UnknownNameError)
    refused("", "known: faces", error=UnknownNameError)


@pytest.mark.parametrize("name", ["a.txt", "a.hdf5", "fer2013.tar.gz", "a.png"])
def test_other_files(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"something")
    refused(tmp_path / name, tmp_path / name, "not a form of data", ".csv", ".npz", error=DataError)


@pytest.mark.parametrize("name", ["a.csv", "a.npz"])
def test_unreadable_file(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / name
    path.write_bytes(b"something")

    def deny(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", deny)
    refused(path, path, "permission denied", error=DataError)


def test_a_folder_called_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.npz").mkdir()
    refused(tmp_path / "a.npz", "no class folders", error=DataError)


# Hold-out and limit


@given(labels=LABELS, fraction=st.floats(0.01, 0.99), seed=st.integers(0, 2**32))
def test_hold_out(labels: np.ndarray, fraction: float, seed: int) -> None:
    train, held_out = hold_out(labels, fraction, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, held_out])), np.arange(len(labels)))
    assert (np.diff(train) > 0).all()
    assert (np.diff(held_out) > 0).all()
    assert set(labels[train]) == set(labels)  # every class stays in training
    for label in np.unique(labels):
        movable = (labels == label).sum() - 1
        share = len(held_out) * movable / max(len(labels) - len(np.unique(labels)), 1)
        assert abs((labels[held_out] == label).sum() - share) < 1
    again = hold_out(labels, fraction, seed)
    np.testing.assert_array_equal(held_out, again[1])


@given(labels=LABELS, size=st.integers(1, 400), seed=st.integers(0, 2**32))
def test_subset(labels: np.ndarray, size: int, seed: int) -> None:
    classes, counts = np.unique(labels, return_counts=True)
    if size < min(len(classes), len(labels)):
        with pytest.raises(InputError, match=f"limit {size} is too small for {len(classes)} classes"):
            subset(labels, size, seed)
        return
    kept = subset(labels, size, seed)
    assert len(kept) == min(size, len(labels))
    assert (np.diff(kept) > 0).all()
    assert set(labels[kept]) == set(classes)
    if size < len(labels):
        share = 1 + (size - len(classes)) * (counts - 1) / max(len(labels) - len(classes), 1)
        assert (np.abs(np.unique(labels[kept], return_counts=True)[1] - share) < 1).all()


@given(counts=st.lists(st.integers(0, 10**6), min_size=1, max_size=20), data=st.data())
def test_share_out(counts: list[int], data: st.DataObject) -> None:
    total = data.draw(st.integers(0, sum(counts)))
    places = share_out(total, np.array(counts))
    assert places.sum() == total
    assert (places >= 0).all()
    assert (places <= counts).all()


def test_limit_keeps_the_validation_split(archive: Path) -> None:
    whole = datasets.load(archive)
    some = datasets.load(archive, limit=50)
    assert len(whole.train.y) == 180
    assert len(some.train.y) == 50
    np.testing.assert_array_equal(some.validation.x, whole.validation.x)
    assert {x.tobytes() for x in some.train.x} <= {x.tobytes() for x in whole.train.x}
    assert len(datasets.load(archive, limit=10**9).train.y) == 180


def test_seed_decides_the_split(archive: Path) -> None:
    one, same, other = (datasets.load(archive, seed=seed).validation.x for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


@pytest.mark.parametrize("source", [None, 3, ["faces"]])
def test_a_source_that_is_no_name(source: object) -> None:
    with pytest.raises(InputError, match="must be the name of a data set or a path"):
        datasets.load(source)  # type: ignore[arg-type]


def test_options_out_of_range(archive: Path) -> None:
    refused(archive, "limit must be at least 1", limit=0)
    refused(archive, "limit 4 is too small for 5 classes", limit=4)
    for fraction in (0, 1, -0.5, float("nan")):
        refused(archive, "validation_fraction", validation_fraction=fraction)
    refused("faces", "limit 6 is too small for 7 classes", limit=6)
    refused("faces", "seed must be at least 0", seed=-1)
    refused(archive, "seed must be at least 0", seed=-1)


def test_splits_are_contiguous_and_writable(archive: Path) -> None:
    data = datasets.load(archive, limit=20)
    for array in (*data.train, *data.validation):
        assert array.flags.c_contiguous
        assert array.flags.writeable


# Statistics


@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 60), st.integers(1, 60), st.integers(1, 4)),
    dtype=st.sampled_from(["uint8", "float32", "float64"]),
    seed=st.integers(0, 2**32),
)
def test_normalization(shape: tuple[int, ...], dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = images_of(rng, *shape)
    if dtype != "uint8":
        x = (x * rng.uniform(0.001, 10) + rng.normal(0, 1e4)).astype(dtype)
    mean, std = datasets.normalization(datasets.Split(x, np.zeros(len(x), np.int64)))
    assert mean.dtype == std.dtype == np.float64
    wide = x.astype(np.longdouble)
    deviation = wide.std(axis=(0, 1, 2)).astype(float)
    np.testing.assert_allclose(mean, wide.mean(axis=(0, 1, 2)).astype(float), rtol=1e-12)
    np.testing.assert_allclose(std, np.where(deviation > 0, deviation, 1), rtol=1e-9)


@pytest.mark.parametrize("value", [0, 7, 255, 0.1, -1e6])
def test_normalization_of_a_constant_channel(value: float) -> None:
    x = np.full((50, 40, 40, 2), value, np.uint8 if isinstance(value, int) else np.float32)
    mean, std = datasets.normalization(datasets.Split(x, np.zeros(50, np.int64)))
    np.testing.assert_allclose(mean, x[0, 0, 0])
    np.testing.assert_array_equal(std, 1)


def test_normalization_makes_no_float_copy() -> None:
    import tracemalloc

    x = np.ones((100, 200, 200, 1), np.uint8)
    tracemalloc.start()
    datasets.normalization(datasets.Split(x, np.zeros(100, np.int64)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.nbytes


@pytest.mark.parametrize("shape", [(0, 4, 4, 1), (3, 4, 4), (4,)])
def test_normalization_refusals(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"\(N, H, W, C\)"):
        datasets.normalization(datasets.Split(np.empty(shape), np.empty(0, np.int64)))
