"""Decodes one image file to gray or colour bytes, safely and within limits."""

from __future__ import annotations

import logging
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from ..descriptors import hushed
from ..errors import DataError, InputError, short, shown
from ..values import integer, sequence
from ..values import path as as_path
from . import deep_colour
from .brightness import BITS, FULL, of_bits
from .deep_colour import as_tuple
from .files import reading

#: The formats that are read, by Pillow's names, with the endings of their files' names.
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

#: Most pixels of an image, in the file and after resizing.
MOST_PIXELS = 1 << 27

_SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
_GRAY_MODES = ("1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I")
_PALETTES = ("P", "PA")
_LARGE = 1 << 24  # larger images are decoded one at a time: several threads would need several times the memory
_ORIENTATION = 0x0112  # EXIF's tag; by its value, the operation that turns a picture upright
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
_LUMA = np.array([[0.299], [0.587], [0.114]], np.float32)  # ITU-R 601, as Pillow brings colours to gray
_PHOTOMETRIC, _SAMPLE_FORMAT = 262, 339  # tags of TIFF
_large = threading.Lock()


class Picture(NamedTuple):
    """A decoded image file."""

    pixels: np.ndarray
    """(H, W, C) uint8, C 1 for gray and 3 for colour; float32 from 0 to 65535 where it is `deep`."""
    height: int
    """Height in the file, before any resizing; the three below describe the file too."""
    width: int
    channels: int
    either: bool
    """Whether it is a gray picture that its format could only store in colours: it fits gray and colour pictures."""
    several: bool
    """Whether the file holds more pictures, of which this is the first: an animation, or pages."""
    deep: bool = False
    """Whether it has 16 bits a channel, of which all are kept."""

    @property
    def kind(self) -> str:
        """The size and kind of the picture in the file, for a message."""
        return f"{self.width}x{self.height} {'gray' if self.channels == 1 else 'colour'}"


def is_image(path: Path) -> bool:
    """Whether `path` is a file whose name has the ending of an image that can be read."""
    return path.suffix.lower() in _SUFFIXES and path.is_file()


def read_image(path: str | Path, shape: tuple[int, int, int] | None = None, *, bits: int | None = None) -> np.ndarray:
    """Read one image file: PNG, JPEG, BMP, GIF, TIFF, WebP or PPM.

    Parameters
    ----------
    path : str or Path
        The file. Transparency is dropped, a camera's rotation tag is obeyed; of an animation or of several pages the
        first is read.
    shape : (int, int, int), optional
        ``(H, W, C)`` to bring the image to: gray for C = 1, colour for C = 3, resized (bilinear, antialiased) where
        the size differs. Default: as the file has it.
    bits : int, optional
        Of an image of 16 bits, how many are in use, from 1 on: ``2**bits - 1`` becomes 255. By default all.

    Returns
    -------
    ndarray, shape (H, W, C), uint8 or float32
        0 to 255. An image of 16 bits is float32 and keeps its depth.

    Raises
    ------
    DataError
        If the file is missing, is no complete image, has more than 2^27 pixels, or has pixels of neither 8 nor 16 bits,
        or of 16 in a form of which only 8 could be read (CMYK, colours in a PPM).
    InputError
        If `shape` is not three sizes, or has neither 1 nor 3 channels, or a pixel is larger than `bits` hold.
    """
    path = as_path(path, "path")
    used = None if bits is None else integer(bits, "bits", minimum=1, maximum=BITS)
    with quiet():
        picture = decode(path, None if shape is None else _shape(path, shape))
    if not picture.deep:
        return picture.pixels
    how = of_bits(used)
    most = float(picture.pixels.max())
    if most > how.high:
        raise InputError(f"{path}: has a pixel of {most:g}, and bits={used} hold at most {how.high:g}; give more bits")
    return how.scaled(picture.pixels)


def _shape(path: Path, shape: Any) -> tuple[int, int, int]:
    """`shape` as height, width and channels, checked."""
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
    """Within it, Pillow prints no warnings about odd files; for around all threads that decode, not inside them."""
    log, handler = logging.getLogger("PIL"), logging.NullHandler()  # without a handler Python prints records
    log.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.removeHandler(handler)


def decode(path: Path, shape: tuple[int, ...] | None = None) -> Picture:
    """Read one image file as :func:`read_image` does; `shape` may be ``(H, W)``, which keeps the file's channels."""
    with reading(path):
        status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        what = "a directory" if path.is_dir() else "not a regular file"
        raise DataError(f"{path}: cannot be read (is {what}); give image files")
    if not status.st_size:
        raise DataError(f"{path}: the file is empty; remove or replace it")
    try:
        # Opened as a stream: given the path, Pillow maps an uncompressed TIFF with a camera's tag in the wrong width.
        with path.open("rb") as stream:
            return decode_bytes(path, stream, shape)
    except PermissionError:
        with reading(path):
            raise
        raise


def decode_bytes(where: Path | str, stream: BinaryIO, shape: tuple[int, ...] | None = None) -> Picture:
    """Decode the content of an image file; `where` it is, for messages."""
    try:
        with Image.open(stream, formats=tuple(FORMATS)) as opened:
            _check(opened, where)
            alone = _large if opened.width * opened.height > _LARGE else nullcontext()
            with alone, hushed() if opened.format == "TIFF" else nullcontext():  # libtiff prints what it meets
                return _decoded(opened, shape, where, stream)
    except (DataError, PermissionError):
        raise
    except MemoryError:
        raise DataError(f"{where}: too large for the memory that is left; make it smaller") from None
    # Decoders of damaged files raise all kinds: OSError, SyntaxError, ValueError, struct.error, zlib.error, …
    except Exception as error:
        reason = short(" ".join(str(error).split()), 200) or type(error).__name__
        if isinstance(error, Image.DecompressionBombError):
            raise DataError(f"{where}: more than {MOST_PIXELS:,} pixels; make the image smaller") from None
        reason = f"not a {FORMAT_NAMES}" if isinstance(error, Image.UnidentifiedImageError) else reason
        what = "the file" if isinstance(where, Path) else "it"
        raise DataError(f"{where}: cannot be read as an image ({reason}); remove or replace {what}") from None


def _check(opened: Image.Image, path: Path | str) -> None:
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
        if any(sign != 1 for sign in as_tuple(signs)):
            numbers = "signed integers"
    if numbers is not None:
        raise DataError(
            f"{path}: its pixels are {numbers}; save it with 8 or 16 bits a channel, or give the numbers as an .npz"
        )


def _decoded(opened: Image.Image, shape: tuple[int, ...] | None, where: Path | str, stream: BinaryIO) -> Picture:
    """Decode the first picture of an open file."""
    raw = deep_colour.raw_mode(opened)
    if raw is not None:
        pixels = deep_colour.read(opened, raw, stream, _upright, where)
        return _deep(pixels.astype(np.float32), shape, _holds_more(opened))
    gray = opened.mode in _GRAY_MODES
    inverted = opened.mode.startswith("I;16") and _is_white_zero(opened)
    # By how much a gray picture's channels may differ in formats that store it in colours: in lossy WebP, by rounding.
    apart = {"WEBP": 1}.get(opened.format or "", 0 if opened.mode in _PALETTES else None)
    opened.load()
    upright = _upright(opened)
    if upright.mode.startswith("I"):
        deep = np.asarray(upright).clip(0, FULL).astype(np.float32)[..., None]
        return _deep(FULL - deep if inverted else deep, shape, _holds_more(opened))
    image = _bytes(upright, gray)
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


def _deep(pixels: np.ndarray, shape: tuple[int, ...] | None, several: bool) -> Picture:
    """A picture of 16 bits. It comes in floating-point numbers, since Pillow's own conversion and its smooth resizing
    of such pictures clip, or are of the wrong bytes."""
    height, width, channels = pixels.shape
    if shape is not None and len(shape) == 3 and shape[2] < channels:
        pixels = pixels @ _LUMA
    if shape is not None and (height, width) != shape[:2]:
        size = shape[1], shape[0]
        planes = [Image.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(pixels, -1, 0)]
        resized = [np.asarray(plane.resize(size, Image.Resampling.BILINEAR)) for plane in planes]
        pixels = np.stack(resized, axis=-1).clip(0, FULL)
    if shape is not None and len(shape) == 3:
        pixels = np.broadcast_to(pixels, (*pixels.shape[:2], shape[2]))
    return Picture(np.ascontiguousarray(pixels), height, width, channels, False, several, deep=True)


def _upright(opened: Image.Image) -> Image.Image:
    """Turn a picture upright as the camera's tag says; for TIFF, Pillow has done so already.

    ImageOps.exif_transpose raises an error if any other tag is damaged, because it writes all tags anew.
    """
    try:
        turn = _TURNS.get(opened.getexif().get(_ORIENTATION, 1))
    except Exception:  # the tags are damaged, but not the picture
        turn = None
    return opened if turn is None else opened.transpose(turn)


def _is_white_zero(opened: Image.Image) -> bool:
    """Whether 0 means white in a TIFF; Pillow inverts 8 bits then, but not 16."""
    return opened.format == "TIFF" and opened.tag_v2.get(_PHOTOMETRIC) == 0  # type: ignore[attr-defined]


def _bytes(image: Image.Image, gray: bool) -> Image.Image:
    """Bring a picture of any other mode to "L" or "RGB"."""
    if image.mode in _PALETTES or image.mode in ("RGBa", "La"):
        # Through RGBA: otherwise Pillow warns about transparency in palettes, and cannot convert the other modes.
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    return image.convert("L" if gray else "RGB")


def _holds_more(opened: Image.Image) -> bool:
    """Whether a decoded file holds further pictures; the preview in a photograph (MPO) does not count."""
    if opened.format == "MPO":
        return False
    try:
        opened.seek(1)
    except Exception:  # a damaged further picture does not matter
        return False
    return True
