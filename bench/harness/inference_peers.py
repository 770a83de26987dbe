"""Libraries that run trained networks: pyconv, and its peers, each with the network that pyconv has.

Each is a function ``(model, x, threads)`` that returns a function without arguments, whose result are the logits; it
raises ImportError if its library is not installed. In the benchmark it is called in a process of its own.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from pyconv import nn
from pyconv.nn.onnx.export import to_bytes

Run = Callable[[], np.ndarray]


def pyconv(model: nn.Sequential, x: np.ndarray, threads: int) -> Run:
    """pyconv itself."""
    model.backend, model.threads = ("serial", 1) if threads == 1 else ("multicore", threads)
    return lambda: model.forward(x)


def onnxruntime(model: nn.Sequential, x: np.ndarray, threads: int) -> Run:
    """ONNX Runtime; its threads stop looking for work when a run is over, since others have their turn then."""
    import onnxruntime as runtime

    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = runtime.InferenceSession(to_bytes(model), options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: _nchw(x)}
    return lambda: session.run(None, feed)[0]  # type: ignore[no-any-return]


def openvino(model: nn.Sequential, x: np.ndarray, threads: int) -> Run:
    """OpenVINO, tuned for the latency of a call."""
    import openvino as ov

    core = ov.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(core.read_model(to_bytes(model)), "CPU", settings).create_infer_request()
    images = _nchw(x)
    return lambda: request.infer([images], share_inputs=True)[0]  # type: ignore[no-any-return]


def torch(model: nn.Sequential, x: np.ndarray, threads: int, layout: str = "contiguous") -> Run:
    """PyTorch, in one of its layouts."""
    import torch as library

    from .torch_network import Twin

    library.set_num_threads(threads)
    twin = Twin(library, model, layout)
    twin.network.eval()
    images = twin.images(x)

    def run() -> np.ndarray:
        with library.inference_mode():
            return twin.network(images).numpy()  # type: ignore[no-any-return]

    return run


def jax(model: nn.Sequential, x: np.ndarray, threads: int) -> Run:
    """JAX, compiled, in NHWC. Its threads are as many as the CPUs that the process may use when it is imported."""
    if threads != len(os.sched_getaffinity(0)):
        raise ImportError("JAX takes all CPUs of the process")
    import jax as library

    network = library.jit(lambda images: _forward(library, model, images))
    images = library.numpy.asarray(x)
    return lambda: np.asarray(network(images))


#: pyconv and its peers by column, the functions that make them picklable by name.
LIBRARIES: dict[str, Callable[[nn.Sequential, np.ndarray, int], Run]] = {
    "pyconv": pyconv,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "torch contiguous": torch,
    "torch channels_last": functools.partial(torch, layout="channels_last"),
    "jax": jax,
}


def _nchw(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def _forward(library: Any, model: nn.Sequential, x: Any) -> Any:
    """A network without branches, as JAX is written."""
    lax, shape = library.lax, model.input_shape
    for index, layer in enumerate(model.layers):
        weight, bias = (model.parameters.get(f"{index}.{name}") for name in ("weight", "bias"))
        if isinstance(layer, nn.Conv2D):
            g = layer.geometry(1, shape)
            x = lax.conv_general_dilated(
                x, weight, (g.sh, g.sw), ((g.pt, g.pb), (g.pl, g.pr)), rhs_dilation=(g.dh, g.dw),
                dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=g.groups,
            )  # fmt: skip
        elif isinstance(layer, nn.MaxPool2D):
            pg = layer.geometry(1, shape)
            sides = ((0, 0), (pg.pt, pg.pb), (pg.pl, pg.pr), (0, 0))
            x = lax.reduce_window(x, -np.inf, lax.max, (1, pg.kh, pg.kw, 1), (1, pg.sh, pg.sw, 1), sides)
        elif isinstance(layer, nn.Flatten):
            x = x.reshape(len(x), -1)
        elif isinstance(layer, nn.Dense):
            x = x @ weight
        elif not isinstance(layer, nn.Dropout):  # which does nothing here
            raise ImportError(f"no {type(layer).__name__} in this peer")
        x = x if bias is None else x + bias
        x = library.nn.relu(x) if getattr(layer, "activation", None) == "relu" else x
        shape = layer.output_shape(shape)
    return x
