"""Build the compiled modules; everything else about the package is in pyproject.toml.

Environment variables of the build:

PYCONV_OPENMP=0
    Build serial modules although the compiler has OpenMP.
PYCONV_DEBUG=1
    Build with debug information, for a debugger or a profiler: several times the size.
PYCONV_SANITIZE=address,undefined
    Build with these sanitizers (GCC or Clang names), for `make sanitize`.
PYCONV_BUILD_PROGRESS=FILE
    Add a line for each step to this file, as a terminal's: pip shows nothing of a build before it fails.
"""

import contextlib
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

KERNELS = Path("pyconv/_kernels")

# Modules with loops over numbers. The others call kernels, and are compiled with -O1, and so is the baseline of x86-64,
# which serves processors from before 2013: docs/decisions/0051-what-is-worth-compiling.md.
LOOPS = ("_naive", "_elementwise", "_passes", "_dense", "_fused", "_atomics")
X86 = platform.machine() in ("x86_64", "AMD64") and os.environ.get("PYCONV_CROSS") != "1"
DEBUG = os.environ.get("PYCONV_DEBUG") == "1"
HEADERS = sorted(str(path) for path in KERNELS.rglob("*.h"))

OPENMP_PROBE = """
#include <omp.h>
int main(void)
{
    int count = 0;
#pragma omp parallel for reduction(+ : count)
    for (int i = 0; i < 64; i++)
        count += omp_get_num_threads() > 0;
    return count != 64;
}
"""

NO_OPENMP = """\
warning: pyconv: the C compiler does not build OpenMP programs (tried -fopenmp).
warning: pyconv: the module is built without it and runs on one thread.
warning: pyconv: install GCC, or Clang with libomp, and build again for the multicore backend."""


def openmp_works(compiler: list[str]) -> bool:
    """Whether `compiler` compiles, links and runs a small OpenMP program."""
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "probe.c"), Path(folder, "probe")
        source.write_text(OPENMP_PROBE)
        try:
            subprocess.run([*compiler, "-fopenmp", str(source), "-o", str(program)], check=True, capture_output=True)
            if os.environ.get("PYCONV_CROSS") != "1":  # a program for another processor cannot be tried here
                subprocess.run([str(program)], check=True, capture_output=True, timeout=60)
        except (OSError, subprocess.SubprocessError):
            return False
    return True


def say(text: str) -> None:
    """Show a step of the build."""
    print(text, flush=True)
    place = os.environ.get("PYCONV_BUILD_PROGRESS")
    if place:
        with contextlib.suppress(OSError), Path(place).open("a", encoding="utf-8") as stream:
            stream.write(text + "\n")


def what(source: str) -> str:
    """The name of what a source file is compiled to, for messages."""
    stem = Path(source).stem
    return f"kernels for {stem.removeprefix('isa_')}" if stem.startswith("isa_") else stem


def flags_of(source: str) -> list[str]:
    """The flags of one source file, which override those of all."""
    stem = Path(source).stem
    if os.environ.get("PYCONV_SANITIZE"):
        return []
    if stem.startswith("isa_"):
        # Nobody unwinds C but a debugger. A copy of a loop for each flag is longer code, and no faster.
        unwound = [] if DEBUG else ["-fno-asynchronous-unwind-tables"]
        return [*unwound, "-O1" if stem == "isa_baseline" and X86 else "-fno-unswitch-loops"]
    return [] if stem in LOOPS else ["-O1"]


class Steps:
    """Counts the sources that are compiled, several at once.

    Parameters
    ----------
    total : int
        Sources in all.
    """

    LONG_S = 10.0  # what took longer is told when it is done, too

    def __init__(self, total: int) -> None:
        self.total = total
        self._begun = 0
        self._lock = threading.Lock()

    def in_parallel(self, compile_one: Callable[..., list[str]]) -> Callable[..., list[str]]:
        """A compiler's method `compile` that compiles as many sources at once as there are CPUs."""

        def compile_source(source: str, options: dict[str, Any]) -> str:
            with self._lock:
                self._begun += 1
                say(f"compiling {what(source)} ({self._begun} of {self.total})")
            own = {**options, "extra_postargs": [*(options.get("extra_postargs") or []), *flags_of(source)]}
            began = time.monotonic()
            compiled = compile_one([source], **own)[0]
            if time.monotonic() - began > self.LONG_S:
                say(f"  {what(source)} took {time.monotonic() - began:.0f} s")
            return compiled

        def compile_all(sources: list[str], **options: Any) -> list[str]:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                return list(pool.map(lambda source: compile_source(source, options), sources))

        return compile_all

    def skip_to(self, number: int) -> None:
        """Skip so many sources, because their module is up to date."""
        self._begun = max(self._begun, number)


class Build(build_ext):
    """Adds the flags that depend on what the compiler can do."""

    def build_extensions(self) -> None:
        # setuptools puts these first: whatever the interpreter was built with, the kernels are built alike.
        # Signed indices never wrap in them, and a contraction to FMA is where their speed comes from.
        # Most interpreters ask for debug information, which is five sixths of the size and much of the time.
        flags = ["-O3", "-Wall", "-Wextra", "-ffp-contract=fast"]
        flags += [] if DEBUG else ["-g0"]
        link = []
        if os.environ.get("PYCONV_OPENMP") != "0" and openmp_works(self.compiler.compiler):
            flags.append("-fopenmp")
            link.append("-fopenmp")
        else:
            print(NO_OPENMP, file=sys.stderr)
            flags.append("-Wno-unused-but-set-variable")  # what Cython keeps for the pragmas that are not there
        sanitizers = os.environ.get("PYCONV_SANITIZE")
        if sanitizers:  # -g1 has the lines; all of -g took minutes more on the vector kernels, and so did -O1
            flags += [f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g1", "-O0"]
            link.append(f"-fsanitize={sanitizers}")
        for extension in self.extensions:
            extension.extra_compile_args = [*flags, *extension.extra_compile_args]
            extension.extra_link_args = [*link, *extension.extra_link_args]
        self.steps = Steps(sum(len(extension.sources) for extension in self.extensions))
        self.planned = 0
        self.compiler.compile = self.steps.in_parallel(self.compiler.compile)
        super().build_extensions()
        say("compiled; putting the package together")

    def build_extension(self, ext: Extension) -> None:
        super().build_extension(ext)
        self.planned += len(ext.sources)
        self.steps.skip_to(self.planned)


def extension(name: str, sources: list[str], *flags: str) -> Extension:
    """One compiled module of the package; `flags` come last, so that they override others."""
    return Extension(
        f"pyconv.{name}",
        [f"pyconv/{name.replace('.', '/')}.pyx", *sources],
        depends=[*HEADERS, *map(str, Path("pyconv").glob(f"{name}.h"))],
        include_dirs=["pyconv/_kernels"],
        extra_compile_args=list(flags),
    )


def _written(source: Path) -> float:
    """The time when the C file of a module was last written, or 0."""
    translated = source.with_suffix(".c")
    return translated.stat().st_mtime if translated.exists() else 0.0


EXTENSIONS = [
    extension("_subnormals", []),
    extension("_waiting", []),
    extension("_naive", []),
    extension("_plans", sorted(str(path) for path in KERNELS.glob("*.c"))),
    extension("_cpu", []),
    extension("_rows", []),
    extension("_elementwise", []),
    extension("_passes", []),
    extension("_dense", []),
    extension("_moves", []),
    extension("_programme", []),
    extension("optim._fused", [], "-ffp-contract=off"),  # the bits of NumPy
    extension("parallel._atomics", []),
]

# What Cython puts into every module that uses memory views, compiled once; Cython writes it.
SHARED = Extension("pyconv._cyutility", ["pyconv/_cyutility.c"])

if any(Path(module.sources[0]).stat().st_mtime > _written(Path(module.sources[0])) for module in EXTENSIONS):
    say(f"translating {len(EXTENSIONS)} modules to C")

setup(
    ext_modules=cythonize(
        [*EXTENSIONS, SHARED],
        shared_utility_qualified_name=SHARED.name,
        language_level=3,
        compiler_directives={"freethreading_compatible": True},  # tests/test_python_threads.py
    ),
    cmdclass={"build_ext": Build},
)
