"""Networks as ONNX files, for runtimes that do not know pyconv.

graph.py   an ONNX graph that grows node by node, in NCHW as every runtime computes
layers.py  what each layer becomes: a table, one function a layer
export.py  the whole file: input, normalisation, layers, output, class names
"""

from .export import DEFAULT_OPSET, to_bytes, write

__all__ = ["DEFAULT_OPSET", "to_bytes", "write"]
