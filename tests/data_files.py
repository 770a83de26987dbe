"""Writes small data files, good and bad, and checks how bad ones are refused."""

from __future__ import annotations

import contextlib
import gzip
import os
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pyconv import datasets
from pyconv.errors import InputError

PIXELS = 48 * 48

FASHION = Path("/usr/share/datasets/fashion-mnist")

#: Skips a test on real images if they are not installed, unless CI requires them.
on_real_images = pytest.mark.skipif(
    not FASHION.is_dir() and os.environ.get("PYCONV_TEST_REAL_DATA") != "required",
    reason="Debian's dataset-fashion-mnist is not installed",
)


def refused(source: str | Path, *fragments: object, error: type[InputError] = InputError, **options: object) -> str:
    """Check that loading fails with one line that holds all of `fragments`, and writes nothing; return the line."""
    with contextlib.ExitStack() as stack:
        folder = Path(source).parent
        if not folder.is_absolute():  # a name: other tests may write in the working folder
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            stack.enter_context(contextlib.chdir(folder))
        before = sorted(folder.rglob("*"))
        with pytest.raises(error) as caught:
            datasets.load(source, **options)
        assert sorted(folder.rglob("*")) == before
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.exit_status == 2
    for fragment in fragments:
        assert str(fragment) in message
    return message


def labels_of(rng: np.random.Generator, n: int, classes: int) -> np.ndarray:
    """Draw `n` labels in which every class occurs."""
    return rng.permutation(np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)]))


def images_of(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Draw bytes."""
    return rng.integers(0, 256, shape, dtype=np.uint8)


# IDX


def idx_bytes(array: np.ndarray) -> bytes:
    """Encode an array as IDX."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_idx(path: Path, array: np.ndarray) -> Path:
    """Write an IDX file, gzipped where the name says so."""
    data = idx_bytes(array)
    path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)
    return path


# FER2013


def pixel_field(image: np.ndarray) -> str:
    """Pixels as a CSV field."""
    return " ".join(map(str, image.reshape(-1)))


def write_csv(path: Path, header: str, rows: list[str], end: str = "\n") -> Path:
    """Write a CSV file."""
    path.write_bytes((end.join([header, *rows]) + end).encode())
    return path


# Folders of images


def write_image(path: Path, image: np.ndarray) -> Path:
    """Write (H, W) or (H, W, C) bytes as PNG or JPEG, by the name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path
