"""Networks: layers, the Sequential that runs them, named models, and their files."""

from .activation import ReLU
from .architecture import Architecture
from .config import from_config, from_toml
from .conv import Conv2D
from .dense import Dense, Flatten
from .dropout import Dropout
from .input_range import InputRange
from .layer import Layer, Parameter, Step
from .models import MODELS, build
from .norm import BatchNorm
from .normalization import Normalization
from .pooling import AvgPool2D, MaxPool2D
from .registry import LAYERS
from .sequential import Sequential
from .serialize import load

__all__ = [
    "LAYERS",
    "MODELS",
    "Architecture",
    "AvgPool2D",
    "BatchNorm",
    "Conv2D",
    "Dense",
    "Dropout",
    "Flatten",
    "InputRange",
    "Layer",
    "MaxPool2D",
    "Normalization",
    "Parameter",
    "ReLU",
    "Sequential",
    "Step",
    "build",
    "from_config",
    "from_toml",
    "load",
]
