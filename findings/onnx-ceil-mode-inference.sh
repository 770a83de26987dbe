#!/usr/bin/env bash
# onnx 1.23.2: shape inference before opset 22 counts a pooling window that lies wholly in the padding; runtimes do not.
#
# A 2×2 window, stride 3, over 6×6 pixels and one of padding after, rounded up: the third window would begin at pixel 6,
# beyond the image. Opset 22 made inference leave it out; a model of an older opset gets a shape that no run has.
#
# Seen 2026-11-28, Python 3.11, Linux x86-64, ONNX Runtime 1.32.0, NumPy 2.4.6:
#   MaxPool, opset 21: inferred [3, 3], run [2, 2]
#   MaxPool, opset 22: inferred [2, 2], run [2, 2]
#   AveragePool, opset 21: inferred [3, 3], run [2, 2]
#   AveragePool, opset 22: inferred [2, 2], run [2, 2]
#
# In pyconv: pools do not round up, so that no exported model comes near it.
source "$(dirname "$0")/common.sh"
packages numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0
seen <<'PYTHON'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

onnxruntime.set_default_logger_severity(4)
x = np.ones((1, 1, 6, 6), np.float32)
ends = [helper.make_tensor_value_info(*end) for end in (("x", TensorProto.FLOAT, x.shape), ("y", TensorProto.FLOAT, None))]
for operator in ("MaxPool", "AveragePool"):
    for opset in (21, 22):
        node = helper.make_node(
            operator, ["x"], ["y"], kernel_shape=[2, 2], strides=[3, 3], pads=[0, 0, 1, 1], ceil_mode=1
        )
        graph = helper.make_graph([node], "g", ends[:1], ends[1:])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
        shape = onnx.shape_inference.infer_shapes(model).graph.output[0].type.tensor_type.shape
        y = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
        print(f"{operator}, opset {opset}: inferred {[d.dim_value for d in shape.dim][2:]}, run {list(y.shape[2:])}")
PYTHON
