"""Closed standard input, output and error, and a full output: runs work, and nothing is written into their files."""

from __future__ import annotations

import itertools
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from pyconv.descriptors import open_standard
from pyconv.parallel import memory

ROOT = Path(__file__).parent.parent
SUBSETS = [numbers for count in range(4) for numbers in itertools.combinations(range(3), count)]

SCRIPT = """
import sys
import numpy as np
import pyconv
from pyconv import nn

if __name__ == "__main__":
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (64, 8, 8, 1), dtype=np.uint8)
    y = (x.mean(axis=(1, 2, 3)) > 127).astype(int)
    model = nn.Sequential([nn.Flatten(), nn.Dense(2)], input_shape=(8, 8, 1))
    x = pyconv.parallel.share(x)
    pyconv.fit(model, x, y, epochs=2, batch_size=16, workers=2, out="run", progress=sys.argv[1])
"""


def python(*arguments: Any, closed: tuple[int, ...] = (), output: str = "", **options: Any) -> Any:
    """Run Python with some of the standard descriptors closed, or standard output in a file."""
    words = " ".join(f"{number}>&-" for number in closed) + (f" >{output}" if output else "")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    shell = ["sh", "-c", f'exec "$0" "$@" {words}', sys.executable, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": path, **options.pop("env", {})}
    return subprocess.run(shell, capture_output=True, text=True, timeout=100, env=environment, check=False, **options)


def in_a_fork(work: Callable[[], bool]) -> bool:
    """The result of `work` in a forked process, which may close descriptors."""
    child = os.fork()
    if not child:
        status = 1
        try:
            status = 0 if work() else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("closed", SUBSETS, ids=str)
def test_the_null_device_takes_the_place_of_what_is_closed(closed: tuple[int, ...]) -> None:
    def look() -> bool:
        before = {number: os.fstat(number) for number in range(3)}
        for number in closed:
            os.close(number)
        open_standard()
        null = Path(os.devnull).stat()
        return all(
            os.get_inheritable(number)
            and os.path.samestat(os.fstat(number), null if number in closed else before[number])
            and stat.S_ISCHR(null.st_mode)
            for number in range(3)
        )

    assert in_a_fork(look)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("named", [True, False], ids=["/dev/shm", "memfd"])
def test_shared_memory_takes_no_standard_descriptor(named: bool, tmp_path: Path) -> None:
    def look() -> bool:
        if not named:
            memory.FOLDER = tmp_path / "missing"
        for number in range(3):
            os.close(number)
        segments = [memory.Segment(100, "a test") for _ in range(3)]  # each file has a second descriptor, for its map
        null = Path(os.devnull).stat()
        return len(segments) == 3 and all(os.path.samestat(os.fstat(number), null) for number in range(3))

    assert in_a_fork(look)


def assert_same_parameters(one: Path, other: Path) -> None:
    files = [load_file(run / "model.safetensors") for run in (one, other)]
    assert files[0].keys() == files[1].keys()
    for name, array in files[0].items():
        np.testing.assert_array_equal(array, files[1][name])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the script's run with all descriptors open."""
    folder = tmp_path_factory.mktemp("open")
    (folder / "script.py").write_text(SCRIPT)
    done = python("script.py", "plain", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


@pytest.mark.covering("progress", most=1)
@pytest.mark.parametrize(("closed", "progress"), [((2,), "plain"), ((0, 1, 2), "rich")], ids=str)
def test_a_script_with_closed_descriptors(
    undisturbed: Path, tmp_path: Path, closed: tuple[int, ...], progress: str
) -> None:
    """OpenMP prints to descriptor 2, whichever file has that number."""
    (tmp_path / "script.py").write_text(SCRIPT)
    done = python("script.py", progress, closed=closed, cwd=tmp_path, env={"OMP_DISPLAY_ENV": "true"})
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    run, other = tmp_path / "run", undisturbed / "run"
    assert_same_parameters(run, other)
    said = (run / "log.txt").read_text()
    assert said and all(re.match(r"\d{4}-\d\d-\d\d \d\d:", line) for line in said.splitlines()), "nothing but records"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "data.npz"
    rng = np.random.default_rng(0)
    np.savez(path, x=rng.integers(0, 256, (64, 12, 12, 1), dtype=np.uint8), y=np.arange(64) % 3)
    return path


@pytest.mark.slow
def test_training_with_everything_closed(images: Path, tmp_path: Path) -> None:
    arguments = ["-m", "pyconv.train", "--data", images, "--model", "5-2-4-3", "--epochs", "1", "--workers", "2"]
    for name, closed in (("open", ()), ("closed", (0, 1, 2))):
        out = tmp_path / name
        done = python(*arguments, "--batch-size", "8", "--out", out, closed=closed, env={"OMP_DISPLAY_ENV": "true"})
        assert done.returncode == 0, done.stderr
    assert_same_parameters(tmp_path / "open", tmp_path / "closed")


@pytest.mark.parametrize(
    ("command", "unbuffered"),
    [("info", ""), ("info --help", "1"), ("train --limit 64 --progress plain --out run", "1")],
)
def test_output_that_is_full(images: Path, tmp_path: Path, command: str, unbuffered: str) -> None:
    name, *flags = command.split()
    if name == "train":
        flags += ["--data", str(images), "--model", "5-2-4-3", "--epochs", "1", "--batch-size", "8"]
    done = python(
        "-m", f"pyconv.{name}", *flags, output="/dev/full", cwd=tmp_path, env={"PYTHONUNBUFFERED": unbuffered}
    )
    assert done.returncode == 1
    assert done.stderr == (
        "pyconv: error: standard output cannot be written: No space left on device; make room there\n"
    )
    if "--out" in flags:
        assert (tmp_path / "run" / "curves.png").exists(), "the run itself is complete"


@pytest.mark.parametrize("closed", [(1,), (2,)], ids=str)
def test_a_command_says_what_it_can(closed: tuple[int, ...]) -> None:
    done = python("-m", "pyconv.info", closed=closed)
    assert done.returncode == 0
    assert done.stderr == ""
    assert bool(done.stdout) == (1 not in closed)
    wrong = python("-m", "pyconv.train", "--epochs", "0", closed=closed)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("pyconv: error: argument --epochs") == (2 not in closed)


def test_an_error_that_cannot_be_said_keeps_its_status() -> None:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pyconv.train", "--epochs", "0"],
            stderr=full, env={**os.environ, "PYTHONPATH": path}, timeout=100, check=False,
        )  # fmt: skip
    assert done.returncode == 2
