"""The console command ``pyconv``: it does what ``python -m pyconv`` does, and shells complete its flags."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from pyconv import __main__, __version__, completion, invocation

ROOT = Path(__file__).parent.parent
ENTRY = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]["pyconv"]
BEGIN = ["--data", "faces", "--limit", "200", "--epochs", "1", "--model", "5-4-8-7", "--progress", "off"]


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that an installer makes of the entry point."""
    module, _, name = ENTRY.partition(":")
    assert callable(getattr(importlib.import_module(module), name))
    path = tmp_path_factory.mktemp("bin") / "pyconv"
    text = f"import sys\nfrom {module} import {name}\nif __name__ == '__main__':\n    sys.exit({name}())\n"
    path.write_text(f"#!{sys.executable}\n{text}", encoding="utf-8")
    path.chmod(0o755)
    return path


def environment(**more: str) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **more}


def run(*words: str | Path, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, words)), cwd=cwd, capture_output=True, text=True, timeout=100,
                          env=environment(), check=False, **options)  # fmt: skip


def test_help_reads_as_it_was_typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    doors = {
        "/opt/bin/pyconv": ("pyconv train", "pyconv"),
        "/lib/pyconv/__main__.py": ("python -m pyconv train", "python -m pyconv"),
        "/lib/pyconv/train.py": ("python -m pyconv.train", "python -m pyconv"),
        "program.py": ("python -m pyconv.train", "python -m pyconv"),
    }
    for program, (train, listing) in doors.items():
        monkeypatch.setattr(sys, "argv", [program, "train", "--help"])
        assert (invocation.typed("train"), invocation.typed()) == (train, listing)
        with pytest.raises(SystemExit):
            __main__.main(["train", "--help"])
        text = capsys.readouterr().out
        assert text.startswith(f"usage: {train} [")
        assert f"\n  {train} --resume runs/" in text
        assert __main__.main([]) == 0
        text = capsys.readouterr().out
        assert text.startswith(f"usage: {listing} COMMAND")
        assert f"\n{listing} COMMAND --help" in text
        assert __main__.main(["train", "--limit", "0"]) == 2
        assert f"(see {train} --help)" in capsys.readouterr().err


def test_the_program_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [
        (["/b/pyconv", "train"], ["python", "/b/pyconv", "train"], "pyconv"),
        (["/b/pyconv", "train", "-m", "x"], ["python", "/b/pyconv", "train", "-m", "x"], "pyconv"),
        (["-m", "train"], ["python", "-X", "dev", "-m", "pyconv", "train"], "pyconv"),
        (["-m"], ["python", "-m", "pyconv.info"], "pyconv.info"),
        (["-m"], ["python", "-m", "pyconvert"], None),
        (["-m"], ["python", "-m"], None),
        (["/b/pyconv", "train"], ["python", "-c", "from multiprocessing.spawn import spawn_main"], None),  # a worker
        (["own.py"], ["python", "own.py", "-m", "pyconv.train"], None),
        (["-c"], ["python", "-c", "import pyconv"], None),
        ([], [], None),
    ]
    for argv, original, expected in cases:
        monkeypatch.setattr(sys, "argv", argv)
        monkeypatch.setattr(sys, "orig_argv", original)
        assert invocation.started() == expected, original


@pytest.mark.slow
def test_workers_start_from_the_console_command_and_a_run_goes_on(console: Path, tmp_path: Path) -> None:
    out = tmp_path / "my run"
    done = run(console, "train", *BEGIN, "--workers", "2", "--out", out, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert f"pyconv train --resume '{out}'" in (out / "config.toml").read_text()
    again = run(console, "train", *BEGIN, "--out", out, cwd=tmp_path)
    assert again.returncode == 2
    assert re.fullmatch(r"pyconv: error: .*`pyconv train --resume '.*'` or choose another folder\n", again.stderr)
    other = run(
        sys.executable, "-m", "pyconv", "train", "--resume", out, "--epochs", "2", "--progress", "off", cwd=tmp_path
    )
    assert other.returncode == 0, other.stderr
    assert (out / "metrics.jsonl").read_text().count("\n") == 2


def test_closed_descriptors_change_nothing(console: Path, tmp_path: Path) -> None:
    done = run("sh", "-c", '"$0" info --json <&- >&- 2>&-', console, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    done = run("sh", "-c", '"$0" --version >/dev/full', console, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("pyconv: error: standard output cannot be written: ")
    assert done.stderr.count("\n") == 1
    done = run(console, "--version", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"pyconv {__version__}\n", "")


def test_an_unknown_command_is_one_line(console: Path, tmp_path: Path) -> None:
    done = run(console, "trian", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("pyconv: error: unknown command 'trian'; did you mean 'train'?")


@pytest.mark.parametrize("door", ["console", "package"])
def test_a_signal_while_the_command_imports(console: Path, tmp_path: Path, door: str) -> None:
    words = [str(console)] if door == "console" else [sys.executable, "-m", "pyconv"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background process's child inherits SIG_IGN
    try:
        process = subprocess.Popen(
            [*words, "train", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
        )
    finally:
        signal.signal(signal.SIGINT, before)
    end = time.monotonic() + 60
    while "_multiarray_umath" not in Path(f"/proc/{process.pid}/maps").read_text():
        assert time.monotonic() < end
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert (process.returncode, error.count("\n")) == (130, 1), error
    assert error.startswith("pyconv: interrupted")


# ---- completion


def complete(line: str, *words: str | Path, cwd: Path, prefix: str = "1") -> tuple[list[str], str]:
    """What argcomplete offers for a line when the shell starts `words`, and the modules that this imported."""
    answer = cwd / "answer"
    more = {
        "_ARGCOMPLETE": prefix, "_ARGCOMPLETE_IFS": "\n", "COMP_LINE": line, "COMP_POINT": str(len(line)),
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answer), "PYTHONPROFILEIMPORTTIME": "1",
    }  # fmt: skip
    done = subprocess.run(list(map(str, words)), cwd=cwd, capture_output=True, text=True, timeout=60,
                          env=environment(**more), check=False)  # fmt: skip
    assert done.stdout == ""
    assert done.returncode == 0, done.stderr
    return answer.read_text().split("\n"), done.stderr


def test_completion_of_the_console_command(console: Path, tmp_path: Path) -> None:
    pytest.importorskip("argcomplete")
    (tmp_path / "face.png").touch()
    cases = {
        "pyconv ": {*__main__.COMMANDS, "--help", "--version"},
        "pyconv tr": {"train "},
        "pyconv train --up": {"--update "},
        "pyconv train --update s": {"sync", "ssp"},
        "pyconv train --update=hog": {"--update=hogwild "},
        "pyconv train --model mini": {"mini-xception "},
        "pyconv train --limit ": {""},
        "pyconv train --epoch": {"--epochs "},
        "pyconv sweep --updates loc": {"local "},
        "pyconv sweep --opt": {"--optimizer "},
        "pyconv predict runs fa": {"face.png "},
        "pyconv export --layout N": {"NCHW", "NHWC"},
    }
    for line, expected in cases.items():
        found, imported = complete(line, console, cwd=tmp_path)
        assert set(found) == expected, line
        assert not re.search(r"\| +(numpy|scipy|rich|PIL|pyconv\.(nn|loop|train|command))$", imported, re.MULTILINE)
    module = [sys.executable, "-m", "pyconv"]
    assert complete("python -m pyconv train --up", *module, cwd=tmp_path, prefix="3")[0] == ["--update "]
    module = [sys.executable, "-m", "pyconv.train"]
    assert complete("python -m pyconv.train --up", *module, cwd=tmp_path, prefix="3")[0] == ["--update "]


def test_completion_without_argcomplete_trains_nothing(console: Path, tmp_path: Path) -> None:
    (tmp_path / "argcomplete.py").write_text("raise ImportError")
    more = {"_ARGCOMPLETE": "1", "COMP_LINE": "pyconv train ", "COMP_POINT": "13"}
    variables = environment(**more)
    variables["PYTHONPATH"] = os.pathsep.join([str(tmp_path), variables["PYTHONPATH"]])
    done = subprocess.run([str(console), "train"], cwd=tmp_path, env=variables, timeout=60, check=False)
    assert done.returncode == 1
    assert not (tmp_path / "runs").exists()


def test_completion_knows_the_flags_that_there_are() -> None:
    kept = json.loads(completion.TABLE.read_text(encoding="utf-8"))
    assert kept == json.loads(json.dumps(__main__.completions())), "the flags have changed: make completion"
