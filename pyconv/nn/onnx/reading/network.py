"""Reads the whole network of an ONNX file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyconv.errors import CheckpointError, shown

from ...foreign import assembled
from ...layer import example_shape
from ...sequential import Sequential
from ..graph import LAYOUT_KEY, library
from .attributes import attributes_of
from .call import Call, Refused, Value
from .document import Document, Tensors, open_document
from .flow import Flow
from .folding import FOLDED
from .operators import OPERATORS, resized

#: Stands for a batch size that is open, in computations with sizes; no other size has this value.
ANY_BATCH = 1_000_003


def read(path: Path, input_shape: Sequence[int] | None = None) -> Sequential:
    """The network of the file at `path`.

    Parameters
    ----------
    path : Path
    input_shape : (int, int, int) or (int,), optional
        Height, width and channels, if the file leaves them open.

    Returns
    -------
    Sequential
        Its result is the file's result, or the logits if the file ends in a softmax.

    Raises
    ------
    CheckpointError
        If the file cannot be read, or no layer here can compute a node; the message names the node.
    BackendUnavailable
        If the package ``onnx`` is not installed.
    """
    document = open_document(path)
    refusals: list[tuple[bool, int, Refused]] = []
    for start in _starts(document, input_shape):
        walk = _Walk(document, path.parent)
        try:
            return _network(document, walk.result(start), start.shape)
        except Refused as error:  # perhaps the axes are in the other order
            refusals.append((not error.order, walk.position, error))
    raise max(refusals, key=lambda each: each[:2])[2]


def _starts(document: Document, input_shape: Sequence[int] | None) -> Iterator[Flow]:
    """The input with each possible order of axes, the likelier one first."""
    dims = document.dims[1:]
    if len(dims) not in (1, 2, 3):
        raise CheckpointError(f"its input has {len(document.dims)} axes; batches of images or vectors have 2 to 4")
    told = None if input_shape is None else example_shape(input_shape)
    orders = {1: ["F"], 2: ["HW"], 3: ["CHW", "HWC"]}[len(dims)]
    if len(dims) == 3 and (_is_nhwc(document) or (dims[2] in (1, 3) and dims[0] not in (1, 3))):
        orders.reverse()
    unfit, tried = None, False
    for axes in orders:
        known: dict[str, int | None] = dict(zip(axes, dims))
        letters = "F" if axes == "F" else "HWC"
        if axes == "HW":
            known["C"] = 1
        if told is not None and len(told) == len(letters):
            given = dict(zip(letters, told))
            if any(known[axis] not in (None, given[axis]) for axis in letters):
                unfit = unfit or tuple(known[axis] for axis in letters)
                continue
            known = dict(given)
        elif told is not None:
            unfit = unfit or tuple(known[axis] for axis in letters)
            continue
        sizes = [known[axis] for axis in letters]
        if None in sizes:
            raise CheckpointError(
                f"leaves the size of its input {shown(document.input)} open: say it with input_shape=(height, width, "
                "channels)"
            )
        tried = True
        yield Flow(axes, example_shape(sizes), None)
    if not tried and unfit is not None and told is not None:
        takes = "×".join("?" if size is None else str(size) for size in unfit)
        raise CheckpointError(f"takes examples of {takes} (height × width × channels), not {'×'.join(map(str, told))}")


def _is_nhwc(document: Document) -> bool:
    """Whether the file is of pyconv's own and says that its images' channels come last."""
    return document.metadata.get(LAYOUT_KEY) == "NHWC"


class _Walk:
    """Goes through the nodes once, with one order of the input's axes.

    Attributes
    ----------
    position : int
        Position of the newest node.
    """

    def __init__(self, document: Document, folder: Path) -> None:
        self._document, self._tensors = document, Tensors(library(), folder)
        self._values: dict[str, Value] = {"": None, **document.constants}
        self._batch = document.dims[0] or ANY_BATCH
        self.position = 0

    def result(self, start: Flow) -> Flow:
        """The value of the output."""
        document = self._document
        self._values[document.input] = start
        for self.position, node in enumerate(document.nodes):
            self._values.update(dict.fromkeys(node.output[1:]))
            self._values[node.output[0] if node.output else ""] = self._one(node)
        found = self._values.get(document.output)
        if not isinstance(found, Flow):
            raise CheckpointError(f"its output {shown(document.output)} does not depend on its input")
        return found

    def _one(self, node: Any) -> Value:
        """The result of a node."""
        missing = next((name for name in node.input if name not in self._values), None)
        if missing is not None:
            raise CheckpointError(f"is damaged: node {shown(node.name)} takes {shown(missing)}, which nothing makes")
        inputs = [self._values[name] for name in node.input]
        call = Call(node, {}, inputs, self._document.opset)
        try:
            call.attributes = attributes_of(call, self._tensors)
            return self._computed(call, inputs)
        except (KeyError, IndexError, TypeError, ValueError, OverflowError, MemoryError) as error:
            if isinstance(error, CheckpointError):
                raise
            call.refuse(f"is damaged, or of a form that is not read ({' '.join(str(error).split())[:200]})")

    def _computed(self, call: Call, inputs: list[Value]) -> Value:
        operator = call.node.op_type
        if call.node.domain not in ("", "ai.onnx"):
            call.refuse(
                f"is an operator of {shown(call.node.domain)}, not of ONNX; those that have a layer: {_known()}"
            )
        flows = [value for value in inputs if isinstance(value, Flow)]
        if operator == "Shape" and flows:
            sizes = np.array([self._batch, *flows[0].sizes], np.int64)
            return sizes[call.get("start", 0) : call.get("end")]
        if not flows and operator in FOLDED:
            constants = [value for value in inputs if isinstance(value, np.ndarray)]
            return np.asarray(FOLDED[operator](constants, call.attributes))
        if operator == "Reshape":
            return self._reshaped(call)
        if operator not in OPERATORS:
            call.refuse(f"has no layer here; those that have: {_known()}")
        return OPERATORS[operator](call)

    def _reshaped(self, call: Call) -> Flow:
        """Reshape that keeps the batch."""
        flow = call.flow()
        told = call.setting("shape", 1)
        before = [self._batch, *flow.sizes]
        sizes = [int(size) for size in np.ravel(told)]
        if not call.get("allowzero", 0):
            sizes = [before[place] if size == 0 else size for place, size in enumerate(sizes)]
        if sizes.count(-1) == 1:
            rest = -int(np.prod(sizes))
            total = int(np.prod(before))
            if rest > 0 and total % rest == 0:
                sizes[sizes.index(-1)] = total // rest
        if not sizes or sizes[0] != self._batch:
            call.refuse(f"reshapes to {[int(size) for size in np.ravel(told)]}, which mixes the batch with other axes")
        return resized(call, flow, sizes[1:])


def _known() -> str:
    return ", ".join(sorted([*OPERATORS, "Reshape"]))


def _network(document: Document, result: Flow, input_shape: tuple[int, ...]) -> Sequential:
    """The network that computes `result`."""
    if result.order is not None:
        raise CheckpointError("ends in flattened images, whose order is another here: a classifier ends in a matrix")
    model = assembled(result.item, input_shape, "float64" if document.double else "float32")
    _name_classes(model, document.metadata.get("classes"))
    return model


def _name_classes(model: Sequential, text: str | None) -> None:
    """The class names in files of pyconv's own; in other files this metadata may be anything."""
    try:
        names = json.loads(text) if text else None
        if isinstance(names, list) and names:
            model.classes = names
    except (ValueError, RecursionError):
        return
