"""A fresh last layer for other classes: everything before it is copied, and what has no head is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from parallel_runs import data
from refusals import refused

from pyconv import nn
from pyconv.train import main


@pytest.mark.covering("name", most=2)
@pytest.mark.parametrize("name", ["fer-bn", "lenet", "resnet18", "mini-xception", "squeezenet"])
def test_named_models(name: str) -> None:
    model = nn.build(name, input_shape=(64, 64, 1) if name != "lenet" else (28, 28, 1), classes=7)
    model.classes = list("abcdefg")
    model.normalization = nn.Normalization(0.4, 0.3)
    for array in model.buffers.values():
        array += 0.5
    made = model.with_new_head(4, seed=9)
    assert made.output_shape == (4,) and made.classes is None and made.normalization == model.normalization
    assert model.output_shape == (7,) and made.seed == 9
    last = list(model.parameters)[-1].rpartition(".")[0]
    for name_, array in {**made.parameters, **made.buffers}.items():
        if name_.rpartition(".")[0] != last:
            np.testing.assert_array_equal(array, {**model.parameters, **model.buffers}[name_])
    again = model.with_new_head(4, seed=9)
    np.testing.assert_array_equal(again.flat, made.flat)
    assert abs(made.parameters[f"{last}.weight"]).max() > 0 and np.isfinite(made.predict_proba(images(made))).all()


def images(model: nn.Sequential) -> np.ndarray:
    return np.random.default_rng(0).random((2, *model.input_shape), np.float32)


def test_what_has_no_head() -> None:
    dense, conv = nn.Dense(3), nn.Conv2D(4, 3)
    for layers, words in (
        ([nn.Flatten()], "has no parameters"),
        ([nn.Flatten(), dense, nn.BatchNorm()], "layer 2 (BatchNorm) is the last one with parameters, and no head"),
        ([nn.Residual([nn.Conv2D(1, 1)]), nn.Flatten()], "layer 0 (Residual) is the last one with parameters"),
        ([conv, nn.Flatten()], "layer 0 (Conv2D) is no head: with 5 outputs the network gives (80,), not (5,)"),
        ([nn.Conv2D(2, 3, groups=2), nn.GlobalAvgPool2D()], "layer 0 (Conv2D) is the last one with parameters"),
    ):
        shape = (6, 6, 2) if isinstance(layers[0], nn.Conv2D) and layers[0].groups == 2 else (6, 6, 1)
        refused(lambda layers=layers, shape=shape: nn.Sequential(layers, shape).with_new_head(5), words)
    model = nn.build("lenet")
    for classes in (0, 2.5, "many"):
        refused(lambda classes=classes: model.with_new_head(classes), "classes must be")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = data(60)
    np.savez(tmp_path / "d.npz", x=x, y=y)
    model = nn.Sequential([nn.Conv2D(4, 3), nn.ReLU(), nn.Flatten(), nn.Dense(10)], (6, 6, 1))
    model.normalization = nn.Normalization(0.5, 2.0)
    path = tmp_path / "m.safetensors"
    model.save(path)
    flags = ["--data", str(tmp_path / "d.npz"), "--epochs", "1", "--progress", "off", "--out", str(tmp_path / "run")]
    assert main([*flags, "--model", str(path)]) == 2
    assert f"{path}: the network gives 10 classes, the data have 3: add --new-head" in capsys.readouterr().err
    assert main([*flags, "--model", "lenet", "--new-head"]) == 2
    assert "--new-head is for a --model that is read from a file (.safetensors, " in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert main([*flags, "--model", str(path), "--new-head", "--freeze", "body"]) == 0
    trained = nn.load(tmp_path / "run" / "model.safetensors")
    assert trained.normalization == model.normalization
    np.testing.assert_array_equal(trained.parameters["0.weight"], model.parameters["0.weight"])
    assert trained.output_shape == (3,)
    assert main(["--resume", str(tmp_path / "run"), "--epochs", "2", "--progress", "off"]) == 0
    again = nn.load(tmp_path / "run" / "model.safetensors")
    np.testing.assert_array_equal(again.parameters["0.weight"], model.parameters["0.weight"])
    assert (again.parameters["3.weight"] != trained.parameters["3.weight"]).any()
