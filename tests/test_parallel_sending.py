"""Objects that workers cannot read or import end a run at once, in one line; test_parallel_parcel.py has the others."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from parallel_runs import data, small_model

import pyconv
from pyconv.errors import InputError

ROOT = Path(__file__).parent.parent

PROGRAM = """
import sys
import numpy as np
import pyconv
from parallel_runs import MajorityVote, data
from pyconv import nn

{definitions}

if __name__ == "__main__":
    model = nn.Sequential([nn.Flatten(), {layer}(3)], input_shape=(6, 6, 1), seed=1)
    options = dict(epochs=1, batch_size=10, workers=2, progress="off", out="run")
    pyconv.fit(model, *data(), update={rule}, schedule={schedule}, **options)
    print("done", float(np.abs(model.flat).sum()))
"""

OWN = """
class Vote(MajorityVote):
    name = "vote"

def falling(step, total):
    return 1 - step / total / 2

class Mine(nn.Dense):
    pass
"""

ALL = {"definitions": OWN, "layer": "Mine", "rule": "Vote()", "schedule": "falling"}
NONE = {"definitions": "", "layer": "nn.Dense", "rule": '"sync"', "schedule": "None"}
WITHOUT = 'sys.modules["cloudpickle"] = None  # as where it is not installed\n'


def run(program: str, place: Path) -> subprocess.CompletedProcess[str]:
    (place / "program.py").write_text(program)
    path = os.pathsep.join(filter(None, [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "program.py"], cwd=place, capture_output=True, text=True, timeout=100, check=False,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip


def last(done: subprocess.CompletedProcess[str]) -> str:
    """The error's one line. The traceback before it is that of the user's program."""
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    return done.stderr.strip().splitlines()[-1]


def test_what_is_defined_under_the_main_guard_is_one_line(tmp_path: Path) -> None:
    own = 'if __name__ == "__main__":\n' + OWN.replace("\n", "\n    ")
    program = PROGRAM.format(**{**ALL, "definitions": own}).replace("import sys\n", "import sys\n" + WITHOUT, 1)
    said = last(run(program, tmp_path))
    assert said.startswith(
        "pyconv.errors.InputError: worker processes cannot take part: the job cannot be read there: "
    )
    assert "attribute 'falling'" in said and "outside of its main guard" in said
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_program_that_cannot_be_imported_is_not_tried_three_times(tmp_path: Path) -> None:
    only_once = 'import multiprocessing\nassert multiprocessing.current_process().name == "MainProcess", "planted"\n'
    done = run(PROGRAM.format(**{**NONE, "definitions": only_once}), tmp_path)
    assert done.returncode == 1
    assert "could not start: it failed while it imported the main program" in done.stderr.strip().splitlines()[-1]
    assert 1 <= done.stderr.count("planted") <= 4  # once in each worker


def _fit_in_a_pool(_: int) -> str:
    try:
        pyconv.fit(small_model(), *data(), epochs=1, batch_size=10, workers=2, progress="off")
    except InputError as error:
        return str(error)
    return "done"


@pytest.mark.slow
def test_fit_in_a_daemonic_process() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        (said,) = pool.map(_fit_in_a_pool, [0])
    assert said.startswith("this process is daemonic (of a multiprocessing.Pool, say)") and "workers=1" in said
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        assert list(executor.map(_fit_in_a_pool, [0])) == ["done"], "as the message says"
