"""python -m pyconv.sweep: rules over seeds, a table and a picture, and runs that are not repeated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pyconv import sweep, train
from pyconv.reporting import Run, sweep_table
from pyconv.reporting.sweeps import curves, sweep_picture


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two classes of images that are easy to tell apart."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    x = (rng.normal(size=(60, 8, 8, 1)) + 3 * y[:, None, None, None]).astype(np.float32)
    np.savez(tmp_path / "two.npz", x=x, y=y)
    return tmp_path / "two.npz"


def command(data: Path, *more: str) -> list[str]:
    flags = ["--data", str(data), "--model", "3-2-4-2", "--batch-size", "10", "--progress", "off", "--workers", "1"]
    return [*flags, "--out", str(data.parent / "sweep"), *more]


def test_a_sweep_is_one_table_and_one_picture(
    data: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    what = command(data, "--updates", "sync,local", "--seeds", "2", "--epochs", "2")
    assert sweep.main(what) == 0
    printed = capsys.readouterr().out
    for rule in ("sync", "local"):
        assert f"| {rule} | 2 | 2 | " in printed
    folder = data.parent / "sweep"
    assert {path.name for path in folder.iterdir()} == {
        "sync-0", "sync-1", "local-0", "local-1", "report", "flags.txt"
    }  # fmt: skip
    assert (folder / "report" / "report.html").is_file()
    assert list((folder / "report" / "pictures").glob("sweep.*"))

    # Runs that are complete are not repeated; one that was stopped goes on, one that is not there begins.
    begun = []
    true_main = train.main

    def stopped(argv: list[str]) -> int:
        begun.append(argv)
        return 130

    monkeypatch.setattr(train, "main", stopped)
    (folder / "sync-1").rename(folder.parent / "kept")
    assert sweep.main(what) == 130
    (folder / "sync-1" / "checkpoint").mkdir(parents=True)
    assert sweep.main(what) == 130
    assert begun[0][-1] == str(folder / "sync-1") and begun[1][:2] == ["--resume", str(folder / "sync-1")]
    (folder / "sync-1" / "checkpoint").rmdir()
    (folder / "sync-1").rmdir()
    begun.clear()
    monkeypatch.setattr(train, "main", lambda argv: begun.append(argv) or true_main(argv))
    assert sweep.main(what) == 0
    assert [call[-1] for call in begun] == [str(folder / "sync-1")]
    assert "| sync | 2 | 2 | " in capsys.readouterr().out

    # With more seeds the sweep goes on; with other flags it would be another sweep.
    assert sweep.main([*command(data, "--updates", "sync,local", "--seeds", "1", "--epochs", "2")]) == 0
    assert len(begun) == 1
    assert sweep.main([*command(data, "--updates", "sync", "--seeds", "2", "--epochs", "3")]) == 2
    assert "its runs have the flags" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--seed", "3"], "--seed differs from run to run of a sweep"),
        (["--resume", "runs/x"], "--resume differs"),
        (["--updates", "sync,hogwlid"], "did you mean 'hogwild'"),
        (["--seeds", "0"], "at least 1"),
        (["--seeds", str(2**62)], "at most 1000"),
        (["--epohcs", "3"], "--epohcs"),
        (["--data", "nowhere.npz"], "nowhere.npz"),
        (["--data", "caf\udce9.npz"], "is not UTF-8 text"),
    ],
)
def test_wrong_flags_leave_nothing(data: Path, capsys: pytest.CaptureFixture, more: list[str], message: str) -> None:
    assert sweep.main(command(data, *more)) == 2
    assert message in capsys.readouterr().err
    assert not (data.parent / "sweep").exists()


def test_a_folder_of_something_else_is_refused(data: Path, capsys: pytest.CaptureFixture) -> None:
    folder = data.parent / "sweep"
    folder.mkdir()
    (folder / "letter.txt").write_text("dear")
    assert sweep.main(command(data)) == 2
    assert "is there and holds no sweep" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["letter.txt"]


@pytest.mark.slow
def test_a_run_that_fails_is_named_and_the_others_go_on(
    data: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_main = train.main
    monkeypatch.setattr(train, "main", lambda argv: 1 if "local" in argv else true_main(argv))
    assert sweep.main(command(data, "--updates", "local,sync", "--seeds", "1", "--epochs", "1")) == 1
    printed = capsys.readouterr().out
    assert "| sync | 1 | 1 | " in printed
    assert "not complete: local with seed 0" in printed


def test_bars_reach_from_the_worst_seed_to_the_best() -> None:
    def run(*accuracy: float) -> Run:
        lines = [{"val_accuracy": value, "elapsed_s": 2.0 * place, "seconds": 2.0, "images": 100}
                 for place, value in enumerate(accuracy, 1)]  # fmt: skip
        return Run("a", {}, lines, None)

    groups = {"sync": [run(0.5, 0.7), run(0.3, 0.5, 0.9)], "ssp": [run(0.2, 0.2)]}
    assert curves(groups["sync"])[0].tolist() == [[0.5, 0.7], [0.3, 0.5]]
    assert sweep_table(groups).rows[0] == ("sync", "2", "2", "60.0 %", "50.0 to 70.0 %", "4.0 s", "50")
    left, right = sweep_picture(groups).axes
    (_, _, (bars,)) = left.containers[0]
    assert [segment[:, 1].tolist() for segment in bars.get_segments()] == [[30, 50], [50, 70]]
    assert right.containers[0].lines[0].get_xdata().tolist() == [2, 4]


def test_a_place_that_takes_no_folder_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep.main(["--updates", "sync", "--seeds", "1", "--out", "/dev/null/x"]) == 2
    assert "/dev/null/x" in capsys.readouterr().err.splitlines()[-1]


def test_data_behind_links_in_a_circle_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data.npz").symlink_to(tmp_path / "data.npz")
    assert train.main(["--data", str(tmp_path / "data.npz"), "--out", str(tmp_path / "run")]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("pyconv: error")]
    assert "data.npz" in line and not (tmp_path / "run").exists()
