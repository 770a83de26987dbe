"""Image files: one file decoded to gray or colour bytes, safely and within bounds."""

from __future__ import annotations

import logging
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ..descriptors import hushed
from ..errors import DataError, InputError, shown
from ..values import integer, sequence
from ..values import path as as_path
from .files import reading

#: Formats that are decoded, by Pillow's names, and the endings of their files' names.
FORMATS = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
FORMAT_NAMES = "PNG, JPEG, BMP, GIF, TIFF, WebP or PPM"

#: Of an image, in the file and after resizing.
MOST_PIXELS = 1 << 27

_SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
_GRAY_MODES = ("1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I")
_PALETTES = ("P", "PA")
_LARGE = 1 << 24  # such images are decoded one at a time, or as many threads would need as many times the memory
_ORIENTATION = 0x0112  # tag of EXIF; what brings a picture upright, by its value
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
_PHOTOMETRIC, _SAMPLE_FORMAT = 262, 339  # tags of TIFF
_large = threading.Lock()


class Picture(NamedTuple):
    """A decoded image file."""

    pixels: np.ndarray
    """(H, W, C) uint8, C 1 for gray and 3 for colour."""
    height: int
    """In the file, before it was brought to a shape; so are the three below."""
    width: int
    channels: int
    either: bool
    """Whether it is a gray picture that its format had to store in colours: it fits among gray and colour ones."""
    several: bool
    """Whether the file holds more pictures, of which this is the first: an animation, or pages."""

    @property
    def kind(self) -> str:
        """What the file holds, for a message."""
        return f"{self.width}x{self.height} {'gray' if self.channels == 1 else 'colour'}"


def is_image(path: Path) -> bool:
    """Whether `path` is a file named as an image that can be read."""
    return path.suffix.lower() in _SUFFIXES and path.is_file()


def read_image(path: str | Path, shape: tuple[int, int, int] | None = None) -> np.ndarray:
    """Read one image file: PNG, JPEG, BMP, GIF, TIFF, WebP or PPM.

    Parameters
    ----------
    path : str or Path
        The file. Transparency is dropped, 16-bit gray is brought to 8 bits, a camera's rotation tag is obeyed; of an
        animation or of several pages the first is read.
    shape : (int, int, int), optional
        ``(H, W, C)`` to bring the image to: gray for C = 1, colour for C = 3, resized (bilinear, antialiased) where
        the size differs. Default: as the file has it.

    Returns
    -------
    ndarray, shape (H, W, C), uint8

    Raises
    ------
    DataError
        If the file is missing, not a whole image, of more than 2^27 pixels, or holds numbers that are no 8 or 16 bits.
    InputError
        If `shape` is not three sizes, or has neither 1 nor 3 channels.
    """
    path = as_path(path, "path")
    with quiet():
        return decode(path, None if shape is None else _shape(path, shape)).pixels


def _shape(path: Path, shape: Any) -> tuple[int, int, int]:
    """`shape` as height, width and channels that an image can be brought to."""
    sizes = sequence(shape)
    if sizes is None or len(sizes) != 3:
        raise InputError(f"shape must be (height, width, channels), not {shown(shape)}")
    height, width, channels = (integer(size, "every size of shape", minimum=1) for size in sizes)
    if channels not in (1, 3):
        raise InputError(f"{path}: cannot be brought to {channels} channels; an image file has 1 (gray) or 3 (colour)")
    if height * width > MOST_PIXELS:
        raise InputError(f"shape {height}×{width} has more than the {MOST_PIXELS} pixels of the largest image")
    return height, width, channels


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Pillow's remarks about odd files off the terminal; around all threads that decode, not inside them."""
    log, handler = logging.getLogger("PIL"), logging.NullHandler()  # else what it logs is printed where nobody listens
    log.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.removeHandler(handler)


def decode(path: Path, shape: tuple[int, ...] | None = None) -> Picture:
    """Read one image file as :func:`read_image` does; `shape` may be ``(H, W)``, for whatever kind the file holds."""
    with reading(path):
        status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        what = "a directory" if path.is_dir() else "not a regular file"
        raise DataError(f"{path}: cannot be read (is {what}); give image files")
    if not status.st_size:
        raise DataError(f"{path}: the file is empty; remove or replace it")
    try:
        # Not by the path: Pillow would map an uncompressed TIFF with a camera's tag in the wrong width.
        with path.open("rb") as stream, Image.open(stream, formats=tuple(FORMATS)) as opened:
            _check(opened, path)
            alone = _large if opened.width * opened.height > _LARGE else nullcontext()
            with alone, hushed() if opened.format == "TIFF" else nullcontext():  # libtiff prints what it meets
                return _decoded(opened, shape)
    except DataError:
        raise
    except PermissionError:
        with reading(path):
            raise
        raise
    except MemoryError:
        raise DataError(f"{path}: too large for the memory that is left; make it smaller") from None
    # Decoders of damaged files raise all kinds: OSError, SyntaxError, ValueError, struct.error, zlib.error, …
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, Image.DecompressionBombError):
            raise DataError(f"{path}: more than {MOST_PIXELS:,} pixels; make the image smaller") from None
        reason = f"not a {FORMAT_NAMES}" if isinstance(error, Image.UnidentifiedImageError) else reason
        raise DataError(f"{path}: cannot be read as an image ({reason}); remove or replace the file") from None


def _check(opened: Image.Image, path: Path) -> None:
    """Refuse what would take too much memory, or would be read wrongly, before anything is decoded."""
    if opened.width * opened.height > MOST_PIXELS:
        raise DataError(
            f"{path}: {opened.width}x{opened.height} pixels, and at most {MOST_PIXELS:,} are read; "
            "make the image smaller"
        )
    numbers = None
    if opened.mode == "F" or (opened.mode == "I" and opened.format != "PNG" and opened.format != "PPM"):
        numbers = "floating-point numbers" if opened.mode == "F" else "integers that are no 16-bit brightness"
    elif opened.format == "TIFF":
        signs = opened.tag_v2.get(_SAMPLE_FORMAT, 1)  # type: ignore[attr-defined]
        if any(sign != 1 for sign in (signs if isinstance(signs, tuple) else (signs,))):
            numbers = "signed integers"
    if numbers is not None:
        raise DataError(
            f"{path}: its pixels are {numbers}; save it with 8 or 16 bits a channel, or give the numbers as an .npz"
        )


def _decoded(opened: Image.Image, shape: tuple[int, ...] | None) -> Picture:
    """Decode the first picture of an open file."""
    # Pillow makes 16-bit gray with transparency colour; the way in which it will read the file says what it was.
    gray = opened.mode in _GRAY_MODES or any(tile[3] == "LA;16B" for tile in getattr(opened, "tile", ()))
    inverted = opened.mode.startswith("I;16") and _is_white_zero(opened)
    # How far a gray picture's channels lie apart in formats that store it in colours: in lossy WebP, by rounding.
    apart = {"WEBP": 1}.get(opened.format or "", 0 if opened.mode in _PALETTES else None)
    opened.load()
    image = _bytes(_upright(opened), gray, inverted)
    either = False
    if apart is not None and image.mode == "RGB":
        red, green, blue = np.moveaxis(np.asarray(image, np.int16), -1, 0)
        either = bool(max(abs(red - green).max(), abs(blue - green).max()) <= apart)
        if either:
            image = image.getchannel(1)
    width, height = image.size
    channels = 1 if image.mode == "L" else 3
    if shape is not None:
        if len(shape) == 3:
            image = image.convert("L" if shape[2] == 1 else "RGB")
        if image.size != (shape[1], shape[0]):
            image = image.resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    pixels = np.array(pixels if pixels.ndim == 3 else pixels[..., None], np.uint8, order="C")
    return Picture(pixels, height, width, channels, either, _holds_more(opened))


def _upright(opened: Image.Image) -> Image.Image:
    """Turn a picture as the camera's tag says; of TIFF, Pillow has done so by now.

    ImageOps.exif_transpose raises where any other of the tags is damaged, for it writes them all anew.
    """
    try:
        turn = _TURNS.get(opened.getexif().get(_ORIENTATION, 1))
    except Exception:  # the tags are damaged, not the picture
        turn = None
    return opened if turn is None else opened.transpose(turn)


def _is_white_zero(opened: Image.Image) -> bool:
    """Whether 0 means white in a TIFF; Pillow turns 8 bits round then, but not 16."""
    return opened.format == "TIFF" and opened.tag_v2.get(_PHOTOMETRIC) == 0  # type: ignore[attr-defined]


def _bytes(image: Image.Image, gray: bool, inverted: bool) -> Image.Image:
    """Bring a picture of any mode to "L" or "RGB"."""
    if image.mode.startswith("I"):  # 16 bits: the upper eight, as every viewer shows them
        upper = (np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8)
        return Image.fromarray(255 - upper if inverted else upper)
    if image.mode in _PALETTES or image.mode in ("RGBa", "La"):
        # By way of RGBA: else Pillow warns of transparency in palettes, and knows no way from the others.
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    return image.convert("L" if gray else "RGB")


def _holds_more(opened: Image.Image) -> bool:
    """Whether a file that has been decoded holds further pictures; a photograph's preview (MPO) is none."""
    if opened.format == "MPO":
        return False
    try:
        opened.seek(1)
    except Exception:  # a further picture that is damaged does not matter
        return False
    return True
