"""Max pooling counts an image's pixels in 32 bits; a larger image is refused, and the error says so."""

from __future__ import annotations

import numpy as np
import pytest

import pyconv
from pyconv import nn
from pyconv.backends import Backend
from pyconv.errors import ShapeError
from pyconv.shapes import pool_geometry


def test_images_with_more_pixels_than_can_be_numbered() -> None:
    fits, beyond = (1, 46340, 46340, 1), (1, 46341, 46341, 1)
    assert pool_geometry(fits, 4).number_pixels().oh == 11585
    with pytest.raises(ShapeError, match=r"at most 2147483647 pixels, not 46341 x 46341"):
        pool_geometry(beyond, 4).number_pixels()
    with pytest.raises(ShapeError, match="at most 2147483647 pixels"):
        nn.MaxPool2D(4).output_shape(beyond[1:])
    assert nn.AvgPool2D(4).output_shape(beyond[1:]) == (11585, 11585, 1)
    image = np.broadcast_to(np.float32(0), beyond)
    with pytest.MonkeyPatch.context() as patch:  # the array itself would be 8 GB
        patch.setattr(Backend, "admit", lambda self, value, name, ndim: value)
        for call in (
            lambda: pyconv.max_pool2d(image, 4),
            lambda: pyconv.max_pool2d_input_grad(image[:, :11585, :11585], image, 4),
        ):
            with pytest.raises(ShapeError, match="at most 2147483647 pixels"):
                call()
