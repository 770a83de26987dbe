"""Folders of images: one folder for each class, with PNG or JPEG files in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from ..errors import DataError, InputError, shown
from ..values import integer, sequence
from ..values import path as as_path
from .files import listed, reading
from .types import Source, Split

MOST_PIXELS = 1 << 28
"""Of an image that is resized: 16384 × 16384."""

_SUFFIXES = (".png", ".jpg", ".jpeg")
_TRAIN = ("train", "training")
_VALIDATION = ("validation", "val", "valid")
_TEST = ("test", "testing")
_GRAY_MODES = ("1", "L", "LA", "I;16", "I;16B", "I")


def matches(path: Path) -> bool:
    """Whether `path` is a folder."""
    return path.is_dir()


def is_image(path: Path) -> bool:
    """Whether `path` is named as an image that can be read."""
    return path.suffix.lower() in _SUFFIXES


def read_image(path: str | Path, shape: tuple[int, int, int] | None = None) -> np.ndarray:
    """Read one PNG or JPEG file.

    Parameters
    ----------
    path : str or Path
        The file. Transparency is dropped, 16-bit gray is brought to 8 bits, a camera's rotation tag is obeyed.
    shape : (int, int, int), optional
        ``(H, W, C)`` to bring the image to: gray for C = 1, colour for C = 3, resized (bilinear, antialiased) where
        the size differs. Default: as the file has it.

    Returns
    -------
    ndarray, shape (H, W, C), uint8

    Raises
    ------
    DataError
        If the file is missing, or not a whole image.
    InputError
        If `shape` is not three sizes, or has neither 1 nor 3 channels.
    """
    path = as_path(path, "path")
    shape = None if shape is None else _shape(path, shape)
    image = _open(path)
    if shape is not None:
        image = image.convert("L" if shape[2] == 1 else "RGB")
        if image.size != (shape[1], shape[0]):
            image = image.resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    return np.array(pixels if pixels.ndim == 3 else pixels[..., None], np.uint8, order="C")


def _shape(path: Path, shape: Any) -> tuple[int, int, int]:
    """`shape` as height, width and channels that an image can be brought to."""
    sizes = sequence(shape)
    if sizes is None or len(sizes) != 3:
        raise InputError(f"shape must be (height, width, channels), not {shown(shape)}")
    height, width, channels = (integer(size, "every size of shape", minimum=1) for size in sizes)
    if channels not in (1, 3):
        raise InputError(f"{path}: cannot be brought to {channels} channels; an image file has 1 (gray) or 3 (colour)")
    if height * width > MOST_PIXELS:
        raise InputError(f"shape {height}×{width} has more than the {MOST_PIXELS} pixels of the largest image")
    return height, width, channels


def _open(path: Path) -> Image.Image:
    """Decode a file to a gray ("L") or colour ("RGB") image."""
    if path.exists() and not path.is_dir() and not path.stat().st_size:
        raise DataError(f"{path}: the file is empty; remove or replace it")
    try:
        with Image.open(path) as opened:
            image: Image.Image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I"):  # 16 bits: the upper eight, as every viewer shows them
                return Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
            return image.convert("L" if image.mode in _GRAY_MODES else "RGB")
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        with reading(path):
            raise
        raise
    # Decoders of damaged files raise all kinds: OSError, SyntaxError, ValueError, struct.error, zlib.error, …
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        reason = "not a PNG or JPEG" if isinstance(error, Image.UnidentifiedImageError) else reason
        raise DataError(f"{path}: cannot be read as an image ({reason}); remove or replace the file") from None


def _entries(folder: Path) -> list[Path]:
    """What a folder holds, by name, without hidden files."""
    with reading(folder):
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder."""
    return [entry for entry in _entries(folder) if entry.is_dir()]


def _kind(pixels: np.ndarray) -> str:
    """Say what an image is, for a message."""
    height, width, channels = pixels.shape
    return f"{width}x{height} {'gray' if channels == 1 else 'colour'}"


def _split(folder: Path) -> tuple[Split, list[str]]:
    """Read the class folders of one folder."""
    classes = _folders(folder)
    if not classes:
        hint = "put the images of each class into a folder of their own, as FOLDER/happy/1.png, FOLDER/sad/2.png"
        raise DataError(f"{folder}: has no class folders; {hint}")
    files: list[Path] = []
    labels: list[int] = []
    for label, class_folder in enumerate(classes):
        images = [path for path in _entries(class_folder) if is_image(path) and not path.is_dir()]
        if not images:
            raise DataError(f"{class_folder}: has no PNG or JPEG files; add images of this class or remove the folder")
        files += images
        labels += [label] * len(images)
    first = read_image(files[0])
    x = np.empty((len(files), *first.shape), np.uint8)
    for position, path in enumerate(files):
        pixels = read_image(path)
        if pixels.shape != first.shape:
            raise DataError(
                f"{path}: is {_kind(pixels)}, but {files[0]} is {_kind(first)}; bring all images to one size and kind"
            )
        x[position] = pixels
    return Split(x, np.array(labels, np.int64)), [class_folder.name for class_folder in classes]


def read(path: Path) -> Source:
    """Read a folder of class folders, or one with such folders for ``train`` and ``validation`` or ``test``.

    The classes are the folders' names in alphabetical order. Sub-folders named ``train`` (or ``training``) and
    ``validation`` (``val``, ``valid``) or ``test`` (``testing``) are splits; where there is no validation folder the
    test folder serves as one.

    Parameters
    ----------
    path : Path
        The folder.

    Returns
    -------
    Source
        Images of shape (N, H, W, 1), or (N, H, W, 3) where they are in colour.

    Raises
    ------
    DataError
        If a file cannot be decoded, sizes or kinds differ, a class is empty, or splits have different classes.
    """
    by_name = {folder.name.lower(): folder for folder in _folders(path)}

    def split_folder(names: tuple[str, ...]) -> Path | None:
        found = [by_name[name] for name in names if name in by_name]
        return found[0] if found else None

    name = path.resolve().name or "images"
    train_folder = split_folder(_TRAIN)
    if train_folder is None or not _folders(train_folder):
        train, classes = _split(path)
        return Source(name, train, classes)
    train, classes = _split(train_folder)

    def other(names: tuple[str, ...]) -> Split | None:
        folder = split_folder(names)
        if folder is None:
            return None
        split, found = _split(folder)
        if found != classes:
            differing = listed(sorted(set(found) ^ set(classes)))
            raise DataError(
                f"{folder}: its class folders are not those of {train_folder} ({differing}); make them the same"
            )
        return split

    validation, test = other(_VALIDATION), other(_TEST)
    if validation is None:
        validation, test = test, None
    return Source(name, train, classes, validation, test)
