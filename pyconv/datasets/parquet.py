"""Reads Parquet files in the image layout of Hugging Face's data sets: a column of encoded images, one of labels.

The layout is that of the library `datasets`: an image is a struct of ``bytes`` (the content of an image file) and
``path``, a label an integer, and the names of the classes are in the schema's metadata. Files that it splits are called
``train-00000-of-00002.parquet`` and so on.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..documents import parse_json
from ..errors import DataError, InputError, needed
from ..files import readable
from .arrays import class_numbers
from .at_once import in_threads
from .depth import settled
from .files import entries, listed, reading, shown
from .gathering import Gathered, gather
from .images import Picture, decode_bytes, quiet
from .labels import numbered
from .types import Options, Reader, Source, Split

if TYPE_CHECKING:
    import pyarrow.parquet

_END = ".parquet"
_SHARD = re.compile(r"(?P<stem>.+)-(?P<part>\d{5,})-of-(?P<parts>\d{5,})(?P<hash>-[0-9a-f]{8,})?$")
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
_IMAGES, _LABELS = ("image", "img", "images"), ("label", "labels")
_BATCH = 64  # rows that are read together
_BUFFER = 1 << 20  # bytes that are; by default pyarrow holds whole groups of rows, here a column's page at most


def matches(path: Path) -> bool:
    """Whether `path` is a Parquet file by its name, or a folder that holds one, or whose folder ``data`` does."""
    if path.is_dir():
        return bool(_within(path))
    return path.suffix.lower() == _END


def read(path: Path, options: Options) -> Source:
    """Read a Parquet file with the other shards of its split, or a folder of such files.

    In a folder the files' names begin with their split: ``train``, ``validation`` or ``test``; without such names all
    of them are the training images. A single file, with the other shards of its split, is the training images too.

    Parameters
    ----------
    path : Path
    options : Options
        `size` and `bits` are taken, as for a folder of images, and `first_label`.

    Returns
    -------
    Source

    Raises
    ------
    DataError
        If a file is damaged, lacks the columns, or holds what is no image or no label; the row is named.
    InputError
        If pyarrow is not installed.
    """
    _check_installed()
    splits, notes = _files(path)
    tables = {name: [_Table(file) for file in files] for name, files in splits.items()}
    names = next((table.names for table in tables["train"] if table.names is not None), None)
    parts: list[_Part | None] = []
    for kind in _SPLITS:
        parts.append(_part(path, tables[kind], options) if kind in tables else None)
    several = sum(part.found.several for part in parts if part is not None)
    if several:
        notes.append(f"{path}: of {several} images that hold several pictures the first of each was read")
    x, brightness, told = settled(path, options.bits, [None if part is None else part.found for part in parts])
    made = [None if part is None or images is None else Split(images, part.labels) for part, images in zip(parts, x)]
    (train, validation, test), classes = numbered(path, made, options.first_label or 0, names)
    assert train is not None
    if validation is None:
        validation, test = test, None
    name = path.resolve().name.removesuffix(_END) or "parquet"
    return Source(name, train, classes, validation, test, (*notes, *told), brightness, numbered=names is None)


class _Part(NamedTuple):
    """The images of one split, and their labels."""

    found: Gathered
    labels: np.ndarray


def _check_installed() -> None:
    with needed("Parquet files need pyarrow", extra="parquet", error=InputError):
        import pyarrow.parquet  # noqa: F401


def _within(folder: Path) -> list[Path]:
    """The Parquet files of a folder, or of its folder ``data``, as a repository of Hugging Face's has them."""
    for place in (folder, folder / "data"):
        found = [entry for entry in entries(place) if entry.suffix.lower() == _END] if place.is_dir() else []
        if found:
            return [entry for entry in found if entry.is_file()]
    return []


def _files(path: Path) -> tuple[dict[str, list[Path]], list[str]]:
    """The files of each split, and lines about other files for the user."""
    if not path.is_dir():
        return {"train": _shards(path)}, []
    found: dict[str, list[Path]] = {}
    others = []
    for file in _within(path):
        word = re.split(r"[^a-z]", file.name.lower(), maxsplit=1)[0]
        kind = next((kind for kind, words in _SPLITS.items() if word in words), None)
        if kind is None:
            others.append(file)
        else:
            found.setdefault(kind, []).append(file)
    if not found:
        found, others = {"train": others}, []
    if "train" not in found:
        raise DataError(
            f"{path}: has no training images: no file's name begins with train (found "
            f"{listed(file.name for files in found.values() for file in files)}); give the file to train on"
        )
    for files in found.values():
        _check_shards(files)
    notes = []
    if others:
        what = listed(file.name for file in others)
        notes.append(f"{path}: not read: {what}; what is read are files called train…, validation… and test…")
    return found, notes


def _shards(path: Path) -> list[Path]:
    """A file and the other shards of its split."""
    match = _SHARD.fullmatch(path.name[: -len(_END)])
    if match is None:
        return [path]
    mates = []
    for file in entries(path.parent):
        other = _SHARD.fullmatch(file.name[: -len(_END)]) if file.suffix.lower() == _END else None
        if other is not None and (other["stem"], other["parts"]) == (match["stem"], match["parts"]):
            mates.append(file)
    _check_shards(mates)
    return mates


def _check_shards(files: list[Path]) -> None:
    """Check that no shard of a split is missing."""
    matched = [(file, _SHARD.fullmatch(file.name[: -len(_END)])) for file in files]
    there = {(match["stem"], int(match["parts"])): file for file, match in matched if match is not None}
    for (stem, parts), file in there.items():
        have = {int(m["part"]) for _, m in matched if m is not None and (m["stem"], int(m["parts"])) == (stem, parts)}
        missing = next((part for part in range(min(parts, len(files) + 1)) if part not in have), None)
        if missing is not None:
            raise DataError(
                f"{file.parent}: lacks {stem}-{missing:05}-of-{parts:05}{_END}, a piece of {stem}; add the file"
            )


class _Table:
    """One Parquet file: its columns of images and labels, and the names of its classes."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet

        self.path = path
        with reading(path):
            try:
                self.file: pyarrow.parquet.ParquetFile = pyarrow.parquet.ParquetFile(
                    readable(path), pre_buffer=False, buffer_size=_BUFFER
                )
                schema = self.file.schema_arrow
            except (pyarrow.ArrowException, ValueError, EOFError) as error:
                raise self.damaged(error) from None
        self.rows: int = self.file.metadata.num_rows
        features = _features(schema.metadata)
        columns = {name: schema.field(name).type for name in schema.names}
        self.image = self._column("images", _IMAGES, _of_kind(features, "Image"), columns)
        self.label = self._column("labels", _LABELS, _of_kind(features, "ClassLabel"), columns)
        kind = columns[self.image]
        fields = [kind.field(at).name for at in range(kind.num_fields)] if pyarrow.types.is_struct(kind) else []
        self.encoded = f"{self.image}.bytes" if "bytes" in fields else self.image
        held = kind.field("bytes").type if "bytes" in fields else kind
        if not (pyarrow.types.is_binary(held) or pyarrow.types.is_large_binary(held)):
            raise DataError(
                f"{path}: the column {shown(self.image)} is of {shown(kind)}; images are the bytes of image files, or "
                "a struct with bytes"
            )
        if not pyarrow.types.is_integer(columns[self.label]):
            raise DataError(
                f"{path}: the column {shown(self.label)} is of {shown(columns[self.label])}; labels are integers"
            )
        self.names = _class_names(features.get(self.label), path)

    def damaged(self, error: Exception) -> DataError:
        """The error for a file that pyarrow cannot read."""
        reason = shown(" ".join(str(error).split()), 120)
        return DataError(f"{self.path}: cannot be read as Parquet ({reason}); fetch the file again")

    def _column(self, what: str, usual: tuple[str, ...], stated: list[str], columns: Mapping[str, Any]) -> str:
        """The column of images or of labels: the one that the metadata states, or that has a usual name."""
        known = [name for name in stated if name in columns] or [name for name in usual if name in columns]
        best = [name for name in known if name in usual] or known
        if len(best) == 1:
            return best[0]
        if not best:
            raise DataError(
                f"{self.path}: has no column of {what} (called {' or '.join(usual[:2])}); its columns are "
                f"{listed(columns)}"
            )
        raise DataError(
            f"{self.path}: has several columns of {what}, {listed(best)}; write the file with one of them, called "
            f"{usual[0]}"
        )

    def content(self) -> Iterator[tuple[str, bytes, Any]]:
        """For each row: its place for messages, the image's bytes and the label."""
        import pyarrow

        row = 0
        try:
            for batch in self.file.iter_batches(_BATCH, columns=[self.encoded, self.label]):
                column = batch.column(batch.schema.names.index(self.image))
                images = column.field("bytes") if self.encoded != self.image else column
                for image, label in zip(images, batch.column(batch.schema.names.index(self.label))):
                    where = f"{self.path}, row {row}"
                    if not image.is_valid:
                        raise DataError(
                            f"{where}: the image has no bytes, and no other file is looked for; write the data set "
                            "with its images in it, or leave the row out"
                        )
                    if not label.is_valid:
                        raise DataError(f"{where}: there is no label; give one, or leave the row out")
                    yield where, image.as_py(), label.as_py()
                    row += 1
        except (pyarrow.ArrowException, OSError) as error:
            raise self.damaged(error) from None


def _features(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    """The schema's metadata about each column; empty if it does not have Hugging Face's form."""
    try:
        found = parse_json((metadata or {})[b"huggingface"].decode())["info"]["features"]
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
    return found if isinstance(found, dict) else {}


def _of_kind(features: Mapping[str, Any], kind: str) -> list[str]:
    """The columns of one kind."""
    return [name for name, about in features.items() if isinstance(about, dict) and about.get("_type") == kind]


def _class_names(about: Any, path: Path) -> list[str] | None:
    """The names of the classes in the order of the labels, if the metadata has them."""
    names = about.get("names") if isinstance(about, dict) else None
    if isinstance(names, dict):  # as the data sets' pages write them: {"0": "cat", …}
        try:
            names = [names[str(at)] for at in range(len(names))]
        except KeyError:
            names = 0
    if names is None or names == []:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path}: the metadata's names of classes are {shown(names)}, not a list of names")
    return names


def _part(path: Path, tables: list[_Table], options: Options) -> _Part:
    """Read and decode the images of one split; only a few encoded images are in memory at a time."""
    count, size = sum(table.rows for table in tables), options.size
    if not count:
        raise DataError(f"{tables[0].path}: has no rows; give at least one image")
    labels = np.zeros(count, np.int64)

    def pictures() -> Iterator[tuple[str, Picture]]:
        pieces = (piece for table in tables for piece in table.content())
        with quiet():
            found = in_threads(lambda piece: decode_bytes(piece[0], io.BytesIO(piece[1]), size), pieces)
            for position, ((where, _, label), picture) in enumerate(found):
                if label < 0 or label > 1_000_000:
                    raise DataError(f"{where}: label {label}; labels must be class numbers from 0")
                labels[position] = label
                yield where, picture

    gathered = gather(path, count, pictures(), size, options.into)
    return _Part(gathered, class_numbers(labels, str(path)))


READER = Reader("Parquet file", "a .parquet", matches, read, ("size", "first_label", "bits", "into"))
