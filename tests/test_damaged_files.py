"""Files whose content is not what it should be: each is refused by its name, in one line."""

from __future__ import annotations

import io
import json
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refusals import refused

from pyconv import datasets, reporting, train
from pyconv.checkpoint import Checkpoint

X = np.arange(32, dtype=np.uint8).reshape(8, 2, 2, 1)
Y = np.array([0, 1] * 4)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, begun by the command."""
    folder = tmp_path_factory.mktemp("doors")
    np.savez(folder / "data.npz", x=X, y=Y)
    (folder / "model.toml").write_text(
        "input_shape = [2, 2, 1]\n[[layers]]\ntype = 'Flatten'\n[[layers]]\ntype = 'Dense'\nunits = 2\n"
    )
    arguments = [
        "--data",
        str(folder / "data.npz"),
        "--model",
        str(folder / "model.toml"),
        "--out",
        str(folder / "run"),
    ]
    assert train.main([*arguments, "--epochs", "1", "--batch-size", "4", "--progress", "off"]) == 0
    return folder / "run"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("workers = 1", "workers = 'two'", "training.workers must be an integer, not 'two'"),
        ("workers = 1", "workers = true", "training.workers must be an integer, not True"),
        ("epochs = 1", "", "lacks training.epochs"),
        ("epochs = 1", f"epochs = {'9' * 5000}", "a number that is too large"),
        ("seed = 0", f"seed = {'[' * 3000}{']' * 3000}", "nested too deeply"),
        ("[schedule]", "[[schedule]]", "schedule must be a table"),
        ('name = "sgd"', "name = 3", "optimizer.name must be text, not 3"),
        ('name = "sgd"', "name = 'sdg'", "the settings are not those of a run (unknown optimizer 'sdg'"),
        ("momentum = 0.9", "momentum = [1]", "momentum must be a finite number of at least 0 and below 1, not [1]"),
        ('\\"units\\": 2', '\\"units\\": -2', "units must be at least 1, not -2"),
        ('config = "{', 'config = "[', "the settings are not those of a run"),
        ("format = 1", "format = [1]", "settings of format [1]"),
    ],
)
def test_a_damaged_config(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, words: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    text = (folder / "config.toml").read_text()
    assert old in text
    (folder / "config.toml").write_text(text.replace(old, new, 1))
    assert train.main(["--resume", str(folder), "--epochs", "1", "--progress", "off"]) == 2
    message = capsys.readouterr().err
    assert words in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epoch": "1"}, "row 1: epoch must be an integer, not '1'"),
        ({"epoch": 10**30}, "row 1: is not JSON: it holds a number that is too large"),
        ({"seconds": None}, "row 1: seconds must be a finite number of at least 0"),
        ({"val_accuracy": 2}, "row 1: val_accuracy must be a finite number of at least 0 and at most 1, not 2"),
        ({"train_loss": float("nan")}, "row 1: train_loss must be a finite number"),
        ({"update": ["sync"]}, "row 1: update must be text, not ['sync']"),
        ({"restarts": {}}, "row 1: restarts must be a finite number"),
    ],
)
def test_damaged_metrics(run: Path, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "metrics.jsonl"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}) + "\n")
    refused(lambda: reporting.read_run(tmp_path / "run", evaluate=False), words)


RECORD = {"experiment": "table1", "case": "a", "operation": "conv", "column": "serial naive", "unavailable": None,
          "median_s": 1.0, "q1_s": 0.9, "q3_s": 1.1}  # fmt: skip


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"records": [{**RECORD, "median_s": "1"}]}, "record 0: median_s must be a finite number"),
        ({"records": [{**RECORD, "q1_s": None}, {**RECORD, "median_s": -1}]}, "record 1: median_s must be"),
        ({"records": [{**RECORD, "case": 3}]}, "record 0: case must be text, not 3"),
        ({"records": [{name: RECORD[name] for name in RECORD if name != "q3_s"}]}, "record 0: lacks q3_s"),
        ({"records": [{**RECORD, "experiment": "fig1"}]}, "record 0: lacks x"),
        ({"records": [3]}, "record 0: must be a table, not 3"),
        ({"records": [], "machine": 3}, "machine must be a table, not 3"),
        ({"records": [], "peak": {"gflops": "fast", "source": ""}}, "peak.gflops must be a finite number"),
        ({"records": [], "format": "a" * 5000}, "results of format 'aaaa"),
        ({"benchmarks": [{"extra_info": 3}]}, "holds no results of pyconv's benchmarks"),
    ],
)
def test_damaged_results(tmp_path: Path, content: Any, words: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content))
    refused(lambda: reporting.read_results([path]), words)


def test_the_results_that_are_kept_are_whole() -> None:
    results = sorted((Path(__file__).parent.parent / "bench" / "results").glob("**/*.json"))
    assert len(results) > 10
    for path in results:
        assert reporting.experiment_sections(reporting.read_results([path]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.history[0].update(images="many"), "history: images must be an integer, not 'many'"),
        (lambda c: c.history.clear(), "1 epochs are done, and history has 0 lines"),
        (lambda c: c.position.update(statistics={"compute_s": "x"}), "statistics.compute_s must be a finite number"),
        (lambda c: c.position.update(epoch="1"), "position.epoch is missing or of another kind"),
        (lambda c: c.engine.update(step=np.zeros(3)), "no number of steps"),
        (lambda c: c.engine.update(step=np.array(-1)), "no number of steps"),
        (lambda c: c.settings.update(update_options=3), "settings.update_options is missing or of another kind"),
        (lambda c: c.model.update(classes=[3, 4]), "classes must be a list of names that are text, not [3, 4]"),
    ],
)
def test_a_checkpoint_whose_content_is_not_a_runs(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Checkpoint], Any], words: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    place = folder / "checkpoint" / "last.safetensors"
    checkpoint = Checkpoint.load(place)
    change(checkpoint)
    checkpoint.save(place)  # with a checksum that is right
    assert train.main(["--resume", str(folder), "--epochs", "2", "--progress", "off"]) == 2
    message = capsys.readouterr().err
    assert words in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    "header",
    ["(True, 8)", "(8, 2", "(-1, 2, 2, 1)", "(9223372036854775807,)", "'\\U00110000'", "9" * 5000, "(" * 300],
)
def test_an_archive_whose_header_is_none(tmp_path: Path, header: str) -> None:
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {header}, }}\n".encode()
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + X.tobytes()
    labels = io.BytesIO()
    np.save(labels, Y)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", member)
        archive.writestr("y.npy", labels.getvalue())
    refused(lambda: datasets.load(tmp_path / "x.npz"), "x.npz: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--shift", "9" * 30], "--shift: must be an integer of at most 9223372036854775807, not '999"),
        (["--staleness", str(2**63)], "--staleness: must be an integer of at most"),
        (["--lr", "1e400"], "--lr: must be a finite number above 0, not '1e400'"),
        (["--lr", "9" * 400], "--lr: must be a finite number above 0, not '999"),
        (["--seed", "9" * 5000], "--seed: must be an integer of at least 0, not '999"),
        (["--data", "x" * 256], "--data 'xxx"),
        (["--out", "a\0b"], "a name cannot hold the character NUL"),
        (["x" * 10_000], "unrecognized arguments: xxx"),
    ],
)
def test_odd_flags(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    assert train.main(arguments) == 2
    message = capsys.readouterr().err
    assert words in message
    assert len(message.splitlines()) == 1
    assert len(message) < 500
