"""Checks that a zip file's directory names everything that the file holds, under the same names.

Readers of zip files use the directory at the end. If it has lost an entry, or its names are damaged, arrays are hidden
without an error: an array's data has a checksum, but the directory has none. (PKWARE, *APPNOTE*, sections 4.3.7
to 4.3.16.)
"""

from __future__ import annotations

import struct
import zipfile
from typing import BinaryIO

from .files import shown

_ENTRY = struct.Struct("<4s5H3L2H")  # the header of a member, before its name
_END = struct.Struct("<4s4H2LH")
_END_LONGEST = _END.size + 0xFFFF
_DESCRIPTOR = 0x08  # flag: checksum and sizes follow the data
_LONGEST_GAP = 24  # most bytes of that checksum and those sizes
_UTF8 = 0x800
_MANY = 0xFFFF  # from so many entries on, the number is in another place


def complaint(archive: zipfile.ZipFile, stream: BinaryIO) -> str | None:
    """What is wrong with an archive's directory, compared with the file.

    Parameters
    ----------
    archive : ZipFile
        Opened for reading.
    stream : binary file
        The same file.

    Returns
    -------
    str or None
        What is wrong, or None.
    """
    members = sorted(archive.infolist(), key=lambda member: member.header_offset)
    announced = _announced(stream)
    if announced is not None and announced != len(members):
        return f"its directory has {len(members)} entries where {announced} are announced"
    end = 0
    for member in members:
        if not 0 <= member.header_offset - end <= _LONGEST_GAP:
            return "it holds something that its directory does not name"
        stream.seek(member.header_offset)
        entry = stream.read(_ENTRY.size)
        if len(entry) < _ENTRY.size or entry[:4] != b"PK\3\4":
            return f"there is no {shown(member.filename)} where its directory says"
        _, _, flags, method, _, _, crc, _, _, name_length, extra_length = _ENTRY.unpack(entry)
        name = stream.read(name_length).decode("utf-8" if flags & _UTF8 else "cp437", "replace")
        if name != member.orig_filename:
            return f"its directory calls {shown(member.orig_filename)} what the file itself calls {shown(name)}"
        if method != member.compress_type or not (flags & _DESCRIPTOR or crc == member.CRC):
            return f"its directory and the file itself describe {shown(name)} differently"
        end = member.header_offset + _ENTRY.size + name_length + extra_length + member.compress_size
    if not 0 <= archive.start_dir - end <= _LONGEST_GAP:
        return "it holds something that its directory does not name"
    names = archive.namelist()
    twice = next((name for name in names if names.count(name) > 1), None)
    return None if twice is None else f"it holds two arrays called {twice!r}"


def _announced(stream: BinaryIO) -> int | None:
    """The number of entries in the record at the file's end; None if it is not there."""
    size = stream.seek(0, 2)
    stream.seek(max(size - _END_LONGEST, 0))
    tail = stream.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < _END.size:
        return None
    total: int = _END.unpack_from(tail, at)[4]
    return None if total == _MANY else total
