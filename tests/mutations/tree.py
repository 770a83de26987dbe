"""A copy of the sources with one mistake in it."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from .mutation import Mutation

ROOT = Path(__file__).parent.parent.parent
BUILT = ("*.so", "*.c")
FLAGS = ["-fPIC", "-fwrapv", "-O1", "-ffp-contract=fast", "-fopenmp", "-w"]


class Tree:
    """A copy of the package and the tests, with its compiled modules.

    Parameters
    ----------
    place : Path
        The folder; it is made anew.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        shutil.rmtree(place, ignore_errors=True)
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        built = [path.relative_to(ROOT) for form in BUILT for path in (ROOT / "pyconv").rglob(form)]
        for name in {*map(Path, filter(None, listed.split("\0"))), *built}:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)
        # Without PyTorch, as on most machines: a mistake that only a comparison with PyTorch finds does not count.
        (place / "torch.py").write_text("raise ModuleNotFoundError(name='torch')\n")
        self._objects: dict[str, Path] = {}

    @contextlib.contextmanager
    def mistaken(self, mutation: Mutation) -> Iterator[None]:
        """Within it, the mistake is there, and built."""
        changed = self.place / "pyconv" / mutation.file
        text = changed.read_text(encoding="utf-8")
        modules = self._modules(changed)
        kept = {module: module.read_bytes() for module in modules}
        if changed.suffix == ".h":
            self._compile()
        changed.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
        try:
            if changed.suffix == ".h":
                self._kernels(modules[0])
            elif changed.suffix == ".pyx":
                self._module(changed, modules[0])
            yield
        finally:
            changed.write_text(text, encoding="utf-8")
            for module, content in kept.items():
                module.unlink()  # a new file: the old module may be mapped by a process
                module.write_bytes(content)

    def _modules(self, changed: Path) -> list[Path]:
        """The compiled module that a source goes into."""
        source = self.place / "pyconv" / "_plans.pyx" if changed.suffix == ".h" else changed
        return list(source.parent.glob(f"{source.stem}.*.so")) if source.suffix == ".pyx" else []

    def _cc(self, source: Path, target: Path, *flags: str) -> None:
        include = [f"-I{sysconfig.get_path('include')}", f"-I{self.place / 'pyconv/_kernels'}"]
        subprocess.run(["gcc", *FLAGS, *include, *flags, "-c", str(source), "-o", str(target)], check=True)

    def _compile(self) -> None:
        """The object files of the module with the unchanged kernels, from the last build or compiled once."""
        if self._objects:
            return
        for source in [self.place / "pyconv/_plans.c", *sorted((self.place / "pyconv/_kernels").glob("*.c"))]:
            target = self._objects[source.stem] = self.place / f"{source.stem}.o"
            built = next((ROOT / "build").glob(f"temp.*/pyconv/**/{source.stem}.o"), None)
            if built is not None:
                shutil.copy2(built, target)
            else:
                self._cc(source, target)

    def _kernels(self, module: Path) -> None:
        """The module with the mistake in the kernels of the instruction set that pyconv chooses here.

        Each instruction set takes a minute to compile; tests that ask for another one find nothing.
        """
        from pyconv import _cpu

        source = self.place / f"pyconv/_kernels/isa_{_cpu.isas()[-1]}.c"
        mistaken = self.place / "mistaken.o"
        self._cc(source, mistaken)
        self._link(module, *({**self._objects, source.stem: mistaken}.values()))

    def _module(self, source: Path, module: Path) -> None:
        made = source.with_suffix(".mistaken.c")
        subprocess.run([sys.executable, "-m", "cython", "-3", str(source), "-o", str(made)], check=True, cwd=self.place)
        exact = ["-ffp-contract=off"] if source.parent.name == "optim" else []
        self._cc(made, made.with_suffix(".o"), *exact)
        self._link(module, made.with_suffix(".o"))

    def _link(self, module: Path, *objects: Path) -> None:
        module.unlink()
        subprocess.run(["gcc", "-shared", "-fopenmp", *map(str, objects), "-o", str(module)], check=True)
