"""The table of layers: a new layer is a class in a file of its own, and one line here."""

# ruff: noqa: F401, I001 - the imports are the table, one line each, in the order in which messages list them.
from .layer import Layer
from .conv import Conv2D
from .separable import SeparableConv2D
from .zero_pad import ZeroPad2D
from .pooling import MaxPool2D, AvgPool2D
from .global_pool import GlobalAvgPool2D
from .norm import BatchNorm
from .activation import ReLU
from .activations import LeakyReLU, ReLU6, Clip, Sigmoid, Tanh
from .dropout import Dropout
from .dense import Flatten, Dense
from .branches import Residual, Parallel

#: Every layer that files may name, by its ``type``.
LAYERS: dict[str, type[Layer]] = {
    kind.__name__: kind
    for kind in list(globals().values())
    if isinstance(kind, type) and issubclass(kind, Layer) and kind is not Layer
}
