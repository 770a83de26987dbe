"""The devices that the CUDA tests run on: the emulated one wherever g++ is, a GPU where there is one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from cuda_on_cpu import toolchain
from cuda_on_cpu.device import EmulatedDevice

from pyconv import cuda
from pyconv.backends import Backend, _loaded
from pyconv.cuda import operations

NO_GPU = cuda.unavailable()
NO_EMULATOR = toolchain.missing()

DEVICES = [
    pytest.param("emulated", marks=[pytest.mark.skip(reason=NO_EMULATOR)] if NO_EMULATOR else []),
    pytest.param("gpu", marks=[pytest.mark.gpu, *([pytest.mark.skip(reason=f"cuda: {NO_GPU}")] if NO_GPU else [])]),
]

#: The operations as a backend, whatever device they run on.
BACKEND = Backend("cuda", operations, many_threads=False)


@pytest.fixture
def fresh_backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Load the backend anew for the test's own device, with kernels that are compiled once for all sizes."""
    monkeypatch.setenv("PYCONV_CUDA_SPECIALISE", "0")
    _loaded.cache_clear()
    yield
    _loaded.cache_clear()


@contextlib.contextmanager
def running_on(name: str, **how: object) -> Iterator[cuda.Device]:
    """Let operations run on the device called `name`; `how` goes to the emulated one."""
    with cuda.use(cuda.current() if name == "gpu" else EmulatedDevice(**how)) as device:
        yield device
