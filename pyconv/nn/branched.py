"""ResNet-18, mini-Xception and SqueezeNet: networks with branches, for small images."""

from __future__ import annotations

from .activation import ReLU
from .branches import Parallel, Residual
from .conv import Conv2D
from .dense import Dense
from .dropout import Dropout
from .global_pool import GlobalAvgPool2D
from .initialisation import LAST
from .layer import Layer, Shape
from .norm import BatchNorm
from .pooling import MaxPool2D
from .separable import SeparableConv2D

#: Filters of SqueezeNet's modules: of the squeezing convolution, and of each of the two expanding ones.
FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))


def resnet18(input_shape: Shape, classes: int) -> list[Layer]:
    """ResNet-18 with the stem for small images: one 3×3 convolution of stride 1, and no pool."""
    layers: list[Layer] = [Conv2D(64, 3, padding=1, bias=False), BatchNorm(), ReLU()]
    channels = 64
    for filters, stride in ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
        inner = [
            Conv2D(filters, 3, stride=stride, padding=1, bias=False),
            BatchNorm(),
            ReLU(),
            Conv2D(filters, 3, padding=1, bias=False),
            BatchNorm(),
        ]
        changed = stride != 1 or filters != channels
        shortcut = [Conv2D(filters, 1, stride=stride, bias=False), BatchNorm()] if changed else []
        layers += [Residual(inner, shortcut=shortcut), ReLU()]
        channels = filters
    return [*layers, GlobalAvgPool2D(), Dense(classes, scale=LAST)]


def mini_xception(input_shape: Shape, classes: int) -> list[Layer]:
    """Four residual blocks of separable convolutions, and a convolution to one map for each class."""
    layers: list[Layer] = []
    for _ in range(2):
        layers += [Conv2D(8, 3, bias=False), BatchNorm(), ReLU()]
    for filters in (16, 32, 64, 128):
        inner = [
            SeparableConv2D(filters, 3, padding="same", bias=False),
            BatchNorm(),
            ReLU(),
            SeparableConv2D(filters, 3, padding="same", bias=False),
            BatchNorm(),
            MaxPool2D(3, stride=2, padding="same"),
        ]
        layers.append(Residual(inner, shortcut=[Conv2D(filters, 1, stride=2, padding="same", bias=False), BatchNorm()]))
    return [*layers, Conv2D(classes, 3, padding="same", scale=LAST), GlobalAvgPool2D()]


def squeezenet(input_shape: Shape, classes: int) -> list[Layer]:
    """SqueezeNet 1.1. The stem's stride is 2 from 127 pixels on, else 1, so that three pools fit after it."""
    stride = 2 if min(input_shape[:2]) >= 127 else 1
    layers: list[Layer] = [Conv2D(64, 3, stride=stride, padding=2 - stride, activation="relu"), _pool()]
    for number, (squeezed, expanded) in enumerate(FIRES):
        if number in (2, 4):
            layers.append(_pool())
        layers += _fire(squeezed, expanded)
    return [*layers, Dropout(0.5), Conv2D(classes, 1, activation="relu", scale=LAST), GlobalAvgPool2D()]


def _fire(squeezed: int, expanded: int) -> list[Layer]:
    """A 1×1 convolution to few channels, then a 1×1 and a 3×3 convolution side by side."""
    branches = [
        [Conv2D(expanded, 1, activation="relu")],
        [Conv2D(expanded, 3, padding=1, activation="relu")],
    ]
    return [Conv2D(squeezed, 1, activation="relu"), Parallel(branches, join="concat")]


def _pool() -> Layer:
    return MaxPool2D(3, stride=2, padding="same")
