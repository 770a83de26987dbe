"""Rotation, crop, brightness and cutout: against SciPy and literal twins, and what their random numbers depend on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.ndimage

from pyconv import datasets
from pyconv.datasets.augmentations import AUGMENTATIONS
from pyconv.datasets.augmentations.base import draws, words
from pyconv.errors import InputError

DTYPES = ["uint8", "float32", "float64"]
ALL: dict[str, Any] = {"flip": True, "shift": 1, "rotate": 20, "crop": 0.6, "brightness": 0.4, "cutout": 3}


def images(rng: np.random.Generator, dtype: str, n: int = 5, shape: tuple = (7, 10, 2)) -> np.ndarray:
    return rng.integers(0, 256, (n, *shape)).astype(dtype)


def drawn(name: str, n: int, number: int) -> np.ndarray:
    return draws(words(3, 2, np.arange(n)), name)(number)


def augmented(batch: np.ndarray, **how: Any) -> np.ndarray:
    before = batch.copy()
    out = datasets.augment(batch, seed=3, epoch=2, indices=np.arange(len(batch)), **how)
    np.testing.assert_array_equal(batch, before)
    assert out.dtype == batch.dtype and out.shape == batch.shape and out.flags.c_contiguous
    return out


def seen(image: np.ndarray, matrix: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """SciPy's bilinear view of an image, in float64."""
    wide = image.astype(np.float64)
    return np.stack(
        [
            scipy.ndimage.affine_transform(wide[..., c], matrix, offset, order=1, mode="nearest")
            for c in range(image.shape[-1])
        ],
        axis=-1,
    )


def close(actual: np.ndarray, expected: np.ndarray) -> None:
    """Check equality up to rounding; of bytes, to the next integer."""
    atol = {"uint8": 0.501, "float32": 1e-3, "float64": 1e-9}[actual.dtype.name]
    np.testing.assert_allclose(actual.astype(np.float64), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rotation_is_scipys(rng: np.random.Generator, dtype: str) -> None:
    batch = images(rng, dtype)
    for image, result, draw in zip(batch, augmented(batch, rotate=35), drawn("rotate", 5, 0), strict=True):
        angle = math.radians(35 * (2 * draw - 1))
        matrix = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        centre = np.array([3, 4.5])
        close(result, seen(image, matrix, centre - matrix @ centre))


@pytest.mark.parametrize("dtype", DTYPES)
def test_crop_is_scipys(rng: np.random.Generator, dtype: str) -> None:
    batch = images(rng, dtype)
    share, down, across = (drawn("crop", 5, k) for k in range(3))
    for at, (image, result) in enumerate(zip(batch, augmented(batch, crop=0.5), strict=True)):
        side = math.sqrt(0.5 + 0.5 * share[at])
        begin = (1 - side) * np.array([7 * down[at], 10 * across[at]])
        close(result, seen(image, side * np.eye(2), begin + side / 2 - 0.5))


@pytest.mark.parametrize("dtype", DTYPES)
def test_brightness(rng: np.random.Generator, dtype: str) -> None:
    batch = images(rng, dtype)
    expected = batch * (1 + 0.7 * (2 * drawn("brightness", 5, 0) - 1))[:, None, None, None]
    close(augmented(batch, brightness=0.7), expected if dtype != "uint8" else np.clip(expected, 0, 255))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 4, 30])
def test_cutout(rng: np.random.Generator, dtype: str, size: int) -> None:
    batch = images(rng, dtype)
    rows, columns = np.arange(7)[:, None], np.arange(10)
    for at, (image, result) in enumerate(zip(batch, augmented(batch, cutout=size), strict=True)):
        top, left = (int(drawn("cutout", 5, k)[at] * side) - size // 2 for k, side in ((0, 7), (1, 10)))
        hidden = (rows >= top) & (rows < top + size) & (columns >= left) & (columns < left + size)
        assert hidden.any()
        close(result, np.where(hidden[..., None], image.mean(axis=(0, 1), dtype=np.float64), image))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_batch_does_not_matter(rng: np.random.Generator, dtype: str) -> None:
    batch = images(rng, dtype, 23)
    whole = augmented(batch, **ALL)
    for order in (np.arange(22, -1, -3), np.array([7])):
        some = datasets.augment(batch[order], seed=3, epoch=2, indices=order, **ALL)
        np.testing.assert_array_equal(some, whole[order])


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_draws_are_even_and_apart(name: str) -> None:
    of_examples = words(0, 0, np.arange(20_000))
    found = np.stack([draws(of_examples, each)(k) for each in (name, "another") for k in range(2)])
    assert found.min() >= 0 and found.max() < 1
    np.testing.assert_allclose(np.corrcoef(found), np.eye(4), atol=0.03)
    assert np.histogram(found[0], 10, (0, 1))[0].std() < 4 * math.sqrt(2000)
    each = AUGMENTATIONS[name]
    batch = np.ones((2, 3, 3, 1), np.float32)
    assert datasets.augment(batch, indices=np.arange(2), **{name: each.neutral}) is batch


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"rotate": 200}, "augment's rotate must be a finite number of at least 0 and at most 180, not 200"),
        ({"crop": 0}, "augment's crop must be a finite number above 0 and at most 1, not 0"),
        ({"brightness": 2}, "augment's brightness must be"),
        ({"cutout": 1.5}, "augment's cutout must be an integer"),
    ],
)
def test_strengths_out_of_range(how: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as raised:
        datasets.augment(np.zeros((1, 2, 2, 1)), indices=[0], **how)
    assert words in str(raised.value)
