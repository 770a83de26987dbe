"""The devices on which the CUDA tests run: the emulated one if there is g++, and a GPU if there is one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from cuda_on_cpu import toolchain
from cuda_on_cpu.device import EmulatedDevice
from hypothesis import settings
from hypothesis import strategies as st
from quick import EXAMPLES

from pyconv import cuda
from pyconv.backends import _loaded
from pyconv.backends.gpu import Cuda

NO_GPU = cuda.unavailable()
NO_EMULATOR = toolchain.missing()

DEVICES = [
    pytest.param("emulated", marks=[pytest.mark.skip(reason=NO_EMULATOR)] if NO_EMULATOR else []),
    pytest.param("gpu", marks=[pytest.mark.gpu, *([pytest.mark.skip(reason=f"cuda: {NO_GPU}")] if NO_GPU else [])]),
]

#: A quick run compiles the kernels in one precision: they are the same text in both.
PRECISIONS = ["float32", pytest.param("float64", marks=pytest.mark.slow)]
DTYPES = st.sampled_from(["float32", "float64"][: 1 if settings.default.max_examples == EXAMPLES["quick"] else 2])

#: The operations as a backend, on any device.
BACKEND = Cuda()


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
