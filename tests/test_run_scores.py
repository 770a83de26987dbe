"""The results by class at the end of a run: on the terminal, in its folder, and in a report that has no data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parallel_runs import data

import pyconv
from pyconv import nn, optim, report
from pyconv.loop.scores import scores
from pyconv.reporting import read_run
from pyconv.train import main

metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")

X, Y = data(120)
VALIDATION = data(200)
NAMES = ["Happy", "Sad", "a very long name of a class indeed"]


def fitted(out: Path, **how: Any) -> nn.Sequential:
    model = nn.Sequential([nn.Flatten(), nn.Dense(3)], input_shape=(6, 6, 1), seed=1)
    model.classes = NAMES
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 20, "optimizer": optim.SGD(0.3), "progress": "off"}
    pyconv.fit(model, X, Y, validation=VALIDATION, out=out, **{**settings, **how})
    return model


def kept(out: Path) -> dict[str, Any]:
    return json.loads((out / "classes.json").read_text(encoding="utf-8"))


def check(out: Path, model: nn.Sequential) -> None:
    """The folder has the figures that scikit-learn finds for the answers of `model`."""
    found, answers = kept(out), model.predict(VALIDATION[0])
    theirs = metrics.precision_recall_fscore_support(VALIDATION[1], answers, labels=range(3), zero_division=0)
    assert found["classes"] == NAMES
    np.testing.assert_array_equal(found["confusion"], metrics.confusion_matrix(VALIDATION[1], answers))
    for name, expected in zip(("precision", "recall", "f1", "support"), theirs):
        np.testing.assert_allclose(found[name], expected, rtol=1e-12, err_msg=name)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(VALIDATION[1], answers))
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(VALIDATION[1], answers, average="macro"))


def test_a_run_ends_with_scikit_learns_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = fitted(tmp_path / "run", progress="plain")
    check(tmp_path / "run", model)
    assert (tmp_path / "run" / "confusion.png").read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    table = metrics.classification_report(VALIDATION[1], model.predict(VALIDATION[0]), output_dict=True)
    for label, name in enumerate(("Happy", "Sad", "a very long name of a cl…")):
        row = next(line for line in shown.splitlines() if line.startswith(f"{name} "))
        numbers = [float(word) for word in row[len(name) :].split()[:4]]
        theirs = [table[str(label)][key] for key in ("precision", "recall", "f1-score", "support")]
        np.testing.assert_allclose(numbers, theirs, atol=5e-4)
    assert "mean over classes" in shown
    assert shown.index("mean over classes") > shown.index("epoch 2/2")


def test_with_early_stopping_they_are_the_best_epochs(tmp_path: Path) -> None:
    model = fitted(tmp_path / "run", epochs=12, early_stopping=2, optimizer=optim.SGD(3.0))
    run = read_run(tmp_path / "run", evaluate=False)
    assert len(run.history) > 1
    check(tmp_path / "run", model)
    assert run.scores is not None and run.scores.accuracy == pytest.approx(run.best_accuracy)


def test_a_run_stopped_within_an_epoch_tells_of_its_model(tmp_path: Path) -> None:
    model = fitted(tmp_path / "run", on_step=lambda about: about["step"] == 9)
    check(tmp_path / "run", model)
    assert kept(tmp_path / "run")["step"] == 9


def test_a_run_that_goes_on_has_new_ones_and_old_ones_do_not_count(tmp_path: Path) -> None:
    out = tmp_path / "run"
    fitted(out)
    before = kept(out)
    model = fitted(out, epochs=3, resume=True)
    check(out, model)
    (out / "classes.json").write_text(json.dumps(before))  # as if the run was killed in its last epoch
    run = read_run(out, evaluate=False)
    assert run.scores is None and run.note == "not asked for"
    (out / "classes.json").unlink()
    fitted(out, epochs=3, resume=True)  # only the results by class are left to do
    check(out, model)


def test_a_report_needs_no_data(tmp_path: Path) -> None:
    fitted(tmp_path / "run")
    assert report.main([str(tmp_path / "run"), "-o", str(tmp_path / "out"), "--no-evaluate"]) == 0
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "| a very long name of a class indeed |" in text and "mean over classes" in text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not valid JSON"),
        ("[]", "must be a table"),
        ('{"classes": ["a"]}', "lacks confusion"),
        ('{"classes": ["a", "b"], "confusion": [[1, 2]]}', "a row and a column for each of 2 classes"),
        ('{"classes": ["a"], "confusion": [[-1]]}', "at least 0"),
        ('{"classes": ["a"], "confusion": 3}', "a list of rows of integers"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: str, words: str) -> None:
    fitted(tmp_path / "run", epochs=1)
    (tmp_path / "run" / "classes.json").write_text(content)
    run = read_run(tmp_path / "run")
    assert run.scores is None
    assert "classes.json: " in run.note and words in run.note and "\n" not in run.note


def test_of_many_classes_the_worst_are_told(rng: np.random.Generator) -> None:
    names = [f"class {number}" for number in range(50)]
    labels = rng.integers(0, 49, 2000)
    answers = np.where(rng.random(2000) < 0.7, labels, rng.integers(0, 49, 2000))
    found = scores(labels, answers, names)
    lines = found.lines()
    assert len(lines) == 23 and "30 more" in lines[-2]
    told = {names.index(line[: len("class 10")].strip()) for line in lines[1:-2]}
    assert told == set(np.argsort(found.f1[:49], kind="stable")[:20])
    for line in lines[1:-2]:
        row = found.confusion[names.index(line[: len("class 10")].strip())].copy()
        label = names.index(line[: len("class 10")].strip())
        row[label] = 0
        assert line.rstrip().endswith(tuple(f" {count}" for count in row if count))


def test_the_test_images_have_theirs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = VALIDATION
    np.savez(tmp_path / "data.npz", x=X, y=Y, x_val=x[:80], y_val=y[:80], x_test=x[80:], y_test=y[80:])
    (tmp_path / "m.toml").write_text(
        'input_shape = [6, 6, 1]\n[[layers]]\ntype = "Flatten"\n[[layers]]\ntype = "Dense"\nunits = 3\n'
    )
    flags = ["--data", "data.npz", "--model", "m.toml", "--epochs", "1", "--batch-size", "20", "--out", "run"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert main([*flags, "--progress", "plain"]) == 0
    model = nn.load(tmp_path / "run" / "model.safetensors")
    found = json.loads((tmp_path / "run" / "test.json").read_text())["scores"]
    np.testing.assert_array_equal(found["confusion"], metrics.confusion_matrix(y[80:], model.predict(x[80:])))
    assert "most often taken for" in capsys.readouterr().out
