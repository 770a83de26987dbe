"""Writes a whole network as an ONNX file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyconv.errors import CheckpointError
from pyconv.files import write_atomically
from pyconv.values import choice, flag, integer

from ..layer import Shape
from .chain import reorder, write_chain
from .graph import LAYOUT_KEY, Graph, library

if TYPE_CHECKING:
    from ..network import Network

#: From June 2022: ONNX Runtime from 1.12, OpenVINO from 2022.3 and TensorRT from 8.6 on read it.
DEFAULT_OPSET = 17
OLDEST_OPSET = 7  # before it, BatchNormalization and Gemm had other inputs
OLDEST_IR = 4  # from this version on, constants need not be inputs too
LAYOUTS = ("NCHW", "NHWC")
INPUT, OUTPUT = "images", "logits"


def to_bytes(model: Network, *, layout: str = "NCHW", opset: int = DEFAULT_OPSET, softmax: bool = False) -> bytes:
    """The content of an ONNX file that computes what the network does in inference.

    Parameters
    ----------
    model : Network
        Written with its normalisation, in float32.
    layout : "NCHW" or "NHWC"
        Order of the axes of the images that the file takes, float32, in the units that the network was trained on.
    opset : int
        Version of ONNX's operators, from 7 to the newest that the installed ``onnx`` knows.
    softmax : bool
        Whether the result is probabilities instead of logits.

    Returns
    -------
    bytes
        The same for the same network, byte by byte.

    Raises
    ------
    InputError
        If an argument is wrong, or a layer has no form in ONNX.
    BackendUnavailable
        If the package ``onnx`` is not installed.

    Notes
    -----
    The input is ``images``, its first axis free; the result is ``logits`` or ``probabilities``, ``(N, classes)``.
    The metadata's key ``classes`` holds their names as JSON, and ``layout`` the order of the images' axes. Padding
    is written out, never ``auto_pad``.
    """
    onnx = library()
    newest = onnx.defs.onnx_opset_version()
    opset = integer(opset, "opset", minimum=OLDEST_OPSET, maximum=newest)
    layout, softmax = choice(layout, "layout", LAYOUTS), flag(softmax, "softmax")
    graph = Graph(INPUT, opset)
    if len(model.input_shape) == 3 and layout == "NHWC":
        graph.add("Transpose", "to_nchw", perm=[0, 3, 1, 2])
    _normalize(graph, model)
    arrays = {**model.parameters, **model.buffers}
    shape = write_chain(graph, model.layers, "", model.input_shape, arrays)
    _to_nhwc(graph, shape, layout)
    result = OUTPUT
    if softmax:
        result = "probabilities"
        graph.add("Softmax", "softmax", axis=1)
    if graph.nodes:
        graph.nodes[-1].output[0] = result
    else:  # a network that computes nothing
        graph.add("Identity", "identity", result=result)
    return _file(onnx, model, graph, result, layout, opset).SerializeToString(deterministic=True)


def write(model: Network, path: str | Path, **how: Any) -> None:
    """Write the file of :func:`to_bytes`, with the same keyword arguments, whole or not at all.

    Raises
    ------
    CheckpointError
        If it cannot be written; an older file is unchanged.
    """
    content = to_bytes(model, **how)
    try:
        write_atomically(path, content)
    except OSError as error:
        raise CheckpointError(f"{path}: the model cannot be written: {error.strerror}") from None


def _normalize(graph: Graph, model: Network) -> None:
    """``(x - mean) / std``, computed as the network does: a difference and a product, in its precision."""
    normalization = model.normalization
    if normalization.identity:
        return
    trailing = (1, 1) if len(model.input_shape) == 3 else ()
    for operator, name, numbers in (("Sub", "mean", normalization.mean), ("Mul", "inverse_std", 1 / normalization.std)):
        graph.add(operator, f"normalization.{name}", graph.constant(name, numbers.reshape(-1, *trailing)))


def _to_nhwc(graph: Graph, shape: Shape, layout: str) -> None:
    """Reorder the result to the order in which the network gives it."""
    if len(shape) == 3 and layout == "NHWC":
        graph.add("Transpose", "to_nhwc", perm=[0, 2, 3, 1])
    reorder(graph, "")  # it was flattened, and no matrix product follows


def _ordered(shape: Shape, layout: str) -> list[int]:
    return [shape[2], shape[0], shape[1]] if len(shape) == 3 and layout == "NCHW" else list(shape)


def _file(onnx: Any, model: Network, graph: Graph, result: str, layout: str, opset: int) -> Any:
    """The ``onnx.ModelProto``, checked."""
    float32 = onnx.TensorProto.FLOAT
    tensor = onnx.helper.make_tensor_value_info
    chain = onnx.helper.make_graph(
        graph.nodes,
        "pyconv",
        [tensor(INPUT, float32, ["N", *_ordered(model.input_shape, layout)])],
        [tensor(result, float32, ["N", *_ordered(model.output_shape, layout)])],
        graph.constants,
    )
    domain = onnx.helper.make_opsetid("", opset)
    made = onnx.helper.make_model(
        chain,
        opset_imports=[domain],
        ir_version=max(OLDEST_IR, onnx.helper.find_min_ir_version_for([domain])),
        producer_name="pyconv",
    )
    about = {} if model.classes is None else {"classes": json.dumps(model.classes, ensure_ascii=False)}
    if len(model.input_shape) == 3:
        about[LAYOUT_KEY] = layout
    if about:
        onnx.helper.set_model_props(made, about)
    onnx.checker.check_model(made, full_check=True)
    return made
