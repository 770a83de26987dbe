"""The operations on arrays: arguments are checked here, and a backend computes.

Arrays are NHWC unless ``layout="NCHW"``; filters are ``(kh, kw, C // groups, K)``, or ``(K, C // groups, kh,
kw)`` with NCHW. Read-only and non-contiguous arrays work (they are copied if necessary); any dtype but
float32 and float64 is refused. "Convolution" is cross-correlation, as in every CNN.
"""

from .convolution import conv2d, conv2d_input_grad, conv2d_weight_grad
from .dense import (
    check_labels,
    dense,
    dense_input_grad,
    dense_weight_grad,
    relu,
    relu_grad,
    softmax_cross_entropy,
)
from .explain import Candidate, Explanation, explain
from .filtering import convolve2d, correlate2d
from .pooling import avg_pool2d, avg_pool2d_input_grad, max_pool2d, max_pool2d_input_grad

__all__ = [
    "Candidate",
    "Explanation",
    "avg_pool2d",
    "avg_pool2d_input_grad",
    "check_labels",
    "conv2d",
    "conv2d_input_grad",
    "conv2d_weight_grad",
    "convolve2d",
    "correlate2d",
    "dense",
    "dense_input_grad",
    "dense_weight_grad",
    "explain",
    "max_pool2d",
    "max_pool2d_input_grad",
    "relu",
    "relu_grad",
    "softmax_cross_entropy",
]
