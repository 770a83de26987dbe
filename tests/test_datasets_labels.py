"""Labels as users bring them: counted from 1, with gaps, one-hot, several an image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_files import images_of, refused

import pyconv
from pyconv import datasets, nn
from pyconv.datasets.labels import matrix_hint
from pyconv.errors import DataError, ShapeError


def archive(folder: Path, rng: np.random.Generator, y: object, **more: object) -> Path:
    y = np.asarray(y)
    np.savez(folder / "a.npz", x=images_of(rng, len(y), 4, 4), y=y, **more)
    return folder / "a.npz"


def test_labels_from_one(tmp_path: Path, rng: np.random.Generator) -> None:
    y = np.arange(40) % 4 + 1
    path = archive(tmp_path, rng, y, x_val=images_of(rng, 8, 4, 4), y_val=y[:8])
    data = datasets.load(path, first_label=1)
    assert data.classes == ["1", "2", "3", "4"]
    np.testing.assert_array_equal(data.train.y, y - 1)
    np.testing.assert_array_equal(data.validation.y, y[:8] - 1)
    assert data.notes == ()
    assert datasets.load(path).notes == (
        f"{path}: 1 of 5 classes have no training image: 0; if labels count from 1, add --first-label 1, or "
        "first_label=1 in Python",
    )


def test_named_classes_from_one(tmp_path: Path, rng: np.random.Generator) -> None:
    path = archive(tmp_path, rng, np.arange(40) % 3 + 1, classes=["cat", "dog", "fox"])
    refused(path, "at least 4 strings, not 3; if labels count from 1, add --first-label 1", error=DataError)
    assert datasets.load(path, first_label=1).classes == ["cat", "dog", "fox"]


def test_gaps_are_told_of(tmp_path: Path, rng: np.random.Generator) -> None:
    path = archive(tmp_path, rng, np.arange(40) % 3 * 2)
    assert datasets.load(path).notes == (f"{path}: 2 of 5 classes have no training image: 1, 3",)


@pytest.mark.parametrize("first", [-1, 1.5, "one"])
def test_wrong_first_labels(tmp_path: Path, rng: np.random.Generator, first: object) -> None:
    refused(archive(tmp_path, rng, np.arange(40) % 4), "first_label", first_label=first)


def test_options_that_the_data_does_not_heed(tmp_path: Path, rng: np.random.Generator) -> None:
    path = archive(tmp_path, rng, np.arange(40) % 4)
    refused(path, "size is for data of the form Parquet file or folder of class folders;", size=(4, 4))
    forms = "NumPy archive, NumPy file, IDX folder or Parquet file"
    refused("faces", f"first_label is for data of the form {forms}; leave it out here", first_label=1)


HINTS = [
    (np.eye(3, dtype=int)[np.arange(20) % 3], "they are one-hot: give their argmax(axis=1)"),
    (np.eye(3)[np.arange(20) % 3], "they are one-hot: give their argmax(axis=1)"),
    (np.arange(60).reshape(20, 3) % 2, "multi-label"),
    (np.zeros((20, 3), bool), "multi-label"),
    (np.full((20, 4), 0.25), "soft labels"),
    (np.tile(np.arange(8), (20, 1)), "QMNIST's eight columns, the class is column 0"),
    (np.tile(np.arange(5), (20, 1)), "they have 5 columns: give the one that is the class"),
]


@pytest.mark.parametrize(("labels", "hint"), HINTS)
def test_labels_of_several_columns(tmp_path: Path, rng: np.random.Generator, labels: np.ndarray, hint: str) -> None:
    assert hint in matrix_hint(labels)
    assert ("argmax" in matrix_hint(labels)) == ("one-hot" in hint)
    path = archive(tmp_path, rng, labels)
    refused(path, path, f"shape {labels.shape}", hint, error=DataError)
    model = nn.Sequential([nn.Flatten(), nn.Dense(8)], input_shape=(4, 4, 1))
    with pytest.raises(ShapeError) as caught:
        pyconv.fit(model, images_of(rng, 20, 4, 4), labels, progress="off")
    assert hint in str(caught.value)
