"""Parquet files of Hugging Face's image layout: read as they are shipped, or refused by file, column and row."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_files import images_of, labels_of, refused
from PIL import Image

from pyconv import datasets
from pyconv.train import main

pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")


def encoded(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def features(image: str, label: str, names: Any, **others: Any) -> dict[bytes, bytes]:
    """The schema's metadata as the library `datasets` writes it."""
    about = {image: {"_type": "Image"}, label: {"names": names, "_type": "ClassLabel"}, **others}
    return {b"huggingface": json.dumps({"info": {"features": about}}).encode()}


def write(
    path: Path,
    images: Any,
    labels: Any,
    *,
    names: Any = None,
    columns: tuple[str, str] = ("image", "label"),
    metadata: dict[bytes, bytes] | None = None,
    **others: Any,
) -> Path:
    """Write a file as ``Dataset.to_parquet`` does."""
    image, label = columns
    rows = [
        {"bytes": encoded(i) if isinstance(i, np.ndarray) else i, "path": f"{at}.png"} for at, i in enumerate(images)
    ]
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    table = pyarrow.table({"id": list(range(len(rows))), image: pyarrow.array(rows, kind), label: labels, **others})
    if metadata is None and names is not None:
        metadata = features(image, label, names)
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table.replace_schema_metadata(metadata), path, row_group_size=7)
    return path


@pytest.fixture
def good(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "images": images_of(rng, 30, 6, 5),
        "labels": labels_of(rng, 30, 3).tolist(),
        "names": ["cat", "dog", "owl"],
    }


@pytest.mark.parametrize("columns", [("image", "label"), ("img", "label"), ("image", "labels"), ("picture", "kind")])
def test_a_file_is_read_with_its_names(tmp_path: Path, good: dict, columns: tuple[str, str]) -> None:
    path = write(tmp_path / "animals.parquet", **good, columns=columns)
    data = datasets.load(path, seed=1)
    np.savez(tmp_path / "same.npz", x=good["images"], y=good["labels"], classes=good["names"])
    same = datasets.load(tmp_path / "same.npz", seed=1)
    for split in ("train", "validation"):
        np.testing.assert_array_equal(getattr(data, split).x, getattr(same, split).x)
        np.testing.assert_array_equal(getattr(data, split).y, getattr(same, split).y)
    assert data.classes == good["names"] and data.name == "animals" and data.notes == ()


def test_without_metadata_the_usual_names_and_numbers(tmp_path: Path, good: dict) -> None:
    del good["names"]
    assert datasets.load(write(tmp_path / "a.parquet", **good)).classes == ["0", "1", "2"]
    good["labels"] = [label + 1 for label in good["labels"]]
    assert datasets.load(write(tmp_path / "a.parquet", **good), first_label=1).classes == ["1", "2", "3"]


def test_of_several_class_labels_the_one_called_so(tmp_path: Path, good: dict) -> None:
    about = features("image", "label", good.pop("names"), fine_label={"_type": "ClassLabel", "names": ["x", "y"]})
    path = write(tmp_path / "a.parquet", **good, metadata=about, fine_label=[0] * 30)
    assert datasets.load(path).classes == ["cat", "dog", "owl"]
    about = features("image", "coarse_label", ["p", "q", "r"], fine_label={"_type": "ClassLabel", "names": ["x"]})
    columns = ("image", "coarse_label")
    path = write(tmp_path / "b.parquet", **good, columns=columns, metadata=about, fine_label=[0] * 30)
    refused(path, "b.parquet: has several columns of labels, coarse_label, fine_label", "called label")


def test_names_as_the_pages_write_them(tmp_path: Path, good: dict) -> None:
    good["names"] = {"0": "cat", "1": "dog", "2": "owl"}
    assert datasets.load(write(tmp_path / "a.parquet", **good)).classes == ["cat", "dog", "owl"]


@pytest.mark.parametrize("inner", ["", "data"])
def test_a_folder_as_a_repository_has_it(tmp_path: Path, good: dict, rng: np.random.Generator, inner: str) -> None:
    place = tmp_path / "animals" / inner
    names = good["names"]
    for part in range(3):
        these = slice(10 * part, 10 * part + 10)
        write(place / f"train-{part:05}-of-00003.parquet", good["images"][these], good["labels"][these], names=names)
    held = images_of(rng, 8, 6, 5)
    write(place / "validation-00000-of-00001.parquet", held, [0, 1] * 4, names=names)
    write(place / "test-00000-of-00001.parquet", held[::-1], [2] * 8, names=names)
    write(place / "extra.parquet", held, [0, 1] * 4, names=names)
    data = datasets.load(tmp_path / "animals")
    np.testing.assert_array_equal(data.train.x[..., 0], good["images"])
    np.testing.assert_array_equal(data.train.y, good["labels"])
    np.testing.assert_array_equal(data.validation.x[..., 0], held)
    assert data.test is not None and data.test.y.tolist() == [2] * 8
    assert data.notes == (f"{tmp_path / 'animals'}: not read: extra.parquet; what is read are files called train…, "
                          "validation… and test…",)  # fmt: skip
    # A single file brings the other pieces of its split.
    one = datasets.load(place / "train-00001-of-00003.parquet", validation_fraction=0.01)
    assert len(one.train.y) + len(one.validation.y) == 30
    (place / "train-00002-of-00003.parquet").unlink()
    refused(tmp_path / "animals", "lacks train-00002-of-00003.parquet, a piece of train; add the file")
    refused(place / "train-00000-of-00003.parquet", "lacks train-00002-of-00003.parquet")


def test_images_are_brought_to_a_size_and_keep_their_depth(
    tmp_path: Path, good: dict, rng: np.random.Generator
) -> None:
    deep = rng.integers(0, 4096, (30, 8, 8)).astype(np.uint16)
    good["images"] = deep
    data = datasets.load(write(tmp_path / "a.parquet", **good), bits=12, validation_fraction=0.01)
    found = np.sort(np.concatenate([data.train.x, data.validation.x]).reshape(-1))
    np.testing.assert_allclose(found, np.sort(deep.reshape(-1)) * (255 / 4095), rtol=1e-5)
    assert datasets.load(tmp_path / "a.parquet", size=(4, 3, 3)).image_shape == (4, 3, 3)


def test_plain_bytes_are_images_too(tmp_path: Path, good: dict) -> None:
    table = pyarrow.table({"image": [encoded(image) for image in good["images"]], "label": good["labels"]})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert datasets.load(tmp_path / "a.parquet").image_shape == (6, 5, 1)


def broken(name: str, good: dict) -> dict[str, Any]:
    """The arguments of `write` for a file with one thing wrong."""
    images, labels = list(good["images"]), list(good["labels"])
    if name == "no image":
        images[4] = None
    elif name == "no picture":
        images[9] = b"%PDF"
    elif name == "another size":
        images[8] = np.zeros((3, 3), np.uint8)
    elif name == "no label":
        labels[5] = None
    elif name == "label -1":
        labels[6] = -1
    elif name == "a float":
        labels = [float(label) for label in labels]
    elif name == "words":
        labels = [str(label) for label in labels]
    return {"images": images, "labels": labels, "names": good["names"]}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no image", "a.parquet, row 4: the image has no bytes, and no other file is looked for"),
        ("no picture", "a.parquet, row 9: cannot be read as an image"),
        ("another size", "a.parquet, row 8: is 3x3 gray, but "),
        ("no label", "a.parquet, row 5: there is no label"),
        ("label -1", "a.parquet, row 6: label -1"),
        ("a float", "the column 'label' is of 'double'; labels are integers"),
        ("words", "the column 'label' is of 'string'; labels are integers"),
    ],
)
def test_what_is_wrong_in_a_row_is_named(tmp_path: Path, good: dict, name: str, words: str) -> None:
    refused(write(tmp_path / "a.parquet", **broken(name, good)), words)


def test_missing_columns_and_damage(tmp_path: Path, good: dict) -> None:
    path = write(tmp_path / "a.parquet", **good)
    parquet.write_table(parquet.read_table(path).drop_columns(["image"]), path)
    refused(path, "a.parquet: has no column of images (called image or img); its columns are id, label")
    write(path, **good)
    parquet.write_table(parquet.read_table(path).drop_columns(["label"]), path)
    refused(path, "a.parquet: has no column of labels (called label or labels); its columns are id, image")
    parquet.write_table(pyarrow.table({"image": [1, 2], "label": [0, 1]}), path)
    refused(path, "the column 'image' is of 'int64'; images are the bytes of image files")
    write(path, [], [])
    refused(path, "a.parquet: ")
    write(path, **{**good, "names": ["cat"]})
    refused(path, "at least 3 strings, not 1")
    write(path, **{**good, "names": [1, 2, 3]})
    refused(path, "names of classes")
    whole = write(path, **good).read_bytes()
    for content in (b"", b"PAR1", whole[:-40], whole[:200] + bytes(200) + whole[400:], b"no parquet at all" * 9):
        path.write_bytes(content)
        refused(path, "a.parquet")
    place = tmp_path / "set"
    write(place / "test-00000-of-00001.parquet", **good)
    refused(place, "has no training images: no file's name begins with train")


def test_without_the_library(tmp_path: Path, good: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.parquet", **good)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    refused(path, "Parquet files need pyarrow", "pip install '.[parquet]'")


def test_the_command_trains_on_it(tmp_path: Path, good: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("a.parquet"), **good)
    flags = ["--data", "a.parquet", "--size", "8x8", "--model", "3-4-8-3", "--batch-size", "8", "--progress", "off"]
    assert main([*flags, "--epochs", "1", "--out", "run"]) == 0
    assert main(["--resume", "run", "--epochs", "2", "--progress", "off"]) == 0
