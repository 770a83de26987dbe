"""pyconv: parallel training of convolutional networks from NumPy arrays.

Images are C-contiguous NHWC; filters are ``(kh, kw, C // groups, K)``. See ``pyconv.conv2d`` for the
operations, ``pyconv.nn`` for networks, ``pyconv.fit`` and ``python -m pyconv.train`` for training.
"""

from . import interrupts

interrupts.expect_early_ones()  # before the imports that take time

from . import threads as _threads  # noqa: E402

_threads.load_openmp()  # before any other module does

from .backends import algorithms, backends, warn_if_not_built  # noqa: E402
from .errors import PyconvError  # noqa: E402
from .loop import fit  # noqa: E402
from .ops import (  # noqa: E402
    avg_pool2d,
    avg_pool2d_input_grad,
    conv2d,
    conv2d_input_grad,
    conv2d_weight_grad,
    convolve2d,
    correlate2d,
    dense,
    dense_input_grad,
    dense_weight_grad,
    max_pool2d,
    max_pool2d_input_grad,
    relu,
    relu_grad,
    softmax_cross_entropy,
)

__version__ = "0.1.0"

warn_if_not_built()

__all__ = [
    "PyconvError",
    "__version__",
    "algorithms",
    "avg_pool2d",
    "avg_pool2d_input_grad",
    "backends",
    "conv2d",
    "conv2d_input_grad",
    "conv2d_weight_grad",
    "convolve2d",
    "correlate2d",
    "dense",
    "dense_input_grad",
    "dense_weight_grad",
    "fit",
    "max_pool2d",
    "max_pool2d_input_grad",
    "relu",
    "relu_grad",
    "softmax_cross_entropy",
]
