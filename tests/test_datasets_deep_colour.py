"""Colour images of 16 bits a channel keep all of them: files written here, byte by byte, and read back."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from data_files import refused
from PIL import Image

from pyconv import datasets
from pyconv.datasets.images import decode_bytes, read_image
from pyconv.errors import DataError

#: First column and row, and distances, of Adam7's passes.
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def filtered(image: np.ndarray, rng: np.random.Generator) -> bytes:
    """A PNG's rows of big-endian numbers, each by a filter of its own (PNG's specification, chapter 9)."""
    apart = 2 * image.shape[2]
    made, above = b"", np.zeros(image.shape[1] * apart, np.int64)
    for row in image.astype(">u2"):
        line = np.frombuffer(row.tobytes(), np.uint8).astype(np.int64)
        left = np.concatenate([np.zeros(apart, np.int64), line[:-apart]])
        corner = np.concatenate([np.zeros(apart, np.int64), above[:-apart]])
        guess = left + above - corner
        to_left, to_above, to_corner = (abs(guess - each) for each in (left, above, corner))
        nearest = np.where(to_above <= to_corner, above, corner)
        paeth = np.where((to_left <= to_above) & (to_left <= to_corner), left, nearest)
        kind = int(rng.integers(5))
        taken = (np.zeros_like(line), left, above, (left + above) // 2, paeth)[kind]
        made += bytes([kind]) + ((line - taken) % 256).astype(np.uint8).tobytes()
        above = line
    return made


def png(image: np.ndarray, rng: np.random.Generator, interlaced: bool = False) -> bytes:
    """A PNG of 16 bits: gray with transparency, RGB or RGBA, by the number of channels."""
    passes = [image[y::down, x::across] for x, y, across, down in ADAM7] if interlaced else [image]
    rows = b"".join(filtered(each, rng) for each in passes if each.size)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, channels = image.shape
    head = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(image: np.ndarray, order: str, compression: int = 1, *, photometric: int = 2, planes: bool = False) -> bytes:
    """A TIFF of 16 bits a channel in one strip; with zlib (compression 8), numbers are differences to the left."""
    height, width, channels = image.shape
    held = image.astype(np.uint16)
    if compression != 1:
        held[:, 1:] -= image.astype(np.uint16)[:, :-1]
    held = np.moveaxis(held, -1, 0) if planes else held
    data = held.astype(f"{order}u2").tobytes()
    data = data if compression == 1 else zlib.compress(data)
    bits = struct.pack(f"{order}{channels}H", *[16] * channels)
    part = len(data) // channels
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, channels, 8), (259, 3, 1, compression)]
    tags += [(262, 3, 1, photometric), (277, 3, 1, channels), (278, 4, 1, height), (284, 3, 1, 2 if planes else 1)]
    begin = 8 + len(bits)
    extra = b""
    if planes:
        places = begin + len(data)
        extra = struct.pack(
            f"{order}{2 * channels}I", *[begin + at * part for at in range(channels)], *[part] * channels
        )
        tags += [(273, 4, channels, places), (279, 4, channels, places + 4 * channels)]
    else:
        tags += [(273, 4, 1, begin), (279, 4, 1, len(data))]
    if compression != 1:
        tags.append((317, 3, 1, 2))
    content = b""
    for tag, kind, count, value in sorted(tags):
        short = kind == 3 and count == 1
        content += struct.pack(f"{order}HHI" + ("HH" if short else "I"), tag, kind, count, value, *[0] * short)
    before = bits + data + extra
    mark = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(before))
    return mark + before + struct.pack(f"{order}H", len(tags)) + content + bytes(4)


def pixels_of(content: bytes, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """What pyconv decodes, 0 to 65535."""
    picture = decode_bytes("here", io.BytesIO(content), shape)
    assert picture.deep and picture.pixels.dtype == np.float32
    return picture.pixels


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_png(rng: np.random.Generator, channels: int, interlaced: bool) -> None:
    image = rng.integers(0, 1 << 16, (int(rng.integers(1, 40)), int(rng.integers(1, 40)), channels))
    kept = 1 if channels == 2 else 3
    np.testing.assert_array_equal(pixels_of(png(image, rng, interlaced)), image[..., :kept])


@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [3, 4])
def test_tiff(rng: np.random.Generator, tmp_path: Path, channels: int, order: str, compression: int) -> None:
    image = rng.integers(0, 1 << 16, (13, 7, channels))
    content = tiff(image, order, compression)
    np.testing.assert_array_equal(pixels_of(content), image[..., :3])
    (tmp_path / "a.tif").write_bytes(content)
    np.testing.assert_allclose(read_image(tmp_path / "a.tif"), image[..., :3] * (255 / 65535), rtol=1e-5, atol=1e-4)


def test_what_cannot_be_read_whole_is_refused(rng: np.random.Generator) -> None:
    four = rng.integers(0, 1 << 16, (5, 6, 4))
    ppm = b"P6 6 5 65535\n" + four[..., :3].astype(">u2").tobytes()
    for content in (tiff(four, "<", photometric=5), tiff(four[..., :3], "<", planes=True), ppm):
        with pytest.raises(
            DataError, match=r"^here: its pixels have 16 bits .* only 8 could be read .*; save it as an RGB"
        ):
            decode_bytes("here", io.BytesIO(content))


def test_gray_colour_and_sizes(rng: np.random.Generator) -> None:
    image = rng.integers(0, 1 << 16, (12, 10, 3))
    content = png(image, rng)
    gray = pixels_of(content, (12, 10, 1))
    np.testing.assert_allclose(gray[..., 0], image @ [0.299, 0.587, 0.114], rtol=1e-5)
    shrunk = pixels_of(content, (6, 5))
    for channel in range(3):
        plane = Image.fromarray(image[..., channel].astype(np.float32))
        expected = np.asarray(plane.resize((5, 6), Image.Resampling.BILINEAR))
        np.testing.assert_allclose(shrunk[..., channel], expected, rtol=1e-5)


def test_a_folder_of_them(rng: np.random.Generator, tmp_path: Path) -> None:
    images = rng.integers(100, 4000, (8, 6, 5, 3))
    for number, image in enumerate(images):
        place = tmp_path / "photos" / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        name, content = (".png", png(image, rng)) if number % 3 else (".tif", tiff(image, ">", 8))
        (place / f"{number}{name}").write_bytes(content)
    data = datasets.load(tmp_path / "photos", bits=12)
    assert data.image_shape == (6, 5, 3) and data.train.x.dtype == np.float32
    found = np.sort(np.concatenate([data.train.x, data.validation.x]).reshape(-1))
    np.testing.assert_allclose(found, np.sort(images.reshape(-1)) * (255 / 4095), rtol=1e-5)
    assert "8 images of 16 bits" in data.notes[0]
    (tmp_path / "photos" / "a" / "9.png").write_bytes(png(images[0], rng)[:-30])
    refused(tmp_path / "photos", "9.png: cannot be read as an image", bits=12)
