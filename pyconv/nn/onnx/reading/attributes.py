"""The attributes of a node, each of the type that ONNX's own description of the operator gives it."""

from __future__ import annotations

from typing import Any

from pyconv.errors import shown

from ..graph import library
from .call import Call
from .document import Tensors


def attributes_of(call: Call, tensors: Tensors) -> dict[str, Any]:
    """The values of the attributes of a node; tensors as arrays.

    Raises
    ------
    CheckpointError
        If an attribute has another type than in ONNX's operator.
    """
    onnx = library()
    types, known = onnx.AttributeProto.AttributeType, _described(call.node, call.opset)
    values = {}
    for attribute in call.node.attribute:
        expected = known.get(attribute.name, attribute.type)
        if attribute.type != expected:
            found, right = types.Name(attribute.type), types.Name(expected)
            call.refuse(f"is damaged: its {shown(attribute.name)} is of type {found}, not {right}")
        value = onnx.helper.get_attribute_value(attribute)
        is_tensor = isinstance(value, onnx.TensorProto)
        values[attribute.name] = tensors.array(value, attribute.name) if is_tensor else value
    return values


def _described(node: Any, opset: int) -> dict[str, int]:
    """The types of the operator's attributes by name; empty for an operator that is not ONNX's."""
    onnx = library()
    domain = "" if node.domain == "ai.onnx" else node.domain
    if not onnx.defs.has(node.op_type, domain):
        return {}
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, domain)
    except onnx.defs.SchemaError:  # newer than this file's opset
        return {}
    return {name: int(attribute.type.value) for name, attribute in schema.attributes.items()}
