#!/usr/bin/env bash
# ONNX Runtime 1.32.0, CPU: a Conv with auto_pad and dilations passes every check and is refused when it is run.
#
# The operator's definition allows both together, onnx.checker takes the model and the session is made. The same
# convolution with its pads written out is run.
#
# Seen 2026-11-28, Python 3.11, Linux x86-64, onnx 1.23.2, NumPy 2.4.6:
#   pads: (1, 1, 7, 7)
#   auto_pad: Dilation not supported for AutoPadType::SAME_UPPER or AutoPadType::SAME_LOWER.
#
# In pyconv: padding="same" is exported as pads.
source "$(dirname "$0")/common.sh"
packages numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0
seen <<'PYTHON'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

onnxruntime.set_default_logger_severity(4)
image = np.ones((1, 1, 7, 7), np.float32)
weight = numpy_helper.from_array(np.ones((1, 1, 3, 3), np.float32), "w")
ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, image.shape) for name in "xy"]
for name, how in (("pads", {"pads": [2, 2, 2, 2]}), ("auto_pad", {"auto_pad": "SAME_UPPER"})):
    node = helper.make_node("Conv", ["x", "w"], ["y"], dilations=[2, 2], **how)
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    try:
        print(f"{name}: {session.run(None, {'x': image})[0].shape}")
    except Exception as error:
        print(f"{name}: {str(error).partition('Status Message: ')[2].splitlines()[0]}")
PYTHON
