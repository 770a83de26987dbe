"""Reading files so that what goes wrong names the file and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import DataError
from ..errors import shown as shown_value


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals while `path` is read into a `DataError`."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path}: no such file or folder; check the path") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"{path}: cannot be read ({reason}); check the file and its permissions") from None


def shown(value: object, width: int = 40) -> str:
    """Quote a value found in a file, on one line and not longer than `width` characters."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return shown_value(text if len(text) <= width else text[: width - 1] + "…")


def listed(names: Iterable[str], most: int = 5) -> str:
    """Join names with commas; only the first few of many."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


#: Folders and files that systems and archivers leave, by lower-case name; none of them holds a user's data.
_SYSTEM = {
    "__macosx", "@eadir", "#recycle", "$recycle.bin", "recycler", "lost+found", "system volume information",
    "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__pycache__",
}  # fmt: skip


def is_hidden(path: Path) -> bool:
    """Whether a file or folder is hidden (``.DS_Store``, ``._train``, …) or a system's own, and passed over."""
    return path.name.startswith(".") or path.name.lower() in _SYSTEM


def entries(folder: Path) -> list[Path]:
    """What a folder holds, by name, without what is hidden."""
    with reading(folder):
        return sorted(entry for entry in folder.iterdir() if not is_hidden(entry))
