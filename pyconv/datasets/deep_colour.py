"""Colour images of 16 bits a channel, of which Pillow keeps the upper byte: the lower one comes from a second decoding.

Pillow names the form of the pixels in a file by a raw mode, such as ``"RGB;16B"`` for three big-endian numbers of 16
bits, and unpacks the byte that counts most. Told that the same numbers are little-endian, it unpacks the other byte.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from ..errors import DataError

_NATIVE = ";16L" if sys.byteorder == "little" else ";16B"
_OTHER = {";16B": ";16L", ";16L": ";16B", ";16N": ";16B" if _NATIVE == ";16L" else ";16L"}
_READ = ("RGB", "RGBA", "RGBX")
_BITS = 258  # TIFF's tag: bits of each channel
#: Gray with transparency: two numbers of 16 bits, which are four bytes.
_GRAY_ALPHA = "LA;16B"


def raw_mode(opened: Image.Image) -> str | None:
    """The raw mode of the pixels of an open file, if they have 16 bits in a form of which Pillow keeps 8.

    Parameters
    ----------
    opened : Image
        Not loaded yet.

    Returns
    -------
    str or None
    """
    if opened.mode.startswith("I"):  # gray of 16 bits, which Pillow keeps
        return None
    for tile in getattr(opened, "tile", ()):
        arguments = tile[3]
        raw = arguments if isinstance(arguments, str) else arguments[0] if arguments else None
        if isinstance(raw, str) and ";16" in raw:
            return raw
        if opened.format == "PPM" and not isinstance(arguments, str) and arguments[-1] > 255:
            return f"{raw};16"
    if opened.format == "TIFF" and opened.mode != "F" and 16 in as_tuple(opened.tag_v2.get(_BITS, 8)):  # type: ignore[attr-defined]
        return "channel by channel"
    return None


def read(
    opened: Image.Image, raw: str, stream: BinaryIO, upright: Callable[[Image.Image], Image.Image], where: Any
) -> np.ndarray:
    """Decode all 16 bits.

    Parameters
    ----------
    opened : Image
        An open file, not loaded yet.
    raw : str
        From :func:`raw_mode`.
    stream : file
        The file, for a second look.
    upright : callable
        Turns a decoded picture as its tags say.
    where : object
        What file it is, for the message.

    Returns
    -------
    (H, W, 3) ndarray of uint16
        Or (H, W, 1), if it is gray with transparency, which is dropped.

    Raises
    ------
    DataError
        If Pillow has no way to the lower bytes of this form.
    """
    if raw == _GRAY_ALPHA:
        _ask_for(opened, "RGBA")
        pairs = np.asarray(upright(opened), np.uint16)
        return pairs[..., :1] << 8 | pairs[..., 1:2]
    mode, order = raw[:-4], raw[-4:]
    if mode not in _READ or order not in _OTHER:
        raise DataError(
            f"{where}: its pixels have 16 bits a channel in a form of which only 8 could be read ({raw}); save it as "
            "an RGB image in PNG"
        )
    upper = _decoded(opened, upright)
    stream.seek(0)
    with Image.open(stream, formats=(str(opened.format),)) as again:
        _ask_for(again, mode + _OTHER[order])
        lower = _decoded(again, upright)
    return upper << 8 | lower


def as_tuple(value: Any) -> tuple[Any, ...]:
    """A tag's value, which is a tuple if it has several numbers, as a tuple."""
    return value if isinstance(value, tuple) else (value,)


def _ask_for(opened: Image.Image, raw: str) -> None:
    """Have the pixels of an open file unpacked as `raw`."""
    made: Any = []
    for tile in opened.tile:  # type: ignore[attr-defined]
        codec, extents, offset, arguments = tile
        given = raw if isinstance(arguments, str) else (raw, *arguments[1:])
        made.append(type(tile)(codec, extents, offset, given) if hasattr(tile, "_fields") else (*tile[:3], given))
    opened.tile = made  # type: ignore[attr-defined]


def _decoded(opened: Image.Image, upright: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    return np.asarray(upright(opened), np.uint16)[..., :3]
