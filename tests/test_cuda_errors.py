"""Without a usable GPU, one line says why and what to do; no other backend is taken instead."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import pyconv
from pyconv.backends import _loaded
from pyconv.cuda import device as door
from pyconv.cuda import driver
from pyconv.cuda.device import gpus, ordinal
from pyconv.errors import BackendUnavailable


class DriverError(Exception):
    """Stands for PyCUDA's error."""


def fake(*, count: int = 1, capability: tuple[int, int] = (9, 0), init: str | None = None) -> ModuleType:
    """A stand-in for ``pycuda.driver`` with what the search for a GPU needs."""

    class Device:
        def __init__(self, number: int) -> None:
            assert number < count

        @staticmethod
        def count() -> int:
            return count

        def compute_capability(self) -> tuple[int, int]:
            return capability

        def name(self) -> str:
            return "GeForce GTX 520"

    def start() -> None:
        if init is not None:
            raise DriverError(init)

    module = ModuleType("pycuda.driver")
    module.Device, module.Error, module.init = Device, DriverError, start  # type: ignore[attr-defined]
    return module


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, module: ModuleType | None, driver_py: str = "") -> None:
    """Make ``import pycuda.driver`` return `module`, or run `driver_py`."""
    monkeypatch.setattr(driver, "_initialised_in", None)
    for name in ("pycuda", "pycuda.driver"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (folder / "pycuda").mkdir()
    (folder / "pycuda" / "__init__.py").write_text("")
    (folder / "pycuda" / "driver.py").write_text(driver_py)
    monkeypatch.syspath_prepend(str(folder))
    if module is not None:
        package = ModuleType("pycuda")
        package.driver = module  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "pycuda", package)
        monkeypatch.setitem(sys.modules, "pycuda.driver", module)


@pytest.fixture
def path_with_nvcc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvcc = tmp_path / "bin" / "nvcc"
    nvcc.parent.mkdir()
    nvcc.write_text("#!/bin/sh\n")
    nvcc.chmod(0o755)
    monkeypatch.setenv("PATH", str(nvcc.parent))


@pytest.mark.parametrize(
    ("made", "text", "words"),
    [
        (None, "raise ModuleNotFoundError('No module named pycuda', name='pycuda')",
         r"PyCUDA is not installed: pip install '\.\[cuda\]' in pyconv's source folder"),
        (None, "raise ModuleNotFoundError('No module named pytools', name='pytools')",
         "PyCUDA cannot be imported, pytools is missing: install it anew"),
        (None, "raise ImportError('libcuda.so.1: cannot open shared object file: No such file or directory')",
         r"no NVIDIA driver here \(libcuda.so.1 is not found\): install the driver"),
        (None, "raise ImportError('undefined symbol: x')", "cannot be imported: undefined symbol: x: build it anew"),
        ({"init": "cuInit failed: no CUDA-capable device is detected"}, "", "no usable NVIDIA GPU: cuInit failed"),
        ({"count": 0}, "", "no NVIDIA GPU is visible: check what nvidia-smi says$"),
        ({"capability": (2, 1)}, "", "GeForce GTX 520 has compute capability 2.1: pyconv needs 7.5 or newer"),
    ],
)  # fmt: skip
def test_the_reason_is_one_line(
    made: dict | None, text: str, words: str, tmp_path: Path, path_with_nvcc: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, tmp_path, None if made is None else fake(**made), text)
    monkeypatch.setattr(door, "_made", None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    reason = driver.unavailable(gpus, ordinal)
    assert reason is not None and "\n" not in reason
    with pytest.raises(BackendUnavailable, match=words):
        door.current()


def test_a_gpu_without_nvcc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path, fake())
    monkeypatch.setenv("PATH", str(tmp_path))
    assert driver.unavailable(gpus, ordinal) == (
        "nvcc is not found: install NVIDIA's CUDA toolkit and put its bin folder on PATH"
    )  # fmt: skip


def test_a_gpu_and_all_that_it_needs(tmp_path: Path, path_with_nvcc: None, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path, fake(count=2))
    assert driver.unavailable(gpus, ordinal) is None
    assert door.gpus() == (0, 1)
    monkeypatch.setenv("PYCONV_GPUS", "1,0,1")
    assert door.gpus() == (1, 0), "a GPU that is named twice is shared out once"
    monkeypatch.setenv("PYCONV_GPUS", "0,2")
    assert driver.unavailable(gpus, ordinal) == "there is no GPU 2: 2 visible; set PYCONV_GPUS or CUDA_VISIBLE_DEVICES"
    monkeypatch.setenv("PYCONV_GPUS", "2")
    assert driver.unavailable(gpus, ordinal) == "there is no GPU 2: 2 visible; set PYCONV_GPUS or CUDA_VISIBLE_DEVICES"
    monkeypatch.setenv("PYCONV_GPUS", "first")
    assert "must be numbers of GPUs, from 0 on, such as 0,2; not 'first'" in str(driver.unavailable(gpus, ordinal))


@pytest.mark.parametrize("made", [{"count": 0}, {"init": "cuInit failed: no CUDA-capable device is detected"}])
@pytest.mark.parametrize("chosen", ["", "-1", "GPU-8932f937"])
def test_gpus_that_are_hidden(
    made: dict, chosen: str, tmp_path: Path, path_with_nvcc: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nvidia-smi shows hidden GPUs too, so the message names the variable that hides them."""
    install(monkeypatch, tmp_path, fake(**made))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert str(driver.unavailable(gpus, ordinal)).endswith(f"and CUDA_VISIBLE_DEVICES, which is {chosen!r}")


def test_a_child_of_a_process_that_asked_for_the_gpu(
    tmp_path: Path, path_with_nvcc: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search for a GPU starts CUDA, which does not work in a forked process."""
    install(monkeypatch, tmp_path, fake())
    assert driver.unavailable(gpus, ordinal) is None
    child = os.getpid() + 1
    monkeypatch.setattr(os, "getpid", lambda: child)
    assert "was forked from one that used the GPU, or asked for it" in str(driver.unavailable(gpus, ordinal))


def test_no_other_backend_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path, fake(count=0))
    monkeypatch.setattr(door, "_made", None)
    _loaded.cache_clear()
    x, weight = np.ones((1, 4, 4, 1), np.float32), np.ones((3, 3, 1, 1), np.float32)
    with pytest.raises(BackendUnavailable, match="no NVIDIA GPU is visible"):
        pyconv.conv2d(x, weight, backend="cuda")
    _loaded.cache_clear()
    assert "no NVIDIA GPU is visible" in str(pyconv.backends()["cuda"])
    _loaded.cache_clear()


def test_the_command_ends_with_one_line_and_status_2(tmp_path: Path) -> None:
    (tmp_path / "pycuda").mkdir()
    (tmp_path / "pycuda" / "__init__.py").write_text(
        "raise ImportError('libcuda.so.1: cannot open shared object file')"
    )
    root = Path(__file__).parent.parent
    flags = ["--backend", "cuda", "--limit", "20", "--batch-size", "10", "--out", str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, "-m", "pyconv.train", *flags], capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(tmp_path)])},
    )  # fmt: skip
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("pyconv: error: ")
    assert line.endswith("no NVIDIA driver here (libcuda.so.1 is not found): install the driver of your GPU")
