"""Graph: an ONNX graph to which nodes are added one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pyconv.errors import needed

Shape = tuple[int, ...]

#: The metadata's key for the order of the images' axes in a file of pyconv's own.
LAYOUT_KEY = "layout"


def library() -> Any:
    """The package ``onnx``; it is imported only when an ONNX file is written or read.

    Raises
    ------
    BackendUnavailable
        If it is not installed.
    """
    with needed("ONNX files need the package onnx", extra="onnx"):
        import onnx
    return onnx


class Graph:
    """Nodes and constants; each node takes the result of the one before.

    Parameters
    ----------
    start : str
        Name of the value that the first node takes.
    opset : int
        Version of ONNX's operators.

    Attributes
    ----------
    value : str
        Name of the newest result.
    nodes, constants : list
        ``onnx.NodeProto`` and ``onnx.TensorProto``, in the order in which they were added.
    pending : tuple of int or None
        Shape ``(H, W, C)`` of images that were flattened in NCHW order, while pyconv's vectors are in NHWC order: the
        next matrix product must have its rows in that order.
    """

    def __init__(self, start: str, opset: int) -> None:
        self._onnx = library()
        self.opset = opset
        self.value = start
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.pending: Shape | None = None

    def constant(self, name: str, array: np.ndarray) -> str:
        """Add a constant.

        Parameters
        ----------
        name : str
            The constant's; unique in the graph.
        array : ndarray
            Float arrays are written in float32, because runtimes do not convolve float64; others as they are.

        Returns
        -------
        str
            `name`.
        """
        array = np.asarray(array)
        if array.dtype.kind == "f":
            array = array.astype(np.float32)
        self.constants.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, operator: str, name: str, *constants: str, result: str | None = None, **attributes: Any) -> None:
        """Add a node that takes the newest result; its own result is then the newest.

        Parameters
        ----------
        operator : str
            ONNX's name, such as ``"Conv"``.
        name : str
            The node's; unique in the graph.
        *constants : str
            Names of further inputs.
        result : str, optional
            Name of its result; by default the node's name.
        **attributes : int, float or list of int
            As the operator defines them.
        """
        out = name if result is None else result
        node = self._onnx.helper.make_node(operator, [self.value, *constants], [out], name=name, **attributes)
        self.nodes.append(node)
        self.value = out

    def in_place(self, arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
        """The parameter `name`, with its rows in the order of the vectors of this graph.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            Parameters and buffers by name.
        name : str
            An array whose first axis runs over the features of the newest result.

        Returns
        -------
        ndarray
        """
        array = arrays[name]
        if self.pending is None:
            return array
        h, w, c = self.pending
        rest = array.shape[1:]
        return array.reshape(h, w, c, *rest).transpose(2, 0, 1, *range(3, 3 + len(rest))).reshape(array.shape)
