"""The flags that say what is trained: the data, what is done to the images, and the model."""

from __future__ import annotations

from .. import nn
from ..command import Parser, whole
from ..datasets.augmentations import AUGMENTATIONS
from ..nn.serialize import FILES
from . import types
from .group import group


def add_what(made: Parser) -> None:
    """Add the flags of the data and the model."""
    add = group(made, "what to train")
    add(
        "--data",
        "faces (synthetic), a fer2013.csv, an .npz with x and y, an images.npy with a labels.npy, a .parquet, a folder "
        "of IDX files, or a folder of class folders of images",
        metavar="NAME|PATH",
    )
    add(
        "--model",
        f"one of {', '.join(nn.MODELS)}, the notation kernel-filters-hidden-classes such as "
        f"5-50-100-10, a TOML file of layers, or a model's file ({', '.join(FILES)}), trained on from its weights",
        metavar="NAME|NOTATION|FILE",
    )
    add("--limit", "train on this many images of the data", type=whole(1), metavar="N")
    add(
        "--size",
        "bring the images of a folder to this size in pixels, and to gray (x1) or colour (x3), as 64x64 or 64x64x3",
        type=types.size,
        metavar="WIDTHxHEIGHT[xCHANNELS]",
    )
    add(
        "--first-label",
        "label of the first class, in IDX files, .npz and .npy: 1 where labels count from 1 (default: 0)",
        type=whole(0),
        metavar="N",
    )
    add(
        "--bits",
        "of images of 16 bits, how many are in use, or data: the training images' own range (default: 16)",
        type=types.bits,
        metavar="N|data",
    )
    add("--flip", "flip half of the training images left to right, at random", action="store_true", default=None)
    add("--shift", "shift training images by up to N pixels, at random", type=whole(0), metavar="N")
    for name, each in AUGMENTATIONS.items():
        add(f"--{name}", each.help, type=types.number, metavar=each.metavar)

    add(
        "--new-head",
        "give a --model that was read from a file a fresh last layer, for the classes of the data",
        action="store_true",
        default=None,
    )
