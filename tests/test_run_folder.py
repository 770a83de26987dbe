"""A run's folder is made completely or not at all: if the run is refused, if it is killed, if many begin at once."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pyconv
from pyconv import nn
from pyconv.errors import InputError, RunError
from pyconv.loop import Progress, default_folder
from pyconv.loop.folder import NewFolder, RunFolder

X = np.random.default_rng(0).integers(0, 256, (24, 4, 4, 1), dtype=np.uint8)
Y = np.arange(24) % 2


def model() -> nn.Sequential:
    return nn.Sequential([nn.Flatten(), nn.Dense(2)], input_shape=(4, 4, 1))


def fit(out: Any, net: nn.Sequential | None = None, **settings: Any) -> list[dict[str, Any]]:
    return pyconv.fit(net or model(), X, Y, batch_size=8, out=out, **{"epochs": 1, "progress": "off", **settings})


KILLED = """
import os, signal, sys
from pyconv.loop.folder import RunFolder
RunFolder.write_config = lambda self, config: os.kill(os.getpid(), signal.SIGKILL)
import test_run_folder
test_run_folder.fit(sys.argv[1])
"""


def test_a_run_killed_before_its_settings_were_written_is_begun_anew(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-c", KILLED, str(out)]
    assert subprocess.run(command, cwd=Path(__file__).parent, check=False).returncode == -9
    (out / ".config.toml.1-2.tmp").write_text("half")
    assert (out / "log.txt").read_text() == "" and not (out / "config.toml").exists()
    for resume in (True, False):  # neither is refused
        assert len(fit(out, resume=resume, epochs=1 + resume)) == 1 + resume
        assert not (out / ".config.toml.1-2.tmp").exists()
        if resume:
            (out / "config.toml").unlink()
            for name in ("metrics.jsonl", "model.safetensors", "curves.png", "checkpoint/last.safetensors"):
                (out / name).unlink(missing_ok=True)
            (out / "log.txt").write_text("")


class Fails(Progress):
    """Fails when a run begins."""

    def __init__(self, error: type[Exception]) -> None:
        super().__init__()
        self._error = error

    def begin(self, **about: Any) -> None:
        raise self._error("at the beginning")


def failing(step: int, total: int) -> float:
    raise ZeroDivisionError("in the schedule")


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"schedule": failing}, InputError),
        ({"progress": Fails(InputError)}, InputError),
        ({"progress": Fails(ZeroDivisionError)}, ZeroDivisionError),
        ({"description": {"data": {"name": object()}}}, InputError),
        ({"batch_size": 25}, InputError),
        ({"backend": "nowhere"}, InputError),
    ],
)
def test_what_stops_before_the_first_step_leaves_nothing(tmp_path: Path, settings: dict[str, Any], error: type) -> None:
    (tmp_path / "mine").mkdir()
    for out in (tmp_path / "deep" / "run", NewFolder(tmp_path / "runs" / "now"), tmp_path / "mine"):
        with pytest.raises(error):
            pyconv.fit(model(), X, Y, out=out, **{"batch_size": 8, "epochs": 1, "progress": "off", **settings})
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"]


def test_an_input_error_after_the_first_step_is_the_runs(tmp_path: Path) -> None:
    def late(step: int, total: int) -> float:
        if step == 3:
            raise InputError("the schedule knows no third step")
        return 1.0

    with pytest.raises(RunError, match="third step") as caught:
        fit(tmp_path / "run", schedule=late)
    assert caught.value.exit_status == 1
    assert (tmp_path / "run" / "config.toml").exists()


def test_a_folder_is_looked_at_before_anything_else(tmp_path: Path) -> None:
    fit(tmp_path / "run")
    with pytest.raises(InputError, match="holds a run already"):  # the wrong images were not read
        pyconv.fit(model(), X[:, :3], Y, out=tmp_path / "run", progress="off")
    for wrong in ("", "a\0b", 7, b"bytes"):
        with pytest.raises(InputError, match=r"^out "):
            fit(wrong)


def test_another_run_in_the_folder_is_not_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    monkeypatch.setattr("pyconv.loop.fitting.check_free", lambda place: None)
    before = RunFolder.__init__

    def late(self: RunFolder, path: Path) -> None:
        """Another run begins and ends in the folder after this one has looked at it and before it has locked it."""
        monkeypatch.setattr(RunFolder, "__init__", before)
        fit(out)
        before(self, path)

    monkeypatch.setattr(RunFolder, "__init__", late)
    with pytest.raises(InputError, match="holds a run already"):
        fit(out, epochs=2)
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 1


def test_runs_that_begin_in_the_same_second_have_a_folder_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [NewFolder(tmp_path / "runs" / "now") for _ in range(24)]
    barrier = threading.Barrier(len(folders))

    def make(folder: NewFolder) -> None:
        barrier.wait()
        folder.make()

    threads = [threading.Thread(target=make, args=(folder,)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = {f"now-{number}" for number in range(2, 25)} | {"now"}
    assert {folder.path.name for folder in folders} == names == {path.name for path in (tmp_path / "runs").iterdir()}

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda form: "now")
    chosen = default_folder()
    fit(chosen)
    assert Path(chosen) == Path("runs") / "now-25" and (chosen.path / "metrics.jsonl").exists()


def test_a_file_in_the_place_of_the_runs_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    for out in (tmp_path / "runs" / "a", NewFolder(tmp_path / "runs" / "a")):
        with pytest.raises(InputError, match="cannot be used as run folder"):
            fit(out)
