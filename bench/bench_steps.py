"""From the naive loop to the tiled, packed and Winograd kernels: what each step gains, on one layer and one thread.

The first steps are in ``steps/steps.c``; pyconv's own kernels follow. ``docs/explanation/kernels.md`` explains them one
by one, and takes its table and its figure from ``results/steps.json``, which this writes.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
from harness.layers import GROUPS, Layer
from harness.verify import relative_error

import pyconv
from pyconv import _cpu

EXPERIMENT = "steps"
#: 512→512, 3×3, 14×14, batch 2: the inside of a VGG. Its filters are larger than the L2 cache.
LAYER: Layer = GROUPS[1].layers[-1].cut(2)
SOURCE = Path(__file__).parent / "steps" / "steps.c"
FLAGS = {
    "baseline": ["-DVECTOR_BYTES=16", "-DREGISTERS=16"],
    "avx2": ["-mavx2", "-mfma", "-DVECTOR_BYTES=32", "-DREGISTERS=16"],
    "avx512": ["-mavx2", "-mfma", "-mavx512f", "-mprefer-vector-width=512", "-DVECTOR_BYTES=64", "-DREGISTERS=32"],
}
SSE2, WIDE = "baseline", "wide"
#: Column, function of steps.c, vectors.
STEPS = (
    ("1 naive loop", "naive", SSE2),
    ("2 filters innermost", "filters_innermost", SSE2),
    ("3 wide vectors", "filters_innermost", WIDE),
    ("4 sums in registers", "register_tile", WIDE),
    ("5 packed filters", "packed_filters", WIDE),
)
#: Column, algorithm of pyconv.
KERNELS = (
    ("6 pyconv direct", "direct"),
    ("7 pyconv Winograd 2×2", "winograd_2x2"),
    ("8 pyconv Winograd 3×3", "winograd_3x3"),
    ("9 pyconv Winograd 4×4", "winograd_4x4"),
)


class Geometry(ctypes.Structure):
    """``layer`` of steps.c."""

    _fields_ = [(name, ctypes.c_ssize_t) for name in ("n", "h", "w", "c", "k", "size")]


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ctypes.CDLL]:
    """steps.c, compiled for SSE2 and for the instruction set that pyconv's kernels use here."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    found = {}
    for name, isa in ((SSE2, "baseline"), (WIDE, _cpu.isa())):
        library = tmp_path_factory.mktemp("steps") / f"{name}.so"
        command = [*compiler, "-O3", "-ffp-contract=fast", "-Wall", "-Wextra", "-fPIC", "-shared", *FLAGS[isa]]
        try:
            subprocess.run([*command, str(SOURCE), "-o", str(library)], check=True)
        except OSError:
            pytest.skip(f"needs a C compiler: {compiler[0]} is not there; set CC")
        found[name] = ctypes.CDLL(str(library))
    return found


def step(library: ctypes.CDLL, name: str, one: Layer, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """One step's result."""
    g = one.geometry
    y = np.empty(g.output_shape, np.float32)
    room = np.empty(weight.size + (g.h + g.kh) * (g.w + g.kw) * g.c, np.float32)  # packed filters, a padded image
    pointers = (array.ctypes.data_as(ctypes.c_void_p) for array in (x, weight, y, room))
    getattr(library, name)(ctypes.byref(Geometry(g.n, g.h, g.w, g.c, g.k, g.kh)), *pointers)
    return y


def test_steps(libraries: dict[str, ctypes.CDLL], measure, rng, quick: bool) -> None:
    one = LAYER.cut(1) if quick else LAYER
    x, weight, _, _ = one.arrays(rng)
    candidates = {
        column: functools.partial(step, libraries[vectors], name, one, x, weight) for column, name, vectors in STEPS
    }
    candidates |= {
        column: functools.partial(pyconv.conv2d, x, weight, backend="serial", algorithm=algorithm, **one.arguments)
        for column, algorithm in KERNELS
    }
    wide = pyconv.conv2d(x.astype("float64"), weight.astype("float64"), backend="reference", **one.arguments)
    error = max(relative_error(call(), wide) for call in candidates.values())
    measure(
        candidates,
        experiment=EXPERIMENT,
        case=one.name,
        operation="forward",
        flops=one.geometry.flops,
        relative_error=error,
        isa=_cpu.isa(),
    )
