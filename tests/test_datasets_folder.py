"""Folders of images: what is written is read, and the file that does not fit is named."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from data_files import images_of, refused, write_image
from PIL import Image

from pyconv import datasets, limits
from pyconv.datasets import at_once, decoding
from pyconv.errors import DataError, InputError

CLASSES = ["anger", "joy", "Zeal"]


def fill(place: Path, rng: np.random.Generator, shape: tuple[int, ...] = (6, 5), each: int = 4) -> dict:
    """Write `each` PNG files of every class; return the images by path."""
    images = {}
    for name in CLASSES:
        for i in range(each):
            image = images_of(rng, *shape)
            images[write_image(place / name / f"{i}.png", image)] = image
    return images


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3)])
def test_class_folders(tmp_path: Path, rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    images = fill(tmp_path / "set", rng, shape)
    data = datasets.load(tmp_path / "set", validation_fraction=0.25)
    assert data.classes == sorted(CLASSES)
    assert data.name == "set"
    assert data.image_shape == (6, 5, 1 if len(shape) == 2 else 3)
    found = {}
    for split in (data.train, data.validation):
        assert split.x.dtype == np.uint8
        found |= {x.tobytes(): data.classes[y] for x, y in zip(*split, strict=True)}
    assert found == {image.tobytes(): path.parent.name for path, image in images.items()}
    assert np.bincount(data.validation.y).tolist() == [1, 1, 1]


@pytest.mark.parametrize("validation", ["validation", "val", "valid", "test", "Testing"])
@pytest.mark.parametrize("train", ["train", "Training"])
def test_split_folders(tmp_path: Path, rng: np.random.Generator, train: str, validation: str) -> None:
    fill(tmp_path / train, rng)
    held_out = fill(tmp_path / validation, rng, each=2)
    data = datasets.load(tmp_path)
    assert len(data.train.y) == 12
    assert {x.tobytes() for x in data.validation.x} == {image.tobytes() for image in held_out.values()}
    assert data.test is None


def test_train_validation_and_test_folders(tmp_path: Path, rng: np.random.Generator) -> None:
    for name, each in (("train", 4), ("val", 3), ("test", 2)):
        fill(tmp_path / name, rng, each=each)
    data = datasets.load(tmp_path)
    assert data.test is not None
    assert [len(split.y) for split in (data.train, data.validation, data.test)] == [12, 9, 6]


def test_jpeg_and_other_files(tmp_path: Path, rng: np.random.Generator) -> None:
    fill(tmp_path, rng, (32, 32), each=2)
    smooth = np.add.outer(np.arange(32), np.arange(32)).astype(np.uint8)
    write_image(tmp_path / "joy" / "9.JPG", smooth)
    (tmp_path / "joy" / "notes.txt").write_text("not an image")
    (tmp_path / "joy" / ".DS_Store").write_bytes(b"junk")
    (tmp_path / ".git").mkdir()
    data = datasets.load(tmp_path)
    both = np.concatenate([data.train.x, data.validation.x])
    assert len(both) == 7
    assert min(np.abs(x[..., 0].astype(int) - smooth).max() for x in both) < 4  # JPEG loses a little


def test_kinds_of_png(tmp_path: Path, rng: np.random.Generator) -> None:
    gray = images_of(rng, 6, 5)
    colour = images_of(rng, 6, 5, 3)

    def read_back(image: Image.Image) -> np.ndarray:
        image.save(tmp_path / "a.png")
        return datasets.read_image(tmp_path / "a.png")

    np.testing.assert_array_equal(read_back(Image.fromarray(gray)), gray[..., None])
    np.testing.assert_array_equal(read_back(Image.fromarray(colour)), colour)
    deep = gray.astype(np.uint16) * 256 + 77
    np.testing.assert_allclose(read_back(Image.fromarray(deep)), deep[..., None] / 257, rtol=1e-6)
    with_alpha = np.concatenate([colour, images_of(rng, 6, 5, 1)], axis=2)
    np.testing.assert_array_equal(read_back(Image.fromarray(with_alpha)), colour)
    np.testing.assert_array_equal(read_back(Image.fromarray(gray > 99)), (gray > 99)[..., None] * 255)
    assert read_back(Image.fromarray(colour).convert("P")).shape == (6, 5, 3)


def test_a_turned_photograph_is_upright(tmp_path: Path, rng: np.random.Generator) -> None:
    image = Image.fromarray(images_of(rng, 6, 5))
    exif = image.getexif()
    exif[0x0112] = 6  # turn a quarter clockwise to view
    image.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(datasets.read_image(tmp_path / "a.png")[..., 0], np.rot90(np.asarray(image), -1))


def test_read_image_to_a_shape(tmp_path: Path, rng: np.random.Generator) -> None:
    path = write_image(tmp_path / "a.png", np.full((20, 30, 3), 90, np.uint8))
    for shape in ((48, 48, 1), (20, 30, 3), (7, 5, 3)):
        image = datasets.read_image(path, shape)
        assert image.shape == shape
        assert (image == 90).all()
    with pytest.raises(InputError, match=r"a\.png: cannot be brought to 2 channels"):
        datasets.read_image(path, (4, 4, 2))


def test_read_image_refusals(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.png: no such file"):
        datasets.read_image(tmp_path / "none.png")
    with pytest.raises(DataError, match="directory"):
        datasets.read_image(tmp_path)


@pytest.mark.parametrize("damage", ["text", "truncated", "empty", "folder", "body"])
@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_corrupt_image(tmp_path: Path, rng: np.random.Generator, damage: str, kind: str) -> None:
    fill(tmp_path, rng, (32, 32))
    path = write_image(tmp_path / "joy" / f"bad.{kind}", images_of(rng, 32, 32))
    data = path.read_bytes()
    if damage == "text":
        path.write_text("hello")
    elif damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "body":
        path.write_bytes(data[:12] + bytes(40) + data[52:])
    elif damage == "folder":
        path.unlink()
        path.mkdir()
        assert len(datasets.load(tmp_path).train.y) > 0  # a folder is no image, whatever its name
        return
    refused(tmp_path, path, "remove or replace", error=DataError)


def test_mixed_sizes(tmp_path: Path, rng: np.random.Generator) -> None:
    first = min(fill(tmp_path, rng))
    path = write_image(tmp_path / "joy" / "7.png", images_of(rng, 6, 4))
    size = "--size 5x6, or size=(6, 5) in Python"
    refused(tmp_path, path, "4x6", "5x6", tmp_path / "Zeal" / first.name, size, error=DataError)
    data = datasets.load(tmp_path, size=(8, 7))
    assert data.image_shape == (8, 7, 1)
    found = {x.tobytes() for x in np.concatenate([data.train.x, data.validation.x])}
    assert datasets.read_image(path, (8, 7, 1)).tobytes() in found


@pytest.mark.parametrize("size", [3, (3,), (3, 4, 1, 1), (0, 4), (4, 4, 2), (4.5, 4), "ab", (1 << 20, 4)])
def test_wrong_sizes(tmp_path: Path, rng: np.random.Generator, size: object) -> None:
    fill(tmp_path, rng)
    refused(tmp_path, "size", size=size)


def test_a_gray_picture_in_a_palette_fits_everywhere(tmp_path: Path, rng: np.random.Generator) -> None:
    grays = [Image.fromarray(images_of(rng, 6, 5)) for _ in range(8)]
    colours = [Image.fromarray(images_of(rng, 6, 5, 3)) for _ in range(4)]

    def shape_of(images: list[Image.Image]) -> tuple:
        folder = tmp_path / str(rng.integers(1 << 60))
        for position, image in enumerate(images):
            path = folder / "ab"[position % 2] / f"{position:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
        data = datasets.load(folder)
        together = np.concatenate([data.train.x, data.validation.x])
        expected = [np.asarray(image.convert("L" if data.image_shape[2] == 1 else "RGB")).tobytes() for image in images]
        assert sorted(x.tobytes() for x in together) == sorted(expected)
        return data.image_shape

    palettes = [image.convert("P") for image in grays[:4]]
    assert shape_of(grays[4:] + palettes) == (6, 5, 1)
    assert shape_of(palettes + grays[4:]) == (6, 5, 1)
    assert shape_of(palettes) == (6, 5, 1)
    assert shape_of(palettes + colours) == (6, 5, 3)
    assert shape_of(colours + palettes) == (6, 5, 3)
    assert shape_of([*palettes, colours[0].quantize(20), *colours[1:]]) == (6, 5, 3)


def test_other_formats_are_read_and_the_rest_is_counted(
    tmp_path: Path, rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path / "set", rng)
    for name in ("a.bmp", "b.tif", "c.webp", "d.gif", "e.pgm"):
        Image.fromarray(images_of(rng, 6, 5)).save(tmp_path / "set" / "joy" / name)
    for name in ("joy/x.heic", "joy/y.HEIC", "Zeal/notes.txt", "README", "joy/.hidden.heic"):
        (tmp_path / "set" / name).write_text("no image")
    (tmp_path / "set" / "joy" / "more").mkdir()
    data = datasets.load(tmp_path / "set")
    assert len(data.train.y) + len(data.validation.y) == 17
    (note,) = data.notes
    assert note.startswith(f"{tmp_path / 'set'}: not read: 5 (2 .heic, ")
    for kind in ("1 .txt", "1 folders", "1 without an ending", "WebP"):
        assert kind in note
    assert caplog.messages == [note]


def test_the_first_of_several_pictures_is_told_of(tmp_path: Path, rng: np.random.Generator) -> None:
    fill(tmp_path, rng)
    frames = [Image.fromarray(images_of(rng, 6, 5)) for _ in range(3)]
    frames[0].save(tmp_path / "joy" / "moving.gif", save_all=True, append_images=frames[1:])
    assert datasets.load(tmp_path).notes == (
        f"{tmp_path}: of 1 files that hold several pictures the first of each was read",
    )


@pytest.mark.parametrize(
    "name", [".git", "__MACOSX", "@eaDir", "$RECYCLE.BIN", "lost+found", "System Volume Information"]
)
def test_folders_that_systems_leave_are_no_classes(tmp_path: Path, rng: np.random.Generator, name: str) -> None:
    fill(tmp_path / "train", rng)
    fill(tmp_path / "val", rng)
    for place in (tmp_path, tmp_path / "train", tmp_path / "val", tmp_path / "val" / "joy"):
        (place / name).mkdir()
        (place / name / "1.png").write_text("no image")
        (place / "._joy").write_bytes(b"\0\5\x16\7")
    (tmp_path / "train" / "joy" / "._1.png").write_bytes(b"\0\5\x16\7")
    (tmp_path / "train" / "joy" / "Thumbs.db").write_bytes(b"junk")
    data = datasets.load(tmp_path)
    assert data.classes == sorted(CLASSES)
    assert (len(data.train.y), len(data.validation.y), data.notes) == (12, 12, ())


@pytest.mark.parametrize("kind", ["flat", "empty", "empty classes"])
@pytest.mark.parametrize("validation", [True, False])
def test_a_test_folder_without_labels_is_passed_over(
    tmp_path: Path, rng: np.random.Generator, kind: str, validation: bool
) -> None:
    fill(tmp_path / "train", rng)
    if validation:
        fill(tmp_path / "validation", rng)
    (tmp_path / "test").mkdir()
    if kind == "flat":
        write_image(tmp_path / "test" / "1.png", images_of(rng, 6, 5))
    elif kind == "empty classes":
        for name in CLASSES:
            (tmp_path / "test" / name).mkdir()
    data = datasets.load(tmp_path)
    assert data.test is None
    assert len(data.train.y) == 12 if validation else len(data.train.y) < 12
    (note,) = data.notes
    assert str(tmp_path / "test") in note
    assert "there is no test" in note
    assert ("held out" in note) != validation


def test_more_images_than_memory_are_refused(tmp_path: Path, rng: np.random.Generator, monkeypatch) -> None:
    fill(tmp_path, rng, (64, 64))
    monkeypatch.setattr(limits, "machine_memory", lambda: limits.Limit(100, 0))
    refused(
        tmp_path,
        tmp_path,
        "12 images of 64x64 need",
        "or make them smaller, with --size 64x64 (size=(64, 64))",
        error=DataError,
    )


def test_long_reading_says_how_far_it_is(
    tmp_path: Path, rng: np.random.Generator, caplog: pytest.LogCaptureFixture, monkeypatch
) -> None:
    fill(tmp_path, rng)
    datasets.load(tmp_path)
    caplog.set_level(logging.INFO, "pyconv.datasets")
    assert caplog.messages == []
    monkeypatch.setattr(decoding, "INTERVAL_S", 0.0)
    datasets.load(tmp_path)
    assert len(caplog.messages) == 1 + 11
    assert caplog.messages[-1].startswith("read 11 of 12 images, ")
    assert {record.levelno for record in caplog.records} == {logging.INFO}


def test_threads_keep_the_order(tmp_path: Path, rng: np.random.Generator, monkeypatch) -> None:
    images = fill(tmp_path, rng, each=40)
    monkeypatch.setattr(at_once, "default", lambda: 8)
    paths = sorted(images)
    found = list(decoding.decode_all(paths, None))
    assert [path for path, _ in found] == paths
    for path, picture in found:
        np.testing.assert_array_equal(picture.pixels[..., 0], images[path])


def test_mixed_gray_and_colour(tmp_path: Path, rng: np.random.Generator) -> None:
    fill(tmp_path, rng)
    path = write_image(tmp_path / "joy" / "7.png", images_of(rng, 6, 5, 3))
    refused(tmp_path, path, "colour", "gray", "--size 5x6x3, or size=(6, 5, 3) in Python", error=DataError)
    assert datasets.load(tmp_path, size=(6, 5, 1)).image_shape == (6, 5, 1)
    assert datasets.load(tmp_path, size=(8, 4, 3)).image_shape == (8, 4, 3)
    refused(tmp_path, path, "--size 4x8x3, or size=(8, 4, 3) in Python", size=(8, 4), error=DataError)


def test_empty_class(tmp_path: Path, rng: np.random.Generator) -> None:
    fill(tmp_path, rng)
    (tmp_path / "sloth").mkdir()
    (tmp_path / "sloth" / "readme.txt").write_text("later")
    refused(tmp_path, tmp_path / "sloth", "no PNG, JPEG, BMP", error=DataError)


def test_no_class_folders(tmp_path: Path, rng: np.random.Generator) -> None:
    (tmp_path / "set").mkdir()
    refused(tmp_path / "set", "no class folders", error=DataError)
    write_image(tmp_path / "set" / "1.png", images_of(rng, 6, 5))
    refused(tmp_path / "set", "no class folders", "folder of their own", error=DataError)


def test_one_class_only(tmp_path: Path, rng: np.random.Generator) -> None:
    write_image(tmp_path / "joy" / "1.png", images_of(rng, 6, 5))
    refused(tmp_path, "one class", "joy", error=DataError)


def test_too_few_to_hold_out(tmp_path: Path, rng: np.random.Generator) -> None:
    fill(tmp_path, rng, each=1)
    refused(tmp_path, "3 images", "too few", error=DataError)


def test_splits_with_other_classes(tmp_path: Path, rng: np.random.Generator) -> None:
    fill(tmp_path / "train", rng)
    fill(tmp_path / "val", rng)
    write_image(tmp_path / "val" / "sloth" / "1.png", images_of(rng, 6, 5))
    refused(tmp_path, tmp_path / "val", "sloth", "make them the same", error=DataError)


def test_a_class_whose_name_is_no_text(tmp_path: Path, rng: np.random.Generator) -> None:
    fill(tmp_path, rng)
    write_image(tmp_path / "caf\udce9" / "1.png", images_of(rng, 6, 5))
    refused(tmp_path, tmp_path, r"class name 'caf\udce9' is not UTF-8 text", error=DataError)


def test_empty_validation_folder(tmp_path: Path, rng: np.random.Generator) -> None:
    fill(tmp_path / "train", rng)
    (tmp_path / "val").mkdir()
    refused(tmp_path, tmp_path / "val", "no class folders", error=DataError)
