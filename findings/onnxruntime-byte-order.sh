#!/usr/bin/env bash
# ONNX Runtime 1.32.0: NumPy arrays of the other byte order are read as if they were native, without a word.
#
# The array's dtype says ">f4"; NumPy, and every function of it, obeys.
#
# Seen 2026-11-28, Python 3.11, Linux x86-64, onnx 1.23.2, NumPy 2.4.6:
#   native [1. 2.]
#   big-endian [4.6006e-41 8.9683e-44]
#
# In pyconv: arrays of the other byte order are refused, or converted where numbers of any dtype are taken.
source "$(dirname "$0")/common.sh"
packages numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0
seen <<'PYTHON'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper

ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", ends[:1], ends[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
session = onnxruntime.InferenceSession(model.SerializeToString())
for name, dtype in (("native", "<f4"), ("big-endian", ">f4")):
    print(name, session.run(None, {"x": np.array([1, 2], dtype)})[0])
PYTHON
