"""The emulated device finds planted bugs, and every real kernel runs under the sanitizers without a complaint."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
from cuda_devices import BACKEND, NO_EMULATOR, running_on
from cuda_on_cpu import toolchain
from cuda_on_cpu.device import EmulatedDevice, EmulatedProgram, fixed_addresses

from pyconv import cuda, optim
from pyconv.cuda import layers, updates
from pyconv.cuda.array import empty, to_device, zeros
from pyconv.cuda.errors import DeviceLostError
from pyconv.cuda.source import HERE
from pyconv.shapes import conv_geometry, pool_geometry

pytestmark = pytest.mark.skipif(NO_EMULATOR is not None, reason=str(NO_EMULATOR))

PLANTED = toolchain.HERE / "planted" / "reverse.cu"
THREADS = 8
BARRIER, OFF_BY_ONE, NO_BOUND, RACE, DIVERGED, OVERFLOW, PAST_OUTPUT = range(1, 8)


@functools.cache
def works(kind: str) -> bool:
    """Whether programs under this sanitizer can be built and run here: images and kernels differ."""
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

SHAPES = [
    conv_geometry((2, 7, 9, 4), (3, 3, 2, 12), stride=(2, 1), padding=((1, 2), (0, 1)), dilation=(1, 2), groups=2),
]


def exercise() -> None:
    """Run every kernel of every file once, on small odd shapes."""
    rng = np.random.default_rng(0)

    def numbers(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    for g in SHAPES:
        x, weight, bias, grad = (numbers(*shape) for shape in (g.input_shape, g.weight_shape, (g.k,), g.output_shape))
        for algorithm in cuda.algorithms:
            BACKEND.conv2d(x, weight, bias, g, activation="relu", algorithm=algorithm)
            BACKEND.conv2d_input_grad(grad, weight, g, algorithm=algorithm)
            BACKEND.conv2d_weight_grad(x, grad, g, algorithm=algorithm)
    BACKEND.permute(to_device(numbers(2, 3, 4, 5)), (0, 3, 1, 2))
    for pg in (pool_geometry((2, 5, 7, 3), 3, stride=2, padding=1),):
        x, grad, indices = numbers(*pg.input_shape), numbers(*pg.output_shape), np.empty(pg.output_shape, np.int32)
        BACKEND.max_pool2d(x, pg, indices=indices)
        BACKEND.max_pool2d_input_grad(grad, indices, pg)
        BACKEND.avg_pool2d(x, pg)
        BACKEND.avg_pool2d_input_grad(grad, pg)
    x, grad, per_channel = numbers(300, 33), numbers(300, 33), numbers(33)
    BACKEND.relu_grad(grad, BACKEND.relu(x))
    BACKEND.scale_shift(x, per_channel, per_channel)
    BACKEND.bias_grad(grad)
    _, mean, inv_std = BACKEND.batch_norm(x, per_channel, per_channel, 1e-5)
    BACKEND.batch_norm_grad(x, grad, per_channel, mean, inv_std)
    BACKEND.softmax_cross_entropy(numbers(3, 40), np.array([0, 39, 7]))
    there, other, means = to_device(x), empty(x.shape, x.dtype), to_device(per_channel)
    layers.scale(there, 2.0, other)
    layers.multiply(there, there, other)
    layers.normalise(there, means, means, other)
    layers.normalise(to_device(rng.integers(0, 256, (300, 33)).astype(np.uint8)), means, means, other)
    layers.running_statistics(to_device(mean), to_device(inv_std), means, to_device(inv_std), 1e-5, 0.1, 300)
    spread = to_device(inv_std)
    layers.batch_norm_inference(there, spread, to_device(mean), to_device(mean), spread, 1e-5, other)
    layers.dropout(there, other, there, seed=1, stream=2, step=3, layer=4, first=5, threshold=9999, scale=1.5)
    for optimizer in (optim.SGD(momentum=0.9), optim.Adagrad(), optim.Adadelta(), optim.Adam(), optim.AdaMax()):
        state = {name: zeros((33,), np.float32) for name in optimizer.state_names}
        updates.update(optimizer, means, to_device(per_channel), state, 1, 0.1)


def kernels_of_all_files() -> set[tuple[str, str]]:
    return {(path.stem, kernel) for path in HERE.glob("*.cu") for kernel in toolchain.kernels(path.read_text())}


def test_the_exercise_runs_every_kernel() -> None:
    with running_on("emulated") as device:
        exercise()
    assert set(device.launches) == kernels_of_all_files()


def test_every_kernel_passes_the_sanitizers(sanitizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYCONV_CUDA_SPECIALISE", "0")  # one compilation for all shapes
    with running_on("emulated", sanitize=sanitizer, order="shuffled"):
        exercise()


def test_every_convolution_needs_its_barriers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without barriers no variant that shares memory is right: the poison and the order of threads see to that."""
    monkeypatch.setenv("PYCONV_CUDA_SPECIALISE", "0")
    g = conv_geometry((1, 12, 12, 8), (3, 3, 8, 8), padding=1)
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal(g.input_shape).astype("f"), rng.standard_normal(g.weight_shape).astype("f")
    for algorithm in cuda.algorithms[1:]:
        with running_on("emulated", macros={"PLANTED_NO_BARRIER": 1}):
            assert np.isnan(BACKEND.conv2d(x, weight, None, g, algorithm=algorithm)).any()


def test_fibers_also_switch_by_ucontext(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of machines other than x86-64."""
    if platform.machine() != "x86_64" or os.name != "posix":
        pytest.skip("here it is the only way, and every other test takes it")
    monkeypatch.setitem(toolchain.FLAGS, None, [*toolchain.FLAGS[None], "-DCUDA_ON_CPU_UCONTEXT"])
    toolchain._runtime.cache_clear()
    np.testing.assert_array_equal(run(0, "shuffled"), expected())
    toolchain._runtime.cache_clear()
