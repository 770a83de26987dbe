"""Rules that are defined at a prompt, in a notebook or in `python -c` reach the workers, or are refused in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyconv import optim
from pyconv.errors import InputError, install_line
from pyconv.parallel.parcel import Parcel, parcel

PROGRAM = """
import sys
if "without" in sys.argv:
    sys.modules["cloudpickle"] = None  # as if it were not installed
import numpy as np
import pyconv
from pyconv import nn
from pyconv.parallel.kernels import kernel
from pyconv.parallel.rules import Rule

class Signs(Rule):
    name = "signs"
    lockstep = True

    def step(self, lane):
        yield lane.everyone()
        yield lane.gradient("centre")
        yield lane.everyone()
        yield lane.sweep(self.vote, share=True)

    @kernel(writes=("centre", "state"))
    def vote(self, c):
        c.optimise(c.centre, np.sign(sum(np.sign(gradient) for gradient in c.gradients)), c.state)

if __name__ == "__main__":
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 6, 6, 1)).astype(np.float32), np.arange(40) % 3
    model = nn.Sequential([nn.Flatten(), nn.Dense(3)], input_shape=(6, 6, 1), seed=0)
    try:
        history = pyconv.fit(model, x, y, epochs=1, batch_size=4, workers=2, update=Signs(), progress="off")
        print("images:", history[-1]["images"])
    except pyconv.PyconvError as error:
        print(type(error).__name__, error)
"""


def run(*command: str, source: str | None = None) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, *command], input=source, capture_output=True, text=True, timeout=120, env=environment
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.covering("way", most=1)
@pytest.mark.parametrize("way", ["-c", "-", "file"])
def test_a_rule_reaches_the_workers_from_everywhere(way: str, tmp_path: Path) -> None:
    """A rule from a file reaches them without cloudpickle too."""
    if way == "file":
        (tmp_path / "script.py").write_text(PROGRAM)
        assert run(str(tmp_path / "script.py"), "without") == "images: 40\n"
        return
    pytest.importorskip("cloudpickle", reason=f"cloudpickle is not installed: {install_line('notebook')}")
    assert (run("-c", PROGRAM) if way == "-c" else run("-", source=PROGRAM)) == "images: 40\n"


def test_without_cloudpickle_the_rule_is_refused_in_one_line() -> None:
    said = run("-c", PROGRAM, "without")
    assert said.startswith(
        "InputError the rule cannot be sent to worker processes: it comes from a notebook, a prompt or"
    )
    assert "pip install cloudpickle" in said
    assert said.count("\n") == 1


def test_what_processes_find_by_name_is_sent_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    sgd = optim.SGD(0.1)
    assert parcel(sgd, "optimizer") is sgd
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    assert parcel(sgd, "optimizer") is sgd
    with pytest.raises(
        InputError, match=r"the job cannot be sent to worker processes: .*pip install cloudpickle, or define"
    ):
        parcel(lambda: 1, "job")


def test_functions_without_a_name_are_sent_with_cloudpickle() -> None:
    cloudpickle = pytest.importorskip("cloudpickle", reason="cloudpickle is not installed")
    sent = parcel(lambda number: number + 1, "job")
    assert isinstance(sent, Parcel)
    unpack, (content,) = sent.__reduce__()
    assert unpack is cloudpickle.loads and unpack(content)(2) == 3
    with pytest.raises(InputError, match=r"the job cannot be sent to worker processes: .*top level of a module"):
        parcel(sys._getframe(), "job")
