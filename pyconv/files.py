"""Writing files: whole or not at all, and only over what is a file."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from pathlib import Path

from .values import path as as_path

_LONG = 180  # bytes of a name to which a number can still be added

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path` so that at every moment the file is the old one or the new one, whole.

    Where `path` is a symbolic link, the file that it leads to is written.

    Raises
    ------
    OSError
        If it cannot be written, or there is something at `path` that is not a regular file, such as a device, which
        must not be replaced by a file. What was there is untouched and nothing else is left behind.
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
    """The place that a file at `path` is to be written to, symbolic links followed.

    Raises
    ------
    InputError
        If it is no name that a file can have.
    OSError
        If there is something that is not a regular file.
    """
    place = Path(os.path.realpath(as_path(path, "path")))
    with contextlib.suppress(FileNotFoundError):
        mode = place.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = _KINDS.get(stat.S_IFMT(mode), "of another kind")
            raise OSError(errno.EEXIST, f"there is {kind} of this name, which is not replaced", str(place))
    return place


def sync_folder(folder: Path) -> None:
    """Force a folder's entries to the disk, where the file system can: a file moved into it then stays there."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems refuse; the file itself is on the disk
        pass
    finally:
        os.close(descriptor)
