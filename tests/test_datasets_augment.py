"""Augmentation: what it does to an image, and what its random numbers depend on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyconv import datasets
from pyconv.errors import InputError


def moved(image: np.ndarray, down: int, across: int, flip: bool) -> np.ndarray:
    """Shift by padding with the edge and cropping, then flip: the literal twin."""
    reach = max(abs(down), abs(across), 1)
    wide = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    height, width = image.shape[:2]
    top, left = reach - down, reach - across
    image = wide[top : top + height, left : left + width]
    return image[:, ::-1] if flip else image


@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 12), st.integers(1, 12), st.integers(1, 3)),
    dtype=st.sampled_from(["uint8", "float32", "float64"]),
    flip=st.booleans(),
    shift=st.integers(0, 14),
    seed=st.integers(-(2**63), 2**63 - 1),
    epoch=st.integers(0, 2**31),
)
def test_each_image_is_moved_whole(
    shape: tuple[int, ...], dtype: str, flip: bool, shift: int, seed: int, epoch: int
) -> None:
    rng = np.random.default_rng(abs(seed))
    batch = rng.integers(0, 256, shape).astype(dtype)
    before = batch.copy()
    out = datasets.augment(
        batch, flip=flip, shift=shift, seed=seed, epoch=epoch, indices=rng.integers(0, 2**40, shape[0])
    )
    assert out.dtype == batch.dtype
    assert out.flags.c_contiguous
    np.testing.assert_array_equal(batch, before)
    moves = [(d, a, f) for d in range(-shift, shift + 1) for a in range(-shift, shift + 1) for f in {False, flip}]
    for image, result in zip(batch, out, strict=True):
        assert any(np.array_equal(moved(image, *move), result) for move in moves)


@given(seed=st.integers(0, 2**63 - 1), epoch=st.integers(0, 1000), data=st.data())
def test_the_batch_does_not_matter(seed: int, epoch: int, data: st.DataObject) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (30, 6, 6, 1), dtype=np.uint8)
    order = np.array(data.draw(st.permutations(range(30))))[: data.draw(st.integers(1, 30))]
    options = {"flip": True, "shift": 2, "seed": seed, "epoch": epoch}
    whole = datasets.augment(images, indices=np.arange(30), **options)
    some = datasets.augment(images[order], indices=order, **options)
    np.testing.assert_array_equal(some, whole[order])


@pytest.mark.parametrize("changed", ["seed", "epoch", "index"])
def test_draws_are_uniform_and_independent(rng: np.random.Generator, changed: str) -> None:
    n, reach = 30_000, 2
    base = int(rng.integers(2**40))
    image = np.arange(25, dtype=np.uint8).reshape(1, 5, 5, 1)
    run = np.arange(n) if changed == "index" else np.zeros(1, int)
    batches = [
        datasets.augment(
            np.broadcast_to(image, (len(run), 5, 5, 1)),
            flip=True,
            shift=reach,
            seed=base + (i if changed == "seed" else 0),
            epoch=i if changed == "epoch" else 3,
            indices=base + run,
        )
        for i in range(1 if changed == "index" else n // 10)
    ]
    out = np.concatenate(batches)[..., 0]
    outcomes, counts = np.unique(out.reshape(len(out), -1), axis=0, return_counts=True)
    assert len(outcomes) == 2 * 5 * 5  # every flip with every shift
    expected = len(out) / 50
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 120  # 49 degrees of freedom: exceeded once in 10^7 runs


def test_nothing_asked_for(rng: np.random.Generator) -> None:
    batch = rng.random((3, 4, 4, 1))
    assert datasets.augment(batch, indices=np.arange(3)) is batch


def test_strided_and_read_only_batches(rng: np.random.Generator) -> None:
    batch = rng.integers(0, 256, (8, 6, 6, 2), dtype=np.uint8)
    strided = batch[::2, :, ::-1]
    strided.flags.writeable = False
    options = {"flip": True, "shift": 1, "indices": np.arange(4)}
    np.testing.assert_array_equal(datasets.augment(strided, **options), datasets.augment(strided.copy(), **options))


@pytest.mark.parametrize(
    ("shape", "indices", "shift"), [((3, 4, 4), 3, 1), ((3, 4, 4, 1), 2, 1), ((3, 4, 4, 1), 3, -1)]
)
def test_refusals(shape: tuple[int, ...], indices: int, shift: int) -> None:
    with pytest.raises(InputError):
        datasets.augment(np.zeros(shape), shift=shift, indices=np.arange(indices))
