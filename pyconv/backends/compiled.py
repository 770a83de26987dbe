"""The backends ``serial`` and ``multicore``: the compiled kernels, on one thread or on several.

Beside the compiled algorithms of convolution there may be some in Python. "auto" takes one where it is estimated to be
faster than all compiled ones; where that one finds that its numbers would not hold, the sums are direct. On request it
runs whatever they are.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from .. import _cpu, _programme
from ..errors import NotRecorded
from ..shapes import ConvGeometry, PoolGeometry
from . import fft
from .contract import Backend

#: Algorithms in Python: modules with the three operations, and `pays`, which compares estimates.
FURTHER: dict[str, ModuleType] = {"fft": fft}

FORWARD, INPUT_GRAD, WEIGHT_GRAD = range(3)


def further(what: int, algorithm: str, g: ConvGeometry, dtype: np.dtype) -> ModuleType | None:
    """The algorithm in Python that `algorithm` means here, or None: a compiled one."""
    if algorithm != "auto":
        return FURTHER.get(algorithm)
    return next((module for module in FURTHER.values() if module.pays(what, g, dtype)), None)


def candidates(
    what: int, g: ConvGeometry, dtype: np.dtype, algorithm: str = "auto", *, operands: Any = None, threads: int = 1
) -> list[dict[str, Any]]:
    """The kernels that can do an operation, as they are compared when it runs; see :meth:`Backend.candidates`."""
    about = {line["name"]: line for line in _cpu.table()}
    module = further(what, algorithm, g, dtype)
    lines = []
    if algorithm not in FURTHER:
        for line in _cpu.candidates(what, g, dtype, algorithm, operands, threads):
            known = about[line["kernel"]]
            line.update({name: known[name] for name in ("algorithm", "unit", "file")}, holds=known["lanes"])
            lines.append({**line, "runs": line["runs"] and module is None})
    for name, each in FURTHER.items():
        cycles = each.estimate(what, g, dtype) if algorithm in ("auto", name) else None
        if cycles is not None:
            lines.append({
                "kernel": name, "algorithm": name, "isa": "", "cycles": cycles, "runs": each is module, "tile": None,
                "lanes": _cpu.vector_bytes() // dtype.itemsize, "items": None, "seconds": None, "unit": "",
                "holds": "", "file": "",
            })  # fmt: skip
    return lines


def conv2d(
    x: Any, weight: Any, bias: Any, g: ConvGeometry, *, activation: str | None = None, algorithm: str = "auto",
    threads: int = 1, out: Any = None,
) -> Any:  # fmt: skip
    """``y = activation(x * w + b)``, ``(N, OH, OW, K)``."""
    module = further(FORWARD, algorithm, g, x.dtype)
    if module is not None:
        checked = algorithm == "auto"
        y = module.conv2d(x, weight, bias, g, activation=activation, threads=threads, out=out, checked=checked)
        if y is not None:
            return y
        algorithm = "direct"
    return _cpu.conv2d(x, weight, bias, g, activation=activation, algorithm=algorithm, threads=threads, out=out)


def conv2d_input_grad(
    grad_out: Any, weight: Any, g: ConvGeometry, *, algorithm: str = "auto", threads: int = 1, out: Any = None
) -> Any:
    """Gradient for the images, ``(N, H, W, C)``."""
    return _gradient("conv2d_input_grad", INPUT_GRAD, grad_out, weight, g, algorithm, threads, out)


def conv2d_weight_grad(
    x: Any, grad_out: Any, g: ConvGeometry, *, algorithm: str = "auto", threads: int = 1, out: Any = None
) -> Any:
    """Gradient for the filters, ``(kh, kw, C // groups, K)``."""
    return _gradient("conv2d_weight_grad", WEIGHT_GRAD, x, grad_out, g, algorithm, threads, out)


def _gradient(name: str, what: int, a: Any, b: Any, g: ConvGeometry, algorithm: str, threads: int, out: Any) -> Any:
    module = further(what, algorithm, g, a.dtype)
    if module is not None:
        gradient = getattr(module, name)(a, b, g, threads=threads, out=out, checked=algorithm == "auto")
        if gradient is not None:
            return gradient
        algorithm = "direct"
    return getattr(_cpu, name)(a, b, g, algorithm=algorithm, threads=threads, out=out)


def conv2d_pool(
    x: Any, weight: Any, bias: Any, g: ConvGeometry, pg: PoolGeometry, *, activation: str | None = None,
    algorithm: str = "auto", threads: int = 1, out: Any = None, indices: Any = None,
) -> Any:  # fmt: skip
    """``max_pool2d(conv2d(x, weight, bias))``, in one if the algorithm is a compiled one."""
    if further(FORWARD, algorithm, g, x.dtype) is None:
        return _cpu.conv2d_pool(
            x, weight, bias, g, pg, activation=activation, algorithm=algorithm, threads=threads, out=out,
            indices=indices,
        )  # fmt: skip
    full = conv2d(x, weight, bias, g, activation=activation, algorithm=algorithm, threads=threads)
    return _cpu.max_pool2d(full, pg, threads=threads, out=out, indices=indices)


def conv2d_pool_weight_grad(
    x: Any, grad_out: Any, indices: Any, y: Any, g: ConvGeometry, pg: PoolGeometry, *, activation: str | None = None,
    threads: int = 1, out: Any = None,
) -> Any:  # fmt: skip
    """Gradients for filters and bias from the pooled errors; None if transforms of all errors are faster."""
    if further(WEIGHT_GRAD, "auto", g, x.dtype) is not None:
        return None
    return _cpu.conv2d_pool_weight_grad(x, grad_out, indices, y, g, pg, activation=activation, threads=threads, out=out)


class Programme(_programme.Programme):
    """See :mod:`pyconv._programme`; algorithms in Python cannot be recorded."""

    def conv2d(self, x: Any, weight: Any, bias: Any, g: ConvGeometry, *, algorithm: str = "auto", **how: Any) -> Any:
        """As the backend's."""
        self._check(algorithm, g, x)
        return super().conv2d(x, weight, bias, g, algorithm=algorithm, **how)

    def conv2d_pool(
        self, x: Any, weight: Any, bias: Any, g: ConvGeometry, pg: PoolGeometry, *, algorithm: str = "auto", **how: Any
    ) -> Any:
        """As the backend's."""
        self._check(algorithm, g, x)
        return super().conv2d_pool(x, weight, bias, g, pg, algorithm=algorithm, **how)

    @staticmethod
    def _check(algorithm: str, g: ConvGeometry, x: Any) -> None:
        module = further(FORWARD, algorithm, g, x.dtype)
        if module is not None:
            raise NotRecorded(f"a convolution by {module.__name__}")


class Serial(Backend):
    """The operations of :mod:`pyconv._cpu` on the calling thread."""

    name = "serial"
    algorithms = (*_cpu.algorithms, *FURTHER)
    narrow_indices = True
    records = True

    candidates = staticmethod(candidates)
    conv2d = staticmethod(conv2d)
    conv2d_input_grad = staticmethod(conv2d_input_grad)
    conv2d_weight_grad = staticmethod(conv2d_weight_grad)
    conv2d_pool = staticmethod(conv2d_pool)
    conv2d_pool_weight_grad = staticmethod(conv2d_pool_weight_grad)
    max_pool2d = staticmethod(_cpu.max_pool2d)
    max_pool2d_input_grad = staticmethod(_cpu.max_pool2d_input_grad)
    avg_pool2d = staticmethod(_cpu.avg_pool2d)
    avg_pool2d_input_grad = staticmethod(_cpu.avg_pool2d_input_grad)
    relu = staticmethod(_cpu.relu)
    relu_grad = staticmethod(_cpu.relu_grad)
    bias_grad = staticmethod(_cpu.bias_grad)
    dense = staticmethod(_cpu.dense)
    dense_input_grad = staticmethod(_cpu.dense_input_grad)
    dense_weight_grad = staticmethod(_cpu.dense_weight_grad)
    softmax_cross_entropy = staticmethod(_cpu.softmax_cross_entropy)
    batch_norm = staticmethod(_cpu.batch_norm)
    batch_norm_grad = staticmethod(_cpu.batch_norm_grad)
    batch_norm_inference = staticmethod(_cpu.batch_norm_inference)
    scale_shift = staticmethod(_cpu.scale_shift)
    add = staticmethod(_cpu.add)
    activate = staticmethod(_cpu.activate)
    activate_grad = staticmethod(_cpu.activate_grad)
    pad2d = staticmethod(_cpu.pad2d)
    crop2d = staticmethod(_cpu.crop2d)

    def by_transforms(self, x: Any, weight: Any, g: ConvGeometry, *, threads: int = 1) -> Any:
        if not fft.pays(FORWARD, g, x.dtype, against="direct"):
            return None
        return fft.conv2d(x, weight, None, g, threads=threads, checked=True)

    def instruction_set(self) -> str | None:
        return _cpu.isa()

    def programme(self, x: Any) -> Programme:
        return Programme(x)


class Multicore(Serial):
    """The operations of :mod:`pyconv._cpu` on several threads, with the same bits."""

    name = "multicore"
    many_threads = True
