"""The learning-rate finder: the sweep against a literal twin, its suggestion, and that it leaves nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parallel_runs import data
from refusals import refused

import pyconv
from pyconv import nn, optim
from pyconv.loop.rates import judged
from pyconv.optim.clipping import clip
from pyconv.parallel.engine import Job, epoch_order
from pyconv.train import main

X, Y = data(240)
FLAGS = ["--data", "data.npz", "--model", "m.toml", "--batch-size", "20", "--progress", "off"]


def model_of(**more: Any) -> nn.Sequential:
    layers: list[Any] = [nn.Flatten(), nn.BatchNorm(), nn.Dense(16, activation="relu"), nn.Dense(3)]
    return nn.Sequential(layers, input_shape=(6, 6, 1), seed=1, **more)


def twin(optimizer: optim.Optimizer, first: float, last: float, steps: int, norm: float | None) -> list[float]:
    """The losses of the sweep, step by step."""
    model, losses = model_of(), []
    state = optimizer.init(model.flat.size, model.flat.dtype)
    for step in range(steps):
        epoch, at = divmod(step, 12)
        order = epoch_order(Y, Job(optimizer, 20, 1, seed=5), epoch, model.least_batch)
        chosen = order.batch(at, 0)
        loss, gradient = model.loss_and_gradient(X[chosen], Y[chosen], step=step)
        if norm is not None:
            clip(gradient, norm)
        optimizer.update(model.flat, gradient, state, step + 1, lr=first * (last / first) ** (step / (steps - 1)))
        losses.append(loss)
    return losses


@pytest.mark.parametrize("norm", [None, 0.5])
@pytest.mark.parametrize("optimizer", [optim.SGD(0.3, momentum=0.9), optim.Adam(0.0)])
def test_it_is_a_training_whose_rate_rises(optimizer: optim.Optimizer, norm: float | None) -> None:
    model, backend = model_of(), "serial"
    before = model.flat.copy(), model.flat_buffers.copy(), model.normalization
    how: dict[str, Any] = {"first": 1e-4, "last": 0.05, "steps": 30, "batch_size": 20, "seed": 5, "clip_norm": norm}
    found = pyconv.find_lr(model, X, Y, optimizer=optimizer, progress="off", backend=backend, **how)
    np.testing.assert_allclose(found.rates, np.geomspace(1e-4, 0.05, 30), rtol=1e-12)
    np.testing.assert_allclose(found.losses, twin(optimizer, 1e-4, 0.05, 30, norm), rtol=1e-5)
    assert not found.exploded
    for kept, now in zip(before, (model.flat, model.flat_buffers, model.normalization)):
        np.testing.assert_array_equal(kept, now) if isinstance(kept, np.ndarray) else None
    assert model.normalization is before[2] and model.backend == "auto"


def test_what_it_suggests_trains_and_it_stops_at_the_explosion() -> None:
    found = pyconv.find_lr(model_of(), X, Y, batch_size=20, progress="off")
    assert found.suggestion is not None and found.exploded and len(found.rates) < 200
    assert found.losses[-3:].min() > found.smoothed.min()
    assert np.isfinite(found.losses).all() and found.rates.shape == found.losses.shape == found.smoothed.shape
    model = model_of()
    how: dict[str, Any] = {"validation": data(200), "batch_size": 20, "epochs": 5, "progress": "off"}
    history = pyconv.fit(model, X, Y, optimizer={"name": "sgd", "lr": found.suggestion}, **how)
    assert history[-1]["val_accuracy"] > 0.8
    again = pyconv.find_lr(model_of(), X, Y, batch_size=20, progress="off")
    np.testing.assert_array_equal(again.losses, found.losses)


@pytest.mark.timeout(300)
def test_workers_sweep_together() -> None:
    one = pyconv.find_lr(plain(), X, Y, batch_size=20, steps=30, last=0.1, first=1e-4, progress="off")
    two = pyconv.find_lr(plain(), X, Y, batch_size=10, workers=2, steps=30, last=0.1, first=1e-4, progress="off")
    np.testing.assert_allclose(two.losses, one.losses, rtol=1e-3)


def plain() -> nn.Sequential:
    return nn.Sequential([nn.Flatten(), nn.Dense(3)], input_shape=(6, 6, 1), seed=1)


def test_the_suggestion_is_a_quarter_of_the_lowest(rng: np.random.Generator) -> None:
    rates = np.geomspace(1e-5, 10, 300)
    at = np.log10(rates)
    curve = 2 - 1.5 * np.exp(-((at + 1) ** 2)) + np.maximum(at, 0)
    found = judged(rates, curve + rng.normal(scale=0.05, size=300), 300, True)
    assert found.suggestion == pytest.approx(0.025, rel=0.5)
    assert np.abs(found.smoothed - curve)[20:-20].max() < 0.15
    # The mean over a Gaussian window, written out.
    weights = np.exp(-0.5 * ((np.arange(300) - 100) / 6) ** 2)
    assert found.smoothed[100] == pytest.approx((weights * found.losses).sum() / weights.sum())


@pytest.mark.parametrize("steps", [100, 300])
def test_flat_losses_suggest_nothing(steps: int, rng: np.random.Generator) -> None:
    rates = np.geomspace(1e-5, 10, steps)
    flat = [judged(rates, 2 + rng.normal(scale=0.05, size=steps), steps, False) for _ in range(50)]
    assert sum(found.suggestion is not None for found in flat) <= 2  # fewer than one in a thousand by chance


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    bytes_of = np.clip(60 + 30 * X, 0, 255).astype(np.uint8)
    np.savez(tmp_path / "data.npz", x=bytes_of, y=Y)
    (tmp_path / "m.toml").write_text(
        'input_shape = [6, 6, 1]\n[[layers]]\ntype = "Flatten"\n[[layers]]\ntype = "Dense"\nunits = 3\n'
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_leaves_a_picture_and_nothing_else(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = set(place.rglob("*"))
    assert main([*FLAGS, "--find-lr"]) == 0
    assert set(place.rglob("*")) - before == {place / "find-lr.png"}
    assert (place / "find-lr.png").read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    assert "suggested learning rate: " in shown and "train with: --lr " in shown
    assert main([*FLAGS, "--optimizer", "adam", "--find-lr", "other.png"]) == 0
    assert set(place.rglob("*")) - before == {place / "find-lr.png", place / "other.png"}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--find-lr", "--out", "run"], "leave out --out"),
        (["--find-lr", "--early-stopping", "2"], "leave out --early-stopping"),
        (["--find-lr", "--lr", "1"], "leave out --lr"),
        (["--find-lr", "--workers", "auto"], "needs a number of workers"),
        (["--find-lr", "picture.jpg"], "a name that ends in .png"),
        (["--find-lr", "nowhere/a.png"], "the folder is not there"),
        (["--find-lr", "."], "a name that ends in .png"),
        (["--find-lr", "--resume", "run"], "leave out --resume"),
    ],
)
def test_what_does_not_go_with_it_is_refused(
    place: Path, capsys: pytest.CaptureFixture[str], flags: list[str], words: str
) -> None:
    before = set(place.rglob("*"))
    assert main([*FLAGS, *flags]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert set(place.rglob("*")) == before


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    def find(**how: Any) -> Any:
        return lambda: pyconv.find_lr(model_of(), X, how.pop("labels", Y), progress="off", **how)

    refused(find(steps=5), "steps must be at least 20")
    refused(find(first=1.0, last=0.1), "first must be below last")
    refused(find(first=0), "first must be")
    refused(find(labels=np.zeros(240, int)), "all training images are of class 0")
    refused(find(workers="auto"), "workers must be an integer")
    refused(find(picture=tmp_path), "ends in .png")
    refused(find(batch_size=1000), "more than the 240 training images")
    broken = model_of()
    broken.flat[:] = np.nan
    refused(lambda: pyconv.find_lr(broken, X, Y, batch_size=20, progress="off"), "not finite at step 1")
