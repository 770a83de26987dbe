"""Reads TOML and JSON files; refuses what is invalid, too long, nested too deeply, or holds too large a number."""

from __future__ import annotations

import json
import tomllib
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .errors import DataError
from .files import readable

LONGEST = 1 << 28
"""Most bytes of a document; pyconv's own have some thousands."""

DEEPEST = 50
"""Most tables inside tables; pyconv's own are five deep."""

LARGEST = 2**64
"""The largest integer in a document; a seed may be nearly as large."""


def read_toml(path: Path) -> dict[str, Any]:
    """The TOML document at `path`.

    Raises
    ------
    DataError
        If the file cannot be read, or is not such a document.
    """
    content: dict[str, Any] = _read(path, "TOML", parse_toml)
    return content


def read_json(path: Path) -> Any:
    """The JSON document at `path`.

    Raises
    ------
    DataError
        If the file cannot be read, or is not such a document.
    """
    return _read(path, "JSON", parse_json)


def read_text(path: Path) -> str:
    """The text in the file at `path`.

    Raises
    ------
    DataError
        If the file cannot be read, is too long or is not text in UTF-8.
    """
    try:
        with readable(path).open("rb") as file:
            data = file.read(LONGEST + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(data) > LONGEST:
        raise DataError(f"{path}: is longer than {LONGEST >> 20} MiB, the most that is read")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not a text file in UTF-8") from None


def parse_toml(text: str) -> dict[str, Any]:
    """The TOML document `text`; a `ValueError` says in one line what is wrong with it."""
    content: dict[str, Any] = _parse(text, tomllib.loads)
    return content


def parse_json(text: str) -> Any:
    """The JSON document `text`; a `ValueError` says in one line what is wrong with it."""
    return _parse(text, json.loads)


def _read(path: Path, form: str, parse: Callable[[str], Any]) -> Any:
    text = read_text(path)
    try:
        return parse(text)
    except ValueError as error:
        raise DataError(f"{path}: is not valid {form}: {error}") from None


def _parse(text: str, loads: Callable[[str], Any]) -> Any:
    try:
        content = loads(text)
    except RecursionError:
        raise ValueError("its parts are nested too deeply") from None
    except (tomllib.TOMLDecodeError, json.JSONDecodeError) as error:
        raise ValueError(" ".join(str(error).split())[:200]) from None
    except (ValueError, OverflowError):  # a number of thousands of digits, or an invalid date
        raise ValueError("it holds a number that is too large") from None
    parts = [(content, 1)]
    while parts:
        part, depth = parts.pop()
        if isinstance(part, (dict, list)):
            if depth > DEEPEST:
                raise ValueError("its parts are nested too deeply")
            parts += [(item, depth + 1) for item in (part.values() if isinstance(part, dict) else part)]
        elif isinstance(part, int) and abs(part) > LARGEST:
            raise ValueError("it holds a number that is too large")
    return content


def checksum(content: Mapping[str, Any], pieces: Iterable[bytes | np.ndarray]) -> int:
    """The CRC-32 by which a file's damage is found at loading: of a JSON object, then of each piece.

    Parameters
    ----------
    content : mapping
        Without the checksum; its text is ``json.dumps``'s.
    pieces : iterable of bytes or ndarray
        Of an array the numbers count, in the order of its axes.

    Returns
    -------
    int
    """
    value = zlib.crc32(json.dumps(content).encode())
    for piece in pieces:
        value = zlib.crc32(piece if isinstance(piece, bytes) else _bytes(piece), value)
    return value


def _bytes(array: np.ndarray) -> memoryview | bytes:
    """An array's numbers, without a copy if they lie together."""
    return np.ascontiguousarray(array).view(np.uint8).data if array.size else b""
