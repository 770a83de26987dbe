"""Restores a folder after every case: only what the case changed is written again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

Signature = tuple[int, int, int]


class Kept:
    """A folder as it is now.

    Parameters
    ----------
    folder : Path
        With regular files and folders in it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._signatures, self._folders = _entries(folder)
        self._contents = {place: Path(place).read_bytes() for place in self._signatures}

    def changed(self, name: str) -> None:
        """Say that the file `name` was given other content on purpose, so that it is written again."""
        self._signatures[str(self._folder / name)] = (0, 0, 0)

    def put_back(self) -> None:
        """Restore the folder."""
        files, folders = _entries(self._folder)
        if files == self._signatures and folders == self._folders:
            return
        for place in sorted(folders - self._folders):
            shutil.rmtree(place, ignore_errors=True)
        for place in files.keys() - self._contents.keys():
            Path(place).unlink(missing_ok=True)  # it may have been in one of those folders
        for place in sorted(self._folders - folders):
            Path(place).unlink(missing_ok=True)
            Path(place).mkdir()
        for place in self._contents:
            if files.get(place) != self._signatures[place]:
                self._write(place)

    def put_back_file(self, name: str) -> None:
        """Restore one file, where a case can have changed no other file."""
        self._write(str(self._folder / name))

    def _write(self, place: str) -> None:
        Path(place).unlink(missing_ok=True)  # a new file, not the old one: its old content may still be mapped
        Path(place).write_bytes(self._contents[place])
        self._signatures[place] = _signature(Path(place).stat())


def _entries(folder: Path) -> tuple[dict[str, Signature], set[str]]:
    """All files in a folder and its subfolders, with marks by which a change is noticed; and all subfolders."""
    files: dict[str, Signature] = {}
    folders: set[str] = set()
    waiting = [str(folder)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.add(entry.path)
                    waiting.append(entry.path)
                else:
                    files[entry.path] = _signature(entry.stat(follow_symlinks=False))
    return files, folders


def _signature(found: os.stat_result) -> Signature:
    return found.st_ino, found.st_size, found.st_mtime_ns
