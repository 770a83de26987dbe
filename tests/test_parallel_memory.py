"""The memory of a parallel run: the data is in memory once, however many workers use it."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

WORKERS = 2


def _held(tree: list[psutil.Process]) -> int:
    """Bytes of memory that these processes hold together; shared memory counts once."""
    return sum(process.memory_full_info().pss for process in tree)


def _held_in_training(folder: Path, images: int) -> float:
    """Bytes that ``python -m pyconv.train`` and its workers hold together in training: the median of several looks."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (images, 32, 32, 1), dtype=np.uint8)
    np.savez(folder / "data.npz", x=x, y=np.arange(images) % 3, x_val=x[:90], y_val=np.arange(90) % 3)
    command = [
        *(sys.executable, "-m", "pyconv.train", "--data", str(folder / "data.npz"), "--model", "5-2-3-3"),
        *("--workers", str(WORKERS), "--threads-per-worker", "1", "--epochs", "1000", "--out", str(folder / "run")),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        try:
            whole, looks = psutil.Process(run.pid), []
            until = time.monotonic() + 60
            while len(looks) < 15:
                assert run.poll() is None and time.monotonic() < until, "the run does not get going"
                # From the first checkpoint on everything that a run needs is there.
                if (folder / "run" / "metrics.jsonl").exists() and (folder / "run" / "metrics.jsonl").stat().st_size:
                    looks.append(_held([whole, *whole.children(recursive=True)]))
                time.sleep(0.05)
            return statistics.median(looks)
        finally:
            run.terminate()
            run.wait(20)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's account of shared memory")
def test_the_training_images_are_in_memory_once(tmp_path: Path) -> None:
    few, many = 2_000, 30_000
    (tmp_path / "few").mkdir()
    (tmp_path / "many").mkdir()
    more = _held_in_training(tmp_path / "many", many) - _held_in_training(tmp_path / "few", few)
    once = (many - few) * 32 * 32
    assert 0.9 * once < more < 1.4 * once
