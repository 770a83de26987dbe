"""Images of 16 bits as data: they keep their bits, and are scaled by the type's range, the data's or a given one."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from data_files import refused
from PIL import Image

from pyconv import datasets, predict
from pyconv.datasets.brightness import Brightness
from pyconv.train import main


def folder(place: Path, rng: np.random.Generator, low: int = 100, high: int = 4000, count: int = 10) -> np.ndarray:
    """Write folders of two classes of 16-bit images; returns the images in the order in which they are read."""
    images = rng.integers(low, high, (2 * count, 8, 6)).astype(np.uint16)
    images[0, 0, :2] = low, high
    for number, image in enumerate(images):
        path = place / "ab"[number // count] / f"{number:02}.{('png', 'tif')[number % 2]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return images


def both(place: Path, **options: object) -> tuple[datasets.Dataset, np.ndarray]:
    """The data, and all images of its two splits by class and value."""
    data = datasets.load(place, **options)  # type: ignore[arg-type]
    return data, np.sort(np.concatenate([data.train.x, data.validation.x]).reshape(-1))


@pytest.mark.parametrize(
    ("bits", "low", "high", "words"),
    [
        (None, 0, 65535, "the range of their type (--bits 12, or --bits data, for another)"),
        (12, 0, 4095, "the range of 12 bits"),
        (16, 0, 65535, "the range of 16 bits"),
        ("data", 100, 4000, "the range of the training images"),
    ],
)
def test_the_range_is_chosen_and_said(
    tmp_path: Path, rng: np.random.Generator, bits: int | str | None, low: int, high: int, words: str
) -> None:
    images = folder(tmp_path / "photos", rng)
    data, found = both(tmp_path / "photos", bits=bits)
    assert data.train.x.dtype == data.validation.x.dtype == np.float32
    assert data.image_shape == (8, 6, 1)
    expected = (np.sort(images.reshape(-1).astype(np.float64)) - low) * 255 / (high - low)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)
    (note,) = data.notes
    assert note.endswith(f"20 images of 16 bits, whose pixels are 100 to 4000: {low} to {high}, {words}, "
                         "are 0 to 255 here, as floating-point numbers")  # fmt: skip
    assert data.brightness == (low, high)
    assert len(np.unique(found)) > 500, "the depth is there"


def test_the_datas_range_is_that_of_the_training_images(tmp_path: Path, rng: np.random.Generator) -> None:
    folder(tmp_path / "set" / "train", rng, 1000, 3000)
    images = folder(tmp_path / "set" / "validation", rng, 500, 3500)
    data = datasets.load(tmp_path / "set", bits="data")
    assert data.brightness == (1000, 3000)
    expected = (images[..., None].astype(np.float64) - 1000) * 255 / 2000
    np.testing.assert_allclose(data.validation.x, expected, rtol=1e-5, atol=1e-3)


def test_images_of_8_bits_among_them_stay(tmp_path: Path, rng: np.random.Generator) -> None:
    images = folder(tmp_path / "set" / "train", rng)
    small = rng.integers(0, 256, (8, 6), dtype=np.uint8)
    Image.fromarray(small).save(tmp_path / "set" / "train" / "a" / "-first.png")
    folder(tmp_path / "set" / "validation", rng)
    for path in (tmp_path / "set" / "validation").rglob("*.*"):
        Image.fromarray(small).save(path)
    data = datasets.load(tmp_path / "set", bits=12)
    np.testing.assert_array_equal(data.train.x[0, ..., 0], small)
    np.testing.assert_allclose(data.train.x[1:, ..., 0], images * (255 / 4095), rtol=1e-5)
    assert data.validation.x.dtype == np.float32
    np.testing.assert_array_equal(data.validation.x[3, ..., 0], small)
    assert "20 images of 16 bits" in data.notes[0]


def test_gray_ones_among_colour_ones_and_sizes(tmp_path: Path, rng: np.random.Generator) -> None:
    images = folder(tmp_path / "photos", rng)
    data, found = both(tmp_path / "photos", size=(4, 3, 3), bits=12)
    assert data.image_shape == (4, 3, 3)
    np.testing.assert_array_equal(data.train.x[..., 0], data.train.x[..., 2])
    shrunk = [
        np.asarray(Image.fromarray(i.astype(np.float32)).resize((3, 4), Image.Resampling.BILINEAR)) for i in images
    ]
    expected = np.sort(np.repeat(np.stack(shrunk).reshape(-1), 3)) * (255 / 4095)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_what_does_not_fit_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    folder(tmp_path / "photos", rng)
    refused(tmp_path / "photos", "a/00.png: has a pixel of 4000, and 10 bits hold at most 1023", bits=10)
    for bits, words in (
        (0, "at least 1"),
        (17, "at most 16"),
        ("all", "from 1 to 16, or 'data'"),
        (True, "an integer"),
    ):
        refused(tmp_path / "photos", words, bits=bits)
    Image.fromarray(np.zeros((8, 6, 3), np.uint8)).save(tmp_path / "photos" / "a" / "zz.png")
    refused(tmp_path / "photos", "zz.png: is 6x8 colour, but", "is 6x8 gray")
    for path in (tmp_path / "photos").rglob("*.*"):
        Image.fromarray(rng.integers(0, 256, (8, 6), dtype=np.uint8)).save(path)
    refused(tmp_path / "photos", "--bits 12 is for images of 16 bits, and there are none", bits=12)
    for path in (tmp_path / "photos").rglob("*.*"):
        Image.fromarray(np.full((8, 6), 700, np.uint16)).save(path)
    refused(tmp_path / "photos", "all pixels of the images of 16 bits are 700", bits="data")
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 2, 2), np.uint8), y=[0, 1, 0, 1])
    refused(tmp_path / "a.npz", "bits is for data of the form", bits=12)


def test_a_run_predicts_as_it_was_trained(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder(Path("photos"), rng, 100, 1000)
    for path in Path("photos/b").iterdir():  # brighter than the others by less than eight bits show
        Image.fromarray((np.asarray(Image.open(path)).astype(int) // 4 + 900).astype(np.uint16)).save(path)
    Path("m.toml").write_text(
        'input_shape = [8, 6, 1]\n[[layers]]\ntype = "Flatten"\n[[layers]]\ntype = "Dense"\nunits = 2\n'
    )
    flags = ["--data", "photos", "--model", "m.toml", "--epochs", "8", "--batch-size", "4", "--progress", "off"]
    assert main([*flags, "--bits", "data", "--out", "run"]) == 0
    about = tomllib.loads(Path("run/config.toml").read_text())["data"]
    assert about["bits"] == "data" and about["brightness"][0] == 100 and "of 16 bits" in about["notes"][0]
    capsys.readouterr()
    assert predict.main(["run", "photos", "--json"]) == 0
    images = json.loads(capsys.readouterr().out)["images"]
    assert all(image["class"] == Path(image["image"]).parent.name for image in images)
    assert images[0]["note"] == f"brought from 100–{about['brightness'][1]:g} to 0–255"
    assert main(["--resume", "run", "--epochs", "9", "--progress", "off"]) == 0
    text = Path("run/config.toml").read_text()
    Path("run/config.toml").write_text(text.replace("brightness = [\n    100.0,", "brightness = [\n    9e9,"))
    capsys.readouterr()
    assert predict.main(["run", "photos"]) == 2
    error = capsys.readouterr().err
    assert "data.brightness must be two numbers that rise" in error and error.count("\n") == 1


def test_by_hand() -> None:
    np.testing.assert_allclose(Brightness().scaled(np.array([0, 257, 65535], np.float32)), [0, 1, 255])
    np.testing.assert_allclose(Brightness(100, 355).scaled(np.array([100, 101, 400], np.float32)), [0, 1, 300])
