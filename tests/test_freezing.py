"""Frozen layers: nothing of them changes, under every rule and optimizer, and the rest learns as PyTorch's does."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parallel_runs import MajorityVote, data
from refusals import refused

import pyconv
from pyconv import nn, optim
from pyconv.parallel import RULES, InProcess, Job
from pyconv.parallel.replay import replay
from pyconv.parallel.server import ParameterServer
from pyconv.train import main

pytestmark = pytest.mark.timeout(300)

FROZEN = ("0", "1", "3.shortcut.0", "3.shortcut.1", "6")


def network(dtype: str = "float32") -> nn.Sequential:
    """With normalisation, a branch and frozen layers below, between and beside those that are trained."""
    layers = [
        nn.Conv2D(4, 3, padding=1, bias=False),
        nn.BatchNorm(),
        nn.ReLU(),
        nn.Residual(
            [nn.SeparableConv2D(5, 3, padding=1), nn.BatchNorm()],
            shortcut=[nn.Conv2D(5, 1), nn.BatchNorm()],
        ),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dense(8, activation="relu"),
        nn.Dense(3),
    ]
    made = nn.Sequential(layers, (6, 6, 1), seed=1, dtype=dtype)
    rng = np.random.default_rng(5)
    for name, array in made.buffers.items():
        array[...] = rng.uniform(0.5, 1.5, array.shape) if name.endswith("var") else rng.normal(size=array.shape)
    return made


def values(model: nn.Sequential) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in {**model.parameters, **model.buffers}.items()}


def check(before: dict[str, np.ndarray], model: nn.Sequential, frozen: tuple[str, ...] = FROZEN) -> None:
    """Check that everything has changed but what is frozen."""
    for name, array in values(model).items():
        assert np.array_equal(array, before[name]) == (name.rpartition(".")[0] in frozen), name


OPTIMIZERS = {name: kind(weight_decay=0.1) for name, kind in optim.OPTIMIZERS.items()}
OPTIMIZERS["momentum"] = optim.SGD(0.05, momentum=0.9, nesterov=True, weight_decay=0.1)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_optimizer_moves_what_is_frozen(optimizer: str) -> None:
    x, y = data(60)
    model = network()
    before = values(model)
    pyconv.fit(model, x, y, epochs=2, batch_size=10, optimizer=OPTIMIZERS[optimizer], progress="off", clip_norm=0.5,
               freeze=["body", "BatchNorm"])  # fmt: skip
    check(before, model, tuple(name.rpartition(".")[0] for name in before if not name.startswith("7.")))
    assert model.frozen == ()


@pytest.mark.covering("update", most=2)
@pytest.mark.parametrize(
    ("update", "workers"),
    [*((rule, 3 if rule in ("sync", "local") else 2) for rule in RULES), (MajorityVote(), 2)],  # means of 3 round
    ids=str,
)
def test_no_rule_moves_what_is_frozen(update: Any, workers: int) -> None:
    x, y = data(90)
    model = network()
    before = values(model)
    pyconv.fit(model, x, y, epochs=1, batch_size=5, workers=workers, update=update, progress="off", freeze=FROZEN,
               optimizer=optim.SGD(0.05, momentum=0.9, weight_decay=0.1))  # fmt: skip
    check(before, model)
    if update == "sync":
        again = network()
        pyconv.fit(again, x, y, epochs=1, batch_size=5, workers=workers, progress="off", freeze=FROZEN,
                   optimizer=optim.SGD(0.05, momentum=0.9, weight_decay=0.1))  # fmt: skip
        np.testing.assert_array_equal(again.flat, model.flat)


def test_sync_does_what_one_worker_does() -> None:
    x, y = data(120)
    frozen = ("0", "1", "3.1", "3.shortcut.1", "6")  # every BatchNorm, which else sees one worker's images only
    both = []
    for workers in (1, 3):
        model = network("float64")
        pyconv.fit(model, x, y, epochs=2, batch_size=12 // workers, workers=workers, progress="off", freeze=frozen,
                   optimizer=optim.SGD(0.05, momentum=0.9, weight_decay=0.1), clip_norm=0.3)  # fmt: skip
        both.append(model.flat)
    np.testing.assert_allclose(both[1], both[0], rtol=1e-9, atol=1e-12)


def test_async_is_repeated_to_its_bits() -> None:
    x, y = data()
    job = Job(batch_size=5, epochs=1, workers=2, update="async", optimizer=optim.Adam(1e-2), clip_norm=0.5)
    model, again = network(), network()
    model.frozen = again.frozen = FROZEN
    engine = ParameterServer(model, x, y, job)
    for _ in engine.epoch(0):
        pass
    record = engine.record()
    engine.close()
    replay(again, x, y, job, [record])
    np.testing.assert_array_equal(again.flat, model.flat)


@pytest.mark.covering("workers", most=1)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_that_is_resumed_comes_to_the_same_bits(workers: int, tmp_path: Path) -> None:
    x, y = data(40)
    how: dict[str, Any] = {
        "batch_size": 10, "workers": workers, "progress": "off", "freeze": FROZEN, "schedule": lambda step, total: 1.0,
        "optimizer": optim.SGD(0.05, momentum=0.9, weight_decay=0.1),
    }  # fmt: skip
    whole, parted = network(), network()
    before = values(whole)
    pyconv.fit(whole, x, y, epochs=3, **how)
    pyconv.fit(parted, x, y, epochs=1, out=tmp_path / "run", **how)
    parted = network()
    refused(
        lambda: pyconv.fit(parted, x, y, epochs=3, out=tmp_path / "run", resume=True, **{**how, "freeze": None}),
        "this run has freeze",
    )
    pyconv.fit(parted, x, y, epochs=3, out=tmp_path / "run", resume=True, **how)
    np.testing.assert_array_equal(parted.flat, whole.flat)
    np.testing.assert_array_equal(parted.flat_buffers, whole.flat_buffers)
    check(before, whole)


def test_gradients_are_those_without_freezing(rng: np.random.Generator) -> None:
    model = network("float64")
    x, y = rng.normal(size=(7, 6, 6, 1)), rng.integers(0, 3, 7)
    model.frozen = ["0", "3.0", "6"]
    _, gradient = model.loss_and_gradient(x, y, out=np.full(model.flat.size, np.nan))
    model.frozen = []
    _, whole = model.loss_and_gradient(x, y)
    start = 0
    for name, array in model.parameters.items():
        part = slice(start, start + array.size)
        start += array.size
        frozen = name.rpartition(".")[0] in ("0", "3.0", "6")
        np.testing.assert_array_equal(gradient[part], 0 if frozen else whole[part], name)


@pytest.mark.parametrize("backend", ["serial", "multicore", "reference"])
def test_it_is_pytorchs_fine_tuning(backend: str, rng: np.random.Generator) -> None:
    """Layers are frozen as PyTorch's users do it: without gradients, and with BatchNorm in evaluation mode."""
    torch = pytest.importorskip("torch")
    layers = [nn.Conv2D(4, 3, bias=False), nn.BatchNorm(), nn.ReLU(), nn.Flatten(), nn.Dense(3)]
    model = nn.Sequential(layers, (5, 6, 2), dtype="float64", seed=3)
    model.backend = backend
    for name, array in model.buffers.items():
        array[...] = rng.uniform(0.5, 1.5, array.shape) if name.endswith("var") else rng.normal(size=array.shape)
    weight = {name: torch.tensor(array) for name, array in values(model).items()}
    x, y = rng.normal(size=(6, 5, 6, 2)), rng.integers(0, 3, 6)
    model.frozen = ["BatchNorm"]
    loss, gradient = model.loss_and_gradient(x, y)
    trained = {name: value.requires_grad_() for name, value in weight.items() if not name.startswith("1.")}
    h = torch.nn.functional.conv2d(torch.tensor(x).permute(0, 3, 1, 2), weight["0.weight"].permute(3, 2, 0, 1))
    h = torch.nn.functional.batch_norm(
        h, weight["1.running_mean"], weight["1.running_var"], weight["1.gamma"], weight["1.beta"], training=False
    )
    logits = h.relu().permute(0, 2, 3, 1).flatten(1) @ weight["4.weight"] + weight["4.bias"]
    theirs = torch.nn.functional.cross_entropy(logits, torch.tensor(y))
    theirs.backward()
    np.testing.assert_allclose(loss, theirs.item(), rtol=1e-10)
    start = 0
    for name, array in model.parameters.items():
        expected = trained[name].grad.numpy() if name in trained else np.zeros(array.shape)
        np.testing.assert_allclose(gradient[start : start + array.size], expected.ravel(), rtol=1e-8, atol=1e-12)
        start += array.size


def test_nothing_is_computed_backward_below_the_lowest_that_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    from pyconv.nn.conv import ConvStep

    monkeypatch.setattr(ConvStep, "backward", lambda *args: pytest.fail("a backward pass that nothing needs"))
    model = network()
    model.frozen = "body"
    x, y = data(10)
    model.loss_and_gradient(x, y)
    with pytest.raises(pytest.fail.Exception):
        model.frozen = []
        model.loss_and_gradient(x, y)


def test_names_and_numbers() -> None:
    model = network()
    for freeze, expected in {
        0: ("0",), "0": ("0",), (3,): ("3.0", "3.1", "3.shortcut.0", "3.shortcut.1"), "3.shortcut": ("3.shortcut.0",
        "3.shortcut.1"), "3.1": ("3.1",), "BatchNorm": ("1", "3.1", "3.shortcut.1"), ("Residual", np.int64(6)):
        ("3.0", "3.1", "3.shortcut.0", "3.shortcut.1", "6"), (): (), range(3): ("0", "1"),
        "body": ("0", "1", "3.0", "3.1", "3.shortcut.0", "3.shortcut.1", "6"),
    }.items():  # fmt: skip
        model.frozen = freeze
        assert model.frozen == expected
    for wrong, words in {
        8: "a layer in freeze must be at most 7", -1: "at least 0", "BatchNrm": "did you mean 'BatchNorm'",
        "Flatten": "no layer that has parameters", ("body", "7"): "leaves nothing to train", 2.0: "numbers or names",
        (None,): "must be an integer",
    }.items():  # fmt: skip
        refused(lambda wrong=wrong: setattr(model, "frozen", wrong), words)
    assert model.frozen == ("0", "1", "3.0", "3.1", "3.shortcut.0", "3.shortcut.1", "6")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = data(60)
    np.savez(tmp_path / "d.npz", x=x, y=y)
    network().save(tmp_path / "m.safetensors")
    out = tmp_path / "run"
    flags = ["--data", str(tmp_path / "d.npz"), "--model", str(tmp_path / "m.safetensors"), "--progress", "off"]
    assert main([*flags, "--epochs", "1", "--freeze", "0-2,3.shortcut,6", "--out", str(out)]) == 0
    assert tomllib.loads((out / "config.toml").read_text())["training"]["freeze"] == list(FROZEN)
    assert main(["--resume", str(out), "--epochs", "2", "--progress", "off"]) == 0
    check(values(network()), nn.load(out / "model.safetensors"))
    assert "trains" in (out / "log.txt").read_text()
    capsys.readouterr()
    assert main([*flags, "--freeze", "0-2,Bogus", "--out", str(tmp_path / "other")]) == 2
    assert "Bogus" in capsys.readouterr().err and not (tmp_path / "other").exists()


def test_copies_and_engines_keep_it() -> None:
    import copy

    model = network()
    model.frozen = "body"
    assert copy.deepcopy(model).frozen == model.frozen
    before = values(model)
    x, y = data(40)
    engine = InProcess(model, x, y, Job(batch_size=10, epochs=1, optimizer=optim.SGD(0.1, weight_decay=0.1)))
    for _ in engine.epoch(0):
        pass
    engine.close()
    check(before, model, model.frozen)
