"""The layers by name."""

from .activation import ReLU
from .conv import Conv2D
from .dense import Dense, Flatten
from .dropout import Dropout
from .layer import Layer
from .norm import BatchNorm
from .pooling import AvgPool2D, MaxPool2D

#: Every layer that files may name, by its ``type``.
LAYERS: dict[str, type[Layer]] = {
    layer.__name__: layer for layer in (Conv2D, MaxPool2D, AvgPool2D, BatchNorm, ReLU, Dropout, Flatten, Dense)
}
