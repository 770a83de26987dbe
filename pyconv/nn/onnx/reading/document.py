"""Opens an ONNX file with care: nothing in it is executed, and nothing outside its folder is read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyconv.errors import CheckpointError, short, shown

from ..graph import library

#: Most bytes of a file (protobuf's limit), and of all tensors in files beside it.
MOST_BYTES, MOST_BESIDE = (1 << 31) - 1, 1 << 33
MOST_NODES = 100_000
OLDEST_OPSET = 7
EXTERNAL = 1  # TensorProto.DataLocation


@dataclass
class Document:
    """The content of a file.

    Attributes
    ----------
    nodes : list of NodeProto
        In an order in which each node comes after those that it needs.
    constants : dict of str to ndarray
    opset : int
    input, output : str
        Names of the images' value and of the result.
    dims : list of int or None
        Of the input, with the batch first; None means any size.
    double : bool
        Whether the input is float64.
    metadata : dict of str to str
    """

    nodes: list[Any]
    constants: dict[str, np.ndarray]
    opset: int
    input: str
    output: str
    dims: list[int | None]
    double: bool
    metadata: dict[str, str]


def open_document(path: Path) -> Document:
    """Read the file at `path`.

    Raises
    ------
    CheckpointError
        If it is no ONNX file of a classifier, is too large, or names data outside its folder.
    BackendUnavailable
        If the package ``onnx`` is not installed.
    """
    onnx = library()
    model = _parsed(onnx, path)
    if len(model.functions):
        model = _inlined(onnx, model)
    opsets = {each.domain: each.version for each in model.opset_import}
    opset = opsets.get("", opsets.get("ai.onnx", 0))
    if not opset:
        raise CheckpointError("is not an ONNX model: it names no version of the operators")
    if opset < OLDEST_OPSET:
        raise CheckpointError(f"has opset {opset}, {OLDEST_OPSET} is the oldest that is read: export it anew")
    graph = model.graph
    if len(graph.node) > MOST_NODES:
        raise CheckpointError(f"has {len(graph.node)} nodes, more than {MOST_NODES}")
    if len(graph.sparse_initializer):
        raise CheckpointError("has sparse tensors, which are not read")
    tensors = Tensors(onnx, path.parent)
    constants = {tensor.name: tensors.array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx") and len(node.output) == 1:
            constants[node.output[0]] = _constant(onnx, node, tensors)
    inputs = [value for value in graph.input if value.name not in constants]
    given, result = _only("input", inputs), _only("output", graph.output)
    kind = given.type.tensor_type
    double = kind.elem_type == onnx.TensorProto.DOUBLE
    if kind.elem_type not in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.UINT8):
        known = {number: name.lower() for name, number in onnx.TensorProto.DataType.items()}
        name = known.get(kind.elem_type, f"type {kind.elem_type}")
        raise CheckpointError(f"its input {shown(given.name)} is of {name}, which is not read: export it in float32")
    dims: list[int | None] = [dim.dim_value if dim.dim_value > 0 else None for dim in kind.shape.dim]
    nodes = [node for node in graph.node if not (node.op_type == "Constant" and constants.keys() & node.output[:1])]
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    return Document(nodes, constants, opset, given.name, result.name, dims, double, metadata)


def _parsed(onnx: Any, path: Path) -> Any:
    """The ``ModelProto`` of a regular file that is not too large."""
    try:
        if path.is_dir():
            raise CheckpointError("is a folder, not a model file")
        if not path.is_file() and path.exists():
            raise CheckpointError("is not a regular file")
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise CheckpointError(f"has {size} bytes; an ONNX file has {MOST_BYTES} at most")
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"the model cannot be read: {error.strerror or 'no such file'}") from None
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except Exception as error:  # protobuf's own error, which differs from version to version
        raise CheckpointError(
            f"is not an ONNX file, or is truncated ({short(' '.join(str(error).split()), 200)})"
        ) from None
    if not model.HasField("graph") or not model.graph.output:
        raise CheckpointError("is not an ONNX model: it has no graph with an output")
    return model


def _inlined(onnx: Any, model: Any) -> Any:
    """The model with the bodies of its functions in place of the calls; older exporters of PyTorch write functions."""
    from onnx import inliner

    try:
        return inliner.inline_local_functions(model)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"its functions cannot be put in place of their calls ({reason})") from None


def _only(what: str, values: Iterable[Any]) -> Any:
    """The only input or output; raises an error if there are several."""
    found = list(values)
    if len(found) != 1:
        names = ", ".join(shown(value.name) for value in found[:5]) or "none"
        raise CheckpointError(f"has {len(found)} {what}s ({names}); a network here has one: export it with one")
    return found[0]


def _constant(onnx: Any, node: Any, tensors: Tensors) -> np.ndarray:
    """The value of a Constant node."""
    name = node.name or node.output[0]
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if attribute.name == "value":
            return tensors.array(value, name)
        if attribute.name in ("value_float", "value_floats"):
            return np.array(value, np.float32)
        if attribute.name in ("value_int", "value_ints"):
            return np.array(value, np.int64)
    raise CheckpointError(f"node {shown(name)} (Constant) holds no tensor of numbers, which alone is read")


class Tensors:
    """Reads tensors, also from other files if these are in `folder`."""

    def __init__(self, onnx: Any, folder: Path) -> None:
        self._onnx, self._folder, self._left = onnx, folder, MOST_BESIDE

    def array(self, tensor: Any, name: str = "") -> np.ndarray:
        """The numbers of a ``TensorProto``."""
        if not isinstance(tensor, self._onnx.TensorProto):
            raise CheckpointError(f"the tensor {shown(name)} is damaged: it is something else")
        name = tensor.name or name
        try:
            if tensor.data_location == EXTERNAL:
                return self._beside(tensor, name)
            return np.array(self._onnx.numpy_helper.to_array(tensor))
        except (ValueError, TypeError, KeyError, AttributeError, MemoryError) as error:
            if isinstance(error, CheckpointError):
                raise
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(f"the tensor {shown(name)} is damaged: {reason}") from None

    def _beside(self, tensor: Any, name: str) -> np.ndarray:
        """A tensor whose bytes are in another file of the same folder."""
        where = {entry.key: entry.value for entry in tensor.external_data}
        location = where.get("location", "")
        path = self._folder / location
        inside = path.resolve().is_relative_to(self._folder.resolve())
        if not location or Path(location).is_absolute() or ".." in Path(location).parts or not inside:
            raise CheckpointError(
                f"the tensor {shown(name)} lies at {shown(location)}, outside the file's folder: nothing there is read"
            )
        dtype = np.dtype(self._onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).newbyteorder("<")
        size = dtype.itemsize
        for extent in tensor.dims:
            size *= max(int(extent), 0)
        start, length = int(where.get("offset", 0)), int(where.get("length", size))
        self._left -= size
        if length != size or start < 0 or self._left < 0:
            raise CheckpointError(f"the tensor {shown(name)} is damaged: {length} bytes for shape {list(tensor.dims)}")
        try:
            if not path.is_file():
                raise CheckpointError(f"the tensor {shown(name)} needs the file {shown(location)} beside the model")
            with path.open("rb") as file:
                file.seek(start)
                content = file.read(size) if start + size <= path.stat().st_size else b""
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
        if len(content) != size:
            raise CheckpointError(f"{path}: is truncated: the tensor {shown(name)} ends beyond it")
        array = np.frombuffer(content, dtype).reshape(tuple(tensor.dims))
        return array.astype(dtype.newbyteorder("="))
