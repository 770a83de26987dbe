"""A timeline's file, in Chrome's trace-event format: valid JSON after every piece that is written."""

from __future__ import annotations

import contextlib
import io
import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

from .. import runlog
from ..errors import InputError

_log = runlog.logger("pyconv.parallel")

_TAIL = b"\n]\n"


def meta(name: str, pid: int, tid: int, /, **args: Any) -> str:
    """An entry of metadata, as JSON.

    Parameters
    ----------
    name : str
        What it says: ``"process_name"``, ``"thread_name"``, or a word of pyconv's own.
    pid, tid : int
        The process and the row that it is about.
    **args
        What there is to say.
    """
    entry = {"name": name, "ph": "M", "pid": pid, "tid": tid, "args": args}
    return json.dumps(entry, separators=(",", ":"))


#: The first entry of a file, by which a later run knows that it may be overwritten.
FIRST = (meta("process_name", 0, 0, name="pyconv"), meta("trace_by", 0, 0, name="pyconv"))


class TraceFile:
    """A file that holds a list of entries; an older one is overwritten with the first piece.

    If it can no longer be written, it ends with a warning, in its last valid state, and the run goes on.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    InputError
        If the file cannot be made, or is there and is no timeline of pyconv's.

    Attributes
    ----------
    begun : bool
        Whether anything was written.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._file: io.FileIO | None
        self._file, self._is_new = _opened(self._path)
        self.begun = False
        self._end = 0
        self.lock = threading.RLock()  # several threads may write

    @property
    def closed(self) -> bool:
        """Whether nothing more is written."""
        return self._file is None

    def write(self, *pieces: str) -> None:
        """Append pieces of JSON, entries with commas between them, and close the list."""
        with self.lock:
            if self._file is None:
                return
            text = ",\n".join(filter(None, pieces))
            data = ((",\n" if self._end else "[\n") + text).encode()
            self.begun = True
            try:
                self._put(data + _TAIL)
            except OSError as error:
                self._give_up(error)
                return
            self._end += len(data)

    def _put(self, data: bytes) -> None:
        """Write at the end of the list, and end the file there."""
        assert self._file is not None
        self._file.seek(self._end)
        while data:
            data = data[self._file.write(data) :]
        self._file.truncate()

    def _give_up(self, error: OSError) -> None:
        """Restore the file's last valid state, and close it."""
        _log.warning("%s: the timeline ends here: %s; the run goes on without it", self._path, error.strerror or error)
        with contextlib.suppress(OSError):
            self._put(_TAIL if self._end else b"[" + _TAIL)
        self._shut()

    def _shut(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        self._file = None

    def close(self) -> None:
        """Close the file; if nothing was written, it is as it was before."""
        with self.lock:
            self._shut()
            if self._is_new and not self.begun:
                with contextlib.suppress(OSError):
                    self._path.unlink()


def _opened(path: Path) -> tuple[io.FileIO, bool]:
    """An open file for a timeline, its content untouched so far, and whether it was created."""
    flags = os.O_RDWR | os.O_CLOEXEC
    try:
        try:
            descriptor, new = os.open(path, flags | os.O_NONBLOCK), False
        except FileNotFoundError:
            descriptor, new = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666), True
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or error
        raise InputError(f"{path}: cannot be written as a trace: {why}; give another file") from None
    file = io.FileIO(descriptor, "r+")
    is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
    begins = [f"[\n{first}".encode() for first in FIRST]
    if is_file and (
        new or not os.fstat(descriptor).st_size or file.read(max(map(len, begins))).startswith(tuple(begins))
    ):
        return file, new
    file.close()
    why = "holds something that is no trace of pyconv's and would be written over" if is_file else "is no ordinary file"
    raise InputError(f"{path}: {why}; give another file for the trace")
