"""The emulated device finds planted bugs, and every real kernel runs under the sanitizers without a complaint."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from cuda_devices import BACKEND, NO_EMULATOR, running_on
from cuda_exercise import SHAPES, exercise, kernels_of_all_files
from cuda_on_cpu import toolchain
from cuda_on_cpu.device import EmulatedDevice, EmulatedProgram, fixed_addresses

import pyconv
import pyconv.reference as twin
from pyconv import cuda
from pyconv.cuda.array import empty, to_device
from pyconv.cuda.errors import DeviceLostError
from pyconv.cuda.source import HERE
from pyconv.shapes import conv_geometry

pytestmark = pytest.mark.skipif(NO_EMULATOR is not None, reason=str(NO_EMULATOR))

PLANTED = toolchain.HERE / "planted" / "reverse.cu"
THREADS = 8
BARRIER, OFF_BY_ONE, NO_BOUND, RACE, DIVERGED, OVERFLOW, PAST_OUTPUT = range(1, 8)


@functools.cache
def works(kind: str) -> bool:
    """Whether programs with this sanitizer can be built and run here, which depends on the system."""
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "empty.cpp"), Path(folder, "empty")
        source.write_text("int main() { return 0; }")
        commands = (
            [toolchain.CXX, *toolchain.BASE, *toolchain.FLAGS[kind], str(source), "-o", str(program)],
            [*fixed_addresses(), str(program)],
        )
        return all(subprocess.run(command, capture_output=True, check=False).returncode == 0 for command in commands)


def run(bug: int, order: str, sanitize: str | None = None) -> np.ndarray:
    """Reverse two blocks of numbers with the kernel that has this bug."""
    device = EmulatedDevice(order, sanitize)
    with cuda.use(device):
        x = np.arange(2 * THREADS - (bug == NO_BOUND), dtype=np.float32)
        there, y = to_device(x), empty((2 * THREADS,), x.dtype)
        macros = {"THREADS": THREADS, "BUG": bug}
        path = toolchain.build(PLANTED, PLANTED.read_text(), macros, sanitize)
        program = EmulatedProgram(device, path)
        program.launch("reverse", (2,), (THREADS,), there, y, np.int32(x.size))
        return y.get()


def expected() -> np.ndarray:
    return np.arange(2 * THREADS, dtype=np.float32).reshape(2, -1)[:, ::-1].ravel()


@pytest.fixture(params=["address", "thread"])
def sanitizer(request: pytest.FixtureRequest) -> str:
    if not works(request.param):
        pytest.skip(f"{toolchain.CXX} cannot build or run programs with -fsanitize={request.param} here")
    return request.param


@pytest.mark.parametrize("order", ["natural", "reversed", "shuffled"])
def test_the_correct_kernel_is_correct_in_every_order(order: str) -> None:
    np.testing.assert_array_equal(run(0, order), expected())


@pytest.mark.parametrize("order", ["natural", "reversed", "shuffled"])
def test_a_missing_barrier_gives_nan(order: str) -> None:
    y = run(BARRIER, order)
    assert np.isnan(y).any() and not np.array_equal(y, expected())


def test_a_barrier_that_some_threads_do_not_reach_is_an_error() -> None:
    with pytest.raises(DeviceLostError, match="some threads of a block"):
        run(DIVERGED, "natural")


def test_writing_past_an_array_is_an_error() -> None:
    device = EmulatedDevice()
    with cuda.use(device):
        x, y = to_device(np.zeros(THREADS, np.float32)), empty((THREADS - 1,), np.float32)
        path = toolchain.build(PLANTED, PLANTED.read_text(), {"THREADS": THREADS, "BUG": PAST_OUTPUT})
        with pytest.raises(DeviceLostError, match="outside its arrays"):
            EmulatedProgram(device, path).launch("reverse", (1,), (THREADS,), x, y, np.int32(THREADS))


@pytest.mark.parametrize(
    ("bug", "words"),
    [
        (OFF_BY_ONE, "index 8 out of bounds"),
        (NO_BOUND, "heap-buffer-overflow"),
        (OVERFLOW, "signed integer overflow"),
    ],
)
def test_the_address_and_undefined_sanitizers_find(bug: int, words: str) -> None:
    if not works("address"):
        pytest.skip(f"{toolchain.CXX} cannot build or run programs with -fsanitize=address here")
    with pytest.raises(DeviceLostError, match=words):
        run(bug, "natural", "address")


@pytest.mark.parametrize("bug", [BARRIER, RACE])
def test_the_race_check_names_both_lines(bug: int) -> None:
    if not works("thread"):
        pytest.skip(f"{toolchain.CXX} cannot build or run programs with -fsanitize=thread here")
    with pytest.raises(DeviceLostError, match="data race") as found:
        run(bug, "natural", "thread")
    assert str(found.value).count("reverse.cu:") >= 2


def test_a_correct_kernel_passes_the_sanitizers(sanitizer: str) -> None:
    np.testing.assert_array_equal(run(0, "shuffled", sanitizer), expected())


# ---- the real kernels ------------------------------------------------------------------------------------------------


def test_the_exercise_runs_every_kernel() -> None:
    with running_on("emulated") as device:
        exercise()
    assert set(device.launches) == kernels_of_all_files()


@pytest.mark.slow
def test_every_kernel_passes_the_sanitizers() -> None:
    """Each file is compiled and run in a process; several run at once, because most of the time goes into compiling."""
    kinds = [kind for kind in ("address", "thread") if works(kind)]
    if not kinds:
        pytest.skip(f"{toolchain.CXX} cannot build or run programs with a sanitizer here")

    def run_under(kind: str) -> subprocess.CompletedProcess[str]:
        program = (
            "from cuda_devices import running_on; from cuda_exercise import exercise\n"
            f"with running_on('emulated', sanitize={kind!r}, order='shuffled'): exercise(); print('passed')"
        )
        folders = os.pathsep.join(
            str(folder) for folder in (Path(__file__).parent, Path(pyconv.__file__).parent.parent)
        )
        # One compilation for all shapes.
        environment = {**os.environ, "PYTHONPATH": folders, "PYCONV_CUDA_SPECIALISE": "0"}
        return subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=280, check=False
        )

    with ThreadPoolExecutor(len(kinds)) as pool:
        for kind, done in zip(kinds, pool.map(run_under, kinds)):
            assert (done.returncode, done.stdout) == (0, "passed\n"), (kind, done.stderr[-4000:])


def test_every_convolution_needs_its_barriers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without barriers no variant is right: shared memory begins as NaN, and threads run in another order."""
    monkeypatch.setenv("PYCONV_CUDA_SPECIALISE", "0")
    g = conv_geometry((1, 12, 12, 8), (3, 3, 8, 8), padding=1)
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal(g.input_shape).astype("f"), rng.standard_normal(g.weight_shape).astype("f")
    for algorithm in cuda.algorithms[1:]:
        with running_on("emulated", macros={"PLANTED_NO_BARRIER": 0}):
            assert np.isnan(BACKEND.conv2d(x, weight, None, g, algorithm=algorithm)).any()


def barriers(algorithm: str) -> list[int]:
    """The lines of a variant's file that hold a barrier."""
    lines = (HERE / f"{algorithm}.cu").read_text().splitlines()
    return [number for number, line in enumerate(lines, 1) if "__syncthreads();" in line]


BARRIERS = [(algorithm, line) for algorithm in cuda.algorithms for line in barriers(algorithm)]


@pytest.mark.covering("line", most=3)
@pytest.mark.parametrize(("algorithm", "line"), BARRIERS)
def test_each_barrier_of_a_convolution_is_missed(
    algorithm: str, line: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With more channels and pixels than a tile holds, in three orders of the threads."""
    monkeypatch.setenv("PYCONV_CUDA_SPECIALISE", "0")
    g = SHAPES[-1]
    x, weight, grad = (
        rng.standard_normal(shape).astype("f") for shape in (g.input_shape, g.weight_shape, g.output_shape)
    )
    expected = twin.conv2d(x, weight, None, g), twin.conv2d_weight_grad(x, grad, g)

    def right(order: str, **macros: int) -> bool:
        with running_on("emulated", order=order, macros=macros):
            y = BACKEND.conv2d(x, weight, None, g, algorithm=algorithm)
            dw = BACKEND.conv2d_weight_grad(x, grad, g, algorithm=algorithm)
        return all(np.allclose(*pair, atol=1e-3) for pair in zip((y, dw), expected))

    orders = "natural", "reversed", "shuffled"
    assert all(map(right, orders))
    assert not all(right(order, PLANTED_NO_BARRIER=line) for order in orders)


def test_fibers_also_switch_by_ucontext(monkeypatch: pytest.MonkeyPatch) -> None:
    """This code is for machines other than x86-64."""
    if platform.machine() != "x86_64" or os.name != "posix":
        pytest.skip("here it is the only way, and every other test takes it")
    monkeypatch.setitem(toolchain.FLAGS, None, [*toolchain.FLAGS[None], "-DCUDA_ON_CPU_UCONTEXT"])
    toolchain._runtime.cache_clear()
    np.testing.assert_array_equal(run(0, "shuffled"), expected())
    toolchain._runtime.cache_clear()
