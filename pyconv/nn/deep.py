"""VGG and AlexNet, which adapt to the size of the images."""

from __future__ import annotations

from .conv import Conv2D
from .dense import Dense, Flatten
from .dropout import Dropout
from .initialisation import LAST
from .layer import Layer, Shape
from .pooling import MaxPool2D

#: Convolutions of each stage, by network: Simonyan and Zisserman's A, D and E, and the VGG13 of FER+.
VGG = {
    "vgg11": ((64, 1), (128, 1), (256, 2), (512, 2), (512, 2)),
    "vgg13": ((64, 2), (128, 2), (256, 3), (256, 3)),
    "vgg16": ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)),
    "vgg19": ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)),
}


def vgg(name: str, input_shape: Shape, classes: int, *, hidden: int = 4096, stage_dropout: float = 0.0) -> list[Layer]:
    """3×3 convolutions and 2×2 pools, two hidden layers with dropout.

    A pool is left out if the image is one row or column already, so that small images fit too.
    """
    side = min(input_shape[:2])
    layers: list[Layer] = []
    for filters, count in VGG[name]:
        layers += [Conv2D(filters, 3, padding="same", activation="relu") for _ in range(count)]
        if side >= 2:
            layers.append(MaxPool2D(2))
            side //= 2
        if stage_dropout:
            layers.append(Dropout(stage_dropout))
    return [*layers, *_head(hidden, classes)]


def alexnet(input_shape: Shape, classes: int) -> list[Layer]:
    """AlexNet with its two groups, without its response normalisation.

    The first layer's stride is 4 from 127 pixels on, 2 from 63, and 1 below, so that three 3×3 pools fit after it.
    """
    side = min(input_shape[:2])
    stride = 4 if side >= 127 else 2 if side >= 63 else 1
    return [
        Conv2D(96, 11, stride=stride, padding=5 if stride == 1 else 0, activation="relu"),
        MaxPool2D(3, stride=2),
        Conv2D(256, 5, padding=2, groups=2, activation="relu"),
        MaxPool2D(3, stride=2),
        Conv2D(384, 3, padding=1, activation="relu"),
        Conv2D(384, 3, padding=1, groups=2, activation="relu"),
        Conv2D(256, 3, padding=1, groups=2, activation="relu"),
        MaxPool2D(3, stride=2),
        *_head(4096, classes),
    ]


def _head(hidden: int, classes: int) -> list[Layer]:
    """The dense layers at the end of both networks."""
    layers: list[Layer] = [Flatten()]
    for _ in range(2):
        layers += [Dense(hidden, activation="relu"), Dropout(0.5)]
    return [*layers, Dense(classes, scale=LAST)]
