"""Pipelines on ranks that MPI has started; most of the tests are of failures. The tools are test_cluster_mpi's."""

from __future__ import annotations

import json
import re
import signal
import time

import numpy as np
import pytest
from test_cluster_mpi import GONE_S, Run, _data, alone, assert_same_run, checkpoint, mpi, train  # noqa: F401

pytestmark = [pytest.mark.timeout(180)]

NETWORK = """
input_shape = [12, 12, 1]
layers = [
  {type = "Conv2D", filters = 8, kernel_size = 3, padding = 1, bias = false},
  {type = "BatchNorm"},
  {type = "ReLU"},
  {type = "Residual", layers = [{type = "Conv2D", filters = 8, kernel_size = 3, padding = 1}, {type = "BatchNorm"}]},
  {type = "ReLU"},
  {type = "MaxPool2D", pool_size = 2},
  {type = "Flatten"},
  {type = "Dropout", rate = 0.3},
  {type = "Dense", units = 32, activation = "relu"},
  {type = "BatchNorm"},
  {type = "Dense", units = 7},
]
"""
SMALL = ["--data", "d.npz", "--model", "net.toml", "--batch-size", "32", "--micro-batches", "4", "--shift", "1"]


@pytest.fixture(autouse=True)
def _network(tmp_path):
    (tmp_path / "net.toml").write_text(NETWORK)


@pytest.mark.parametrize(("stages", "schedule"), [(2, "gpipe"), (3, "1f1b"), (4, "1f1b")])
def test_stages_train_as_one_process_does(mpi, tmp_path, stages, schedule):  # noqa: F811
    cut = ",".join(["3", "5", "9"][: stages - 1])
    flags = [*SMALL, "--epochs", "2"]
    split = ["--pipeline-stages", str(stages), "--cut", cut, "--pipeline-schedule", schedule]
    run = Run(mpi, train(*flags, *split, "--out", "run"), ranks=stages, folder=tmp_path)
    assert run.end() == 0
    assert run.said == []
    assert f"{stages} stages of layers 0-2, 3-" in run.out
    alone(tmp_path, *flags, "--out", "alone")
    assert_same_run(tmp_path / "run", tmp_path / "alone")
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert line["micro_batches_alive_max"] == (4 if schedule == "gpipe" else min(stages, 4))
    assert 0 <= line["bubble_mean"] < 1


def test_the_cost_model_cuts_and_the_run_is_continued_in_one_process(mpi, tmp_path):  # noqa: F811
    flags = [*SMALL, "--clip-norm", "1", "--optimizer", "adam"]
    run = Run(mpi, train(*flags, "--epochs", "3", "--pipeline-stages", "3", "--out", "run"), ranks=3, folder=tmp_path)
    assert run.end() == 0
    alone(tmp_path, *flags, "--epochs", "3", "--out", "alone")
    assert_same_run(tmp_path / "run", tmp_path / "alone")
    alone(tmp_path, "--resume", "run", "--epochs", "4")
    alone(tmp_path, "--resume", "alone", "--epochs", "4")
    assert_same_run(tmp_path / "run", tmp_path / "alone")


def test_two_pipelines_are_two_workers(mpi, tmp_path):  # noqa: F811
    flags = [*SMALL, "--epochs", "2", "--clip-norm", "1"]
    run = Run(mpi, train(*flags, "--cut", "5", "--out", "run"), ranks=4, folder=tmp_path)
    assert run.end() == 0
    assert "2 stages of layers 0-4, 5-10, 2 replicas" in run.out
    alone(tmp_path, *flags, "--workers", "2", "--out", "alone")
    mine, theirs = checkpoint(tmp_path / "run"), checkpoint(tmp_path / "alone")
    np.testing.assert_array_equal(mine.parameters, theirs.parameters)
    np.testing.assert_array_equal(mine.engine["buffers"], theirs.engine["buffers"])
    losses = [[(line["train_loss"], line["val_loss"]) for line in each.history] for each in (mine, theirs)]
    assert losses[0] == losses[1]


# ---- bad ends -------------------------------------------------------------------------------------


def endless(*flags: str, epochs: int = 500) -> list[str]:
    split = ["--pipeline-stages", "3", "--cut", "3,6", "--checkpoint-every", "0.5"]
    return train(*SMALL, "--epochs", str(epochs), *split, *flags)


@pytest.mark.parametrize(("signal_name", "victim"), [("SIGKILL", 0), ("SIGKILL", 1), ("SIGKILL", 2), ("SIGSTOP", 1)])
def test_a_rank_that_dies_ends_all(mpi, tmp_path, signal_name, victim):  # noqa: F811
    run = Run(mpi, endless("--out", "run"), ranks=3, folder=tmp_path)
    run.until("epoch 1/")
    time.sleep(0.7)
    began = time.monotonic()
    process = run.ranks()[victim]
    process.send_signal(getattr(signal, signal_name))
    assert run.end(GONE_S) != 0
    assert time.monotonic() - began < GONE_S
    what = "was killed by SIGKILL" if signal_name == "SIGKILL" else "was stopped by a signal"
    if signal_name == "SIGSTOP" or run.said:  # a launcher may end all ranks before a rank notices
        assert len(run.said) == 1
        assert re.fullmatch(rf"pyconv: error: rank {victim} on \S+ \(pid {process.pid}\) {what}.*", run.said[0])
    done = len(checkpoint(tmp_path / "run").history)
    assert done >= 1


def test_a_killed_run_goes_on_to_the_undisturbed_runs_bits(mpi, tmp_path):  # noqa: F811
    run = Run(mpi, endless("--out", "run", epochs=12), ranks=3, folder=tmp_path)
    run.until("epoch 3/")
    run.ranks()[1].kill()
    assert run.end(GONE_S) != 0
    assert len(checkpoint(tmp_path / "run").history) < 12
    assert Run(mpi, train("--resume", "run"), ranks=3, folder=tmp_path).end() == 0
    alone(tmp_path, *SMALL, "--epochs", "12", "--out", "alone")
    assert_same_run(tmp_path / "run", tmp_path / "alone")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_launcher_ends_all(mpi, tmp_path, number):  # noqa: F811
    run = Run(mpi, endless("--out", "run"), ranks=3, folder=tmp_path)
    run.until("epoch 1/")
    run.process.send_signal(number)
    status = run.end(GONE_S)
    assert status != 0
    checkpoint(tmp_path / "run")
    if run.kind == "MPICH" and number == signal.SIGINT:
        assert status == 130
        assert len(run.said) == 1
        assert re.match(r"pyconv: interrupted by SIG\w+ after step \d+; continue with: ", run.said[0])


FAULT = """
import os, sys
import numpy as np
import pyconv
from pyconv import cluster, nn
from pyconv.nn.part import Part
if __name__ == "__main__":
    x, y = (np.load("d.npz")[name] for name in "xy")
    model, ranks, calls = nn.from_toml("net.toml", seed=0), cluster.session(), [0]
    usual = getattr(Part, sys.argv[3])
    def spoilt(self, *args):
        calls[0] += 1
        found = usual(self, *args)
        if calls[0] == 20 and ranks.rank == int(sys.argv[2]):
            if sys.argv[1] == "nan":
                found[...] = np.nan
            elif sys.argv[1] == "exit":
                os._exit(3)
            else:
                raise ValueError("planted")
        return found
    setattr(Part, sys.argv[3], spoilt)
    cut = {3: [3, 6], 4: [5]}[ranks.size]
    pyconv.fit(model, x, y, epochs=50, batch_size=32, micro_batches=4, cut=cut, out="run", progress="off")
"""


@pytest.mark.parametrize(
    ("fault", "guilty", "way"),
    [
        ("exception", 0, "forward"),
        ("exception", 1, "backward"),
        ("exception", 2, "forward"),
        ("nan", 1, "forward"),
        ("exit", 1, "backward"),
        ("exception of two pipelines", 3, "forward"),
    ],
)
def test_a_fault_of_one_rank_ends_all(mpi, tmp_path, fault, guilty, way):  # noqa: F811
    (tmp_path / "script.py").write_text(FAULT)
    ranks = 4 if "two" in fault else 3
    run = Run(mpi, ["script.py", fault, str(guilty), way], ranks=ranks, folder=tmp_path)
    status = run.end(30)
    assert status != 0
    checkpoint(tmp_path / "run")
    text = (tmp_path / "err.txt").read_text()
    if "exception" in fault:
        assert text.count("ValueError: planted\n") >= 1
        assert guilty == 0 or f"rank {guilty} on " in text
    elif fault == "nan":
        assert re.search(
            rf"training diverged: rank {guilty} on \S+: the result is not finite in epoch 1, step \d", text
        )


@pytest.mark.parametrize(
    ("flags", "ranks", "line"),
    [
        (["--pipeline-stages", "12"], 3, r"12 stages are more than .*"),
        (["--pipeline-stages", "2"], 3, r"2 stages do not fit 3 ranks: .*"),
        (
            ["--pipeline-stages", "3", "--micro-batches", "5"],
            3,
            r"5 micro-batches do not divide a batch of 32 images.*",
        ),
        (["--cut", "3,40"], 3, r"cut 40 is outside the network's 11 layers.*"),
        (["--cut", "3,6", "--update", "ssp"], 3, r"stages of a pipeline are there under update sync only.*"),
        (["--pipeline-stages", "2"], 1, r"2 stages do not fit 1 rank: .*"),
    ],
)
def test_what_is_refused_is_refused_once_and_by_all(mpi, tmp_path, flags, ranks, line):  # noqa: F811
    run = Run(mpi, train(*SMALL, "--epochs", "1", "--out", "run", *flags), ranks=ranks, folder=tmp_path)
    assert run.end(60) == 2
    assert len(run.said) == 1
    assert re.fullmatch(f"pyconv: error: {line}", run.said[0])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("usual", "other"),
    [
        (["--cut", "3,6"], []),
        ([], ["--cut", "3,6"]),
        (["--cut", "3,6"], ["--cut", "3,5"]),
        (["--cut", "3,6"], ["--pipeline-stages", "3"]),
        (["--pipeline-stages", "3"], ["--cut", "3,6"]),
        (["--cut", "3,6"], ["--cut", "3,6", "--pipeline-schedule", "gpipe"]),
    ],
)
def test_an_option_of_one_rank_only_is_refused(mpi, tmp_path, usual, other):  # noqa: F811
    common = [*SMALL, "--epochs", "1", "--out", "run"]
    programs = [train(*common, *own) for own in (usual, other, usual)]
    run = Run(mpi, *programs, folder=tmp_path)
    assert run.end(60) == 2
    assert len(run.said) == 1
    assert re.fullmatch(r"pyconv: error: rank 1 on \S+(:| was given another) .*", run.said[0])
    assert not (tmp_path / "run").exists()


def test_a_stage_holds_its_own_layers_activations_only(mpi, tmp_path):  # noqa: F811
    """The work arrays of the largest stage, beside those of the unsplit network, and of a stage that keeps all."""
    found = {}
    for name, split in {"1f1b": [], "gpipe": ["--pipeline-schedule", "gpipe"]}.items():
        flags = [*SMALL, "--epochs", "1", "--cut", "3,6", "--out", name, *split]
        assert Run(mpi, train(*flags, "--micro-batches", "8"), ranks=3, folder=tmp_path).end() == 0
        found[name] = json.loads((tmp_path / name / "metrics.jsonl").read_text())["stage_bytes_max"]
    assert 0 < 2 * found["1f1b"] < found["gpipe"]  # at most 3 of 8 micro-batches are alive
    assert np.isfinite(found["gpipe"])
