"""Data sets: images with labels, read from disk or drawn.

``load`` takes a name or a path and returns training and validation images as NHWC arrays, uint8 or float32, with int64
labels. ``docs/reference/data-formats.md`` says which forms of data it reads.
"""

from .augmentation import augment
from .fer2013 import read_pixels
from .images import read_image
from .sources import NAMED, load
from .split import normalization
from .synthetic import faces
from .types import Dataset, Split

__all__ = ["NAMED", "Dataset", "Split", "augment", "faces", "load", "normalization", "read_image", "read_pixels"]
