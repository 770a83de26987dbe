"""Event files for TensorBoard: its own reader finds each epoch's figures once, also if the run was killed between."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parallel_runs import data
from refusals import refused

import pyconv
from pyconv import nn, optim
from pyconv.errors import RunError
from pyconv.loop.tensorboard import TAGS
from pyconv.train import main

pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
accumulators = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator", reason="TensorBoard is not installed"
)

X, Y = data(60)


def fitted(out: Path | None, **how: Any) -> list[dict[str, Any]]:
    model = nn.Sequential([nn.Flatten(), nn.Dense(3)], input_shape=(6, 6, 1), seed=1)
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 20, "optimizer": optim.SGD(0.1), "progress": "off"}
    settings |= {"schedule": "constant", "validation": data(40), "tensorboard": True}
    return pyconv.fit(model, X, Y, out=out, **{**settings, **how})


def read(out: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard's reader finds, by tag."""
    found = accumulators.EventAccumulator(str(out / "tensorboard"))
    found.Reload()
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def check(out: Path, history: list[dict[str, Any]]) -> None:
    """Check that the files hold the figures of this history, each once."""
    found = read(out)
    for name, tag in TAGS.items():
        steps, values = zip(*found.pop(tag))
        assert list(steps) == [line["epoch"] for line in history]
        np.testing.assert_allclose(values, [line[name] for line in history], rtol=1e-6)
    assert not found


def test_tensorboard_reads_each_epoch(tmp_path: Path) -> None:
    history = fitted(tmp_path / "run")
    check(tmp_path / "run", history)
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1


def test_a_run_without_validation_has_no_such_figures(tmp_path: Path) -> None:
    fitted(tmp_path / "run", validation=None)
    assert set(read(tmp_path / "run")) == {"loss/train", "accuracy/train", "lr", "images_per_s"}


def test_a_run_that_is_continued_adds_to_them(tmp_path: Path) -> None:
    fitted(tmp_path / "run")
    fitted(tmp_path / "run", epochs=3, resume=True, tensorboard=False)
    history = fitted(tmp_path / "run", epochs=5, resume=True)
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 2
    found = read(tmp_path / "run")["loss/train"]
    assert [step for step, _ in found] == [1, 2, 4, 5], "the third was asked not to be written"
    assert [value for _, value in found] == pytest.approx([history[at]["train_loss"] for at in (0, 1, 3, 4)], rel=1e-6)


def test_epochs_before_they_were_asked_for_are_there_too(tmp_path: Path) -> None:
    fitted(tmp_path / "run", tensorboard=False)
    assert not (tmp_path / "run" / "tensorboard").exists()
    check(tmp_path / "run", fitted(tmp_path / "run", epochs=4, resume=True))


def test_an_epoch_that_is_repeated_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is killed after it has written an epoch's figures and before its checkpoint."""
    from pyconv.loop.folder import RunFolder

    save, left = RunFolder.save_checkpoint, [3]

    def killed(self: RunFolder, checkpoint: Any) -> None:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        save(self, checkpoint)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunFolder, "save_checkpoint", killed)
        fitted(tmp_path / "run", epochs=4)
    assert [step for step, _ in read(tmp_path / "run")["lr"]] == [1, 2]
    file = next((tmp_path / "run" / "tensorboard").iterdir())
    file.write_bytes(file.read_bytes()[:-5])  # and its last record is incomplete
    check(tmp_path / "run", fitted(tmp_path / "run", epochs=4, resume=True))


def test_the_command_keeps_the_wish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("data.npz", x=np.clip(60 + 30 * X, 0, 255).astype(np.uint8), y=Y)
    Path("m.toml").write_text(
        'input_shape = [6, 6, 1]\n[[layers]]\ntype = "Flatten"\n[[layers]]\ntype = "Dense"\nunits = 3\n'
    )
    flags = ["--data", "data.npz", "--model", "m.toml", "--batch-size", "20", "--progress", "off"]
    assert main([*flags, "--epochs", "1", "--out", "run", "--tensorboard"]) == 0
    assert main(["--resume", "run", "--epochs", "3", "--progress", "off"]) == 0
    assert [step for step, _ in read(tmp_path / "run")["loss/val"]] == [1, 2, 3]


def test_what_cannot_be_written_stops_the_run_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tensorboard").write_text("in the way")
    with pytest.raises(RunError, match=r"tensorboard: cannot be written: .*; make room") as caught:
        fitted(tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_it_needs_a_folder_and_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(lambda: fitted(None), "tensorboard=True writes event files to the run folder")
    refused(lambda: fitted(tmp_path / "run", tensorboard="yes"), "tensorboard must be True or False")
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.delitem(sys.modules, "tensorboardX.event_file_writer", raising=False)
    refused(lambda: fitted(tmp_path / "run"), "pip install '.[tensorboard]'")
    assert not (tmp_path / "run").exists()


def test_no_pytorch_is_imported(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['torch'] = None; sys.modules['tensorflow'] = None\n"
        "from pathlib import Path; from pyconv.loop.tensorboard import Events\n"
        "events = Events(Path(sys.argv[1]), []); events.write({'epoch': 1, 'train_loss': 2.5}); events.close()\n"
    )
    (tmp_path / "tensorboard").mkdir()
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "tensorboard"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert read(tmp_path) == {"loss/train": [(1, 2.5)]}
