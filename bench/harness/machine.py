"""Describes the machine and the versions with which a figure was measured; without these, a figure means nothing."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import pyconv
from pyconv import threads


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.lower().startswith(("model name", "hardware", "cpu part")):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _caches() -> dict[str, str]:
    """Sizes by level, as ``{"L1 Data": "48K", ...}``, of the first CPU."""
    sizes = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            kind, level = ((index / name).read_text().strip() for name in ("type", "level"))
            sizes[f"L{level}" + ("" if kind == "Unified" else f" {kind}")] = (index / "size").read_text().strip()
        except OSError:
            continue
    return sizes


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


@functools.cache
def describe() -> dict[str, Any]:
    """What the machine is, in a form that JSON takes; without names or addresses."""
    return {
        "cpu": _cpu_model(),
        "architecture": platform.machine(),
        "usable_cpus": threads.usable_cpus(),
        "caches": _caches(),
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.release()}",
        "instruction_set": instruction_set(),
        "gpu": _gpu(),
    }


def processor() -> str:
    """The processor and the instruction set of the kernels, in a word or two."""
    return f"{_cpu_model()}, {instruction_set()}"


def instruction_set() -> str:
    """The instruction set that pyconv's kernels run on here."""
    try:
        _cpu = importlib.import_module("pyconv._cpu")
    except ModuleNotFoundError:
        return "no compiled module"
    isa = getattr(_cpu, "isa", None)
    return str(isa() if callable(isa) else isa or os.environ.get("PYCONV_ISA", "best"))


def _gpu() -> str:
    reason = pyconv.backends()["cuda"]
    if reason is not None:
        return f"none: {reason}"
    from pyconv import cuda

    name = getattr(cuda.current(), "name", "an NVIDIA GPU")
    return str(name() if callable(name) else name)


@functools.cache
def versions() -> dict[str, str]:
    """Versions of everything that takes part in a measurement."""
    found = {"python": platform.python_version(), "pyconv": pyconv.__version__}
    for name in ("numpy", "scipy", "torch", "onnxruntime", "openvino", "jax", "cython", "pytest-benchmark", "pycuda"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
