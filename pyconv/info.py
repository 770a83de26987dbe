"""``python -m pyconv.info``: what pyconv finds on this machine, and why anything is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import threadpoolctl

from . import threads, waiting
from .backends import BUILD_HINT, algorithms, backends
from .cluster import about, session
from .command import Parser, command, script, version

PACKAGES = ("numpy", "scipy", "pillow", "safetensors", "rich", "matplotlib", "pycuda", "torch")


def parser() -> Parser:
    """The command's flags."""
    made = Parser(
        "info",
        description="Print what pyconv finds on this machine, and why anything is missing.",
    )
    made.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    return made


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = parser().parse_args(argv)
    ranks = session()
    found = collect()
    if ranks is not None and not ranks.leads:
        return 0
    if args.json:
        print(json.dumps(found, indent=1))
    else:
        width = max(map(len, found))
        for name, value in found.items():
            lines = _lines(value)
            for index, line in enumerate(lines):
                print(f"{name.replace('_', ' ') if not index else '':<{width}}  {line}")
    return 0


def collect() -> dict[str, Any]:
    """What the command prints, as a dict that JSON can hold."""
    usable = backends()
    quota = threads.cgroup_quota()
    return {
        "pyconv": version(),
        "installed_in": str(Path(__file__).parent),
        "compiled_module": _compiled_module(),
        "python": f"{platform.python_implementation()} {platform.python_version()}, {sys.executable}",
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "cpu": _cpu_name(),
        "instruction_set": _instruction_set(),
        "cpus": {
            "in the machine": os.cpu_count(),
            "that this process may run on (affinity)": threads.affinity(),
            "granted by the control group's quota": "no limit" if quota is None else quota,
            "usable": threads.usable_cpus(),
        },
        "threads": threads.default(),
        "openmp": _openmp(),
        "waiting_threads": waiting.describe(),
        "blas": _blas(),
        "backends": {name: "usable" if why is None else f"not usable: {why}" for name, why in usable.items()},
        "algorithms": {name: ", ".join(algorithms(name)) for name, why in usable.items() if why is None},
        "shared_memory": _shared_memory(),
        "mpi": about(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _compiled() -> Any:
    try:
        return importlib.import_module("pyconv._cpu")
    except ImportError:
        return None


def _compiled_module() -> str:
    module = _compiled()
    return f"missing: {BUILD_HINT}" if module is None else str(module.__file__)


def _instruction_set() -> str:
    """The instruction set of the kernels that run, and the others that this processor could run."""
    module = _compiled()
    if module is None:
        return "none: the compiled module is missing"
    forced = os.environ.get("PYCONV_ISA")
    text = f"{module.isa()} (this processor runs: {', '.join(module.isas())})"
    return f"{text}; forced by PYCONV_ISA" if forced else text


def _openmp() -> str:
    module = _compiled()
    if module is None:
        return "unknown: the compiled module is missing"
    if not module.has_openmp:
        return "not in this build: every operation runs on one thread"
    pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "openmp"]
    return ", ".join(f"{pool['prefix']}, {pool['filepath']}" for pool in pools) or "in this build"


def _blas() -> str:
    import scipy.linalg.blas  # noqa: F401 - loads the BLAS that dense layers use

    pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    return ", ".join(f"{p['internal_api']} {p['version']} ({p.get('architecture', '?')})" for p in pools) or "unknown"


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Hardware", "cpu model"):
                return value.strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _shared_memory() -> str:
    """Room in the memory that workers share."""
    try:
        status = os.statvfs("/dev/shm")
    except OSError:
        return "no /dev/shm: workers share anonymous memory"
    gib = status.f_frsize / 2**30
    return f"/dev/shm, {status.f_bavail * gib:.2f} GiB free of {status.f_blocks * gib:.2f}"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _lines(value: Any) -> list[str]:
    if isinstance(value, dict):
        width = max(map(len, value), default=0)
        return [f"{name:<{width}}  {item}" for name, item in value.items()] or ["none"]
    return [str(value)]


if __name__ == "__main__":
    script(main)
