"""The kernels in a C program of their own: built for another processor or for a tool, run on a list of requests."""

from __future__ import annotations

import dataclasses
import os
import struct
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pyconv.shapes import ConvGeometry, PoolGeometry

HERE = Path(__file__).parent
KERNELS = HERE.parent.parent / "pyconv" / "_kernels"

ISAS = ("baseline", "avx2", "avx512vl", "avx512")
OPERATIONS = (
    "forward", "input_grad", "weight_grad", "max_pool", "max_pool_grad", "avg_pool", "avg_pool_grad", "relu",
    "relu_grad", "scale_shift", "bias_grad", "softmax", "batch_norm", "batch_norm_grad",
    "pooled_weight_grad", "sparse_forward", "sparse_input_grad", "sparse_weight_grad", "add",
    "batch_norm_inference", "few_examples",
)  # fmt: skip
INPUTS = ("a", "b", "bias", "c", "d", "e")  # the operands of a plan, plan.h
_CONV = ("n", "h", "w", "c", "k", "kh", "kw", "sh", "sw", "pt", "pb", "pl", "pr", "dh", "dw", "groups", "oh", "ow")
_POOL = ("n", "h", "w", "c", "kh", "kw", "sh", "sw", "pt", "pb", "pl", "pr", "oh", "ow")
_LAYOUT = struct.Struct(f"<24s3q{len(_CONV)}q{len(_POOL)}q5qd6q3q")


#: Seconds that one file may take to compile; with sanitizers, on a busy machine, it takes minutes.
COMPILE_S = 900


@dataclass(frozen=True)
class Request:
    """One kernel on one problem.

    Attributes
    ----------
    operation : str
        One of :data:`OPERATIONS`.
    dtype : str
        "float32" or "float64".
    outputs : sequence of (shape, dtype)
        What it gives.
    inputs : dict of str to ndarray
        By name of the operand, :data:`INPUTS`.
    algorithm, conv, pool, rows, channels, eps, relu, narrow, guarded
        As in ``plan.h``.
    """

    operation: str
    dtype: str
    outputs: Sequence[tuple[tuple[int, ...], str]]
    inputs: dict[str, np.ndarray]
    algorithm: str = ""
    conv: ConvGeometry | None = None
    pool: PoolGeometry | None = None
    rows: int = 0
    channels: int = 0
    eps: float = 0.0
    relu: bool = False
    narrow: bool = False
    guarded: bool = False
    name: str = field(default="", compare=False)

    def packed(self, isa: str) -> bytes:
        """The bytes that the driver reads."""
        g = [getattr(self.conv, name) for name in _CONV] if self.conv else [0] * len(_CONV)
        q = [getattr(self.pool, name) for name in _POOL] if self.pool else [0] * len(_POOL)
        arrays = [self.inputs.get(name) for name in INPUTS]
        sizes = [0 if array is None else array.nbytes for array in arrays]
        out = [int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in self.outputs]
        out += [0] * (3 - len(out))
        head = _LAYOUT.pack(
            self.algorithm.encode(), ISAS.index(isa), self.dtype == "float64", OPERATIONS.index(self.operation),
            *g, *q, self.rows, self.channels, self.relu, self.narrow, self.guarded, self.eps, *sizes, *out,
        )  # fmt: skip
        return head + b"".join(array.tobytes() for array in arrays if array is not None)

    def with_algorithm(self, algorithm: str) -> Request:
        """The same problem, with other settings."""
        return dataclasses.replace(self, algorithm=algorithm)


def build(program: Path, compiler: Sequence[str], isas: Sequence[str] = ISAS) -> Path:
    """Compile the driver and the kernels with `compiler`, a command with its flags; warnings are errors."""
    sources = [HERE / "driver.c", KERNELS / "dispatch.c", *(KERNELS / f"isa_{isa}.c" for isa in isas)]
    objects = [program.with_name(f"{source.stem}.o") for source in sources]
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-ffp-contract=fast", f"-I{KERNELS}"]

    def call(*arguments: object) -> None:
        done = subprocess.run([*compiler, *map(str, arguments)], capture_output=True, text=True, timeout=COMPILE_S)
        assert done.returncode == 0, done.stderr[-4000:]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda one, to: call(*flags, "-c", one, "-o", to), sources, objects))
    call(*objects, "-lm", "-o", program)
    return program


@dataclass(frozen=True)
class Driver:
    """A built driver, and the command that runs it: an emulator or a checker, or nothing."""

    program: Path
    launcher: Sequence[str] = ()
    poison: bool = True

    def isas(self) -> list[str]:
        """The instruction sets that it can run."""
        return self._run("isas").split()

    def run(self, requests: Sequence[Request], isa: str, folder: Path) -> list[list[np.ndarray] | None]:
        """The outputs of every request; None if the algorithm cannot do the geometry."""
        (folder / "requests").write_bytes(b"".join(request.packed(isa) for request in requests))
        self._run(str(folder / "requests"), str(folder / "results"), *(["poison"] if self.poison else []))
        data, at, found = (folder / "results").read_bytes(), 0, []
        for request in requests:
            (done,) = struct.unpack_from("<q", data, at)
            at += 8
            arrays = []
            for shape, dtype in request.outputs if done else ():
                array = np.frombuffer(data, dtype, int(np.prod(shape)), at).reshape(shape)
                arrays.append(array)
                at += array.nbytes
            found.append(arrays if done else None)
        assert at == len(data)
        return found

    def _run(self, *arguments: str) -> str:
        command = [*self.launcher, str(self.program), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, f"{command}: status {done.returncode}\n{done.stderr[-6000:]}"
        return done.stdout
