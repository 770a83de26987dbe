"""Checkpoints: the same bits come back; anything else is refused in one line; the old file survives a failed write."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

from pyconv import checkpoint, nn
from pyconv.checkpoint import Checkpoint
from pyconv.errors import CheckpointError


def _model(units: int = 3, seed: int = 0) -> nn.Sequential:
    layers = [nn.Conv2D(2, 3), nn.BatchNorm(), nn.Flatten(), nn.Dense(units)]
    return nn.Sequential(layers, input_shape=(5, 5, 1), seed=seed)


def _checkpoint(model: nn.Sequential, rng: np.random.Generator) -> Checkpoint:
    model.flat[...] = rng.standard_normal(model.flat.size)
    model.flat_buffers[...] = rng.standard_normal(model.flat_buffers.size)
    model.normalization = nn.Normalization([rng.uniform(1, 99)], [rng.uniform(1, 99)])
    engine = {"step": np.array(17), "optimizer.m": rng.standard_normal(model.flat.size).astype(np.float32)}
    position = {"epoch": 2, "loss_sum": float(rng.standard_normal())}
    return Checkpoint.of(model, engine, {"seed": 1, "drops": [0.5]}, position, [{"epoch": 1, "train_loss": 0.1}])


@pytest.fixture
def saved(tmp_path: Path, rng: np.random.Generator) -> tuple[nn.Sequential, Path]:
    model = _model()
    path = tmp_path / "last.safetensors"
    _checkpoint(model, rng).save(path)
    return model, path


def test_the_same_bits_come_back(saved: tuple[nn.Sequential, Path], rng: np.random.Generator) -> None:
    model, path = saved
    written = _checkpoint(model, rng)
    written.save(path)
    read = Checkpoint.load(path)
    assert (read.settings, read.position, read.history) == (written.settings, written.position, written.history)
    assert read.engine["step"] == 17
    assert read.engine["step"].shape == ()
    np.testing.assert_array_equal(read.engine["optimizer.m"], written.engine["optimizer.m"])
    other = _model()
    read.restore(other)
    built = read.build()
    for twin in (other, built):
        np.testing.assert_array_equal(twin.flat, model.flat)
        np.testing.assert_array_equal(twin.flat_buffers, model.flat_buffers)
        assert twin.normalization == model.normalization
        assert twin.config() == model.config()
    assert list(path.parent.iterdir()) == [path]


@given(data=st.data())
def test_a_truncated_file_is_named(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("truncated") / "last.safetensors"
    _checkpoint(_model(), np.random.default_rng(data.draw(st.integers(0, 2**32)))).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(CheckpointError, match=r"last\.safetensors: .*(truncated|not a checkpoint)") as caught:
        Checkpoint.load(path)
    assert "\n" not in str(caught.value)


@given(data=st.data())
def test_a_flipped_bit_in_the_numbers_is_found(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("flipped") / "last.safetensors"
    _checkpoint(_model(), np.random.default_rng(data.draw(st.integers(0, 2**32)))).save(path)
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    content[data.draw(st.integers(start, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="checksum"):
        Checkpoint.load(path)


def _write(path: Path, **changes: object) -> None:
    content = {"format": "pyconv checkpoint", "version": 3, **changes}
    save_file({"parameters": np.zeros(3, np.float32)}, path, {"pyconv": json.dumps(content)})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no checkpoint here"),
        (lambda path: path.mkdir(), "not a readable checkpoint|no checkpoint"),
        (lambda path: path.write_bytes(b"PK\x03\x04 a zip of weights" * 9), "truncated or damaged"),
        (lambda path: save_file({"w": np.zeros(3)}, path), "not a checkpoint of pyconv"),
        (lambda path: save_file({"w": np.zeros(3)}, path, {"pyconv": "{half"}), "not a checkpoint of pyconv"),
        (lambda path: save_file({"w": np.zeros(3)}, path, {"pyconv": "[1]"}), "not a checkpoint of pyconv"),
        (lambda path: save_file({"w": np.zeros(3)}, path, {"pyconv": "1" * 5000}), "not a checkpoint of pyconv"),
        (lambda path: save_file({"w": np.zeros(3)}, path, {"pyconv": "[" * 99999}), "not a checkpoint of pyconv"),
        (lambda path: _write(path, version=1), "version 1; this pyconv reads version 3"),
        (lambda path: _write(path, format="pyconv model"), "not a checkpoint of pyconv"),
        (lambda path: _write(path), "checksum"),
    ],
)
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, make: object, message: str) -> None:
    path = tmp_path / "last.safetensors"
    make(path)  # type: ignore[operator]
    with pytest.raises(CheckpointError, match=message) as caught:
        Checkpoint.load(path)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 2


def _edit(path: Path, change: Callable[[dict[str, Any]], object], *, sealed: bool) -> None:
    """Change a checkpoint's JSON; `sealed` corrects the checksum, as a program that writes such files would."""
    with safe_open(path, framework="numpy") as file:
        content = json.loads(file.metadata()["pyconv"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    change(content)
    if sealed:
        content.pop("checksum")
        content["checksum"] = checkpoint._checksum(tensors, content)
    save_file(tensors, path, {"pyconv": json.dumps(content)})


EDITS: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda content: content.pop("model"), "model is missing"),
    (lambda content: content["model"].pop("normalization"), "model.normalization is missing"),
    (lambda content: content.pop("position"), "position is missing"),
    (lambda content: content["position"].update(epoch="2"), "position.epoch is missing or of another kind"),
    (lambda content: content.update(history=None), "history is missing"),
    (lambda content: content.update(history=[1]), "a line of history"),
    (lambda content: content.update(settings=[]), "settings is missing"),
    (lambda content: content.pop("fingerprint"), "fingerprint is missing"),
]


@pytest.mark.parametrize(("change", "message"), EDITS)
def test_edited_metadata_is_refused(saved: tuple[nn.Sequential, Path], change: Any, message: str) -> None:
    for sealed, expected in ((True, message), (False, "checksum")):
        path = shutil.copy(saved[1], saved[1].with_name("copy"))
        _edit(path, change, sealed=sealed)
        with pytest.raises(CheckpointError, match=expected) as caught:
            Checkpoint.load(path)
        assert "\n" not in str(caught.value)


def test_a_number_of_the_metadata_is_under_the_checksum(saved: tuple[nn.Sequential, Path]) -> None:
    _edit(saved[1], lambda content: content["position"].update(epoch=7), sealed=False)
    with pytest.raises(CheckpointError, match="checksum"):
        Checkpoint.load(saved[1])


@pytest.mark.parametrize(
    "wrong", [{}, {"mean": [1.0]}, {"mean": [1.0, 2.0], "std": [1.0, 2.0]}, {"mean": [1e999], "std": [1]}]
)
def test_a_normalization_that_does_not_fit(saved: tuple[nn.Sequential, Path], wrong: dict[str, Any]) -> None:
    _edit(saved[1], lambda content: content["model"].update(normalization=wrong), sealed=True)
    model = _model()
    before = model.flat.copy(), model.normalization
    with pytest.raises(CheckpointError, match="does not fit its network"):
        Checkpoint.load(saved[1]).restore(model)
    np.testing.assert_array_equal(model.flat, before[0])
    assert model.normalization == before[1]


@pytest.mark.parametrize("wrong", [{"input_range": 3}, {"classes": 3}], ids=["input range", "classes"])
def test_what_does_not_fit_leaves_nothing_of_what_did(saved: tuple[nn.Sequential, Path], wrong: dict[str, Any]) -> None:
    fits = {"normalization": {"mean": [5.0], "std": [2.0]}}
    _edit(saved[1], lambda content: content["model"].update(fits | wrong), sealed=True)
    model = _model()
    before = model.normalization, model.input_range, model.classes
    with pytest.raises(CheckpointError, match="does not fit its network"):
        Checkpoint.load(saved[1]).restore(model)
    assert (model.normalization, model.input_range, model.classes) == before
    assert model.normalization != nn.Normalization(5.0, 2.0)


def test_a_checkpoint_of_no_network(saved: tuple[nn.Sequential, Path]) -> None:
    _edit(saved[1], lambda content: content["model"].update(config=3), sealed=True)
    with pytest.raises(CheckpointError, match="does not describe a network"):
        Checkpoint.load(saved[1]).build()


def test_a_model_file_is_no_checkpoint(tmp_path: Path) -> None:
    _model().save(tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="not a checkpoint of pyconv"):
        Checkpoint.load(tmp_path / "model.safetensors")


@pytest.mark.parametrize("other", [_model(units=4), _model(seed=1)], ids=["shape", "seed"])
def test_another_model_is_refused_and_not_touched(saved: tuple[nn.Sequential, Path], other: nn.Sequential) -> None:
    before = other.flat.copy()
    with pytest.raises(CheckpointError, match="another model"):
        Checkpoint.load(saved[1]).restore(other)
    np.testing.assert_array_equal(other.flat, before)


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_write_keeps_the_old_file(
    saved: tuple[nn.Sequential, Path], rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    model, path = saved
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((checkpoint.os, "fsync") if failing == "fsync" else (Path, "replace")), fail)
    with pytest.raises(OSError, match="No space"):
        _checkpoint(model, rng).save(path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_an_interrupted_write_leaves_nothing_behind(
    saved: tuple[nn.Sequential, Path], rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, path = saved

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        _checkpoint(model, rng).save(path)
    monkeypatch.undo()
    assert list(path.parent.iterdir()) == [path]
    Checkpoint.load(path)
