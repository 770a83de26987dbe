"""pyconv: parallel training of convolutional networks from NumPy arrays.

Images are C-contiguous NHWC; filters are ``(kh, kw, C // groups, K)``. See ``pyconv.conv2d`` for the
operations, ``pyconv.nn`` for networks, ``pyconv.fit`` and the command ``pyconv train`` for training.
"""

from . import interrupts, invocation

interrupts.expect_early_ones()  # before the imports that take time

if invocation.completing():  # a shell asks for what may follow: no command runs
    from .completion import answer as _answer

    _answer(invocation.started() or "pyconv")

from .waiting import start as _start_watching  # noqa: E402

_start_watching()  # before any other module loads OpenMP's library

from .backends import algorithms, backends, warn_if_not_built  # noqa: E402
from .errors import PyconvError  # noqa: E402
from .loop import LearningRates, StopTraining, find_lr, fit  # noqa: E402
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
    explain,
    max_pool2d,
    max_pool2d_input_grad,
    relu,
    relu_grad,
    softmax_cross_entropy,
)
from .version import __version__  # noqa: E402

warn_if_not_built()

__all__ = [
    "LearningRates",
    "PyconvError",
    "StopTraining",
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
    "explain",
    "find_lr",
    "fit",
    "max_pool2d",
    "max_pool2d_input_grad",
    "relu",
    "relu_grad",
    "softmax_cross_entropy",
]
