"""The backend ``cuda``: binds the operations of :mod:`pyconv.cuda.operations`, which run on an NVIDIA GPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..cuda import operations
from ..cuda.array import empty
from .contract import Backend


class Cuda(Backend):
    """The operations of :mod:`pyconv.cuda.operations`."""

    name = "cuda"
    algorithms = operations.algorithms
    own_memory = True

    _admit = staticmethod(operations.admit)
    permute = staticmethod(operations.permute)
    conv2d = staticmethod(operations.conv2d)
    conv2d_input_grad = staticmethod(operations.conv2d_input_grad)
    conv2d_weight_grad = staticmethod(operations.conv2d_weight_grad)
    conv2d_pool = staticmethod(operations.conv2d_pool)
    conv2d_pool_weight_grad = staticmethod(operations.conv2d_pool_weight_grad)
    max_pool2d = staticmethod(operations.max_pool2d)
    max_pool2d_input_grad = staticmethod(operations.max_pool2d_input_grad)
    avg_pool2d = staticmethod(operations.avg_pool2d)
    avg_pool2d_input_grad = staticmethod(operations.avg_pool2d_input_grad)
    relu = staticmethod(operations.relu)
    relu_grad = staticmethod(operations.relu_grad)
    bias_grad = staticmethod(operations.bias_grad)
    dense = staticmethod(operations.dense)
    dense_input_grad = staticmethod(operations.dense_input_grad)
    dense_weight_grad = staticmethod(operations.dense_weight_grad)
    softmax_cross_entropy = staticmethod(operations.softmax_cross_entropy)
    mean_cross_entropy = staticmethod(operations.mean_cross_entropy)
    batch_norm = staticmethod(operations.batch_norm)
    batch_norm_grad = staticmethod(operations.batch_norm_grad)
    batch_norm_inference = staticmethod(operations.batch_norm_inference)
    batch_norm_inference_grad = staticmethod(operations.batch_norm_inference_grad)
    move_running_statistics = staticmethod(operations.move_running_statistics)
    scale_shift = staticmethod(operations.scale_shift)
    activate = staticmethod(operations.activate)
    activate_grad = staticmethod(operations.activate_grad)
    pad2d = staticmethod(operations.pad2d)
    crop2d = staticmethod(operations.crop2d)
    multiply = staticmethod(operations.multiply)
    add = staticmethod(operations.add)
    copy = staticmethod(operations.copy)
    concatenate = staticmethod(operations.concatenate)
    channels = staticmethod(operations.channels)
    dropout = staticmethod(operations.dropout)

    @staticmethod
    def allocate(nbytes: int) -> Any:
        return empty((nbytes,), np.uint8)
