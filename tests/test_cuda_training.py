"""Training with --backend cuda on the emulated device: one worker, several, interrupted, and when the GPU fails."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cuda_devices import BACKEND, NO_EMULATOR, running_on

import pyconv
from pyconv import cuda, nn, optim
from pyconv.backends import _loaded
from pyconv.cuda import device as door
from pyconv.cuda.errors import DeviceLostError, DeviceMemoryError

pytestmark = pytest.mark.skipif(NO_EMULATOR is not None, reason=str(NO_EMULATOR))

TESTS = Path(__file__).parent
WEIGHTED = {
    "class_weight": [1, 3, 0.5],
    "label_smoothing": 0.1,
    "sample_weight": np.linspace(0, 2, 48),
    "clip_norm": 4.0,
}
LAYERS = [nn.Conv2D(4, 3, activation="relu"), nn.MaxPool2D(2), nn.Flatten(), nn.Dropout(0.2), nn.Dense(3)]


@pytest.fixture(autouse=True)
def _emulated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make this process and its children use the emulated device instead of a GPU."""
    monkeypatch.setenv("PYCONV_CUDA_DEVICE", "cuda_on_cpu.device:EmulatedDevice")
    monkeypatch.setenv("PYCONV_CUDA_SPECIALISE", "0")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS.parent), str(TESTS)]))
    monkeypatch.setattr(door, "_made", None)
    _loaded.cache_clear()
    yield
    _loaded.cache_clear()


def data(n: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """Images of three classes that differ in brightness."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % 3
    return (rng.integers(0, 60, (n, 10, 10, 1)) + 90 * y[:, None, None, None]).astype(np.uint8), y


def fitted(backend: str, out: Path | None = None, **how: object) -> tuple[nn.Sequential, list]:
    model = nn.Sequential(LAYERS, (10, 10, 1), seed=1)
    model.normalization = nn.Normalization(100.0, 60.0)
    x, y = data()
    # A constant rate: a run that is resumed for more epochs then takes the same steps.
    settings = {"epochs": 2, "batch_size": 8, "optimizer": optim.SGD(0.05, momentum=0.9), "schedule": "constant", **how}
    settings["progress"] = "off"
    history = pyconv.fit(model, x, y, validation=(x, y), backend=backend, out=out, **settings)
    return model, history


@pytest.mark.parametrize("how", [{}, {"augment": {"shift": 1}}, WEIGHTED], ids=["plain", "augmented", "weighted"])
def test_a_run_on_the_gpu_equals_one_on_the_cpu(how: dict) -> None:
    there, history = fitted("cuda", **how)
    host, expected = fitted("serial", **how)
    np.testing.assert_allclose(there.flat, host.flat, atol=1e-4)
    assert history[-1]["train_loss"] == pytest.approx(expected[-1]["train_loss"], rel=1e-3)
    assert [line["train_accuracy"] for line in history] == [line["train_accuracy"] for line in expected]
    assert 0.3 < history[0]["train_accuracy"] < 1
    assert history[-1]["val_loss"] == pytest.approx(expected[-1]["val_loss"], rel=1e-3)


@pytest.mark.covering("workers", most=1)
@pytest.mark.parametrize("workers", [1, 2])
def test_frozen_layers_stay_as_they_are(workers: int) -> None:
    layers = [
        nn.Conv2D(4, 3), nn.BatchNorm(), nn.ReLU(), nn.Flatten(), nn.Dense(5), nn.BatchNorm(), nn.ReLU(), nn.Dense(3)
    ]  # fmt: skip
    x, y = data()
    done = []
    for backend in ("cuda", "serial"):
        model = nn.Sequential(layers, (10, 10, 1), seed=1)
        model.normalization = nn.Normalization(100.0, 60.0)
        for freeze in (["0", "BatchNorm"], [1, 4, 5]):  # below, and in between
            before = {name: array.copy() for name, array in {**model.parameters, **model.buffers}.items()}
            optimizer = optim.SGD(0.05, momentum=0.9, weight_decay=0.1)
            pyconv.fit(model, x, y, epochs=1, batch_size=8, workers=workers, backend=backend, progress="off",
                       optimizer=optimizer, clip_norm=2.0, freeze=freeze)  # fmt: skip
            for name, array in {**model.parameters, **model.buffers}.items():
                frozen = name.rpartition(".")[0] in model.which(freeze)
                assert np.array_equal(array, before[name]) == frozen, name
        done.append(model)
    np.testing.assert_allclose(done[0].flat, done[1].flat, atol=1e-4)


def test_a_run_that_is_resumed_ends_at_the_same_bits(tmp_path: Path) -> None:
    whole, _ = fitted("cuda", tmp_path / "whole", epochs=3)
    fitted("cuda", tmp_path / "half", epochs=1)
    half, _ = fitted("cuda", tmp_path / "half", epochs=3, resume=True)
    np.testing.assert_array_equal(half.flat, whole.flat)


@pytest.mark.covering("update", most=2)
@pytest.mark.parametrize("update", ["sync", "async", "local"])
def test_workers_share_the_gpu(update: str) -> None:
    # With momentum on top of stale gradients, as async has them, a few steps may well lead nowhere.
    calm = {"optimizer": optim.SGD(0.05), "epochs": 6} if update == "async" else {}
    there, history = fitted("cuda", workers=2, update=update, batch_size=4, **calm)
    assert history[-1]["val_accuracy"] > 0.5
    if update == "sync":
        host, _ = fitted("serial", workers=2, update=update, batch_size=4)
        np.testing.assert_allclose(there.flat, host.flat, atol=1e-4)


@pytest.mark.slow
def test_the_command_says_where_it_runs(tmp_path: Path) -> None:
    done = command(tmp_path / "run", "--epochs", "1")
    assert done.returncode == 0, done.stderr
    assert "backend cuda (CUDA on the CPU), 1 worker" in done.stdout


def command(out: Path, *flags: str, **environment: str) -> subprocess.CompletedProcess:
    """``python -m pyconv.train`` on a few faces."""
    what = ["--data", "faces", "--limit", "20", "--model", "5-4-8-7", "--batch-size", "10", "--out", str(out)]
    return subprocess.run(
        [sys.executable, "-m", "pyconv.train", "--backend", "cuda", "--progress", "plain", *what, *flags],
        capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **environment},
    )  # fmt: skip


FAILURES = {"OutOfMemory": "out of memory", "LostInMidRun": "illegal memory access"}


@pytest.mark.covering("name", most=1)
@pytest.mark.parametrize(("name", "words"), FAILURES.items())
def test_a_failing_gpu_is_one_line_and_status_1(tmp_path: Path, name: str, words: str) -> None:
    done = command(tmp_path / "run", PYCONV_CUDA_DEVICE=f"cuda_on_cpu.failing:{name}")
    assert done.returncode == 1, done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("pyconv: error: ") and words in lines[0]


@pytest.mark.covering("name", most=1)
@pytest.mark.parametrize(("name", "words"), FAILURES.items())
def test_a_gpu_that_fails_a_worker_is_named_with_it(tmp_path: Path, name: str, words: str) -> None:
    flags = ["--workers", "2", "--batch-size", "5", "--on-worker-failure", "abort"]
    done = command(tmp_path / "run", *flags, PYCONV_CUDA_DEVICE=f"cuda_on_cpu.failing:{name}")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("pyconv: error: worker ") and words in last


def test_a_worker_may_take_its_share_of_memory_only() -> None:
    with running_on("emulated", memory=1 << 30) as device:
        cuda.join(1, 4)
        share = device._limit
        assert share is not None
        assert share <= (1 << 30) * 0.9 / 4
        with pytest.raises(DeviceMemoryError):
            device.allocate(share + 1)
        device.allocate(share // 2)


def test_workers_are_dealt_out_to_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYCONV_GPUS", "3,1")
    for worker, gpu in ((0, 3), (1, 1), (2, 3)):
        monkeypatch.setattr(door, "_worker", worker)
        assert door.ordinal() == gpu
    for wrong in ("a", "0,-1", "1;2"):
        monkeypatch.setenv("PYCONV_GPUS", wrong)
        with pytest.raises(pyconv.PyconvError, match="PYCONV_GPUS must be numbers"):
            door.ordinal()


def test_a_kernel_that_writes_past_its_arrays_stops_the_run() -> None:
    with running_on("emulated") as device:
        memory = device.allocate(8)
        memory.fences[1][0] = 0
        with pytest.raises(DeviceLostError, match="outside its arrays"):
            BACKEND.relu(np.zeros(3, np.float32))
