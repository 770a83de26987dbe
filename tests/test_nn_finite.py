"""Weights that are NaN or infinite are told in one line, from whatever file they come."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pyconv import nn
from pyconv.checkpoint import Checkpoint


def model() -> nn.Sequential:
    layers = [nn.Conv2D(2, 3), nn.BatchNorm(), nn.Flatten(), nn.Dense(3)]
    return nn.Sequential(layers, (5, 5, 1), seed=1)


def spoilt(place: str, value: float = np.nan) -> nn.Sequential:
    made = model()
    {**made.parameters, **made.buffers}[place].reshape(-1)[1] = value
    return made


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["0.weight", "3.bias", "1.running_var"])
def test_a_model_file(tmp_path: Path, caplog: pytest.LogCaptureFixture, place: str, value: float) -> None:
    path = tmp_path / "m.safetensors"
    spoilt(place, value).save(path)
    assert nn.load(path).config() == model().config()
    told = f"{path}: 1 of 85 weights are NaN or infinite, the first in {place}: what the network gives means nothing"
    assert lines(caplog) == [told]


def test_an_onnx_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("onnx")
    from pyconv.nn.onnx.export import write

    made = spoilt("3.weight")
    write(made, tmp_path / "m.onnx")
    nn.load(tmp_path / "m.onnx")
    (line,) = lines(caplog)
    assert line.startswith(f"{tmp_path / 'm.onnx'}: 1 of ") and "weight: what the network" in line


def test_a_state_dict(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    weight = np.full((3, 4), np.inf, np.float32)
    save_file({"0.weight": weight, "0.bias": np.zeros(3, np.float32)}, tmp_path / "w.safetensors")
    nn.Sequential([nn.Dense(3)], (4,)).load_weights(tmp_path / "w.safetensors")
    assert [line.partition(": ")[2][:8] for line in lines(caplog)] == ["12 of 15"]


def test_a_checkpoint(caplog: pytest.LogCaptureFixture) -> None:
    made = spoilt("0.bias")
    Checkpoint.of(made, {}, {}, {}, []).restore(model())
    assert [line[:34] for line in lines(caplog)] == ["the checkpoint: 1 of 85 weights ar"]


def test_good_weights_are_not_mentioned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model().save(tmp_path / "m.safetensors")
    nn.load(tmp_path / "m.safetensors")
    assert lines(caplog) == []
