"""The timeline: its file is complete whatever happens, replaces no other file, and never makes a run fail."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path
from typing import Any

import pytest
from parallel_runs import data, job, small_model, train

import pyconv
from pyconv import optim
from pyconv import train as train_command
from pyconv.errors import InputError
from pyconv.parallel.server import ParameterServer


def engine(trace: Path, **settings: Any) -> ParameterServer:
    return ParameterServer(small_model(), *data(), job(workers=2, trace=str(trace), **settings))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("missing/t.json", "cannot be written as a trace: No such file or directory"),
        ("folder", "cannot be written as a trace: Is a directory"),
        ("folder/file/t.json", "cannot be written as a trace: Not a directory"),
        ("results.json", "holds something that is no trace of pyconv's and would be written over"),
        ("short", "holds something that is no trace"),
        ("fifo", "is no ordinary file"),
    ],
)
def test_what_cannot_be_a_trace_is_refused_before_the_start(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "folder").mkdir()
    files = {"folder/file": "", "results.json": '[\n{"name":"mine"}\n]\n', "short": "["}
    for file, text in files.items():
        (tmp_path / file).write_text(text)
    os.mkfifo(tmp_path / "fifo")
    before = sorted(tmp_path.rglob("*"))
    x, y = data()
    with pytest.raises(InputError, match=why):
        pyconv.fit(small_model(), x, y, workers=2, batch_size=5, out=tmp_path / "run", trace=tmp_path / name)
    assert sorted(tmp_path.rglob("*")) == before
    assert {file: (tmp_path / file).read_text() for file in files} == files


def test_the_command_says_so_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--limit", "50", "--model", "5-2-4-7", "--workers", "2", "--batch-size", "8", "--epochs", "1"]
    status = train_command.main([*arguments, "--out", str(tmp_path / "run"), "--trace", str(tmp_path / "no" / "t")])
    assert status == 2
    assert capsys.readouterr().err == (
        f"pyconv: error: {tmp_path}/no/t: cannot be written as a trace: No such file or directory; give another file\n"
    )
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_refused_later_leaves_no_trace(tmp_path: Path) -> None:
    x, y = data()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "curves.png").write_text("mine")
    older = tmp_path / "older.json"
    train(job(workers=2, epochs=1, trace=str(older)))
    text = older.read_text()
    for trace in (tmp_path / "new.json", older):
        with pytest.raises(InputError, match=r"holds curves\.png already"):
            pyconv.fit(small_model(), x, y, workers=2, batch_size=5, out=tmp_path / "run", trace=trace)
    assert not (tmp_path / "new.json").exists()
    assert older.read_text() == text


@pytest.mark.slow
def test_an_older_trace_and_an_empty_file_are_written_over(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.touch()
    sizes = []
    for epochs in (2, 1):
        train(job(workers=2, epochs=epochs, trace=str(path)))
        sizes.append(len(json.loads(path.read_text())))
    assert sizes[0] > sizes[1] > 20


@pytest.mark.slow
@pytest.mark.parametrize("at", [1, 4])
def test_a_disk_that_fills_ends_the_timeline_and_not_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, at: int
) -> None:
    """A limit on the size of files stands in for the full disk: writes are stopped there, even in their middle."""
    path = tmp_path / "t.json"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    whole = []

    def fill(engine: ParameterServer, report: int) -> None:
        if report == at:
            size = path.stat().st_size
            whole.extend(json.loads(path.read_text()) if size else [])
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, before[1]))

    try:
        result = train(job(workers=2, epochs=2, trace=str(path), optimizer=optim.SGD(0.05)), each=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert sum(result.images) == 2 * 240 and result.restarts == 0
    said = [record.getMessage() for record in caplog.records]
    assert said == [f"{path}: the timeline ends here: File too large; the run goes on without it"]
    assert json.loads(path.read_text()) == whole
