"""Makes a libcuda and an nvcc that run on the CPU, in places where PyCUDA finds them."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

from . import toolchain

NVCC = """#!{python}
import sys
sys.path[:0] = {path!r}
from cuda_on_cpu.pycuda_on_cpu import nvcc
nvcc(sys.argv[1:])
"""


def missing() -> str | None:
    """Why this cannot be done here, or None."""
    if importlib.util.find_spec("pycuda") is None:
        return "PyCUDA is not installed"
    return toolchain.missing()


def environment(folder: Path) -> dict[str, str]:
    """Make both in `folder`; returns the environment variables with which a process finds them."""
    library = folder / "libcuda.so.1"
    driver = next(Path(str(importlib.util.find_spec("pycuda").origin)).parent.glob("_driver*.so"))  # type: ignore[union-attr]
    symbols = subprocess.run(["nm", "-D", "--undefined-only", str(driver)], capture_output=True, text=True, check=True)
    source = (toolchain.HERE / "libcuda.cpp").read_text()
    written = set(re.findall(r"\b(cu[A-Z]\w*)\(", source))
    rest = sorted(set(re.findall(r" (cu[A-Z]\w+)", symbols.stdout)) - written)
    others = folder / "others.c"  # the linker wants all of them; none of the rest is called
    others.write_text("".join(f"int {name}(void) {{ return 801; }}\n" for name in rest))
    subprocess.run(["gcc", "-c", "-fPIC", "-w", str(others), "-o", str(folder / "others.o")], check=True)
    subprocess.run(
        [toolchain.CXX, "-std=c++17", "-O1", "-shared", "-fPIC", "-w", str(toolchain.HERE / "libcuda.cpp"),
         str(folder / "others.o"), "-Wl,-soname,libcuda.so.1", "-ldl", "-o", str(library)],
        check=True,
    )  # fmt: skip
    program = folder / "nvcc"
    here = [str(toolchain.HERE.parent), str(toolchain.HERE.parent.parent)]
    program.write_text(NVCC.format(python=sys.executable, path=here))
    program.chmod(0o755)
    return {
        **os.environ,
        "LD_LIBRARY_PATH": f"{folder}:{os.environ.get('LD_LIBRARY_PATH', '')}",
        "PATH": f"{folder}:{os.environ['PATH']}",
        "PYCONV_CACHE_DIR": str(folder / "cache"),
        "PYCONV_CUDA_SPECIALISE": "0",
        "PYTHONPATH": os.pathsep.join([*reversed(here), os.environ.get("PYTHONPATH", "")]),
    }


def nvcc(arguments: list[str]) -> None:
    """Do what PyCUDA asks of nvcc: say its version, or compile ``kernel.cu`` to ``kernel.cubin``."""
    if "--version" in arguments:
        print("nvcc on the CPU, release 13.0")
        return
    source = Path(arguments[-1]).resolve()
    macros = dict(option[2:].split("=", 1) for option in arguments if option.startswith("-D"))
    library = toolchain.build(source, source.read_text(), macros).read_bytes()
    Path(source.stem + ".cubin").write_bytes(b"CUDA_ON_CPU %d\n" % len(library) + library)
