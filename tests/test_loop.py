"""fit(): it learns, repeats itself, continues to the same bits after any interruption, and refuses bad input."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import threading
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from quick import examples

import pyconv
from pyconv import nn, optim
from pyconv.checkpoint import Checkpoint
from pyconv.errors import (
    CheckpointError,
    DivergedError,
    DtypeError,
    InputError,
    Interrupted,
    ShapeError,
    UnknownNameError,
)
from pyconv.loop import Progress, evaluate, resume_command

EXAMPLES, SIDE, CLASSES, BATCH = 90, 8, 3, 16
STEPS = -(-EXAMPLES // BATCH)
CHECKPOINT = Path("checkpoint") / "last.safetensors"


def data(count: int = EXAMPLES, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images of bars whose direction is their class: horizontal, vertical, or a square."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 90, (count, SIDE, SIDE, 1), dtype=np.uint8)
    y = np.arange(count) % CLASSES
    for image, label in zip(x, y):
        at = int(rng.integers(0, SIDE - 3))
        rows, columns = ((slice(at, at + 2), slice(None)), (slice(None), slice(at, at + 2)),
                         (slice(at, at + 4), slice(at, at + 4)))[label]  # fmt: skip
        image[rows, columns] += 150
    return x, y


def small(seed: int = 0) -> nn.Sequential:
    """A network with every layer that has state or random numbers."""
    layers = [nn.Conv2D(6, 3, padding="same"), nn.BatchNorm(), nn.ReLU(), nn.MaxPool2D(2), nn.Flatten(),
              nn.Dropout(0.2), nn.Dense(16, activation="relu"), nn.Dense(CLASSES)]  # fmt: skip
    return nn.Sequential(layers, input_shape=(SIDE, SIDE, 1), seed=seed)


RECIPE: dict[str, Any] = {
    "validation": data(30, seed=1), "epochs": 3, "batch_size": BATCH, "optimizer": optim.Adam(3e-3), "seed": 5,
    "schedule": optim.schedule("cosine", warmup=2), "augment": {"flip": True, "shift": 1}, "progress": "off",
}  # fmt: skip


def numbers(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A history without its times."""
    timed = {"seconds", "images_per_s", "compute_s", "communication_s", "elapsed_s", "seconds_to_target"}
    return [{name: value for name, value in line.items() if name not in timed} for line in history]


class At(Progress):
    """Does something after a step of the run."""

    def __init__(self, step: int, action: Any) -> None:
        super().__init__()
        self.left, self.action = step, action

    def step(self, **about: Any) -> None:
        self.left -= 1
        if self.left == 0:
            self.action()


def send(number: int) -> Any:
    return lambda: os.kill(os.getpid(), number)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Sequential, list[dict[str, Any]], Path]:
    model, out = small(), tmp_path_factory.mktemp("undisturbed") / "run"
    return model, pyconv.fit(model, *data(), out=out, **RECIPE), out


def test_it_learns_and_reports(undisturbed: tuple[nn.Sequential, list[dict[str, Any]], Path]) -> None:
    model, history, _ = undisturbed
    more = pyconv.fit(model, *data(), **{**RECIPE, "epochs": 12, "augment": None})
    assert more[-1]["train_loss"] < history[0]["train_loss"] / 2
    assert more[-1]["val_accuracy"] > 0.8
    assert [line["epoch"] for line in history] == [1, 2, 3]
    assert [line["step"] for line in history] == [STEPS, 2 * STEPS, 3 * STEPS]
    needed = {"epoch", "step", "images", "seconds", "images_per_s", "train_loss", "val_loss", "val_accuracy", "workers",
              "update", "compute_s", "communication_s", "staleness_mean", "staleness_max", "restarts"}  # fmt: skip
    for line in history:
        assert needed <= set(line)
        assert line["images"] == EXAMPLES
        assert 0 < line["compute_s"] <= line["seconds"] + 1e-4
        assert line["seconds"] <= line["elapsed_s"] + 1e-4
    loss, accuracy = evaluate(model, *RECIPE["validation"])
    assert (loss, accuracy) == (more[-1]["val_loss"], more[-1]["val_accuracy"])
    np.testing.assert_array_equal(
        model.predict(RECIPE["validation"][0]) == RECIPE["validation"][1],
        model.forward(RECIPE["validation"][0]).argmax(1) == RECIPE["validation"][1],
    )


def test_an_epochs_figures_are_means_over_its_images() -> None:
    """The steps do not all have the same number of images."""
    steps: list[dict[str, Any]] = []
    (line,) = pyconv.fit(small(), *data(), **{**RECIPE, "epochs": 1}, on_step=lambda about: steps.append(dict(about)))
    images = np.array([about["images"] for about in steps])
    assert len(set(images)) == 2 and images.sum() == EXAMPLES
    for name in ("loss", "accuracy"):
        assert line[f"train_{name}"] == pytest.approx(images @ [about[name] for about in steps] / EXAMPLES)


def test_the_run_folder(undisturbed: tuple[nn.Sequential, list[dict[str, Any]], Path]) -> None:
    model, history, out = undisturbed
    names = {
        "best.safetensors",
        "checkpoint",
        "classes.json",
        "config.toml",
        "confusion.png",
        "curves.png",
        "log.txt",
        "metrics.jsonl",
        "model.safetensors",
    }
    assert {path.name for path in out.iterdir()} == names
    assert list((out / "checkpoint").iterdir()) == [out / CHECKPOINT]
    assert [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()] == history
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    config = tomllib.loads((out / "config.toml").read_text())
    assert optim.by_name(**config["optimizer"]) == RECIPE["optimizer"]
    assert optim.schedule(**config["schedule"]) == RECIPE["schedule"]
    assert config["augment"] == RECIPE["augment"]
    assert nn.from_config(json.loads(config["model"]["config"])).config() == model.config()
    log = (out / "log.txt").read_text()
    assert "epoch 3/3" in log and "done:" in log and "backend" in log
    # module-scoped: later tests may train `model` on; the file does not change
    assert Checkpoint.load(out / CHECKPOINT).history == history


def test_the_same_seed_gives_the_same_bits(undisturbed: tuple[nn.Sequential, list[dict[str, Any]], Path]) -> None:
    _, history, out = undisturbed
    model = small()
    assert numbers(pyconv.fit(model, *data(), **RECIPE)) == numbers(history)
    np.testing.assert_array_equal(model.flat, nn.load(out / "model.safetensors").flat)
    other = small()
    pyconv.fit(other, *data(), **{**RECIPE, "seed": 6})
    assert not np.array_equal(model.flat, other.flat)


def _assert_same(out: Path, model: nn.Sequential, history: list[dict[str, Any]], undisturbed: Any) -> None:
    """Check that the run in `out` ended with the bits of the undisturbed one."""
    _, expected, reference = undisturbed
    assert numbers(history) == numbers(expected)
    assert [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()] == history
    mine, theirs = Checkpoint.load(out / CHECKPOINT), Checkpoint.load(reference / CHECKPOINT)
    assert mine.engine.keys() == theirs.engine.keys()
    for name, value in theirs.engine.items():
        np.testing.assert_array_equal(mine.engine[name], value)
    for name, value in theirs.buffers.items():
        np.testing.assert_array_equal(mine.buffers[name], value)
    np.testing.assert_array_equal(mine.parameters, theirs.parameters)
    np.testing.assert_array_equal(model.flat, theirs.parameters)
    np.testing.assert_array_equal(nn.load(out / "model.safetensors").flat, theirs.parameters)
    best = [nn.load(folder / "best.safetensors") for folder in (out, reference)]
    np.testing.assert_array_equal(best[0].flat, best[1].flat)


@pytest.mark.covering("step", "number", most=5)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
@pytest.mark.parametrize("step", [1, STEPS - 1, STEPS, STEPS + 1, 3 * STEPS - 1])
def test_an_interrupted_run_continues_to_the_same_bits(
    tmp_path: Path, undisturbed: Any, step: int, number: signal.Signals
) -> None:
    handlers = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    with pytest.raises(Interrupted, match=rf"{number.name} after step {step}; continue with: .*--resume") as caught:
        pyconv.fit(small(), *data(), out=tmp_path / "run", **{**RECIPE, "progress": At(step, send(number))})
    assert caught.value.exit_status == 130
    assert {name: signal.getsignal(name) for name in handlers} == handlers
    # A model with other values, and no normalisation: all of it comes from the checkpoint.
    model = small()
    model.flat[...] = 0
    history = pyconv.fit(model, *data(), out=tmp_path / "run", resume=True, normalize=False, **RECIPE)
    _assert_same(tmp_path / "run", model, history, undisturbed)


@examples(8)
@given(steps=st.lists(st.integers(1, 3 * STEPS - 1), min_size=1, max_size=4))
def test_any_number_of_interruptions(
    steps: list[int], undisturbed: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = tmp_path_factory.mktemp("often") / "run"
    for step in steps:
        with contextlib.suppress(Interrupted):
            pyconv.fit(small(), *data(), out=out, resume=True, **{**RECIPE, "progress": At(step, send(signal.SIGINT))})
    model = small()
    _assert_same(out, model, pyconv.fit(model, *data(), out=out, resume=True, **RECIPE), undisturbed)


def test_checkpoints_within_epochs_change_nothing(tmp_path: Path, undisturbed: Any) -> None:
    model = small()
    history = pyconv.fit(model, *data(), out=tmp_path / "run", checkpoint_every=1e-9, **RECIPE)
    _assert_same(tmp_path / "run", model, history, undisturbed)


def test_an_interruption_during_validation(tmp_path: Path, undisturbed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = nn.Sequential.forward
    calls = []

    def stop(self: nn.Sequential, *args: Any, **options: Any) -> np.ndarray:
        calls.append(1)
        os.kill(os.getpid(), signal.SIGINT)
        return forward(self, *args, **options)

    monkeypatch.setattr(nn.Sequential, "forward", stop)
    monkeypatch.setattr("pyconv.loop.evaluation.WORK", 0)
    with pytest.raises(Interrupted, match=f"after step {STEPS};"):
        pyconv.fit(small(), *data(), out=tmp_path / "run", **RECIPE)
    monkeypatch.undo()
    assert len(calls) == 1
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    model = small()
    _assert_same(
        tmp_path / "run", model, pyconv.fit(model, *data(), out=tmp_path / "run", resume=True, **RECIPE), undisturbed
    )


def test_a_crash_between_metrics_and_checkpoint(tmp_path: Path, undisturbed: Any) -> None:
    out = tmp_path / "run"
    with pytest.raises(Interrupted):
        pyconv.fit(small(), *data(), out=out, **{**RECIPE, "progress": At(STEPS + 2, send(signal.SIGTERM))})
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "half a li')
    halves = [out / ".model.safetensors.77.tmp", out / "checkpoint" / ".last.safetensors.77.tmp"]
    for half in halves:
        half.write_bytes(b"half")
    model = small()
    _assert_same(out, model, pyconv.fit(model, *data(), out=out, resume=True, **RECIPE), undisturbed)
    assert not any(half.exists() for half in halves)


def test_a_run_killed_before_its_first_checkpoint(tmp_path: Path, undisturbed: Any) -> None:
    out = tmp_path / "run"
    with pytest.raises(Interrupted):
        pyconv.fit(small(), *data(), out=out, **{**RECIPE, "progress": At(1, send(signal.SIGTERM))})
    (out / CHECKPOINT).unlink()
    model = small()
    _assert_same(out, model, pyconv.fit(model, *data(), out=out, resume=True, **RECIPE), undisturbed)


def test_a_run_whose_checkpoint_is_missing_is_not_begun_again(tmp_path: Path, undisturbed: Any) -> None:
    out = tmp_path / "run"
    shutil.copytree(undisturbed[2], out)
    (out / CHECKPOINT).unlink()
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for found in ("metrics.jsonl", "model.safetensors"):
        with pytest.raises(CheckpointError, match=rf"checkpoint is missing, although there is {found}; put it back"):
            pyconv.fit(small(), *data(), out=out, resume=True, **RECIPE)
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
        (out / found).unlink()
        before.pop(out / found)


def test_three_signals_stop_at_once(tmp_path: Path) -> None:
    def thrice() -> None:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="at once"):
        pyconv.fit(small(), *data(), out=tmp_path / "run", **{**RECIPE, "progress": At(4, thrice)})
    assert Checkpoint.load(tmp_path / "run" / CHECKPOINT).position["total_steps"] == 0


def test_an_interruption_without_a_folder() -> None:
    model = small()
    before = model.flat.copy()
    with pytest.raises(Interrupted, match="no run folder"):
        pyconv.fit(model, *data(), **{**RECIPE, "progress": At(2, send(signal.SIGINT))})
    assert not np.array_equal(model.flat, before)


def test_resume_with_more_epochs_and_of_a_finished_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recipe = {**RECIPE, "schedule": "constant"}
    long, short = small(), small()
    expected = pyconv.fit(long, *data(), out=tmp_path / "long", **recipe)
    pyconv.fit(short, *data(), out=tmp_path / "short", **{**recipe, "epochs": 1})
    history = pyconv.fit(short, *data(), out=tmp_path / "short", resume=True, **recipe)
    assert numbers(history) == numbers(expected)
    np.testing.assert_array_equal(short.flat, long.flat)
    caplog.clear()
    again = small()
    assert pyconv.fit(again, *data(), out=tmp_path / "short", resume=True, **recipe) == history
    np.testing.assert_array_equal(again.flat, long.flat)
    assert "nothing left to do" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 8}, "batch_size 16, not 8"),
        ({"seed": 1}, "seed 5, not 1"),
        ({"optimizer": optim.SGD(0.1)}, "optimizer"),
        ({"schedule": "constant"}, "schedule"),
        ({"augment": None}, "augment"),
    ],
)
def test_resume_with_other_settings_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    out = tmp_path / "run"
    with pytest.raises(Interrupted):
        pyconv.fit(small(), *data(), out=out, **{**RECIPE, "progress": At(2, send(signal.SIGINT))})
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != "log.txt"}
    with pytest.raises(CheckpointError, match=message):
        pyconv.fit(small(), *data(), out=out, resume=True, **{**RECIPE, **change})
    with pytest.raises(CheckpointError, match="other data"):
        pyconv.fit(small(), *data(seed=9), out=out, resume=True, **RECIPE)
    with pytest.raises(CheckpointError, match="another model"):
        pyconv.fit(small(seed=3), *data(), out=out, resume=True, **RECIPE)
    assert {path: path.read_bytes() for path in before} == before


def test_a_smaller_learning_rate_may_be_taken_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Interrupted):
        pyconv.fit(small(), *data(), out=tmp_path / "run", **{**RECIPE, "progress": At(2, send(signal.SIGINT))})
    pyconv.fit(small(), *data(), out=tmp_path / "run", resume=True, **{**RECIPE, "optimizer": optim.Adam(1e-4)})
    assert "lr was 0.003 and is 0.0001" in caplog.text
    assert tomllib.loads((tmp_path / "run" / "config.toml").read_text())["optimizer"]["lr"] == 1e-4


def test_divergence_names_step_and_rate_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    recipe = {**RECIPE, "optimizer": optim.SGD(1e18), "schedule": "constant", "checkpoint_every": 1e-9}
    with pytest.raises(
        DivergedError, match=r"at step \d+, in epoch 1, with learning rate 1e\+18; .* kept in"
    ) as caught:
        pyconv.fit(small(), *data(), out=tmp_path / "run", **recipe)
    assert caught.value.exit_status == 1
    assert str(caught.value) in (tmp_path / "run" / "log.txt").read_text()
    kept = Checkpoint.load(tmp_path / "run" / CHECKPOINT)
    assert np.isfinite(kept.parameters).all()


def test_target_accuracy_stops_and_records_the_time(tmp_path: Path) -> None:
    recipe = {**RECIPE, "epochs": 50, "augment": None, "target_accuracy": 0.6}
    history = pyconv.fit(small(), *data(), out=tmp_path / "run", **recipe)
    assert len(history) < 50
    assert history[-1]["val_accuracy"] >= 0.6
    assert all(line["val_accuracy"] < 0.6 for line in history[:-1])
    assert history[-1]["seconds_to_target"] == history[-1]["elapsed_s"]
    assert "seconds_to_target" not in history[0] or len(history) == 1
    assert pyconv.fit(small(), *data(), out=tmp_path / "run", resume=True, **recipe) == history


def test_normalisation_comes_from_training_images_once() -> None:
    x, y = data()
    model = small()
    pyconv.fit(model, x, y, epochs=1, progress="off")
    np.testing.assert_allclose(model.normalization.mean, x.mean(), rtol=1e-12)
    np.testing.assert_allclose(model.normalization.std, x.std(), rtol=1e-12)
    kept = model.normalization
    pyconv.fit(model, *data(seed=3), epochs=1, progress="off")
    assert model.normalization == kept
    ready = small()
    pyconv.fit(ready, (x / 255).astype(np.float32), y, epochs=1, progress="off")
    assert ready.normalization.identity
    pyconv.fit(ready, (x / 255).astype(np.float32), y, epochs=1, progress="off", normalize=True)
    assert not ready.normalization.identity


def test_read_only_strided_and_two_dimensional_images_work() -> None:
    x, y = data()
    frozen = x.copy()
    frozen.flags.writeable = False
    pairs = [(x, y), (frozen, y.astype(np.uint8)), (np.asfortranarray(x), y), (np.repeat(x, 2, 0)[::2], list(y)),
             (x[..., 0], y)]  # fmt: skip
    results = []
    for images, labels in pairs:
        model = small()
        pyconv.fit(model, images, labels, epochs=1, progress="off")
        results.append(model.flat)
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


def test_without_validation_and_outside_the_main_thread(tmp_path: Path) -> None:
    got: list[Any] = []
    thread = threading.Thread(
        target=lambda: got.extend(pyconv.fit(small(), *data(), epochs=1, out=tmp_path / "run", progress="off"))
    )
    thread.start()
    thread.join(60)
    assert got[0]["val_loss"] is got[0]["val_accuracy"] is None
    assert (tmp_path / "run" / "curves.png").exists()


class Falling(optim.Schedule):
    """A class of the user's own, without a name of its own."""

    def __call__(self, step: int, total: int) -> float:
        return 1 / step


def test_a_run_is_not_continued_with_another_class_of_schedule(tmp_path: Path) -> None:
    pyconv.fit(small(), *data(), out=tmp_path / "run", **{**RECIPE, "schedule": Falling()})
    assert tomllib.loads((tmp_path / "run" / "config.toml").read_text())["schedule"]["name"] == "Falling"
    with pytest.raises(CheckpointError, match=r"has schedule .*Falling.*, not .*constant"):
        pyconv.fit(small(), *data(), out=tmp_path / "run", resume=True, **{**RECIPE, "schedule": optim.Schedule()})


def test_a_schedule_of_the_users_own(tmp_path: Path) -> None:
    def halving(step: int, total: int) -> float:
        return 0.5 ** (4 * step // total)

    history = pyconv.fit(small(), *data(), out=tmp_path / "run", **{**RECIPE, "schedule": halving})
    assert [line["lr"] for line in history] == [3e-3 * halving(STEPS * e, 3 * STEPS) for e in (1, 2, 3)]
    assert tomllib.loads((tmp_path / "run" / "config.toml").read_text())["schedule"] == {"name": "halving"}


def test_the_model_keeps_its_own_backend() -> None:
    model = small()
    model.backend, model.threads = "reference", 1
    pyconv.fit(model, *data(), epochs=1, backend="auto", progress="off")
    assert (model.backend, model.threads) == ("reference", 1)


X, Y = data()


def _spoilt(value: float, at: int) -> np.ndarray:
    x = X.astype(np.float32)
    x[at, 2, 3] = value
    return x


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": X.astype(int)}, DtypeError, "x has dtype int64"),
        ({"x": X.astype(np.float16)}, DtypeError, "x has dtype float16"),
        ({"x": X[:, :7]}, ShapeError, r"x must have shape \(N, 8, 8, 1\)"),
        ({"x": X[0]}, ShapeError, "x must have shape"),
        ({"x": X[:0], "labels": Y[:0]}, InputError, "no images"),
        ({"x": _spoilt(np.nan, 41)}, InputError, "NaN or infinite pixel, first in image 41"),
        ({"x": _spoilt(-np.inf, 7)}, InputError, "NaN or infinite pixel, first in image 7"),
        ({"labels": Y[:-1]}, ShapeError, "one label for each of 90"),
        ({"labels": Y.astype(float)}, DtypeError, "labels has dtype float64"),
        ({"labels": Y + 1}, InputError, "label 3 at position 2; the model has 3 classes"),
        ({"labels": Y - 1}, InputError, "label -1 at position 0"),
        ({"labels": Y * 0}, InputError, "all training images are of class 0"),
        ({"validation": (X[:, :5], Y)}, ShapeError, "validation images must have shape"),
        ({"validation": (X, Y[:3])}, ShapeError, "validation labels"),
        ({"validation": X}, InputError, "pair of arrays"),
        ({"epochs": 0}, InputError, "epochs must be at least 1"),
        ({"epochs": 2.5}, InputError, "epochs must be an integer"),
        ({"batch_size": 0}, InputError, "batch_size must be at least 1"),
        ({"batch_size": 91}, InputError, "batch_size 91"),
        ({"workers": 0}, InputError, "workers must be at least 1"),
        ({"seed": -1}, InputError, "seed must be at least 0"),
        ({"backend": "gpu"}, UnknownNameError, "known: auto, reference"),
        ({"update": "synch"}, UnknownNameError, "did you mean 'sync'"),
        ({"on_worker_failure": "ignore"}, UnknownNameError, "known: restart, drop, abort"),
        ({"progress": "loud"}, UnknownNameError, "known: auto, rich, plain, off"),
        ({"normalize": "yes"}, UnknownNameError, "normalize"),
        ({"threads_per_worker": 0}, InputError, "threads_per_worker must be at least 1"),
        ({"target_accuracy": 90}, InputError, "90 % is 0.9"),
        ({"target_accuracy": 0.9, "validation": None}, InputError, "needs validation data"),
        ({"checkpoint_every": float("nan")}, InputError, "checkpoint_every must be a finite number"),
        ({"augment": {"shift": -1}}, InputError, "shift must be at least 0"),
        ({"augment": {"tilt": 3}}, InputError, "tilt"),
        ({"augment": {"cutout": 8}}, InputError, "cutout of 8 pixels a side hides images of 8x8; give at most 7"),
        ({"augment": [1]}, InputError, r"augment must be a mapping, .*not \[1\]"),
        ({"resume": True}, InputError, "give it as out"),
        ({"optimizer": 3}, InputError, "optimizer"),
        ({"optimizer": "adan"}, UnknownNameError, "adam"),
        ({"optimizer": {"name": "adam", "momentum": 0.9}}, UnknownNameError, "momentum"),
        ({"schedule": 3}, InputError, "schedule"),
        ({"schedule": {"name": "cosine", "warm_up": 3}}, UnknownNameError, "warmup"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(
    tmp_path: Path, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    arguments = {"x": X, "labels": Y, "validation": (X, Y), "progress": "off", "epochs": 1, **change}
    if not change.get("resume"):
        arguments["out"] = tmp_path / "run"
    model = small()
    before = model.flat.copy()
    with pytest.raises(error, match=message) as caught:
        pyconv.fit(model, arguments.pop("x"), arguments.pop("labels"), **arguments)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 2  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == []
    np.testing.assert_array_equal(model.flat, before)


def test_a_folder_that_holds_a_run_is_not_written_over(undisturbed: Any) -> None:
    out = undisturbed[2]
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=r"holds a run already; continue it with `python -m pyconv\.train --resume"):
        pyconv.fit(small(), *data(), out=out, **RECIPE)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "name", ["curves.png", "metrics.jsonl", "model.safetensors", "best.safetensors", "log.txt", "test.json"]
)
def test_a_file_of_the_users_own_is_not_written_over(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=f"holds {name} already, which a run would write over"):
        pyconv.fit(small(), *data(), out=tmp_path, epochs=1, progress="off")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.covering("name", most=1)
@pytest.mark.parametrize("name", ["two\nlines", "it's\ta tab", "a plain name", "größe"])
def test_a_folder_of_any_name_can_be_resumed(tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    pyconv.fit(small(), *data(), out=out, epochs=1, progress="off")
    assert len(pyconv.fit(small(), *data(), out=out, epochs=2, progress="off", resume=True)) == 2
    command = resume_command(out)
    assert "\n" not in command
    shown = subprocess.run(
        ["bash", "-c", f"printf %s {command.partition('--resume ')[2]}"], capture_output=True, check=True
    )
    assert shown.stdout.decode() == str(out)


def test_a_folder_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    for resume in (False, True):
        with pytest.raises(InputError, match=r"out .*the name is not UTF-8 text"):
            pyconv.fit(small(), *data(), out=tmp_path / "caf\udce9", resume=resume, epochs=1, progress="off")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_other_files_may_be_used(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("mine")
    pyconv.fit(small(), *data(), out=tmp_path, epochs=1, progress="off")
    assert (tmp_path / "notes.md").read_text() == "mine"


def test_two_runs_cannot_share_a_folder(tmp_path: Path) -> None:
    out = tmp_path / "run"
    found: list[str] = []

    def second() -> None:
        try:
            pyconv.fit(small(), *data(), out=out, resume=True, **RECIPE)
        except InputError as error:
            found.append(str(error))

    pyconv.fit(small(), *data(), out=out, **{**RECIPE, "progress": At(3, second)})
    assert len(found) == 1
    assert "another process is training" in found[0]
