"""Runs that are continued on other ranks, or with another split: what is said of it, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from cluster_threads import fine, with_sessions

import pyconv
from pyconv import nn
from pyconv.errors import InputError
from pyconv.loop import fitting

pytestmark = pytest.mark.timeout(120)

ROWS, FILTERS = {"split": "rows"}, {"split": "filters"}
STAGES = {"micro_batches": 2, "cut": [3]}
WIRE = {"wire": "float16"}


def _model() -> nn.Sequential:
    layers = [nn.Conv2D(4, 3, padding="same"), nn.ReLU(), nn.Flatten(), nn.Dense(8, activation="relu"), nn.Dense(3)]
    return nn.Sequential(layers, input_shape=(8, 6, 1), seed=5)


def _fit(monkeypatch, tmp_path, size, **settings):
    """Each rank's history or error; one rank is a process without MPI."""
    rng = np.random.default_rng(5)
    x, y = rng.integers(0, 256, (40, 8, 6, 1)).astype(np.uint8), np.arange(40) % 3
    settings = {"batch_size": 4, "progress": "off", "threads_per_worker": 1, "out": tmp_path / "a", **settings}

    def body(session):
        return pyconv.fit(_model(), x, y, **settings)

    return [body(None)] if size == 1 else with_sessions(monkeypatch, fitting)(size, body)


@pytest.mark.parametrize(
    ("begun", "ranks", "then", "line"),
    [
        ({}, (2, 1), {"workers": 2},
         "ranks were 2 and are 1 from here on; the 2 workers and their numbers stay the same"),
        ({"update": "easgd"}, (2, 1), {"update": "easgd", "workers": 2},
         "ranks were 2 and are 1 from here on; the 2 workers stay the same"),
        ({"workers": 2, **WIRE}, (2, 3), WIRE,
         "ranks were 2 and are 3 from here on; the 4 workers stay the same, but not what wire float16 rounds"),
        (ROWS, (3, 2), {}, "ranks were 3 and are 2 from here on; the numbers stay the same up to rounding"),
        (ROWS, (2, 1), {}, "ranks were 2 and are 1 from here on; the numbers stay the same up to rounding"),
        (ROWS, (2, 2), FILTERS, "split was rows and is filters from here on; the numbers stay the same up to rounding"),
        ({}, (1, 2), ROWS,
         "ranks were 1 and are 2, split was none and is rows from here on; the numbers stay the same up to rounding"),
        (STAGES, (2, 1), {},
         "ranks were 2 and are 1 from here on; the worker and its numbers stay the same\n"
         "stages were 2 and are 1 from here on; the numbers stay the same"),
        (ROWS, (2, 2), {}, None),
        ({}, (2, 2), {}, None),
    ],
)  # fmt: skip
def test_what_changes_is_said(begun, ranks, then, line, monkeypatch, tmp_path):
    fine(_fit(monkeypatch, tmp_path, ranks[0], epochs=1, **begun))
    log = tmp_path / "a" / "log.txt"
    before = log.read_text()
    histories = fine(_fit(monkeypatch, tmp_path, ranks[1], epochs=2, resume=True, **then))
    assert [each["epoch"] for each in histories[0]] == [1, 2]
    said = [each for each in log.read_text()[len(before) :].splitlines() if "from here on; " in each]
    wanted = [] if line is None else line.splitlines()
    assert len(said) == len(wanted)
    assert all(each.endswith(other) for each, other in zip(said, wanted))


@pytest.mark.parametrize(
    ("begun", "ranks", "then", "line"),
    [
        ({}, (2, 3), {}, "a run of 2 workers cannot be continued on 3 ranks: take at most so many"),
        ({}, (1, 2), {}, "a run of 1 worker cannot be continued on 2 ranks: take at most so many, or divide its "
         "network with --split or --pipeline-stages"),
        ({"micro_batches": 2}, (1, 2), {}, "divide its network with --pipeline-stages"),
        ({}, (2, 2), ROWS, "this run has 2 workers, and split rows does not go together with that: leave it out"),
        (STAGES, (2, 2), ROWS, "this run has stages of a pipeline, and split rows does not go"),
        ({"micro_batches": 2}, (1, 2), FILTERS, "this run has micro-batches, and split filters does not go"),
        (ROWS, (2, 2), {"cut": [3]}, "this run has split rows, and stages of a pipeline do not go together with it"),
        ({}, (2, 2), {"cut": [3]}, "a run of 2 workers cannot be continued as 1 times 2 stages: start 4 ranks, or take "
         "1 stage (--pipeline-stages 1)"),
        ({"update": "hogwild"}, (2, 2), {"update": "sync"}, "this run has update 'hogwild', not 'sync'; resume it"),
        ({"update": "easgd"}, (2, 2), {"update": "ssp"}, "this run has update 'easgd', not 'ssp'; resume it"),
        ({}, (3, 2), {"cut": [3]}, "a run of 3 workers cannot be continued as 1 times 2 stages: start 6 ranks"),
    ],
)  # fmt: skip
def test_what_cannot_be_continued_so_is_refused(begun, ranks, then, line, monkeypatch, tmp_path):
    fine(_fit(monkeypatch, tmp_path, ranks[0], epochs=1, **begun))
    files = {path: path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file()}
    for error in _fit(monkeypatch, tmp_path, ranks[1], epochs=2, resume=True, **then):
        assert isinstance(error, InputError)
        assert line in str(error)
        assert len(str(error)) < 300
    for path, content in files.items():
        assert path.read_bytes() == content, path
