#!/usr/bin/env bash
# onnx 1.23.2: onnx.reference loses a window of MaxPool with auto_pad="SAME_LOWER" where the stride is above one.
#
# Both SAME modes are defined to give ⌈size / stride⌉ windows: here ⌈5 / 2⌉ = 3. With SAME_UPPER onnx.reference does.
#
# Seen 2026-11-28, Python 3.11, Linux x86-64, ONNX Runtime 1.32.0, NumPy 2.4.6:
#   SAME_UPPER: ONNX Runtime (3, 3), onnx.reference (3, 3)
#   SAME_LOWER: ONNX Runtime (3, 3), onnx.reference (2, 2)
#
# In pyconv: padding="same" is SAME_UPPER, and exported as pads.
source "$(dirname "$0")/common.sh"
packages numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0
seen <<'PYTHON'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

x = np.arange(25, dtype=np.float32).reshape(1, 1, 5, 5)
sizes = (("x", x.shape), ("y", (1, 1, 3, 3)))
ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in sizes]
for mode in ("SAME_UPPER", "SAME_LOWER"):
    node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2], auto_pad=mode)
    graph = helper.make_graph([node], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    run = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    twin = ReferenceEvaluator(model).run(None, {"x": x})[0]
    print(f"{mode}: ONNX Runtime {run.shape[2:]}, onnx.reference {twin.shape[2:]}")
PYTHON
