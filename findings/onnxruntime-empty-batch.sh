#!/usr/bin/env bash
# ONNX Runtime 1.32.0: Reshape to [0, -1], the usual way to flatten, fails for a batch of no images; Flatten does not.
#
# 0 keeps the first size and -1 is what remains: of (0, 2, 3), as of any batch of such images, that is 6.
#
# Seen 2026-11-28, Python 3.11, Linux x86-64, onnx 1.23.2, NumPy 2.4.6:
#   Reshape of (2, 2, 3): (2, 6)
#   Reshape of (0, 2, 3): Fail
#   Flatten of (2, 2, 3): (2, 6)
#   Flatten of (0, 2, 3): (0, 6)
#
# In pyconv: nn.Flatten is exported as Flatten.
source "$(dirname "$0")/common.sh"
packages numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0
seen <<'PYTHON'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

onnxruntime.set_default_logger_severity(4)
shape = numpy_helper.from_array(np.array([0, -1]), "shape")
sizes = (("x", ["n", 2, 3]), ("y", ["n", 6]))
ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in sizes]
for operator, names, constants in (("Reshape", ["x", "shape"], [shape]), ("Flatten", ["x"], [])):
    graph = helper.make_graph([helper.make_node(operator, names, ["y"])], "g", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for images in (2, 0):
        x = np.ones((images, 2, 3), np.float32)
        try:
            print(f"{operator} of {x.shape}:", session.run(None, {"x": x})[0].shape)
        except Exception as error:
            print(f"{operator} of {x.shape}:", type(error).__name__)
PYTHON
