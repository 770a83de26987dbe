"""The backend ``reference``: binds the literal equations of :mod:`pyconv.reference`."""

from __future__ import annotations

from .. import reference
from .contract import Backend


class Reference(Backend):
    """The operations of :mod:`pyconv.reference`."""

    name = "reference"
    algorithms = reference.algorithms

    conv2d = staticmethod(reference.conv2d)
    conv2d_input_grad = staticmethod(reference.conv2d_input_grad)
    conv2d_weight_grad = staticmethod(reference.conv2d_weight_grad)
    max_pool2d = staticmethod(reference.max_pool2d)
    max_pool2d_input_grad = staticmethod(reference.max_pool2d_input_grad)
    avg_pool2d = staticmethod(reference.avg_pool2d)
    avg_pool2d_input_grad = staticmethod(reference.avg_pool2d_input_grad)
    relu = staticmethod(reference.relu)
    relu_grad = staticmethod(reference.relu_grad)
    bias_grad = staticmethod(reference.bias_grad)
    dense = staticmethod(reference.dense)
    dense_input_grad = staticmethod(reference.dense_input_grad)
    dense_weight_grad = staticmethod(reference.dense_weight_grad)
    softmax_cross_entropy = staticmethod(reference.softmax_cross_entropy)
    batch_norm = staticmethod(reference.batch_norm)
    batch_norm_grad = staticmethod(reference.batch_norm_grad)
    scale_shift = staticmethod(reference.scale_shift)
    activate = staticmethod(reference.activate)
    activate_grad = staticmethod(reference.activate_grad)
    pad2d = staticmethod(reference.pad2d)
    crop2d = staticmethod(reference.crop2d)
