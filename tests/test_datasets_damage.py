"""Files damaged at random: each is read or refused in one line, never a traceback of another kind."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_files import idx_bytes, images_of, labels_of, pixel_field, write_csv, write_idx, write_image
from hypothesis import given
from hypothesis import strategies as st

from pyconv import datasets
from pyconv.errors import InputError


def make_csv(folder: Path, rng: np.random.Generator) -> tuple[Path, Path]:
    rows = [f"{i % 7},{pixel_field(image)},Training" for i, image in enumerate(images_of(rng, 4, 48, 48))]
    path = write_csv(folder / "fer2013.csv", "emotion,pixels,Usage", rows)
    return path, path


def make_npz(folder: Path, rng: np.random.Generator) -> tuple[Path, Path]:
    path = folder / "a.npz"
    np.savez_compressed(path, x=rng.random((9, 5, 5), np.float32), y=labels_of(rng, 9, 2))
    return path, path


def make_idx(folder: Path, rng: np.random.Generator) -> tuple[Path, Path]:
    write_idx(folder / "train-labels-idx1-ubyte", labels_of(rng, 9, 2))
    return folder, write_idx(folder / "train-images-idx3-ubyte", images_of(rng, 9, 5, 5))


def make_packed_idx(folder: Path, rng: np.random.Generator) -> tuple[Path, Path]:
    write_idx(folder / "train-labels-idx1-ubyte.gz", labels_of(rng, 9, 2))
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx_bytes(images_of(rng, 9, 5, 5))))
    return folder, path


def make_folder(folder: Path, rng: np.random.Generator, kind: str = "png") -> tuple[Path, Path]:
    paths = [write_image(folder / name / f"{i}.{kind}", images_of(rng, 16, 16)) for name in "ab" for i in range(3)]
    return folder, paths[-1]


def make_jpeg_folder(folder: Path, rng: np.random.Generator) -> tuple[Path, Path]:
    return make_folder(folder, rng, "jpg")


@pytest.mark.parametrize("make", [make_csv, make_npz, make_idx, make_packed_idx, make_folder, make_jpeg_folder])
@given(data=st.data())
def test_any_damage_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, make: Callable[[Path, np.random.Generator], tuple[Path, Path]], data
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    source, path = make(folder, np.random.default_rng(data.draw(st.integers(0, 2**32))))
    whole = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        # Headers are where a changed byte does most: half of the changes fall there.
        end = len(whole) if data.draw(st.booleans()) else min(len(whole), 80)
        whole[data.draw(st.integers(0, end - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del whole[data.draw(st.integers(1, len(whole))) :]
    path.write_bytes(whole)
    try:
        read = datasets.load(source)
    except InputError as error:
        assert "\n" not in str(error)
        assert str(folder) in str(error)
    else:
        assert np.isfinite(read.train.x).all()
        assert len(read.train.x) == len(read.train.y)
