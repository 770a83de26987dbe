"""Images for training steps; on them and on the training depends how many zeros a network computes with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pyconv import datasets, nn

FASHION = Path("/usr/share/datasets/fashion-mnist")


def images_for(model: nn.Sequential, count: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Images and labels for a network of gray images, and the name of their source.

    Parameters
    ----------
    model : nn.Sequential
    count : int
        Images; each class in its proportion.

    Returns
    -------
    x : (count, height, width, 1) uint8 ndarray
    labels : (count,) int64 ndarray
    name : str
        Fashion-MNIST for a network of its size, if it is installed; else pyconv's synthetic faces, or their middle.
    """
    height, width, channels = model.input_shape
    if channels != 1 or max(height, width) > 48:
        raise ValueError(f"there are no images of {height}×{width}×{channels} here")
    fashion = (height, width) == (28, 28) and FASHION.exists()
    data = datasets.load(str(FASHION) if fashion else "faces", limit=count).train
    top, left = (data.x.shape[1] - height) // 2, (data.x.shape[2] - width) // 2
    x = np.ascontiguousarray(data.x[:count, top : top + height, left : left + width])
    return x, data.y[:count].astype(np.int64), "Fashion-MNIST" if fashion else "synthetic faces"


def normalised(x: np.ndarray) -> np.ndarray:
    """Images as float32 of mean 0 and variance 1, as in training."""
    return ((x - x.mean()) / x.std()).astype(np.float32)
