#!/usr/bin/env bash
# ONNX Runtime 1.32.0, CPU: no convolution and no average pooling in float64, which their definitions have.
#
# MaxPool, Gemm and Relu are there. A network in float64 is taken by onnx.checker and refused by the session.
#
# Seen 2026-11-28, Python 3.11, Linux x86-64, onnx 1.23.2, NumPy 2.4.6:
#   Conv: NotImplemented
#   AveragePool: NotImplemented
#   GlobalAveragePool: NotImplemented
#   MaxPool: there
#   Relu: there
#
# In pyconv: networks are exported in float32 (pyconv/nn/onnx/graph.py).
source "$(dirname "$0")/common.sh"
packages numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0
seen <<'PYTHON'
import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper

weight = numpy_helper.from_array(np.ones((1, 1, 2, 2)), "w")
ends = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["n", 1, "h", "w"]) for name in "xy"]
for operator in ("Conv", "AveragePool", "GlobalAveragePool", "MaxPool", "Relu"):
    window = {"kernel_shape": [2, 2]} if operator in ("Conv", "AveragePool", "MaxPool") else {}
    node = helper.make_node(operator, ["x", "w"] if operator == "Conv" else ["x"], ["y"], **window)
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [weight] if operator == "Conv" else [])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model)
    try:
        onnxruntime.InferenceSession(model.SerializeToString())
        print(f"{operator}: there")
    except Exception as error:
        print(f"{operator}: {type(error).__name__}")
PYTHON
