"""Maps an array of an ``.npz`` into memory, where it is stored as it is; so it may be larger than the memory."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

LEAST = 1 << 28
"""Bytes of the smallest array that is mapped; what is smaller is read, as it always was."""

_HEADER = struct.Struct("<26x2H")  # of a member, up to the lengths of its name and of what follows that
_ENCRYPTED = 0x01
_PIECE = 1 << 24
_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class Damaged(Exception):
    """The bytes of a member do not have its checksum."""


def mapped(path: Path, member: zipfile.ZipInfo) -> np.ndarray | None:
    """An array of an archive as a map of the file.

    Parameters
    ----------
    path : Path
    member : ZipInfo

    Returns
    -------
    memmap or None
        None where it is small, compressed, or nothing that a network takes as it is: uint8 or float32 in C's order.

    Raises
    ------
    Damaged
    """
    stored = member.compress_type == zipfile.ZIP_STORED and not member.flag_bits & _ENCRYPTED
    if not stored or member.file_size < LEAST:
        return None
    with path.open("rb") as stream:
        stream.seek(member.header_offset)
        start = member.header_offset + _HEADER.size + sum(_HEADER.unpack(stream.read(_HEADER.size)))
        stream.seek(start)
        try:
            shape, fortran, dtype = _READERS[np.lib.format.read_magic(stream)](stream)
        except (ValueError, KeyError, EOFError):
            return None  # which NumPy's reader will say better
        offset = stream.tell()
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if (
        fortran
        or dtype not in (np.uint8, np.float32)
        or not dtype.isnative
        or offset - start + size != member.file_size
    ):
        return None
    whole = np.memmap(path, np.uint8, "r", start, (member.file_size,))
    checksum = 0
    for begin in range(0, member.file_size, _PIECE):
        checksum = zlib.crc32(whole[begin : begin + _PIECE].data, checksum)
    if checksum != member.CRC:
        raise Damaged
    return np.memmap(path, dtype, "r", offset, shape)
