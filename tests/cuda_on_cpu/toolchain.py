"""Compiles .cu files with g++, plainly or under a sanitizer, and keeps what was compiled."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
CXX = os.environ.get("CXX", "g++")

BASE = ["-std=c++17", "-fPIC", "-g1", "-fno-strict-aliasing", "-ffp-contract=off", "-w", f"-I{HERE}"]
FLAGS = {
    None: ["-O1", "-fvisibility=hidden"],
    "address": ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fsanitize-sections=cuda_shared"],
    "thread": ["-O1", "-fsanitize=thread"],
    # Without optimisation, so that every access in the source is made and reported: see counts.cpp.
    "count": ["-O0", "-fsanitize=thread", "-fvisibility=hidden"],
}
#: Kinds that become a program of their own.
PROGRAMS = ("address", "thread")

_KERNEL = re.compile(r"__global__\s+void\s+(?:__launch_bounds__\([^()]*(?:\([^()]*\)[^()]*)*\)\s*)?(\w+)\s*\(")


def kernels(source: str) -> list[str]:
    """Names of the kernels in a .cu file."""
    return _KERNEL.findall(source)


def missing() -> str | None:
    """Why nothing can be compiled here, or None."""
    if shutil.which(CXX) is None:
        return f"the CUDA kernels run on the CPU only where {CXX} is installed"
    return None


@functools.cache
def folder() -> Path:
    """Where compiled files are kept. Later runs use them again: a file's name holds a digest of its sources."""
    path = Path(
        os.environ.get("PYCONV_EMULATOR_CACHE", Path(tempfile.gettempdir()) / f"pyconv-cuda-on-cpu-{os.getuid()}")
    )
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


@functools.cache
def _own_sources() -> bytes:
    return b"".join((HERE / name).read_bytes() for name in ("cuda_on_cpu.h", "runtime.cpp", "main.cpp", "counts.cpp"))


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr[:4000]}")


def build(path: Path, source: str, macros: dict[str, object], sanitize: str | None = None) -> Path:
    """Compile the .cu file at `path`, with its headers `source`: to a library or, sanitized, to a program."""
    defines = [f"-D{name}={value}" for name, value in sorted(macros.items())]
    flags = [*BASE, *FLAGS[sanitize]]
    digest = hashlib.sha256(repr((source, defines, flags, CXX)).encode() + _own_sources()).hexdigest()[:24]
    target = folder() / f"{path.stem}-{digest}{'.exe' if sanitize in PROGRAMS else '.so'}"
    if target.exists():
        return target
    with (folder() / f"{target.name}.lock").open("w") as lock:  # one of several test processes compiles
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.exists():
            return target
        wrapper = target.with_suffix(".cpp")
        wrapper.write_text(
            f'#include "cuda_on_cpu.h"\n#include "{path}"\n' + "".join(f"CUDA_EXPORT({k})\n" for k in kernels(source))
        )
        new = target.with_suffix(".new")
        objects = [_runtime("runtime", None if sanitize == "count" else sanitize)]
        if sanitize in PROGRAMS:
            objects.append(_runtime("main", sanitize))
        kernel = new.with_suffix(".o")
        _run([CXX, *flags, *defines, f"-I{path.parent}", "-c", str(wrapper), "-o", str(kernel)])
        if sanitize == "count":  # the compiler's part of the race detector, without its library
            objects.append(_runtime("counts", None))
            flags = BASE
        link = [] if sanitize in PROGRAMS else ["-shared"]
        _run([CXX, *flags, *link, str(kernel), *map(str, objects), "-o", str(new)])
        kernel.unlink()
        new.rename(target)
    return target


@functools.cache
def _runtime(name: str, sanitize: str | None) -> Path:
    """The scheduler or the main program as an object file."""
    flags = [*BASE, *FLAGS[sanitize]]
    digest = hashlib.sha256(repr((flags, CXX)).encode() + _own_sources()).hexdigest()[:24]
    target = folder() / f"{name}-{digest}.o"
    if not target.exists():
        new = target.with_suffix(f".{os.getpid()}.o")
        _run([CXX, *flags, "-c", str(HERE / f"{name}.cpp"), "-o", str(new)])
        new.rename(target)
    return target
