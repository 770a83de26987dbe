"""Image files of every format and mode: the right pixels, or one line that says why not."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from data_files import images_of
from PIL import Image

from pyconv import datasets
from pyconv.datasets import images
from pyconv.errors import DataError, InputError


@pytest.fixture
def gray(rng: np.random.Generator) -> np.ndarray:
    image = images_of(rng, 6, 5)
    image[0, :2] = 0, 255
    return image


@pytest.fixture
def colour(rng: np.random.Generator) -> np.ndarray:
    return images_of(rng, 6, 5, 3)


@pytest.fixture(autouse=True)
def silent() -> object:
    """No warning of Pillow's comes through."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def png(kind: int, depth: int, data: np.ndarray, extra: bytes = b"") -> bytes:
    """A PNG of colour type `kind` from (H, W, …) samples, which Pillow does not write in all depths."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width = data.shape[:2]
    rows = b"".join(b"\0" + row.astype(f">u{depth // 8}").tobytes() for row in data)
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def tiff(pixels: np.ndarray, photometric: int, sample_format: int = 1) -> bytes:
    """A TIFF of one gray strip, little-endian."""
    height, width = pixels.shape
    tags = [(256, width), (257, height), (258, pixels.itemsize * 8), (259, 1), (262, photometric), (273, 0), (277, 1),
            (278, height), (279, pixels.nbytes), (339, sample_format)]  # fmt: skip
    start = 8 + 2 + 12 * len(tags) + 4
    found = b"II*\0" + struct.pack("<IH", 8, len(tags))
    for tag, value in tags:
        found += struct.pack("<HHII", tag, 4, 1, start if tag == 273 else value)
    return found + bytes(4) + pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()


def written(folder: Path, data: bytes, name: str = "a.png") -> Path:
    (folder / name).write_bytes(data)
    return folder / name


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.png", {}), ("a.bmp", {}), ("a.tif", {}), ("a.tiff", {"compression": "tiff_deflate"}), ("a.PNG", {}),
        ("a.gif", {}), ("a.webp", {"lossless": True}), ("a.pgm", {}), ("a.tif", {"compression": "packbits"}),
    ],
)  # fmt: skip
def test_gray_comes_through(tmp_path: Path, gray: np.ndarray, name: str, options: dict) -> None:
    Image.fromarray(gray).save(tmp_path / name, **options)
    assert images.is_image(tmp_path / name)
    np.testing.assert_array_equal(datasets.read_image(tmp_path / name), gray[..., None])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.png", {}),
        ("a.bmp", {}),
        ("a.tif", {"compression": "tiff_lzw"}),
        ("a.webp", {"lossless": True}),
        ("a.ppm", {}),
    ],
)
def test_colour_comes_through(tmp_path: Path, colour: np.ndarray, name: str, options: dict) -> None:
    Image.fromarray(colour).save(tmp_path / name, **options)
    np.testing.assert_array_equal(datasets.read_image(tmp_path / name), colour)


def test_sixteen_bits_keep_their_depth(tmp_path: Path, gray: np.ndarray, rng: np.random.Generator) -> None:
    deep = gray.astype(np.uint16) * 256 + images_of(rng, 6, 5)
    paths = [
        written(tmp_path, png(0, 16, deep), "gray.png"),
        written(tmp_path, tiff(deep, 1), "black-is-zero.tif"),
        written(tmp_path, tiff(~deep, 0), "white-is-zero.tif"),
        written(tmp_path, b"P5 5 6 65535\n" + deep.astype(">u2").tobytes(), "gray.pgm"),
    ]
    Image.fromarray(deep.astype(">u2")).save(tmp_path / "big-endian.tif")
    for path in [*paths, tmp_path / "big-endian.tif"]:
        found = datasets.read_image(path)
        assert found.dtype == np.float32 and found.shape == (6, 5, 1)
        np.testing.assert_allclose(found[..., 0], deep / 257, rtol=1e-6, err_msg=path.name)
        wide = datasets.read_image(path, (6, 5, 3))
        np.testing.assert_array_equal(wide, np.repeat(found, 3, axis=-1))
    path = written(
        tmp_path, b"P5 5 6 4095\n" + (gray.astype(np.uint32) * 4095 // 255).astype(">u2").tobytes(), "12.pgm"
    )
    assert np.abs(datasets.read_image(path)[..., 0] - gray).max() <= 1


def test_what_pillow_reads_only_eight_bits_of_keeps_sixteen(
    tmp_path: Path, gray: np.ndarray, rng: np.random.Generator
) -> None:
    path = written(tmp_path, tiff(~gray, 0), "white-is-zero-8.tif")
    np.testing.assert_array_equal(datasets.read_image(path), gray[..., None])
    deep = gray.astype(np.uint16) * 256 + images_of(rng, 6, 5)
    alpha = np.full_like(deep, 30_000)
    for kind, samples, channels in ((4, [deep, alpha], 1), (2, [deep] * 3, 3), (6, [deep] * 3 + [alpha], 3)):
        found = datasets.read_image(written(tmp_path, png(kind, 16, np.stack(samples, -1))))
        np.testing.assert_allclose(found, np.stack([deep / 257] * channels, -1), rtol=1e-6)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("shape", [(9, 11, 1), (40, 30, 1), (12, 9, 3)])
def test_deep_images_are_resized_in_floating_point(
    tmp_path: Path, rng: np.random.Generator, name: str, shape: tuple[int, int, int]
) -> None:
    deep = rng.integers(200, 5000, (24, 18)).astype(np.uint16)  # all of it is white to Pillow's own conversion
    Image.fromarray(deep).save(tmp_path / name)
    found = datasets.read_image(tmp_path / name, shape)
    theirs = Image.fromarray(deep.astype(np.float32)).resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    expected = np.repeat(np.asarray(theirs)[..., None] / 257, shape[2], axis=-1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert len(np.unique(found)) > 50


def test_bits_in_use(tmp_path: Path, rng: np.random.Generator) -> None:
    deep = rng.integers(0, 4096, (6, 5)).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    np.testing.assert_allclose(datasets.read_image(tmp_path / "a.png", bits=12)[..., 0], deep * (255 / 4095), rtol=1e-6)
    for bits, words in (
        (8, "bits=8 hold at most 255"),
        (17, "at most 16"),
        (0, "at least 1"),
        ("data", "bits must be"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            datasets.read_image(tmp_path / "a.png", bits=bits)
        assert "\n" not in str(caught.value)
    Image.fromarray((deep >> 4).astype(np.uint8)).save(tmp_path / "b.png")
    np.testing.assert_array_equal(datasets.read_image(tmp_path / "b.png", bits=12)[..., 0], deep >> 4)


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda g: Image.fromarray(g.astype(np.float32)), "floating-point numbers"),
        (lambda g: Image.fromarray(g.astype(np.int32) * 1000), "integers that are no 16-bit"),
        (lambda g: tiff(g.astype(np.uint32) << 24, 1), "integers that are no 16-bit"),
        (lambda g: tiff(g.astype(np.int16) - 99, 1, 2), "integers that are no 16-bit"),
        (lambda g: tiff(g.view(np.int8), 1, 2), "signed integers"),
    ],
)
def test_numbers_that_are_no_brightness_are_refused(tmp_path: Path, gray: np.ndarray, make, what: str) -> None:
    path, made = tmp_path / "a.tif", make(gray)
    path.write_bytes(made) if isinstance(made, bytes) else made.save(path)
    with pytest.raises(DataError, match=rf"a\.tif: its pixels are {what}.*; save it with 8 or 16 bits") as caught:
        datasets.read_image(path)
    assert "\n" not in str(caught.value)


def test_palettes(tmp_path: Path, gray: np.ndarray, colour: np.ndarray) -> None:
    image = Image.fromarray(gray).convert("P")
    for options in ({}, {"transparency": 3}, {"transparency": bytes(range(256))}):
        image.save(tmp_path / "a.png", **options)
        np.testing.assert_array_equal(datasets.read_image(tmp_path / "a.png"), gray[..., None])
    image = Image.fromarray(colour).quantize(30)
    for options in ({}, {"transparency": 3}, {"transparency": bytes(range(30))}):
        image.save(tmp_path / "a.png", **options)
        np.testing.assert_array_equal(datasets.read_image(tmp_path / "a.png"), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I;16B"])
def test_every_mode_that_a_tiff_takes(tmp_path: Path, colour: np.ndarray, gray: np.ndarray, mode: str) -> None:
    if mode.startswith("I"):
        image = Image.fromarray((gray.astype(np.uint16) * 257).astype(">u2" if mode.endswith("B") else "<u2"))
    elif mode == "PA":
        image = Image.fromarray(colour).convert("P").convert("PA")
    else:
        image = Image.fromarray(colour).convert(mode)
    path = tmp_path / "a.tif"
    try:
        image.save(path)
    except OSError:
        image.convert("RGBA").save(path)  # Pillow has no way to write PA
    found = datasets.read_image(path)
    is_gray = mode in ("1", "L", "LA", "I;16", "I;16B")
    assert found.shape == (6, 5, 1 if is_gray else 3)
    if is_gray:
        flat = gray if mode.startswith("I") else np.asarray(image.convert("L"))
        np.testing.assert_allclose(found[..., 0], flat, rtol=1e-6)
    elif mode in ("RGB", "RGBA"):
        np.testing.assert_array_equal(found, colour)
    else:
        assert (
            np.abs(found.astype(int) - np.asarray(image.convert("RGBA" if "P" in mode else "RGB"))[..., :3]).max() <= 1
        )


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tif"])
def test_of_several_pictures_the_first(tmp_path: Path, gray: np.ndarray, name: str) -> None:
    first, second = Image.fromarray(gray), Image.fromarray(255 - gray)
    first.save(tmp_path / name, save_all=True, append_images=[second], **({"lossless": True} if "webp" in name else {}))
    picture = images.decode(tmp_path / name)
    assert picture.several
    np.testing.assert_array_equal(picture.pixels[..., 0], gray)
    first.save(tmp_path / name)
    assert not images.decode(tmp_path / name).several


def test_a_file_of_another_format_than_its_name_says(tmp_path: Path, colour: np.ndarray) -> None:
    Image.fromarray(colour).save(tmp_path / "a.bmp")
    (tmp_path / "a.bmp").rename(tmp_path / "a.png")
    np.testing.assert_array_equal(datasets.read_image(tmp_path / "a.png"), colour)


def test_a_huge_image_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    for side, words in ((12_000, "12000x12000 pixels"), (60_000, "more than 134,217,728 pixels")):
        data = bytearray(png(0, 8, np.zeros((1, 1), np.uint8)))
        data[16:24] = struct.pack(">II", side, side)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        path = written(tmp_path, bytes(data))
        with pytest.raises(DataError, match=words):
            datasets.read_image(path)


def test_a_comment_that_unpacks_to_gigabytes_is_refused(tmp_path: Path, gray: np.ndarray) -> None:
    content = b"Comment\0\0" + zlib.compress(bytes(1 << 24))
    chunk = struct.pack(">I", len(content)) + b"zTXt" + content + struct.pack(">I", zlib.crc32(b"zTXt" + content))
    path = written(tmp_path, png(0, 8, gray, chunk))
    with pytest.raises(DataError, match="cannot be read as an image"):
        datasets.read_image(path)


def test_formats_that_are_not_listed_are_not_decoded(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")  # would start Ghostscript
    with pytest.raises(DataError, match="not a PNG, JPEG"):
        datasets.read_image(path)


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    assert not images.is_image(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: cannot be read \(is not a regular file\)"):
        datasets.read_image(tmp_path / "a.png")


def test_nothing_but_pyconvs_own_lines_on_the_terminal(tmp_path: Path, gray: np.ndarray) -> None:
    for name in "ab":
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(3):
            image = Image.fromarray(gray).quantize(16)
            image.save(tmp_path / "set" / name / f"{number}.png", transparency=bytes(range(16)))
    script = "import sys; from pyconv import datasets; print(datasets.load(sys.argv[1]).train.x.shape)"
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", script, tmp_path / "set"], capture_output=True, text=True
    )
    assert done.stdout == "(5, 6, 5, 1)\n", done.stderr
    assert done.stderr == ""


def test_a_damaged_tiff_says_one_line_only(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    steps = np.add.outer(np.arange(99), np.arange(99)).astype(np.uint8)
    Image.fromarray(steps).save(tmp_path / "a.tif", compression="tiff_lzw")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[8:400] = bytes(255 for _ in range(392))  # libtiff prints its own lines about these
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.tif: cannot be read as an image"):
        datasets.read_image(tmp_path / "a.tif")
    assert capfd.readouterr().err == ""
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
def test_a_cameras_rotation_tag_is_obeyed(tmp_path: Path, gray: np.ndarray, turn: int, name: str) -> None:
    image = Image.fromarray(gray)
    tags = image.getexif()
    tags[0x0112] = turn
    image.save(tmp_path / name, exif=tags, **({"lossless": True} if "webp" in name else {}))
    half = gray[::-1, ::-1]
    upright = {2: gray[:, ::-1], 3: half, 4: gray[::-1], 5: gray.T, 6: np.rot90(gray, -1), 7: half.T, 8: np.rot90(gray)}
    np.testing.assert_array_equal(datasets.read_image(tmp_path / name)[..., 0], upright.get(turn, gray))


def test_damaged_tags_do_not_keep_a_picture_from_being_read(tmp_path: Path, colour: np.ndarray) -> None:
    image = Image.fromarray(colour)
    tags = image.getexif()
    tags[0x0112] = 6
    tags[0x010E] = "description"
    damaged = tags.tobytes().replace(b"\x01\x0e", b"\x01\x02")  # text where a number belongs
    image.save(tmp_path / "a.jpg", exif=damaged)
    image.save(tmp_path / "b.jpg")
    upright = np.rot90(datasets.read_image(tmp_path / "b.jpg"), -1)
    np.testing.assert_array_equal(datasets.read_image(tmp_path / "a.jpg"), upright)
    image.save(tmp_path / "c.jpg", exif=damaged[:20])
    np.testing.assert_array_equal(datasets.read_image(tmp_path / "c.jpg"), datasets.read_image(tmp_path / "b.jpg"))


def test_what_pillow_logs_is_not_printed(tmp_path: Path, gray: np.ndarray) -> None:
    data = bytearray(tiff(gray, 1))
    data[data.index(struct.pack("<HHII", 277, 4, 1, 1)) + 8] = 200  # samples of each pixel
    (tmp_path / "a.tif").write_bytes(data)
    script = "import sys; from pyconv import datasets; datasets.read_image(sys.argv[1])"
    command = [sys.executable, "-c", script, tmp_path / "a.tif"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "More samples per pixel" not in done.stderr
    assert "DataError" in done.stderr.splitlines()[-1]
