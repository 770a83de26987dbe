"""Ranks that are started again after a death, with programs in place of MPI's launcher; test_cluster_mpi.py has it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyconv.cluster import __main__ as cluster
from pyconv.cluster.restarts import Restarts
from pyconv.errors import InputError, Interrupted, RunError


class Starts:
    """Restarts of a program that ends with one status after the other, and checkpoints that stand at these steps."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, folder: Path, statuses: list[int], steps: list[int | None], most: int = 3
    ) -> None:
        self.said: list[str] = []
        program = (
            "import pathlib, sys\n"
            f"count = pathlib.Path({str(folder / 'count')!r})\n"
            "n = int(count.read_text()) if count.exists() else 0\n"
            "count.write_text(str(n + 1))\n"
            f"status = {statuses}[n]\n"
            f"if status == 0: pathlib.Path({str(folder / 'proof')!r}).touch()\n"
            "sys.exit(max(status, 0))\n"  # -1: leaves with status 0, and no proof
        )
        self.folder = folder
        left = iter(steps)
        monkeypatch.setattr(Restarts, "_steps", lambda _: next(left))
        self.restarts = Restarts(
            [sys.executable, "-c", program], most, checkpoint=folder, proof=folder / "proof",
            settings=folder / "config.toml", say=self.said.append,
        )  # fmt: skip

    @property
    def count(self) -> int:
        return int((self.folder / "count").read_text())


def test_a_run_goes_on_after_deaths(monkeypatch, tmp_path):
    starts = Starts(monkeypatch, tmp_path, [9, -1, 137, 0], [None, 5, 9, 20])
    starts.restarts.run()
    assert starts.count == 4
    assert starts.said == [
        "the ranks ended with status 9; restart 1 of 3, from the checkpoint of step 5",
        "the ranks ended before the run was complete; restart 2 of 3, from the checkpoint of step 9",
        "the ranks ended with status 137; restart 3 of 3, from the checkpoint of step 20",
    ]


def test_the_last_file_of_an_earlier_end_is_no_proof(monkeypatch, tmp_path):
    (tmp_path / "proof").touch()
    (tmp_path / "config.toml").touch()
    starts = Starts(monkeypatch, tmp_path, [-1, 0], [5, 7])
    starts.restarts.run()
    assert starts.said == ["the ranks ended before the run was complete; restart 1 of 3, from the checkpoint of step 7"]
    assert (tmp_path / "proof").exists()


@pytest.mark.parametrize("run", [True, False])
def test_refused_arguments_leave_all_files_as_they_were(run, monkeypatch, tmp_path):
    """Also a picture that is not a run's, for which the ranks refuse the folder."""
    (tmp_path / "proof").write_text("a picture")
    if run:
        (tmp_path / "config.toml").touch()
    with pytest.raises(InputError):
        Starts(monkeypatch, tmp_path, [2], [5]).restarts.run()
    assert (tmp_path / "proof").read_text() == "a picture"


@pytest.mark.parametrize(
    ("statuses", "steps", "error", "message", "count"),
    [
        ([2], [None], InputError, "have refused their arguments", 1),
        ([130], [None], Interrupted, "interrupted", 1),
        ([1], [None, None], RunError, "status 1, and left no checkpoint", 1),
        ([1, 1], [None, 7, 7], RunError, "status 1, twice after step 7: not restarted again", 2),
        (
            [1, 9, 1, 1],
            [None, 1, 2, 3, 4],
            RunError,
            "status 1, after 3 restarts; continue with the same command and --out ",
            4,
        ),
    ],
)
def test_what_is_not_started_again(monkeypatch, tmp_path, statuses, steps, error, message, count):
    starts = Starts(monkeypatch, tmp_path, statuses, steps)
    with pytest.raises(error, match=message) as caught:
        starts.restarts.run()
    assert starts.count == count
    assert caught.value.told == (error is not RunError)  # a rank has said it already


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give the flags of the training after --"),
        (["-n", "2", "--"], "give the flags of the training after --"),
        (["-n", "0", "--", "--data", "d"], "at least 1"),
        (["--restarts", "-1", "--", "--data", "d"], "at least 0"),
        (["--", "--data", "d", "--resume", "auto"], "--resume is not for ranks"),
        (["--", "--find-lr=x.png"], "--find-lr is not for ranks"),
        (["--", "--data", "d", "--out"], "--out needs a value"),
        (["--", "--cluster", "off"], "each rank would train by itself"),
        (["--", "--cluster=off"], "each rank would train by itself"),
        (["--mpiexec", "", "--", "--data", "d"], "--mpiexec needs a command"),
        (["--mpiexec", "/nowhere/mpiexec", "--", "--data", "d"], "cannot be started"),
        (["--mpiexec", "'", "--", "--data", "d"], "--mpiexec"),
    ],
)
def test_mistakes_are_one_line(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cluster.main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith("pyconv: error: ")
    assert said.count("\n") == 1
    assert message in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_launcher_too(number, tmp_path):
    program = tmp_path / "launcher"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/begun\nexec sleep 60\n")
    program.chmod(0o755)
    words = [sys.executable, "-m", "pyconv.cluster", "--mpiexec", str(program), "--", "--out", "run"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # tests may run where it is ignored
    try:
        process = subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        while not (tmp_path / "begun").exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(number)
        said = process.communicate(timeout=20)[1]
        assert process.returncode == 130
    assert said.count("\n") == 1
    assert said.startswith("pyconv: interrupted")
