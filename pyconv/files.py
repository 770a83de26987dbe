"""Reads and writes regular files only, and writes each whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from pathlib import Path

from .errors import InputError
from .values import path as as_path

_LONG = 180  # bytes of the longest name to which a number can still be added

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def readable(path: str | os.PathLike[str]) -> Path:
    """`path`, if it is a file that can be opened for reading.

    Raises
    ------
    OSError
        If it does not exist, or is no regular file: a pipe would block until somebody writes to it, and a device may
        never end.
    """
    place = Path(path)
    mode = place.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(place))
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "of another kind")
        raise OSError(errno.EINVAL, f"is {kind}, and only files are read", str(place))
    return place


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path` so that at every moment the whole old file or the whole new one is there.

    Where `path` is a symbolic link, the file that it leads to is written.

    Raises
    ------
    OSError
        If it cannot be written, or if something at `path` is not a regular file, such as a device, which a file must
        not replace. What was there is unchanged and nothing else is left behind.
    """
    path = regular(path)
    name = path.name if len(os.fsencode(path.name)) < _LONG else "pyconv"
    temporary = path.with_name(f".{name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def regular(path: str | os.PathLike[str]) -> Path:
    """The path that a file at `path` is to be written to, with symbolic links followed.

    Raises
    ------
    InputError
        If a file cannot have this name.
    OSError
        If something that is not a regular file has this name.
    """
    place = Path(os.path.realpath(as_path(path, "path")))
    with contextlib.suppress(FileNotFoundError):
        mode = place.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = _KINDS.get(stat.S_IFMT(mode), "of another kind")
            raise OSError(errno.EEXIST, f"there is {kind} of this name, which is not replaced", str(place))
    return place


def place_for(path: str | os.PathLike[str]) -> Path:
    """The path that a new file is to be written to, as :func:`regular` gives it, if one can be written there.

    It is asked before the work whose result the file is to hold.

    Raises
    ------
    InputError
        If a file cannot have this name, something that is not a regular file has it, or its folder is not there or
        cannot be written to.
    """
    try:
        place = regular(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}; give another name") from None
    if not place.parent.is_dir() or not os.access(place.parent, os.W_OK):
        raise InputError(f"{path}: the folder is not there or cannot be written to; give another place")
    return place


def sync_folder(folder: Path) -> None:
    """Force a folder's entries to the disk, if the file system can: a file that was moved into it then stays there."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems refuse this; the file itself is on the disk
        pass
    finally:
        os.close(descriptor)
