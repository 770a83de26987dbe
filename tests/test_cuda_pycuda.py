"""PyCUDA itself and driver.py above it, on a libcuda that runs on the CPU: the GPU backend without a GPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cuda_on_cpu import pycuda_on_cpu

REASON = pycuda_on_cpu.missing()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return pycuda_on_cpu.environment(tmp_path_factory.mktemp("libcuda"))


def python(program: str, environment: dict[str, str], **more: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", program], capture_output=True, text=True, timeout=250,
        env={**environment, **more}, check=False,
    )  # fmt: skip


def test_the_gpu_tests_pass_through_pycuda(environment: dict[str, str], thorough: bool) -> None:
    files = [
        TESTS / f"test_{name}.py"
        for name in (
            "cuda_convolution",
            "cuda_layers",
            "cuda_network",
            "cuda_sharing",
            "cuda_tiles",
            "cuda_tuning",
            "ops",
        )
    ]
    what = ["-m", "gpu", "-k", "not pytorch_and_pyconv", *map(str, files)]  # PyTorch has a libcuda of its own
    what += ["--thorough"] if thorough else []
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *what],
        capture_output=True, text=True, timeout=280, env=environment, check=False, cwd=TESTS.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout.splitlines()[-1], done.stdout[-2000:]


ARRAYS = """
import numpy as np, pyconv
from pyconv import cuda
from pyconv.cuda.array import to_device
device = cuda.current()
assert pyconv.backends()["cuda"] is None
x, w = np.ones((1, 4, 4, 1), np.float32), np.ones((3, 3, 1, 1), np.float32)
y = pyconv.conv2d(x, w, backend="cuda")
assert isinstance(y, np.ndarray) and (y == 9).all()
there = pyconv.conv2d(to_device(x), w, backend="cuda", layout="NHWC")
assert isinstance(there, cuda.DeviceArray) and (there.get() == 9).all()
try:
    raise ValueError
except ValueError:  # what is being handled outside is nothing to a timer
    with device.timer() as timer:
        pyconv.conv2d(to_device(x), w, backend="cuda")
assert timer.milliseconds > 0
pinned = device.page_locked((4,), np.float32); pinned[...] = 7
target = to_device(np.zeros(4, np.float32)); device.after(device.copy_in_async(target.address, pinned))
assert (target.get() == 7).all()
free, total = device.memory(); assert 0 < free <= total
kept = target, pinned, device.copy_in_async(target.address, pinned)  # alive at the end, after the context
import threading
results = []
thread = threading.Thread(target=lambda: results.append(pyconv.conv2d(x, w, backend="cuda")))
thread.start(); thread.join(); assert (results[0] == 9).all()
print("fine", device.name, device.capability, device.multiprocessors)
"""


def test_arrays_timers_page_locked_memory_and_threads(environment: dict[str, str]) -> None:
    done = python(ARRAYS, environment)
    assert done.stdout == "fine libcuda on the CPU (9, 0) 4\n", done.stdout + done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("gpus", "numbers"), [("", [0, 1, 2, 0]), ("2,1", [2, 1, 2, 1])], ids=["all that are visible", "chosen"]
)
def test_workers_are_dealt_out_to_the_gpus(environment: dict[str, str], gpus: str, numbers: list[int]) -> None:
    for worker, number in enumerate(numbers):
        program = f"import pyconv.cuda; print(pyconv.cuda.join({worker}, 4).name)"
        done = python(program, environment, CUDA_ON_CPU_DEVICES="3", PYCONV_GPUS=gpus)
        assert done.stdout == f"libcuda on the CPU{f', number {number}' if number else ''}\n", done.stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_a_training_run(environment: dict[str, str], workers: int, tmp_path: Path) -> None:
    """The whole command ends without a message of PyCUDA's about memory that was not freed."""
    what = ["--data", "faces", "--limit", "40", "--model", "5-4-8-7", "--batch-size", "8", "--epochs", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "pyconv.train", "--backend", "cuda", "--progress", "plain", "--workers", str(workers),
         "--out", str(tmp_path / "run"), *what],
        capture_output=True, text=True, timeout=250, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert (tmp_path / "run" / "model.safetensors").exists()


CONVOLVE = """
import numpy as np, pyconv
x, w = np.ones((1, 4, 4, 1), "f"), np.ones((3, 3, 1, 1), "f")
try:
    assert (pyconv.conv2d(x, w, backend="cuda", algorithm="naive") == 9).all()
    print("fine")
except pyconv.PyconvError as error:
    print(error)
"""


def test_a_damaged_program_is_made_anew_and_kept(environment: dict[str, str], tmp_path: Path) -> None:
    cache = {"PYCONV_CACHE_DIR": str(tmp_path)}
    assert python(CONVOLVE, environment, **cache).stdout == "fine\n"
    (kept,) = tmp_path.rglob("*.cubin")
    whole = kept.read_bytes()
    kept.write_bytes(whole[:9])
    done = python(CONVOLVE, environment, **cache)
    assert done.stdout == "fine\n", done.stdout + done.stderr
    assert len(kept.read_bytes()) == len(whole)


def test_a_driver_that_is_older_than_the_toolkit(environment: dict[str, str], tmp_path: Path) -> None:
    nvcc = tmp_path / "nvcc"
    nvcc.write_text("#!/bin/sh\ncase $1 in --version) echo 99;; *) echo new > kernel.cubin;; esac\n")
    nvcc.chmod(0o755)
    where = {"PATH": f"{tmp_path}:{environment['PATH']}", "PYCONV_CACHE_DIR": str(tmp_path)}
    done = python(CONVOLVE, environment, **where)
    assert "does not take what nvcc made of naive.cu" in done.stdout, done.stdout + done.stderr
    assert done.stdout.endswith("install a driver that is as new as the CUDA toolkit\n")


def test_a_toolkit_that_is_older_than_the_gpu(environment: dict[str, str], tmp_path: Path) -> None:
    nvcc = tmp_path / "nvcc"
    nvcc.write_text(
        "#!/bin/sh\n[ $1 = --version ] && echo 9 && exit\n"
        "echo \"nvcc fatal   : Value 'sm_120' is not defined for option 'gpu-architecture'\" >&2; exit 1\n"
    )
    nvcc.chmod(0o755)
    where = {"PATH": f"{tmp_path}:{environment['PATH']}", "PYCONV_CACHE_DIR": str(tmp_path)}
    done = python(CONVOLVE, environment, **where)
    assert done.stdout.endswith("'gpu-architecture'); install a newer CUDA toolkit\n"), done.stdout + done.stderr
    assert done.stdout.count("\n") == 1


def test_a_cache_folder_that_cannot_be_written_to(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "cuda").symlink_to("/proc")  # not even root can write there
    done = python(CONVOLVE, environment, PYCONV_CACHE_DIR=str(tmp_path))
    assert done.stdout.count("\n") == 1, done.stdout + done.stderr
    assert "cannot be written to: " in done.stdout and "set PYCONV_CACHE_DIR" in done.stdout


OTHER = """
import ctypes, types, numpy as np, pyconv
from pyconv import cuda
from pyconv.cuda.array import to_device
driver = ctypes.CDLL("libcuda.so.1")
def set_device(number):  # as PyTorch and CuPy do it
    context = ctypes.c_void_p()
    assert driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), number) == 0
    assert driver.cuCtxSetCurrent(context) == 0
x, w = np.ones((1, 4, 4, 1), np.float32), np.ones((3, 3, 1, 1), np.float32)
there = to_device(x)
set_device(1)
address = ctypes.c_uint64()
assert driver.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(x.nbytes)) == 0
assert (pyconv.conv2d(there, w, backend="cuda").get() == 9).all()  # on our GPU all the same
foreign = types.SimpleNamespace(__cuda_array_interface__={
    "shape": x.shape, "typestr": x.dtype.str, "data": (address.value, False), "version": 3})
try:
    pyconv.conv2d(foreign, w, backend="cuda")
except pyconv.errors.InputError as error:
    print(error)
"""


def test_another_library_on_another_gpu(environment: dict[str, str]) -> None:
    done = python(OTHER, environment, CUDA_ON_CPU_DEVICES="2")
    expected = "x is on GPU 1, but this process computes on GPU 0; move it there, or set PYCONV_GPUS=1 before"
    assert done.stdout.startswith(expected), done.stdout + done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("after", [1, 40, 90])
def test_a_gpu_that_is_lost_is_one_line(environment: dict[str, str], after: int, tmp_path: Path) -> None:
    """Nothing can be freed then, and PyCUDA would print an error for each array, event and module."""
    what = ["--data", "faces", "--limit", "40", "--model", "5-4-8-7", "--batch-size", "8", "--epochs", "3"]
    done = subprocess.run(
        [sys.executable, "-m", "pyconv.train", "--backend", "cuda", "--progress", "plain", "--out", str(tmp_path),
         *what],
        capture_output=True, text=True, timeout=250, env={**environment, "CUDA_ON_CPU_LOST_AFTER": str(after)},
        check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr.startswith("pyconv: error: ") and "libcuda on the CPU failed, " in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


POOL = """
import numpy as np, pyconv
from pyconv import cuda
device = cuda.join(0, 4)
share = device._limit
for size in np.linspace(0.1, 0.9, 9) * share:  # each of another size: the pool keeps those that were given back
    device.allocate(int(size))
    assert device._pool.managed_bytes <= share, (size, device._pool.managed_bytes, share)
print("fine")
"""


def test_what_the_pool_keeps_counts_as_the_workers_share(environment: dict[str, str]) -> None:
    done = python(POOL, environment)
    assert done.stdout == "fine\n", done.stdout + done.stderr


def test_memory_without_the_pool(environment: dict[str, str]) -> None:
    """Under compute-sanitizer there is no pool either."""
    exercise = [sys.executable, str(TESTS / "cuda_exercise.py")]
    more = {"PYCONV_CUDA_POOL": "0"}
    done = subprocess.run(
        exercise, capture_output=True, text=True, timeout=250, env={**environment, **more}, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "kernels ran on libcuda on the CPU" in done.stdout


@pytest.mark.parametrize(
    ("program", "variables", "words"),
    [
        ("pyconv.conv2d(x, w, backend='cuda')", {"CUDA_ON_CPU_NO_DEVICE": "1"}, "no usable NVIDIA GPU"),
        ("pyconv.conv2d(x, w, backend='cuda')", {"CUDA_ON_CPU_DEVICES": "0"}, "no NVIDIA GPU is visible"),
        ("pyconv.conv2d(x, w, backend='cuda')", {"CUDA_ON_CPU_CAPABILITY": "70"}, "compute capability 7.0"),
        ("pyconv.conv2d(x, w, backend='cuda')", {"PYCONV_GPUS": "5"}, "there is no GPU 5"),
        (
            "import os; pyconv.backends()\n"
            "if os.fork() == 0: pyconv.conv2d(x, w, backend='cuda')\n"
            "else: os._exit(os.waitstatus_to_exitcode(os.wait()[1]))",
            {},
            "forked from one that used the GPU, or asked for it",
        ),
        ("pyconv.cuda.current().allocate(1 << 40)", {}, "out of memory"),
        ("[pyconv.conv2d(x, w, backend='cuda') for _ in range(3)]", {"CUDA_ON_CPU_LOST_AFTER": "1"}, "illegal memory"),
        ("pyconv.cuda.join(0, 4).allocate(1 << 29)", {}, "share of"),
        (
            "pyconv.cuda.current().compile('naive.cu', {'REAL': 'nonsense'})",
            {},
            "nvcc refused naive.cu",
        ),
        (
            "import os; pyconv.cuda.current()\n"
            "if os.fork() == 0: pyconv.conv2d(x, w, backend='cuda')\n"
            "else: os._exit(os.waitstatus_to_exitcode(os.wait()[1]))",
            {},
            "forked from one that used the GPU",
        ),
    ],
)
def test_what_goes_wrong_is_one_line(environment: dict[str, str], program: str, variables: dict, words: str) -> None:
    start = "import numpy as np, pyconv, pyconv.cuda\nx, w = np.ones((1, 4, 4, 1), 'f'), np.ones((3, 3, 1, 1), 'f')\n"
    body = "\n".join(f"    {line}" for line in program.splitlines())
    caught = f"try:\n{body}\nexcept pyconv.PyconvError as error: print(error, flush=True)"
    done = python(start + caught, environment, **variables)
    assert words in done.stdout, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == "", "PyCUDA says nothing of its own"
