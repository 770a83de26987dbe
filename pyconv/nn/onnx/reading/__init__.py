"""Reads ONNX files, also those of other libraries, as networks.

document.py    the file: opened with care; its nodes, constants, input and output
attributes.py  a node's attributes, each of the type that ONNX gives it
folding.py     values that are computed from constants only: shapes, reshaped weights
flow.py        a value that depends on the images: the order of its axes in the file, and the layer that makes it here
operators.py   what each operator becomes: a table, one function an operator
dense.py       operators of matrix products, and of constants that scale and shift
pooling.py     operators of convolution, pooling and padding
network.py     the whole network; what is not ONNX's own is in nn/foreign
"""

from .network import read

__all__ = ["read"]
