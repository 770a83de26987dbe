"""Images decoded into files: the same data set as in memory, mapped, whatever memory there is."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_files import images_of, labels_of
from PIL import Image

from pyconv import datasets, limits
from pyconv.datasets import into
from pyconv.datasets.rows import Rows
from pyconv.errors import DataError, InputError
from pyconv.train import main


def folder(place: Path, rng: np.random.Generator, splits: tuple[str, ...] = ("train", "validation")) -> Path:
    """Class folders with images of bytes, and in `train` one of 16 bits."""
    for split in splits:
        for number, image in enumerate(images_of(rng, 24, 6, 5)):
            path = place / split / "ab"[number % 2] / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.astype(np.uint16) * 100 if split == "train" and number == 7 else image).save(path)
    return place


def mapped(x: Any) -> bool:
    """Whether an array is a map of a file, or of some of its images."""
    while isinstance(x, np.ndarray) and not isinstance(x, np.memmap):
        x = x.base
    return isinstance(x, np.memmap | Rows)


def same(one: datasets.Dataset, other: datasets.Dataset) -> None:
    """Compare two data sets."""
    for name in ("name", "classes", "brightness", "notes"):
        assert getattr(one, name) == getattr(other, name)
    for split in ("train", "validation", "test"):
        mine, theirs = getattr(one, split), getattr(other, split)
        assert (mine is None) == (theirs is None)
        if mine is not None:
            assert mine.x.dtype == theirs.x.dtype
            np.testing.assert_array_equal(mine.x[np.arange(len(mine.y))], theirs.x)
            np.testing.assert_array_equal(mine.y, theirs.y)


@pytest.mark.parametrize("splits", [("train", "validation"), ("train", "test"), ("train", "validation", "test"), ("",)])
def test_a_folder(tmp_path: Path, rng: np.random.Generator, splits: tuple[str, ...]) -> None:
    path = folder(tmp_path / "photos", rng, splits)
    found = datasets.load(path, into=tmp_path / "decoded", seed=3)
    same(found, datasets.load(path, seed=3))
    assert mapped(found.train.x) and mapped(found.validation.x)
    names = {entry.name for entry in (tmp_path / "decoded").iterdir()}
    others = {f"{kind}_{what}.npy" for kind in ("val", "test") for what in ("images", "labels")}
    assert {"images.npy", "labels.npy", "classes.npy"} <= names <= {"images.npy", "labels.npy", "classes.npy"} | others
    again = datasets.load(tmp_path / "decoded" / "images.npy", seed=3)
    np.testing.assert_array_equal(again.train.x[np.arange(9)], found.train.x[np.arange(9)])
    assert again.classes == found.classes


def test_parquet_without_the_memory_for_it(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from test_datasets_parquet import write

    images, labels = images_of(rng, 40, 6, 5), labels_of(rng, 40, 3).tolist()
    path = write(tmp_path / "animals.parquet", images, labels, names=["cat", "dog", "owl"])
    wanted = datasets.load(path)
    monkeypatch.setattr(limits, "shortage", lambda needed: "there is none" if needed > 100 else None)
    with pytest.raises(DataError, match=r"decode them to files \(load's into=\)"):
        datasets.load(path)
    same(datasets.load(path, into=tmp_path / "decoded"), wanted)
    flags = ["--model", "3-4-8-3", "--epochs", "1", "--batch-size", "8", "--progress", "off"]
    assert main(["--data", str(tmp_path / "decoded" / "images.npy"), *flags, "--out", str(tmp_path / "run")]) == 0


def test_refusals(tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder(tmp_path / "photos", rng)
    with pytest.raises(DataError, match="photos: is not empty; give a new folder"):
        datasets.load(path, into=path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="file: cannot be written"):
        datasets.load(path, into=tmp_path / "file")
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 2, 2), np.uint8), y=[0, 1, 0, 1])
    for source in (tmp_path / "a.npz", "faces"):
        with pytest.raises(InputError, match="into is for data of the form"):
            datasets.load(source, into=tmp_path / "decoded")
    with pytest.raises(InputError, match="into must be"):
        datasets.load(path, into=3)  # type: ignore[arg-type]
    (path / "train" / "a" / "00.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="cannot be read as an image"):
        datasets.load(path, into=tmp_path / "decoded")
    assert not list((tmp_path / "decoded").iterdir()), "what was decoded before is gone"

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(into.os, "posix_fallocate", full, raising=False)
    with pytest.raises(DataError, match=r"decoded: cannot be written \(no space left on device\)"):
        datasets.load(folder(tmp_path / "others", rng), into=tmp_path / "decoded")
