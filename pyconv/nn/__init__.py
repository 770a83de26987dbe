"""Networks: the layers, the Sequential that computes with them, the named models, and model files."""

from .activation import ReLU
from .activations import Clip, LeakyReLU, ReLU6, Sigmoid, Tanh
from .architecture import Architecture
from .branches import Parallel, Residual
from .config import from_config, from_toml
from .conv import Conv2D
from .dense import Dense, Flatten
from .dropout import Dropout
from .global_pool import GlobalAvgPool2D
from .input_range import InputRange
from .layer import Layer, Parameter, Step
from .models import MODELS, build
from .norm import BatchNorm
from .normalization import Normalization
from .pooling import AvgPool2D, MaxPool2D
from .registry import LAYERS
from .separable import SeparableConv2D
from .sequential import Sequential
from .serialize import load
from .zero_pad import ZeroPad2D

__all__ = [
    "LAYERS",
    "MODELS",
    "Architecture",
    "AvgPool2D",
    "BatchNorm",
    "Clip",
    "Conv2D",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2D",
    "InputRange",
    "Layer",
    "LeakyReLU",
    "MaxPool2D",
    "Normalization",
    "Parallel",
    "Parameter",
    "ReLU",
    "ReLU6",
    "Residual",
    "SeparableConv2D",
    "Sequential",
    "Sigmoid",
    "Step",
    "Tanh",
    "ZeroPad2D",
    "build",
    "from_config",
    "from_toml",
    "load",
]
