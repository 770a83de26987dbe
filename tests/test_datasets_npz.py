"""Archives: what is saved is loaded, and arrays that cannot be images or labels are named."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_files import images_of, labels_of, refused
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pyconv import datasets
from pyconv.errors import DataError


def save(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.fixture
def good(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {"x": images_of(rng, 20, 6, 5, 3), "y": labels_of(rng, 20, 3)}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(("x_val", "x_test"), [(False, False), (True, False), (False, True), (True, True)])
def test_splits(
    tmp_path: Path, good: dict, rng: np.random.Generator, compressed: bool, x_val: bool, x_test: bool
) -> None:
    pairs = {}
    for name, there in (("val", x_val), ("test", x_test)):
        if there:
            pairs[name] = images_of(rng, 7, 6, 5, 3), labels_of(rng, 7, 3)
            good |= {f"x_{name}": pairs[name][0], f"y_{name}": pairs[name][1]}
    path = tmp_path / "some.npz"
    (np.savez_compressed if compressed else np.savez)(path, **good)
    data = datasets.load(path)
    assert data.name == "some"
    if pairs:
        expected = pairs.get("val", pairs.get("test"))
        np.testing.assert_array_equal(data.validation.x, expected[0])
        np.testing.assert_array_equal(data.validation.y, expected[1])
        np.testing.assert_array_equal(data.train.x, good["x"])
    assert (data.test is not None) == (x_val and x_test)
    assert data.classes == ["0", "1", "2"]


@given(
    x=hnp.arrays(
        st.sampled_from([np.uint8, np.float16, np.float32]),
        st.tuples(*[st.integers(1, 6)] * 3),
        elements=st.integers(0, 255),
    )
)
def test_pixels_come_through(tmp_path_factory: pytest.TempPathFactory, x: np.ndarray) -> None:
    x = np.concatenate([x, x])
    y = np.arange(len(x))
    path = save(tmp_path_factory.getbasetemp() / "any.npz", x=x, y=y, x_val=x, y_val=y)
    data = datasets.load(path)
    assert data.train.x.dtype == (np.uint8 if x.dtype == np.uint8 else np.float32)
    assert data.train.x.flags.c_contiguous
    np.testing.assert_array_equal(data.train.x[..., 0], x)


@pytest.mark.parametrize("dtype", ["int64", "int16", "uint32", ">i4", "float64", ">f4"])
def test_other_dtypes_are_brought_to_two(tmp_path: Path, good: dict, dtype: str) -> None:
    save(tmp_path / "a.npz", x=np.asfortranarray(good["x"].astype(dtype)), y=good["y"][:, None].astype(np.uint8))
    data = datasets.load(tmp_path / "a.npz")
    assert data.train.x.dtype == (np.float32 if "f" in dtype else np.uint8)
    assert data.train.x.dtype.isnative
    assert data.train.x.flags.c_contiguous
    everything = np.concatenate([data.train.x, data.validation.x])
    assert sorted(map(np.sum, everything)) == sorted(map(np.sum, good["x"]))


def test_class_names(tmp_path: Path, good: dict) -> None:
    path = save(tmp_path / "a.npz", **good, classes=["cat", "dog", "fox", "owl"])
    assert datasets.load(path).classes == ["cat", "dog", "fox", "owl"]
    refused(save(path, **good, classes=["cat"]), path, "classes", "3 strings", error=DataError)
    refused(save(path, **good, classes=[1, 2, 3]), path, "classes", error=DataError)
    refused(save(path, **good, classes=["a", "b", "a"]), path, "2 classes are called 'a'", error=DataError)
    refused(save(path, **good, classes=["a", "b", "\udcff"]), path, r"name '\udcff' is not UTF-8", error=DataError)


def test_gaps_between_labels(tmp_path: Path, good: dict) -> None:
    path = tmp_path / "a.npz"
    far = np.where(good["y"] == 2, 999_999, good["y"] + 1)
    refused(save(path, x=good["x"], y=far), path, "label 999999", "3 different labels", "and 0 is not", error=DataError)
    assert len(datasets.load(save(path, x=good["x"], y=good["y"] * 400)).classes) == 801  # few enough
    names = [str(label) for label in range(1500)]
    assert datasets.load(save(path, x=good["x"], y=good["y"] * 700, classes=names)).classes == names  # given names


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(tmp_path: Path, good: dict, rng: np.random.Generator, value: float) -> None:
    x = np.repeat(good["x"], 30, axis=0).astype(rng.choice(["float32", "float64"]))
    row = int(rng.integers(len(x)))
    x[row, 3, 2, 1] = value
    path = save(tmp_path / "a.npz", x=x, y=np.repeat(good["y"], 30))
    refused(path, path, f"row {row}:", value, error=DataError)


def test_too_large_for_float32(tmp_path: Path, good: dict) -> None:
    x = good["x"].astype(np.float64)
    x[4, 0, 0, 0] = 1e300
    path = save(tmp_path / "a.npz", x=x, y=good["y"])
    refused(path, path, "row 4:", "1e+300", error=DataError)


@pytest.mark.parametrize("value", [256, -1])
def test_integers_that_are_no_bytes(tmp_path: Path, good: dict, value: int) -> None:
    x = good["x"].astype(np.int32)
    x[13, 0, 4, 2] = value
    path = save(tmp_path / "a.npz", x=x, y=good["y"])
    refused(path, path, "row 13:", value, "0 to 255", error=DataError)


@pytest.mark.parametrize(
    ("name", "change", "fragments"),
    [
        ("x", lambda x: x[0], ["6 images", "20 labels"]),
        ("x", lambda x: x[:, None], ["(20, 1, 6, 5, 3)", "(N, H, W"]),
        ("x", lambda x: x.reshape(20, -1), ["(20, 90)", "(N, H, W"]),
        ("x", lambda x: x[:0], ["empty"]),
        ("x", lambda x: x[:, :, :0], ["empty"]),
        ("x", lambda x: x[:, :5].transpose(0, 3, 1, 2), ["channels first", "transpose"]),
        ("x", lambda x: x > 3, ["bool"]),
        ("x", lambda x: x.astype(complex), ["complex128"]),
        ("x", lambda x: x.astype(str), ["<U3"]),
        ("x", lambda x: x[:-1], ["19 images", "20 labels"]),
        ("y", lambda y: y[:-1], ["20 images", "19 labels"]),
        ("y", lambda y: y.astype(float), ["float64", "integers"]),
        ("y", lambda y: np.eye(3, dtype=int)[y], ["(20, 3)", "argmax"]),
        ("y", lambda y: y[0], ["()", "vector"]),
        ("y", lambda y: np.where(np.arange(20) == 6, -2, y), ["row 6", "-2"]),
        ("y", lambda y: 0 * y, ["one class"]),
        ("y", lambda y: y.astype(str), ["<U"]),
    ],
)
def test_wrong_arrays(tmp_path: Path, good: dict, name: str, change, fragments: list[str]) -> None:
    if name == "x" and fragments[0] == "channels first":
        good["x"] = np.ascontiguousarray(np.concatenate([good["x"]] * 2, axis=2)[:, :5, :5])
        change = lambda x: x.transpose(0, 3, 1, 2)  # noqa: E731
    good[name] = change(good[name])
    path = save(tmp_path / "a.npz", **good)
    refused(path, path, *fragments, error=DataError)


def test_object_arrays_are_never_unpickled(tmp_path: Path, good: dict) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "sprung",)

    for name in ("x", "y"):
        path = save(tmp_path / "a.npz", **(good | {name: np.array([Trap()] * 20, dtype=object)}))
        refused(path, path, repr(name), "Python objects", error=DataError)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("missing", ["x", "y", "x_val", "y_test"])
def test_missing_array(tmp_path: Path, good: dict, missing: str) -> None:
    arrays = good | {name: good[name[0]] for name in ("x_val", "y_val", "x_test", "y_test")}
    del arrays[missing]
    path = save(tmp_path / "a.npz", **arrays)
    refused(path, path, f"no array {missing!r}", error=DataError)


def test_validation_images_of_another_kind(tmp_path: Path, good: dict) -> None:
    path = tmp_path / "a.npz"
    refused(save(path, **good, x_val=good["x"][:, 1:], y_val=good["y"]), path, "(5, 5, 3)", "(6, 5, 3)")
    refused(save(path, **good, x_val=good["x"] / 255, y_val=good["y"]), path, "float32", "uint8")
    refused(save(path, **good, x_val=good["x"], y_val=good["y"] + 1), path, "label 3", "does not occur in training")


def test_not_an_archive(tmp_path: Path, good: dict) -> None:
    path = tmp_path / "a.npz"
    for data in (b"", b"not a zip", bytes(1000), b"\x80\x04cposix\nsystem\n"):
        path.write_bytes(data)
        refused(path, path, "not a NumPy archive", error=DataError)
    save(path, **good)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(path, path, "truncated", error=DataError)
    path.write_bytes(whole[:200] + bytes(300) + whole[500:])
    refused(path, path, "corrupt", error=DataError)


def test_a_zip_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", "text")
        archive.writestr("y.npy", "text")
    refused(path, path, "'y'", "not a NumPy array", error=DataError)
    with zipfile.ZipFile(path, "w"):
        pass
    refused(path, path, "empty", error=DataError)


@pytest.mark.slow
def test_an_archive_whose_directory_is_damaged_is_refused(tmp_path: Path, good: dict, rng: np.random.Generator) -> None:
    path = save(tmp_path / "a.npz", **good, classes=["cat", "dog", "fox"])
    whole = path.read_bytes()
    expected = datasets.load(path)
    start = whole.index(b"PK\1\2")
    silent = []
    for position in [*range(start, len(whole)), *rng.integers(0, start, 200)]:
        for bit in rng.choice(8, 3, replace=False):
            path.write_bytes(whole[:position] + bytes([whole[position] ^ (1 << bit)]) + whole[position + 1 :])
            try:
                data = datasets.load(path)
            except DataError as error:
                assert "\n" not in str(error)
                assert str(path) in str(error)
            else:
                same = data.classes == expected.classes and np.array_equal(data.train.x, expected.train.x)
                if not (same and np.array_equal(data.train.y, expected.train.y)):
                    silent.append((int(position), int(bit)))
    assert silent == []


def entry_lost(whole: bytes, name: bytes) -> bytes:
    """The archive without the directory's entry of that name; the record at its end is corrected."""
    at = whole.index(b"PK\1\2")
    while whole[at + 46 : at + 46 + len(name)] != name:
        at = whole.index(b"PK\1\2", at + 1)
    length = 46 + sum(struct.unpack("<3H", whole[at + 28 : at + 34]))
    end = whole.rindex(b"PK\5\6")
    record = list(struct.unpack("<4s4H2LH", whole[end : end + 22]))
    record[3:6] = record[3] - 1, record[4] - 1, record[5] - length
    return whole[:at] + whole[at + length : end] + struct.pack("<4s4H2LH", *record)


@pytest.mark.parametrize("name", ["x_val.npy", "classes.npy", "extra.npy"])
@pytest.mark.parametrize("compressed", [True, False])
def test_an_entry_that_was_lost(tmp_path: Path, good: dict, name: str, compressed: bool) -> None:
    path = tmp_path / "a.npz"
    arrays = {**good, "classes": ["a", "b", "c"], "x_val": good["x"], "y_val": good["y"], "extra": [1]}
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    path.write_bytes(entry_lost(path.read_bytes(), name.encode()))
    refused(path, path, "holds something that its directory does not name", error=DataError)


def test_archives_of_other_writers(tmp_path: Path, good: dict) -> None:
    class Stream:
        """A stream without seek: zipfile then writes sizes after the data."""

        def __init__(self, path: Path) -> None:
            self.write, self.flush = (file := path.open("wb")).write, file.flush

    expected = datasets.load(save(tmp_path / "b.npz", **good, x_val=good["x"], y_val=good["y"]))
    with zipfile.ZipFile(tmp_path / "b.npz") as source:
        for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
            stream = Stream(tmp_path / "a.npz")
            with zipfile.ZipFile(stream, "w", kind) as archive:
                archive.comment = b"of another program"
                for name in source.namelist():
                    archive.writestr(name, source.read(name))
            stream.flush()
            data = datasets.load(tmp_path / "a.npz")
            np.testing.assert_array_equal(data.train.x, expected.train.x)
        with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("x.npy", source.read("x_val.npy"))
    refused(tmp_path / "a.npz", "two arrays called 'x.npy'", error=DataError)


def test_arrays_that_are_not_read_are_named(tmp_path: Path, good: dict) -> None:
    path = save(tmp_path / "a.npz", **good, class_names=["a", "b", "c"], ids=np.arange(20))
    (note,) = datasets.load(path).notes
    assert note.startswith(f"{path}: not read: class_names, ids; what is read are classes, x, ")


@pytest.mark.parametrize("spelling", ["{0}_images {0}_labels", "x_{0} y_{0}"])
def test_archives_of_others(tmp_path: Path, rng: np.random.Generator, spelling: str) -> None:
    made = {}
    for split, count in (("train", 20), ("val", 6), ("test", 7)):
        x, y = spelling.format(split).split()
        made |= {x: images_of(rng, count, 6, 5, 1)[..., 0], y: (np.arange(count) % 3).astype(np.uint8)[:, None]}
    data = datasets.load(save(tmp_path / "pneumoniamnist.npz", **made))
    x, y = spelling.format("train").split()
    np.testing.assert_array_equal(data.train.x[..., 0], made[x])
    np.testing.assert_array_equal(data.train.y, made[y][:, 0])
    assert data.test is not None
    assert (len(data.validation.y), len(data.test.y), data.notes) == (6, 7, ())


def test_kmnist_as_it_is_shipped(tmp_path: Path, rng: np.random.Generator) -> None:
    images, labels = images_of(rng, 20, 6, 5, 1)[..., 0], (np.arange(20) % 3).astype(np.uint8)
    for kind, part in (("train", slice(0, 14)), ("test", slice(14, 20))):
        for what, array in (("imgs", images), ("labels", labels)):
            np.savez_compressed(tmp_path / f"kmnist-{kind}-{what}.npz", array[part])
    data = datasets.load(tmp_path / "kmnist-train-imgs.npz")
    np.testing.assert_array_equal(data.train.x[..., 0], images[:14])
    np.testing.assert_array_equal(data.validation.y, labels[14:])
    assert data.notes == ()
    (tmp_path / "kmnist-test-labels.npz").unlink()
    refused(tmp_path / "kmnist-train-imgs.npz", "kmnist-test-labels.npz", "no such file")


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_volumes_of_medmnist_are_refused(tmp_path: Path, rng: np.random.Generator, write: Callable[..., None]) -> None:
    x, y = images_of(rng, 20, 9, 9, 9), labels_of(rng, 20, 3)
    path = tmp_path / "organmnist3d.npz"
    write(path, train_images=x, train_labels=y[:, None], val_images=x, val_labels=y[:, None])
    words = ("train_images has shape (20, 9, 9, 9): volumes", "store one slice of each, such as train_images[:, 4]")
    refused(path, *words, error=DataError)
    write(path, train_images=x[:, 4], train_labels=y[:, None])
    assert datasets.load(path).image_shape == (9, 9, 1)
    write(path, x=x, y=y)  # channels, if the user calls them so
    assert datasets.load(path).image_shape == (9, 9, 9)
    for shape in ((9, 9, 5), (9, 5, 9), (1, 1, 1), (3, 3, 3), (4, 4, 4)):  # images
        write(path, train_images=images_of(rng, 20, *shape), train_labels=y)
        assert datasets.load(path).image_shape == shape
