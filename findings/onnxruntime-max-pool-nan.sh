#!/usr/bin/env bash
# ONNX Runtime 1.32.0, CPU: a float32 MaxPool drops a NaN except in a window's last place, and knows no -inf.
#
# A maximum depends on no order of the pixels; NumPy's gives NaN wherever one is. The maximum of a window of -inf is the
# least finite float32; in float64 it is -inf.
#
# Seen 2026-11-28, Python 3.11, Linux x86-64, onnx 1.23.2, NumPy 2.4.6:
#   NaN at 0, 1, 2, 3 of a 2×2 window: 1, 1, 1, nan
#   all -inf: -3.4028235e+38 in float32, -inf in float64
#
# In pyconv: NaN counts as the largest pixel wherever it is, and -inf stays; exported models differ there in this runtime.
source "$(dirname "$0")/common.sh"
packages numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0
seen <<'PYTHON'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper


def pool(x):
    kind = TensorProto.FLOAT if x.dtype == np.float32 else TensorProto.DOUBLE
    ends = [helper.make_tensor_value_info(name, kind, shape) for name, shape in (("x", x.shape), ("y", (1, 1, 1, 1)))]
    graph = helper.make_graph([helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2])], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0].item()


found = []
for place in range(4):
    x = np.ones((1, 1, 2, 2), np.float32)
    x.flat[place] = np.nan
    found.append(f"{pool(x):g}")
print("NaN at 0, 1, 2, 3 of a 2×2 window:", ", ".join(found))
narrow, wide = (pool(np.full((1, 1, 2, 2), -np.inf, dtype)) for dtype in (np.float32, np.float64))
print(f"all -inf: {narrow:.8g} in float32, {wide} in float64")
PYTHON
