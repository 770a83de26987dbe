"""Helpers for reading files, whose errors name the file and say what to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import DataError, short
from ..errors import shown as shown_value


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Within it, errors of the operating system while `path` is read become a `DataError`."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path}: no such file or folder; check the path") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"{path}: cannot be read ({reason}); check the file and its permissions") from None


def shown(value: object, width: int = 40) -> str:
    """A value from a file as a message quotes it: on one line, and at most `width` characters."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return shown_value(text if len(text) <= width else text[: width - 1] + "…")


def listed(names: Iterable[str], most: int = 5) -> str:
    """Names joined with commas: only the first few of many, and only the beginning of a long one."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(short(name) for name in names[:most]) + more


#: Folders and files that systems and archivers make, in lower case; none of them holds a user's data.
_SYSTEM = {
    "__macosx", "@eadir", "#recycle", "$recycle.bin", "recycler", "lost+found", "system volume information",
    "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__pycache__",
}  # fmt: skip


def is_hidden(path: Path) -> bool:
    """Whether a file or folder is skipped: it is hidden (``.DS_Store``, ``._train``, …) or belongs to a system."""
    return path.name.startswith(".") or path.name.lower() in _SYSTEM


def entries(folder: Path) -> list[Path]:
    """The entries of a folder, by name, without hidden ones."""
    with reading(folder):
        return sorted(entry for entry in folder.iterdir() if not is_hidden(entry))
