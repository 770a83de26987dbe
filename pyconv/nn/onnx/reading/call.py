"""Call: the node that is being read, with its inputs and attributes; it notes the node's result or refuses it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from pyconv.errors import CheckpointError, PyconvError, short, shown

from ...foreign import Item
from ...layer import Layer
from .flow import Flow

Value = Flow | np.ndarray | None


_MOST = 350


class Refused(CheckpointError):
    """A node that no layer here can compute; the message names the node and its type, and says what would work.

    Attributes
    ----------
    order : bool
        Whether what is wrong is the order of the axes, which another order of the input's may mend.
    """

    order = False


class Call:
    """A node with the values of its inputs.

    Parameters
    ----------
    node : NodeProto
    attributes : mapping of str to object
        Tensors as arrays.
    inputs : sequence of Flow, ndarray or None
        None: an input that is left out.
    opset : int
    """

    def __init__(self, node: Any, attributes: Mapping[str, Any], inputs: Sequence[Value], opset: int) -> None:
        self.node, self.opset = node, opset
        self.attributes = dict(attributes)
        self._inputs = list(inputs)
        self.title = f"node {shown(node.name or ''.join(node.output[:1]))} ({short(node.op_type)})"

    def refuse(self, reason: str, *, order: bool = False) -> NoReturn:
        """Raise the error that this node cannot be read, with the reason; `order`: it is the axes' order."""
        error = Refused(f"{self.title}: {short(reason, _MOST)}")  # the reason may quote settings of the file
        error.order = order
        raise error

    def __len__(self) -> int:
        return len(self._inputs)

    def value(self, place: int) -> Value:
        """The input at `place`, or None."""
        return self._inputs[place] if place < len(self._inputs) else None

    def flow(self, place: int = 0) -> Flow:
        """The input at `place`, which must depend on the images."""
        value = self.value(place)
        if not isinstance(value, Flow):
            self.refuse(f"its input {place} is a constant; the images must come in there")
        return value

    def optional(self, place: int) -> np.ndarray | None:
        """The constant at `place`, or None if it is left out."""
        value = self.value(place)
        if isinstance(value, Flow):
            self.refuse(f"its input {place} is computed from the images; here it must be a constant of the file")
        return value

    def constant(self, place: int) -> np.ndarray:
        """The constant at `place`."""
        value = self.optional(place)
        if value is None:
            self.refuse(f"its input {place} is missing")
        return value

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute; text is returned as str."""
        value = self.attributes.get(name, default)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value

    def setting(self, name: str, place: int, default: Any = None) -> Any:
        """A setting that is an attribute in old opsets and an input in new ones, as an array or a number."""
        value = self.optional(place)
        return self.get(name, default) if value is None else value

    def images(self, place: int = 0) -> Flow:
        """The input at `place` as images with the axes in the order of ONNX's operators on images."""
        flow = self.flow(place)
        if flow.is_vector or not flow.arranged("CHW"):
            what = "vectors" if flow.is_vector else f"{1 + len(flow.axes)} axes in the order N{flow.axes}"
            self.refuse(f"takes images in the order NCHW here, not {what}", order=True)
        return flow

    def emit(self, flow: Flow, layer: Layer, values: Mapping[str, np.ndarray] | None = None) -> Flow:
        """The result of a layer on `flow`.

        The order of its axes stays the same; parameters and buffers must be in pyconv's order.
        """
        shape = flow.shape
        try:
            after = layer.output_shape(shape)
            known = {**layer.parameters(shape), **layer.buffers(shape)}
        except PyconvError as error:
            self.refuse(str(error))
        values = values or {}
        for name, parameter in known.items():
            if name not in values or values[name].shape != parameter.shape:
                found = values[name].shape if name in values else "none"
                self.refuse(f"its {name} has shape {found} here, not {parameter.shape}")
        return Flow(
            flow.axes, tuple(after), Item(self.title, (flow.item,), "layer", tuple(after), layer, values), flow.order
        )

    def affine(self, flow: Flow, scale: np.ndarray, shift: np.ndarray) -> Flow:
        """``scale x + shift``, one pair of numbers for each channel or feature, in pyconv's order."""
        channels = flow.shape[-1]
        values = {"scale": np.broadcast_to(scale, channels), "shift": np.broadcast_to(shift, channels)}
        adds = shift.size > 1 or bool(shift.any())
        item = Item(self.title, (flow.item,), "affine", flow.shape, values=values, adds=adds)
        return Flow(flow.axes, flow.shape, item, flow.order)

    def note(self, flow: Flow, kind: str, **about: Any) -> Flow:
        """The result, with the shape of `flow`, of something that is no layer by itself."""
        return Flow(flow.axes, flow.shape, Item(self.title, (flow.item,), kind, flow.shape, **about), flow.order)
