"""Class weights, image weights and smoothed labels: PyTorch's loss, whatever the split over workers."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parallel_runs import data, job, small_model, train

import pyconv
from pyconv import nn, optim
from pyconv.errors import CheckpointError, DtypeError, InputError, ShapeError
from pyconv.loop import weights
from pyconv.parallel import InProcess, Weighing
from pyconv.parallel.replay import replay
from pyconv.train import main

pytestmark = pytest.mark.timeout(120)

N, FEATURES, CLASSES = 13, 7, 5


def problem(rng: np.random.Generator, dtype: str) -> tuple[nn.Sequential, np.ndarray, np.ndarray]:
    """A linear classifier, and a batch for it."""
    model = nn.Sequential([nn.Dense(CLASSES)], (FEATURES,), seed=2, dtype=dtype)
    return model, rng.normal(size=(N, FEATURES)).astype(dtype), rng.integers(0, CLASSES, N)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("smoothing", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_class_weights_and_smoothing_are_pytorchs(
    rng: np.random.Generator, dtype: str, smoothing: float, weighted: bool
) -> None:
    torch = pytest.importorskip("torch")
    model, x, labels = problem(rng, dtype)
    per_class = rng.uniform(0.1, 3, CLASSES) if weighted else None
    loss, gradient = model.loss_and_gradient(x, labels, class_weights=per_class, label_smoothing=smoothing)
    weight, bias = (torch.tensor(model.parameters[f"0.{name}"], requires_grad=True) for name in ("weight", "bias"))
    expected = torch.nn.functional.cross_entropy(
        torch.tensor(x) @ weight + bias, torch.tensor(labels), label_smoothing=smoothing,
        weight=None if per_class is None else torch.tensor(per_class.astype(dtype)),
    )  # fmt: skip
    expected.backward()
    eps = float(np.finfo(dtype).eps)
    assert loss == pytest.approx(expected.item(), rel=20 * eps)
    theirs = np.concatenate([weight.grad.numpy().ravel(), bias.grad.numpy().ravel()])
    np.testing.assert_allclose(gradient, theirs, rtol=0, atol=20 * eps)


@pytest.mark.parametrize("smoothing", [0.0, 0.3, 1.0])
def test_weights_of_all_kinds_are_as_they_are_defined(rng: np.random.Generator, smoothing: float) -> None:
    """The loss is compared with its definition, the gradient with central differences: no other library is needed."""
    model, x, labels = problem(rng, "float64")
    own, per_class = rng.uniform(0.1, 2, N), rng.uniform(0.1, 3, CLASSES)
    how: dict[str, Any] = {"weights": own, "class_weights": per_class, "label_smoothing": smoothing}

    def defined() -> float:
        logits = model.forward(x)
        logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        targets = (1 - smoothing) * np.eye(CLASSES)[labels] + smoothing / CLASSES
        return float((own * (per_class * targets * -logs).sum(axis=1)).sum() / (own * per_class[labels]).sum())

    loss, gradient = model.loss_and_gradient(x, labels, **how)
    assert loss == pytest.approx(defined(), rel=1e-12)
    gradient = gradient.copy()
    for place in range(0, model.flat.size, 3):
        start, losses = model.flat[place], []
        for move in (1e-6, -1e-6):
            model.flat[place] = start + move
            losses.append(defined())
        model.flat[place] = start
        assert gradient[place] == pytest.approx((losses[0] - losses[1]) / 2e-6, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_of_examples_are_a_weighted_mean(rng: np.random.Generator, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    model, x, labels = problem(rng, dtype)
    own = rng.uniform(0, 2, N)
    own[[1, 4]] = 0
    loss, gradient = model.loss_and_gradient(x, labels, weights=own, label_smoothing=0.2)
    weight, bias = (torch.tensor(model.parameters[f"0.{name}"], requires_grad=True) for name in ("weight", "bias"))
    each = torch.nn.functional.cross_entropy(
        torch.tensor(x) @ weight + bias, torch.tensor(labels), label_smoothing=0.2, reduction="none"
    )
    expected = (each * torch.tensor(own.astype(dtype))).sum() / float(own.sum())
    expected.backward()
    eps = float(np.finfo(dtype).eps)
    assert loss == pytest.approx(expected.item(), rel=20 * eps)
    theirs = np.concatenate([weight.grad.numpy().ravel(), bias.grad.numpy().ravel()])
    np.testing.assert_allclose(gradient, theirs, rtol=0, atol=20 * eps)


def test_an_example_that_counts_nothing_is_not_there(rng: np.random.Generator) -> None:
    model, x, labels = problem(rng, "float32")
    x[3] = 3e38  # its loss is infinite
    own = np.ones(N)
    own[3] = 0
    loss, gradient = model.loss_and_gradient(x[:3], labels[:3], weights=own[:3])
    padded = model.loss_and_gradient(x[:4], labels[:4], weights=own[:4])
    assert padded[0] == pytest.approx(loss)
    assert np.isfinite(gradient).all()
    loss, gradient = model.loss_and_gradient(x[:2], labels[:2], weights=[0, 0])
    assert loss == 0 and not gradient.any()


def heavy(y: np.ndarray) -> Weighing:
    """Weights of all three kinds; two images have no weight."""
    images = np.random.default_rng(9).uniform(0.1, 4, len(y))
    images[[5, 17]] = 0
    return Weighing(images, np.array([1.0, 0.2, 5.0]), 0.1)


@pytest.mark.parametrize(("update", "options"), [("sync", {}), ("local", {"sync_every": 1})])
def test_workers_take_the_weighted_mean_over_all_images(update: str, options: dict[str, Any]) -> None:
    x, y = data()
    how = {"optimizer": optim.SGD(0.05), "weighing": heavy(y), "epochs": 2}
    many = train(job(update, workers=2, batch_size=20, options=options, **how), small_model("float64"))
    alone = small_model("float64")
    engine = InProcess(alone, x, y, job("sync", workers=1, batch_size=40, **how))
    losses = [report.loss for epoch in range(2) for report in engine.epoch(epoch)]
    engine.close()
    np.testing.assert_allclose(many.losses, losses, rtol=1e-9)
    np.testing.assert_allclose(many.model.flat, alone.flat, rtol=1e-8, atol=1e-11)


def test_an_asynchronous_run_with_weights_is_repeated_to_its_bits() -> None:
    x, y = data()
    plan = job("async", workers=2, weighing=heavy(y))
    result = train(plan)
    again = small_model()
    replay(again, x, y, plan, result.records)
    np.testing.assert_array_equal(again.flat, result.model.flat)


def model_of(classes: int = 3) -> nn.Sequential:
    return nn.Sequential([nn.Flatten(), nn.Dense(classes)], input_shape=(6, 6, 1), seed=1)


def test_an_image_of_weight_two_counts_as_two_of_it() -> None:
    x, y = data(40)
    twice = np.arange(40) % 4 == 0
    how: dict[str, Any] = {"epochs": 3, "optimizer": optim.SGD(0.1), "progress": "off", "normalize": False}
    one, other = model_of(), model_of()
    pyconv.fit(one, x, y, batch_size=40, sample_weight=1.0 + twice, **how)
    pyconv.fit(other, np.concatenate([x, x[twice]]), np.concatenate([y, y[twice]]), batch_size=50, **how)
    np.testing.assert_allclose(one.flat, other.flat, rtol=1e-5, atol=1e-6)


def test_balanced_is_scikit_learns(rng: np.random.Generator) -> None:
    sklearn_utils = pytest.importorskip("sklearn.utils.class_weight")
    y = rng.choice([0, 1, 3], 50, p=[0.7, 0.2, 0.1])
    expected = sklearn_utils.compute_class_weight("balanced", classes=np.unique(y), y=y)
    np.testing.assert_allclose(weights.balanced(y, 4)[np.unique(y)], expected)
    assert weights.balanced(y, 4)[2] == 1


def test_a_rare_class_is_found_with_balanced_weights() -> None:
    x, y = data(400)
    kept = (y != 2) | (np.cumsum(y == 2) <= 6)
    x, y = x[kept], y[kept]
    test_x, test_y = data(600)
    recall = []
    for how in (None, "balanced"):
        model = model_of()
        pyconv.fit(model, x, y, epochs=4, class_weight=how, progress="off", seed=1)
        recall.append((model.predict(test_x[400:][test_y[400:] == 2]) == 2).mean())
    assert recall[1] > recall[0] + 0.2


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ({"class_weight": "even"}, InputError, "class_weight must be 'balanced', a mapping or an array"),
        ({"class_weight": [1, 2]}, ShapeError, "one number for each class, shape (3,), not (2,)"),
        ({"class_weight": {5: 1}}, InputError, "a class in class_weight must be at most 2, not 5"),
        ({"class_weight": {"sad": 1}}, InputError, "there is no class 'sad'; give numbers from 0 to 2"),
        (
            {"class_weight": {1: -1}},
            InputError,
            "class_weight of class 1 must be a finite number of at least 0, not -1",
        ),
        ({"class_weight": [0, 0, 0]}, InputError, "leave no training image a weight above 0"),
        ({"label_smoothing": 1.5}, InputError, "label_smoothing must be a finite number"),
        ({"sample_weight": np.full(40, np.nan)}, InputError, "sample_weight must be finite and at least 0"),
        ({"sample_weight": np.ones(3)}, ShapeError, "one number for each training image, shape (40,), not (3,)"),
        ({"sample_weight": np.full(40, "1")}, DtypeError, "sample_weight must be numbers"),
    ],
)
def test_weights_that_do_not_fit(how: dict[str, Any], error: type[Exception], words: str) -> None:
    x, y = data(40)
    with pytest.raises(error) as raised:
        pyconv.fit(model_of(), x, y, progress="off", **how)
    assert words in str(raised.value) and "\n" not in str(raised.value)


def test_the_command_and_its_resumption(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = data(60)
    np.savez(tmp_path / "d.npz", x=x, y=y)
    out = tmp_path / "run"
    common = ["--data", str(tmp_path / "d.npz"), "--model", "3-4-8-3", "--epochs", "2", "--progress", "off"]
    assert main([*common, "--class-weights", "1=3,2=0.5", "--label-smoothing", "0.1", "--out", str(out)]) == 0
    training = tomllib.loads((out / "config.toml").read_text())["training"]
    assert training["class_weights"] == [1.0, 3.0, 0.5] and training["label_smoothing"] == 0.1
    assert "class weights 1, 3, 0.5; label smoothing 0.1" in (out / "log.txt").read_text()
    assert main(["--resume", str(out), "--epochs", "3", "--progress", "off"]) == 0
    model = nn.build("3-4-8-3", input_shape=(6, 6, 1))
    with pytest.raises(CheckpointError, match="class_weights"):
        pyconv.fit(model, x, y, out=out, resume=True, epochs=3, progress="off")
    capsys.readouterr()
    assert main([*common, "--class-weights", "1,x"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
