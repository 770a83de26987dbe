"""Gradient clipping: as PyTorch's, under every rule; under sync the mean gradient is clipped."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parallel_runs import data, job, small_model, train

import pyconv
from pyconv import nn, optim
from pyconv.errors import InputError
from pyconv.optim.clipping import clip
from pyconv.parallel import InProcess
from pyconv.parallel.replay import replay
from pyconv.train import main

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1, 31, 16384, 40_001])
@pytest.mark.parametrize("share", [0.3, 2.0])
def test_it_is_pytorchs(rng: np.random.Generator, dtype: str, size: int, share: float) -> None:
    torch = pytest.importorskip("torch")
    gradient = rng.normal(size=size).astype(dtype)
    most = share * float(np.linalg.norm(gradient))
    theirs = torch.zeros(size, dtype=getattr(torch, dtype), requires_grad=True)
    theirs.grad = torch.tensor(gradient)
    torch.nn.utils.clip_grad_norm_([theirs], most)
    clip(gradient, most)
    rtol = 2e-6 + 3e-6 * share / most  # PyTorch adds 1e-6 to the norm
    np.testing.assert_allclose(gradient, theirs.grad.numpy(), rtol=rtol)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_a_gradient_that_is_not_finite_stays_as_it_is(bad: float) -> None:
    """It stays, so that the run notices it: multiplied by zero it would be zero, or NaN in one place only."""
    gradient = np.array([1.0, bad, -2.0], np.float32)
    clip(gradient, 0.5)
    np.testing.assert_array_equal(gradient, np.array([1.0, bad, -2.0], np.float32))


def test_a_gradient_is_made_shorter_in_its_direction(rng: np.random.Generator) -> None:
    gradient = rng.normal(size=40_001)
    before, norm = gradient.copy(), float(np.linalg.norm(gradient))
    clip(gradient, 2 * norm)
    np.testing.assert_array_equal(gradient, before)
    clip(gradient, norm / 4)
    np.testing.assert_allclose(gradient, before / 4, rtol=1e-12)


def alone(**how: Any) -> nn.Sequential:
    model = small_model("float64")
    x, y = data()
    engine = InProcess(model, x, y, job("sync", workers=1, batch_size=20, **how))
    for epoch in range(2):
        for _ in engine.epoch(epoch):
            pass
    engine.close()
    return model


def test_sync_clips_the_mean_as_one_worker_does() -> None:
    how: dict[str, Any] = {"optimizer": optim.SGD(0.5), "clip_norm": 0.05}
    many = train(job("sync", workers=2, batch_size=10, **how), small_model("float64"))
    np.testing.assert_allclose(many.model.flat, alone(**how).flat, rtol=1e-9, atol=1e-12)
    assert not np.allclose(many.model.flat, alone(optimizer=optim.SGD(0.5)).flat, rtol=1e-3)
    moved = np.linalg.norm(many.model.flat - small_model("float64").flat)
    assert moved <= 24 * 0.5 * 0.05 * (1 + 1e-9)  # the largest distance of so many clipped steps


def test_a_push_is_clipped_and_repeated_to_its_bits() -> None:
    x, y = data()
    plan = job("async", workers=2, clip_norm=0.1, optimizer=optim.SGD(0.2))
    result = train(plan)
    again = small_model()
    replay(again, x, y, plan, result.records)
    np.testing.assert_array_equal(again.flat, result.model.flat)
    assert np.linalg.norm(again.flat - small_model().flat) <= 96 * 0.2 * 0.1 * 1.001


def test_the_command_and_what_is_refused(tmp_path: Path) -> None:
    x, y = data(60)
    np.savez(tmp_path / "d.npz", x=x, y=y)
    out = tmp_path / "run"
    common = ["--data", str(tmp_path / "d.npz"), "--model", "3-4-8-3", "--progress", "off"]
    assert main([*common, "--epochs", "1", "--clip-norm", "0.5", "--out", str(out)]) == 0
    assert tomllib.loads((out / "config.toml").read_text())["training"]["clip_norm"] == 0.5
    assert main(["--resume", str(out), "--epochs", "2", "--progress", "off"]) == 0
    with pytest.raises(InputError, match="clip_norm must be a finite number above 0, not 0"):
        pyconv.fit(small_model(), x, y, clip_norm=0, progress="off")
