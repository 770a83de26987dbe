"""What a run records: the accuracy of its training steps, and the best model beside the last one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pyconv
from pyconv import nn, optim, predict
from pyconv.errors import InputError
from pyconv.loop.evaluation import Answers
from pyconv.parallel import RULES

N = 48


def data(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    y = np.arange(N) % 2
    return (np.random.default_rng(seed).normal(size=(N, 4, 4, 1)) + 0.4 * y[:, None, None, None]).astype(np.float32), y


def model() -> nn.Sequential:
    return nn.Sequential([nn.Flatten(), nn.Dense(8, activation="relu"), nn.Dense(2)], input_shape=(4, 4, 1), seed=1)


def fit(net: nn.Sequential, out: Path | None = None, **settings: Any) -> list[dict[str, Any]]:
    usual = {"epochs": 3, "batch_size": 8, "optimizer": optim.SGD(0.2), "schedule": optim.schedule("constant"),
             "progress": "off", "validation": data(1)}  # fmt: skip
    return pyconv.fit(net, *data(), out=out, **{**usual, **settings})


@pytest.mark.parametrize("backend", ["reference", "serial"])
def test_the_accuracy_of_a_step_is_that_of_its_forward_pass(backend: str) -> None:
    net, (x, y) = model(), data()
    net.backend = backend
    expected = int((net.predict(x) == y).sum())
    net.loss_and_gradient(x, y)
    assert net.correct == expected and 0 < expected < N
    accuracies = [float((net.predict(x) == y).mean())]
    history = fit(net, batch_size=N, epochs=4, backend=backend)  # one step an epoch: before it, the model of the last
    assert history[0]["train_accuracy"] == accuracies[0]
    assert history[-1]["train_accuracy"] > history[0]["train_accuracy"]


@pytest.mark.covering("update", most=2)
@pytest.mark.parametrize("update", list(RULES))
def test_several_workers_count_what_one_counts(update: str) -> None:
    history = fit(model(), workers=2, update=update, batch_size=4, threads_per_worker=1, epochs=2)
    for line in history:
        counted = line["train_accuracy"] * N
        assert counted == pytest.approx(round(counted)) and N / 4 < counted <= N
    if update == "sync":
        assert [line["train_accuracy"] for line in history] == [
            line["train_accuracy"] for line in fit(model(), epochs=2)
        ]


def script(monkeypatch: pytest.MonkeyPatch, accuracies: list[float]) -> None:
    left = iter(accuracies)

    def examined(model: nn.Sequential, x: np.ndarray, labels: np.ndarray, **_: Any) -> Answers:
        return Answers(0.5, next(left), labels)

    monkeypatch.setattr("pyconv.loop.training.examine", examined)


def test_the_best_model_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(monkeypatch, [0.5, 0.9, 0.9, 0.7, 0.5, 0.9])
    last = model()
    fit(last, tmp_path / "run", epochs=4)
    second = model()
    fit(second, epochs=2)
    best = nn.load(tmp_path / "run" / "best.safetensors")
    np.testing.assert_array_equal(best.flat, second.flat)  # among equal epochs the first
    np.testing.assert_array_equal(nn.load(tmp_path / "run" / "model.safetensors").flat, last.flat)
    assert (best.flat != last.flat).any()
    assert "(best 90.00 % after epoch 2, kept as best.safetensors)" in (tmp_path / "run" / "log.txt").read_text()
    fit(model(), tmp_path / "none", epochs=1, validation=None)
    assert not (tmp_path / "none" / "best.safetensors").exists()


def test_a_run_that_ends_before_it_kept_the_best_makes_up_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(monkeypatch, [0.5, 0.9, 0.7])
    out = tmp_path / "run"
    calls = []

    def dies(folder: Any, net: nn.Sequential) -> None:
        calls.append(net.flat.copy())
        if len(calls) == 2:
            raise SystemExit("killed")
        net.save(folder.path / "best.safetensors")

    with monkeypatch.context() as dying:
        dying.setattr("pyconv.loop.folder.RunFolder.save_best", dies)
        with pytest.raises(SystemExit):
            fit(model(), out)
    np.testing.assert_array_equal(nn.load(out / "best.safetensors").flat, calls[0])
    fit(model(), out, resume=True)
    np.testing.assert_array_equal(nn.load(out / "best.safetensors").flat, calls[1])


def test_predict_takes_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    script(monkeypatch, [0.9, 0.7, 0.6])
    fit(model(), tmp_path / "run")
    Image.fromarray(np.eye(4, dtype=np.uint8)).save(tmp_path / "a.png")
    shown = []
    for arguments in (
        ["--best", str(tmp_path / "run")],
        [str(tmp_path / "run" / "best.safetensors")],
        [str(tmp_path / "run")],
    ):
        assert predict.main([*arguments, str(tmp_path / "a.png")]) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1] != shown[2]
    (tmp_path / "run" / "best.safetensors").unlink()
    with pytest.raises(InputError, match=r"there is no best\.safetensors"):
        predict.load_model(tmp_path / "run", best=True)
