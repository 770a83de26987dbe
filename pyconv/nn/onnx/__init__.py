"""Writes networks as ONNX files, for other runtimes; :mod:`.reading` reads them.

graph.py   an ONNX graph that grows node by node, in NCHW as every runtime computes
layers.py  the ONNX nodes of each layer: a table, one function a layer
chain.py   layers in a row, and branches
export.py  the whole file: input, normalisation, layers, output, class names
"""

from .export import DEFAULT_OPSET, to_bytes, write

__all__ = ["DEFAULT_OPSET", "to_bytes", "write"]
