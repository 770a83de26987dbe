"""Examples in another scale than the training's are refused or cause a warning; the same scale never does."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save

import pyconv
from pyconv import nn, optim
from pyconv.checkpoint import Checkpoint
from pyconv.errors import CheckpointError, DtypeError, InputError
from pyconv.nn import model_file


def network() -> nn.Sequential:
    return nn.Sequential([nn.Flatten(), nn.Dense(2)], input_shape=(5, 5, 1))


@pytest.fixture
def images(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Bright and dark images that a linear network tells apart."""
    labels = np.arange(60) % 2
    x = rng.integers(0, 120, (60, 5, 5, 1)) + 130 * labels[:, None, None, None]
    x[0, 0, 0] = 255
    return x.astype(np.uint8), labels


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The warnings about scales since the last call."""
    found = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    caplog.clear()
    return [line for line in found if "scale" in line]


def trained(x: np.ndarray, y: np.ndarray, **options: object) -> nn.Sequential:
    model = network()
    pyconv.fit(model, x, y, epochs=6, batch_size=6, optimizer=optim.SGD(0.05), progress="off", **options)
    return model


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_validation_of_another_dtype_is_refused(images: tuple, tmp_path: Path, dtype: type) -> None:
    x, y = images
    message = f"validation images have dtype {np.dtype(dtype).name}, training images uint8"
    for scaled in (x / 255, x.astype(float)):
        with pytest.raises(DtypeError, match=message) as caught:
            trained(x, y, validation=(scaled.astype(dtype), y), out=tmp_path / "run")
        assert caught.value.exit_status == 2
    assert list(tmp_path.iterdir()) == []


def test_validation_in_another_scale_is_told_of(images: tuple, caplog: pytest.LogCaptureFixture, tmp_path) -> None:
    x, y = images
    x = x.astype(np.float32)
    trained(x, y, validation=(x, y), normalize=True)
    assert warned(caplog) == []
    trained(x, y, validation=(x / 255, y), normalize=True, out=tmp_path / "run")
    (line,) = warned(caplog)
    assert line.startswith("validation images: float32 0")
    assert f"was trained on float32 {x.min():g} to 255; bring" in line
    assert line in (tmp_path / "run" / "log.txt").read_text()


def test_training_on_under_an_earlier_normalisation(images: tuple, caplog: pytest.LogCaptureFixture) -> None:
    x, y = images
    model = trained(x, y)
    pyconv.fit(model, (x / 255), y, epochs=1, batch_size=6, progress="off")
    assert [line.partition(":")[0] for line in warned(caplog)] == ["training images"]
    pyconv.fit(trained(x, y), (x / 255), y, epochs=1, batch_size=6, progress="off", normalize=True)
    assert warned(caplog) == []


@pytest.mark.parametrize("call", ["predict", "predict_proba", "forward"])
def test_predictions_in_another_scale_warn_once(images: tuple, call: str) -> None:
    x, y = images
    model = trained(x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for same in (x, x.astype(np.float32), x[:1], np.zeros_like(x), np.zeros(x.shape, np.float32), x[:, :, :, 0]):
            getattr(model, call)(same)
        model.loss_and_gradient(x / 255, y)  # fit() looks at training images itself
    with pytest.warns(
        UserWarning, match=r"x: float64 0.* to 1, but the network was trained on uint8 .* to 255"
    ) as told:
        getattr(model, call)(x / 255)
        getattr(model, call)(x / 255)
    assert len(told) == 1
    assert told[0].filename == __file__
    assert "\n" not in str(told[0].message)


def test_each_way_of_confusing_scales_warns(images: tuple) -> None:
    x = images[0]
    scales = {"bytes": x, "shares": x / 255, "centred": x / 127.5 - 1, "large": x.astype(np.float32), "mask": x // 255}
    for trained_on, given in (
        ("bytes", "shares"), ("bytes", "centred"), ("large", "shares"), ("bytes", "mask"),
        ("shares", "bytes"), ("shares", "large"), ("centred", "bytes"), ("mask", "bytes"),
    ):  # fmt: skip
        model = network()
        model.input_range = nn.InputRange.of(scales[trained_on])
        with pytest.warns(UserWarning, match="one scale"):
            model.predict(scales[given])
    for trained_on, given in (("bytes", "large"), ("large", "bytes"), ("shares", "centred"), ("centred", "shares")):
        model = network()
        model.input_range = nn.InputRange.of(scales[trained_on])
        assert model.other_scale(scales[given], "x") is None


def test_copies_and_files_remember(images: tuple, tmp_path: Path) -> None:
    x, y = images
    model = trained(x, y, out=tmp_path / "run")
    assert model.input_range == nn.InputRange("uint8", float(x.min()), 255.0)
    model.save(tmp_path / "m.safetensors")
    for other in (
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        nn.load(tmp_path / "m.safetensors"),
        nn.load(tmp_path / "run" / "model.safetensors"),
        Checkpoint.load(tmp_path / "run" / "checkpoint" / "last.safetensors").build(),
    ):
        assert other.input_range == model.input_range
        with pytest.warns(UserWarning, match="trained on uint8"):
            other.predict(x / 255)


def _without_input_range(path: Path, value: object = None) -> None:
    """Remove the input range from the file, as in files of older versions, or change it."""
    with safe_open(str(path), framework="numpy") as file:
        about = json.loads(file.metadata()["pyconv"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    del about["input_range"]
    if value is not None:
        about["input_range"] = value
    about["crc32"] = model_file.checksum(tensors, about)
    path.write_bytes(save(tensors, metadata={"pyconv": json.dumps(about)}))


def test_older_files_are_read_and_go_by_the_normalisation(images: tuple, tmp_path: Path) -> None:
    x, y = images
    path = tmp_path / "m.safetensors"
    trained(x, y).save(path)
    _without_input_range(path)
    model = nn.load(path)
    assert model.input_range is None
    assert model.other_scale(x, "x") is None
    with pytest.warns(UserWarning, match="has a normalisation for"):
        model.predict(x / 255)


@pytest.mark.parametrize(
    "value", [3, {}, {"dtype": "uint8", "low": 3, "high": 1}, {"dtype": "u", "low": "0", "high": 1}]
)
def test_a_wrong_range_in_a_file(images: tuple, tmp_path: Path, value: object) -> None:
    path = tmp_path / "m.safetensors"
    trained(*images).save(path)
    _without_input_range(path, value)
    with pytest.raises(CheckpointError, match=r"m\.safetensors: does not describe a network: an input range has"):
        nn.load(path)


def test_a_new_normalisation_forgets_the_range(images: tuple) -> None:
    x, y = images
    model = trained(x, y)
    normalization = model.normalization
    model.normalization = nn.Normalization(normalization.mean / 255, normalization.std / 255)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(x / 255)
    with pytest.raises(InputError, match="must be an InputRange"):
        model.input_range = (0, 255)
