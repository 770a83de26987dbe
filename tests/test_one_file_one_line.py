"""A rule, an optimizer, a layer and a form of data each take one file and one line: a copy of the package gets them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pyconv

PACKAGE = Path(pyconv.__file__).parent

#: What is added: the new file, its content, the table, and the line in it.
ADDED = (
    (
        "parallel/rules/half.py",
        '''
from dataclasses import dataclass

from ..kernels import kernel
from .base import Rule


@dataclass(frozen=True)
class Half(Rule):
    """Average in every second step; else do nothing."""

    name = "half"
    lockstep = True

    def step(self, lane):
        yield lane.everyone()
        yield lane.gradient("centre")
        yield lane.everyone()
        if lane.step % 2 == 0:
            yield lane.sweep(self.average, share=True)

    @kernel(writes=("centre", "state"))
    def average(self, c):
        c.optimise(c.centre, c.mean(c.gradients, c.weights), c.state)
''',
        "parallel/rules/table.py",
        "from .half import Half",
    ),
    (
        "optim/sign.py",
        '''
from dataclasses import dataclass

import numpy as np

from .base import Optimizer


@dataclass(frozen=True)
class Sign(Optimizer):
    """Step by the gradient's sign."""

    lr: float = 1e-3

    def _update_block(self, p, g, *state, constants):
        p -= constants[0] * np.sign(g)
''',
        "optim/table.py",
        "from .sign import Sign",
    ),
    (
        "nn/halving.py",
        '''
from dataclasses import dataclass

from .activation import ReLU


@dataclass(frozen=True)
class Halving(ReLU):
    """A ReLU of another name."""
''',
        "nn/registry.py",
        "from .halving import Halving",
    ),
    (
        "datasets/dots.py",
        """
import numpy as np

from .types import Reader, Source, Split


def matches(path):
    return path.suffix == ".dots"


def read(path, options):
    rng = np.random.default_rng(len(path.read_bytes()))
    x, y = rng.integers(0, 256, (64, 6, 6, 1)).astype(np.uint8), np.arange(64) % 2
    return Source("dots", Split(x, y), classes=["few", "many"])


READER = Reader("dots", "a .dots file", matches, read)
""",
        "datasets/readers.py",
        "from .dots import READER as _dots",
    ),
)

MODEL = """
input_shape = [6, 6, 1]
[[layers]]
type = "Halving"
[[layers]]
type = "Flatten"
[[layers]]
type = "Dense"
units = 2
"""

PROGRAM = """
import sys
import pyconv
from pyconv import costmodel, train

if __name__ == "__main__":
    how = dict(workers=2, parameters=1000, itemsize=4, t_s=1e-5, t_b=1e-10, t_u=1e-10)
    print(pyconv.__file__, costmodel.cost("half", **how).meets)
    sys.exit(train.main(sys.argv[1:]))
"""


@pytest.mark.skipif(pyconv.backends()["serial"] is not None, reason="the compiled module is missing")
@pytest.mark.timeout(300)
def test_one_of_each_kind_is_one_file_and_one_line(tmp_path: Path) -> None:
    copy = tmp_path / "pyconv"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "_kernels", "*.c", "*.h"))
    for file, content, table, line in ADDED:
        (copy / file).write_text(content)
        (first, _, rest) = (copy / table).read_text().partition("\n#: ")
        (copy / table).write_text(f"{first}{line}\n\n#: {rest}")
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "model.toml").write_text(MODEL)
    (tmp_path / "some.dots").write_text("..")
    given = "--data some.dots --model model.toml --optimizer sign --update half --workers 2 --threads-per-worker 1"
    more = "--batch-size 8 --epochs 2 --backend serial --out run --trace trace.json --progress plain"
    command = [sys.executable, "program.py", *given.split(), *more.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{copy / '__init__.py'} 1.0"), done.stdout
    config = (tmp_path / "run" / "config.toml").read_text()
    for name in ('"half"', '"sign"', 'some.dots"', "Halving"):
        assert name in config, config
    assert '"update"' in (tmp_path / "trace.json").read_text()
