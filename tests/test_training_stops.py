"""Early stopping with the best epoch kept, and callbacks that watch a run and end it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parallel_runs import data

import pyconv
from pyconv import nn, optim
from pyconv.errors import InputError, UnknownNameError
from pyconv.loop.stopping import Stopping
from pyconv.train import main

X, Y = data(120)
VALIDATION = data(200)


def model_of() -> nn.Sequential:
    return nn.Sequential([nn.Flatten(), nn.BatchNorm(), nn.Dense(3)], input_shape=(6, 6, 1), seed=1)


def fitted(model: nn.Sequential, **how: Any) -> list[dict[str, Any]]:
    settings: dict[str, Any] = {
        "epochs": 12,
        "batch_size": 20,
        "optimizer": optim.SGD(0.3),
        "schedule": {"name": "constant", "warmup": 0},
        "progress": "off",
        "validation": VALIDATION,
    }
    return pyconv.fit(model, X, Y, **{**settings, **how})


@pytest.mark.parametrize(
    ("values", "rule", "best", "reached"),
    [
        ([0.5, 0.7, 0.6, 0.7], {"epochs": 2}, 1, True),
        ([0.5, 0.7, 0.6, 0.8], {"epochs": 2}, 3, False),
        ([0.5, 0.6, 0.7], {"epochs": 2, "min_delta": 0.15}, 2, False),
        ([0.5, 0.6, 0.61], {"epochs": 2, "min_delta": 0.15}, 0, True),
        ([None, None], {"epochs": 1}, None, False),
    ],
)
def test_which_epoch_is_the_best(values: list, rule: dict, best: int | None, reached: bool) -> None:
    for metric, sign in (("val_accuracy", 1), ("val_loss", -1)):
        history = [{metric: None if value is None else sign * value} for value in values]
        stopping = Stopping.of({**rule, "metric": metric})
        assert (stopping.best(history), stopping.reached(history)) == (best, reached)


@pytest.mark.parametrize("metric", ["val_accuracy", "val_loss"])
def test_the_best_epoch_is_given_back(tmp_path: Path, metric: str) -> None:
    kept: list[np.ndarray] = []
    model, out = model_of(), tmp_path / "run"
    stop = {"epochs": 2, "metric": metric}
    history = fitted(
        model, early_stopping=stop, out=out, optimizer=optim.SGD(3.0),
        on_epoch=lambda line: kept.append(np.concatenate([model.flat, model.flat_buffers])),
    )  # fmt: skip
    values = [line[metric] * (1 if metric == "val_accuracy" else -1) for line in history]
    best = int(np.argmax(values))
    assert len(history) == best + 3 < 12
    np.testing.assert_array_equal(np.concatenate([model.flat, model.flat_buffers]), kept[best])
    np.testing.assert_array_equal(nn.load(out / "model.safetensors").flat, model.flat)
    # The finished run gives the best one back too; with more patience it goes on as if it had not stopped.
    again = model_of()
    assert fitted(again, early_stopping=stop, out=out, resume=True, optimizer=optim.SGD(3.0)) == history
    np.testing.assert_array_equal(again.flat, model.flat)
    more, whole = model_of(), model_of()
    fitted(more, out=out, resume=True, epochs=len(history) + 1, optimizer=optim.SGD(3.0))
    fitted(whole, epochs=len(history) + 1, optimizer=optim.SGD(3.0))
    np.testing.assert_array_equal(more.flat, whole.flat)


def stop_by_raising(about: dict[str, Any]) -> None:
    if about["step"] == 9:
        raise pyconv.StopTraining


@pytest.mark.parametrize("how", [stop_by_raising, lambda about: about["step"] == 9, lambda about: about["step"] == 12])
def test_a_callback_stops_at_its_step_and_the_run_can_be_continued(tmp_path: Path, how: Any) -> None:
    seen: list[dict[str, Any]] = []

    def watch(about: dict[str, Any]) -> object:
        seen.append(about)
        return how(about)

    model, whole, out = model_of(), model_of(), tmp_path / "run"
    history = fitted(model, on_step=watch, out=out, epochs=3)
    expected = fitted(whole, epochs=3)
    last = seen[-1]["step"]
    assert last in (9, 12) and len(history) == last // 6
    assert [about["step"] for about in seen] == list(range(1, last + 1))
    assert seen[0].keys() == {"epoch", "step", "images", "loss", "accuracy", "seconds", "lr"}
    assert seen[6]["epoch"] == 2 and seen[0]["lr"] == 0.3
    again = model_of()
    continued = fitted(again, out=out, resume=True, epochs=3)
    np.testing.assert_array_equal(again.flat, whole.flat)
    assert [line["train_loss"] for line in continued] == [line["train_loss"] for line in expected]


def test_a_callback_before_the_first_epochs_end_leaves_no_history() -> None:
    assert fitted(model_of(), on_step=lambda about: True) == []
    history = fitted(model_of(), on_epoch=lambda line: line["epoch"] == 2)
    assert [line["epoch"] for line in history] == [1, 2]


@pytest.mark.timeout(300)
def test_workers_stop_at_a_callback_too(tmp_path: Path) -> None:
    model, whole = (nn.Sequential([nn.Flatten(), nn.Dense(3)], input_shape=(6, 6, 1), seed=1) for _ in range(2))
    how: dict[str, Any] = {"workers": 2, "batch_size": 10, "epochs": 2}
    fitted(model, on_step=lambda about: about["step"] == 8, out=tmp_path / "run", **how)
    fitted(model, out=tmp_path / "run", resume=True, **how)
    fitted(whole, epochs=2)
    np.testing.assert_allclose(model.flat, whole.flat, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ({"early_stopping": 0}, InputError, "early_stopping must be at least 1, not 0"),
        ({"early_stopping": {"patience": 3}}, UnknownNameError, "setting of early_stopping"),
        ({"early_stopping": {"metric": "loss"}}, UnknownNameError, "metric of early_stopping"),
        ({"early_stopping": 3, "validation": None}, InputError, "early_stopping needs validation data"),
        ({"on_step": 3}, InputError, "on_step must be callable"),
    ],
)
def test_what_is_refused(how: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error) as raised:
        fitted(model_of(), **how)
    assert words in str(raised.value) and "\n" not in str(raised.value)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "d.npz", x=X, y=Y)
    out = tmp_path / "run"
    common = ["--data", str(tmp_path / "d.npz"), "--model", "3-4-8-3", "--progress", "off"]
    assert main([*common, "--epochs", "2", "--stopping-metric", "val_loss"]) == 2
    assert "--stopping-metric is for --early-stopping" in capsys.readouterr().err
    assert main([*common, "--epochs", "2", "--early-stopping", "1", "--out", str(out)]) == 0
    config = tomllib.loads((out / "config.toml").read_text())
    assert config["training"]["early_stopping"] == {"epochs": 1, "metric": "val_accuracy", "min_delta": 0.0}
    assert main(["--resume", str(out), "--epochs", "3", "--early-stopping", "2", "--progress", "off"]) == 0
