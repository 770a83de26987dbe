"""NumPy files as data: mapped and never copied whole, with labels in a file beside them; errors name the file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_files import images_of, labels_of, refused
from parallel_runs import data

import pyconv
from pyconv import datasets, nn, optim
from pyconv.datasets.rows import Rows
from pyconv.datasets.split import normalization
from pyconv.errors import DataError, InputError
from pyconv.parallel.memory import File, share_images
from pyconv.train import main

X, Y = data(240)


def save(folder: Path, **arrays: Any) -> Path:
    """Save arrays under these names; the first file's path."""
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder / f"{next(iter(arrays))}.npy"


def is_map(x: Any) -> bool:
    """Whether an array is a map of a file."""
    x = x.array if isinstance(x, Rows) else x
    while isinstance(x, np.ndarray) and not isinstance(x, np.memmap):
        x = x.base
    return isinstance(x, np.memmap)


@pytest.mark.parametrize("names", [("images", "labels"), ("x", "y"), ("x_train", "y_train"),
                                   ("train_images", "train_labels"), ("cells-images", "cells-labels")])  # fmt: skip
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_images_are_mapped_with_the_labels_beside_them(
    tmp_path: Path, rng: np.random.Generator, names: tuple[str, str], dtype: str
) -> None:
    x, y = images_of(rng, 40, 6, 5, 3).astype(dtype), labels_of(rng, 40, 3)
    path = save(tmp_path, **{names[0]: x, names[1]: y})
    found = datasets.load(path, seed=3)
    np.savez(tmp_path / "all.npz", x=x.astype("float32") if dtype == "float64" else x, y=y)
    expected = datasets.load(tmp_path / "all.npz", seed=3)
    for split in ("train", "validation"):
        mine, theirs = getattr(found, split), getattr(expected, split)
        assert is_map(mine.x) and mine.x.dtype == dtype and mine.x.shape == theirs.x.shape
        np.testing.assert_array_equal(np.asarray(mine.x), theirs.x)
        np.testing.assert_array_equal(mine.y, theirs.y)
    assert found.classes == ["0", "1", "2"] and found.image_shape == (6, 5, 3)


@pytest.mark.parametrize("val", [False, True])
@pytest.mark.parametrize("test", [False, True])
def test_splits_names_and_first_label(tmp_path: Path, rng: np.random.Generator, val: bool, test: bool) -> None:
    arrays: dict[str, Any] = {"a-x": images_of(rng, 20, 4, 4), "a-y": 1 + labels_of(rng, 20, 2)[:, None]}
    for name, there in (("val", val), ("test", test)):
        if there:
            arrays |= {f"a-x_{name}": images_of(rng, 6, 4, 4), f"a-y_{name}": 1 + labels_of(rng, 6, 2)}
    path = save(tmp_path, **arrays, **{"a-classes": np.array(["round", "star"])})
    found = datasets.load(path, first_label=1)
    assert found.classes == ["round", "star"] and found.name == "a"
    assert (found.test is not None) == (val and test)
    if val or test:
        kind = "val" if val else "test"
        np.testing.assert_array_equal(found.validation.x[..., 0], arrays[f"a-x_{kind}"])
        np.testing.assert_array_equal(found.train.x[..., 0], arrays["a-x"])
        np.testing.assert_array_equal(found.train.y, arrays["a-y"][:, 0] - 1)
    assert is_map(found.train.x) and is_map(found.validation.x)


def test_other_integers_and_byte_orders_are_copied(tmp_path: Path, rng: np.random.Generator) -> None:
    x, y = images_of(rng, 20, 4, 4, 1), labels_of(rng, 20, 2)
    for dtype, expected in (("int64", "uint8"), (">f4", "float32"), ("float16", "float32"), (">u2", "uint8")):
        found = datasets.load(save(tmp_path, x=x.astype(dtype), y=y, x_val=x.astype(dtype), y_val=y))
        assert found.train.x.dtype == expected
        np.testing.assert_array_equal(found.train.x, x)


def test_rows_are_what_indexing_gives(rng: np.random.Generator) -> None:
    array, rows = images_of(rng, 30, 5, 4, 2), rng.permutation(30)[:17]
    mine, copy = Rows(array, rows), array[rows]
    assert (mine.shape, mine.dtype, mine.ndim, mine.size, mine.nbytes, len(mine)) == (
        copy.shape, copy.dtype, copy.ndim, copy.size, copy.nbytes, len(copy),
    )  # fmt: skip
    assert (mine.min(), mine.max()) == (copy.min(), copy.max())
    assert (np.min(mine), np.max(mine), np.amin(mine)) == (copy.min(), copy.max(), copy.min())
    assert np.min(mine).dtype == copy.dtype
    for which in (3, slice(2, 9), slice(None, None, 3), rng.integers(0, 17, 6), slice(0, 0)):
        np.testing.assert_array_equal(mine[which], copy[which])
    np.testing.assert_array_equal(np.stack(list(mine)), copy)
    np.testing.assert_array_equal(np.asarray(mine, np.float32), copy.astype(np.float32))
    labels = np.zeros(17, int)
    for found, expected in zip(
        normalization(datasets.Split(mine, labels)), normalization(datasets.Split(copy, labels))
    ):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extremes_of_rows_are_numpys(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    monkeypatch.setattr("pyconv.datasets.rows._CHUNK_BYTES", 300)  # a few images at a time
    array, rows = rng.normal(size=(30, 5, 4, 2)).astype(dtype), rng.permutation(30)[:17]
    for wrong in (None, rows[0], rows[9]):
        if wrong is not None:
            array[wrong, 2, 1, 0] = np.nan  # wherever it is, it is the smallest and the largest, as in NumPy
        for function in (np.min, np.max):
            np.testing.assert_array_equal(function(Rows(array, rows)), function(array[rows]), strict=True)
    options: tuple[dict[str, Any], ...] = ({"axis": 0}, {"out": np.empty(())}, {"keepdims": True}, {"initial": 3})
    for options_of in options:
        word = next(iter(options_of))
        for name, function in (("min", np.min), ("max", np.max)):
            with pytest.raises(InputError, match=f"^{name} of images .* takes no {word}; numpy.asarray"):
                function(Rows(array, rows), **options_of)


def test_volumes_under_medmnists_names(tmp_path: Path, rng: np.random.Generator) -> None:
    x, y = images_of(rng, 20, 8, 8, 8), labels_of(rng, 20, 3)
    refused(save(tmp_path, train_images=x, train_labels=y), "volumes", "train_images[:, 4]", error=DataError)
    assert datasets.load(save(tmp_path, images=x, labels=y)).image_shape == (8, 8, 8)


@pytest.mark.timeout(300)
@pytest.mark.covering("workers", most=1)
@pytest.mark.parametrize("workers", [1, 2])
def test_training_on_a_map_gives_the_bits_of_an_array(tmp_path: Path, workers: int) -> None:
    models = []
    mapped = np.load(save(tmp_path, x=np.concatenate([X[:7], X])), mmap_mode="r")[7:]  # not at the file's beginning
    rows = Rows(np.load(save(tmp_path, r=X[::-1].copy()), mmap_mode="r"), np.arange(240)[::-1])
    for x in (X, mapped, rows):
        model = nn.Sequential([nn.Flatten(), nn.Dense(3)], input_shape=(6, 6, 1), seed=1)
        how: dict[str, Any] = {"workers": workers, "batch_size": 20 // workers, "epochs": 2, "progress": "off"}
        pyconv.fit(model, x, Y, validation=(x, Y), optimizer=optim.SGD(0.1), augment={"flip": True}, **how)
        models.append(model)
    for model in models[1:]:
        np.testing.assert_array_equal(model.flat, models[0].flat)
        assert model.input_range == models[0].input_range


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_workers_map_the_file_too(tmp_path: Path, rng: np.random.Generator, mode: Any) -> None:
    x = images_of(rng, 50, 9, 7, 1)
    path = save(tmp_path, x=x)
    for part in (
        np.load(path, mmap_mode=mode),
        np.load(path, mmap_mode=mode)[11:],
        Rows(np.load(path, mmap_mode=mode), np.arange(9)),
    ):
        found = share_images(part, "the images")
        np.testing.assert_array_equal(np.asarray(found), np.asarray(part))
        array = found.array if isinstance(found, Rows) else found
        assert isinstance(array.segment, File) == (mode != "c"), "what a private map holds may not be in the file"
        again = share_images(np.asarray(array), "the images")
        assert again.segment is array.segment and again.ctypes.data == array.ctypes.data
    # Another file takes the place of the mapped one: its bytes are not the array's.
    mapped = np.load(path, mmap_mode="r")
    path.unlink()
    save(tmp_path, x=255 - x)
    found = share_images(mapped, "the images")
    assert not isinstance(found.segment, File)
    np.testing.assert_array_equal(found, x)


MEASURED = """
import sys, threading
from pathlib import Path

def memory():
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return sum(int(lines[name].split()[0]) >> 10 for name in ("RssAnon", "RssShmem"))

import numpy as np, pyconv
from pyconv import datasets, nn

if __name__ == "__main__":
    workers, how = int(sys.argv[2]), sys.argv[3]
    y = np.load(sys.argv[1].replace("images", "labels"))
    if how == "load":
        data = datasets.load(sys.argv[1])
        x, y, validation = *data.train, data.validation
    else:
        x, validation = np.load(sys.argv[1], mmap_mode="r"), None
    model = nn.Sequential([nn.MaxPool2D(32), nn.Flatten(), nn.Dense(2)], input_shape=x.shape[1:])
    before, most = memory(), [0]

    def watch(about):
        most[0] = max(most[0], memory())

    how = {"epochs": 1, "batch_size": 16, "progress": "off", "validation": validation}
    pyconv.fit(model, x, y, workers=workers, on_step=watch, **how)
    print(max(most[0], memory()) - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's account of memory")
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("workers", "how"), [(1, "load"), (2, "load"), (2, "fit")])
def test_a_file_larger_than_what_training_takes(tmp_path: Path, workers: int, how: str) -> None:
    """A process has a few of the 200 MB of images in its own memory, and none in shared memory."""
    count = 800
    x = np.lib.format.open_memmap(tmp_path / "images.npy", "w+", np.uint8, (count, 256, 1024, 1))
    x[::2, :8] = 200
    x.flush()
    np.save(tmp_path / "labels.npy", np.arange(count) % 2)
    script = tmp_path / "measured.py"
    script.write_text(MEASURED)
    command = [sys.executable, script, tmp_path / "images.npy", str(workers), how]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 100, f"{done.stdout} MB more in training"


def test_the_command_trains_on_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path, images=np.clip(60 + 30 * X, 0, 255).astype(np.uint8), labels=Y)
    Path("m.toml").write_text(
        'input_shape = [6, 6, 1]\n[[layers]]\ntype = "Flatten"\n[[layers]]\ntype = "Dense"\nunits = 3\n'
    )
    flags = ["--data", "images.npy", "--model", "m.toml", "--epochs", "1", "--batch-size", "20", "--progress", "off"]
    assert main([*flags, "--limit", "100", "--out", "run"]) == 0
    assert main(["--resume", "run", "--epochs", "2", "--progress", "off"]) == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: (p / "labels.npy").unlink(), "labels.npy: no such file"),
        (lambda p: (p / "images.npy").write_bytes(b"PK34"), "not a NumPy file"),
        (lambda p: (p / "images.npy").write_bytes((p / "images.npy").read_bytes()[:-9]), "corrupt, truncated or empty"),
        (lambda p: (p / "images.npy").write_bytes(b"\x93NUMPY\x01\x00"), "corrupt, truncated or empty"),
        (lambda p: np.save(p / "images.npy", np.zeros((0, 4, 4), np.uint8)), "images.npy"),
        (lambda p: np.save(p / "images.npy", np.zeros((20, 16), np.uint8)), "images must be (N, H, W)"),
        (lambda p: np.save(p / "images.npy", np.zeros((20, 4, 4), bool)), "has dtype bool"),
        (lambda p: np.save(p / "images.npy", np.full((20, 4, 4), 256)), "pixel value 256"),
        (lambda p: np.save(p / "images.npy", np.full((20, 4, 4), np.nan)), "row 0: pixel value nan"),
        (lambda p: np.save(p / "images.npy", np.asfortranarray(np.zeros((20, 4, 4)))), "Fortran's order"),
        (lambda p: np.save(p / "images.npy", np.array([None] * 20), allow_pickle=True), "Python objects"),
        (lambda p: np.save(p / "labels.npy", np.zeros(20)), "labels must be integers"),
        (lambda p: np.save(p / "labels.npy", np.zeros(19, int)), "19 labels for 20 images"),
        (lambda p: np.save(p / "val_images.npy", np.zeros((3, 4, 4), np.uint8)), "val_labels.npy: no such file"),
        (lambda p: np.save(p / "classes.npy", np.zeros(2)), "a vector of strings"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, rng: np.random.Generator, change: Any, words: str) -> None:
    path = save(tmp_path, images=images_of(rng, 20, 4, 4), labels=labels_of(rng, 20, 2))
    change(tmp_path)
    refused(path, words)


def test_a_name_that_does_not_say_where_the_labels_are(tmp_path: Path, rng: np.random.Generator) -> None:
    refused(save(tmp_path, pictures=images_of(rng, 20, 4, 4)), "call the files images.npy and labels.npy")
    refused(save(tmp_path, max=images_of(rng, 20, 4, 4)), "call the files images.npy and labels.npy")
