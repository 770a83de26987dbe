"""``np.seterr(all="raise")`` in the user's program: pyconv's own underflows raise nothing."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pyconv
from pyconv import nn, optim
from pyconv.errors import DivergedError


@pytest.fixture
def raising():
    """The user's program makes errors of all its overflows and underflows."""
    with np.errstate(all="raise"):
        yield


def far_apart(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels on which logits become so large that probabilities underflow."""
    labels = np.arange(48) % 3
    x = rng.standard_normal((48, 6, 6, 1), np.float32) * np.float32(1e-18)
    x[labels == 1] += 300
    return x, labels


@pytest.mark.parametrize("name", sorted(optim.OPTIMIZERS))
def test_every_optimizer_under_the_users_error_state(name: str, raising: None) -> None:
    optimizer = optim.by_name(name)
    flat, state = np.ones(4, np.float32), optimizer.init(4)
    for step in range(1, 4):
        optimizer.update(flat, np.array([1e-38, 1e-25, 1e-10, 1], np.float32), state, step)
    with pytest.raises(FloatingPointError):
        np.float32(1e-30) * np.float32(1e-30)


@pytest.mark.parametrize("backend", ("reference", "serial"))
def test_training_and_prediction_under_the_users_error_state(
    backend: str, raising: None, tmp_path: Path, rng: np.random.Generator
) -> None:
    x, labels = far_apart(rng)
    layers = [
        nn.Conv2D(4, 3, padding="same", activation="relu"), nn.BatchNorm(), nn.MaxPool2D(2), nn.AvgPool2D(2, stride=1),
        nn.Dropout(0.3), nn.Flatten(), nn.Dense(16, activation="relu"), nn.Dense(3),
    ]  # fmt: skip
    model = nn.Sequential(layers, (6, 6, 1))
    history = pyconv.fit(
        model, x, labels, validation=(x, labels), epochs=2, batch_size=16, optimizer=optim.Adam(0.05), backend=backend,
        out=tmp_path / "run", progress="off",
    )  # fmt: skip
    assert math.isfinite(history[-1]["val_loss"])
    model.flat[...] *= 30
    assert model.predict_proba(x).min() == 0
    model.predict(x)
    pyconv.softmax_cross_entropy(np.array([[-200, 200]], np.float32), np.array([0]), backend=backend)
    pyconv.conv2d(x, np.full((3, 3, 1, 2), np.float32(1e-25)), backend=backend)
    pyconv.softmax_cross_entropy(np.full((3, 2), np.float32(3e38)), np.array([0, 1, 1]), backend=backend)


@pytest.mark.slow
def test_reports_under_the_users_error_state(raising: None, tmp_path: Path, rng: np.random.Generator) -> None:
    from pyconv import report

    x, labels = far_apart(rng)
    model = nn.Sequential([nn.Flatten(), nn.Dense(3)], (6, 6, 1))
    pyconv.fit(model, x, labels, validation=(x, labels), epochs=2, batch_size=16, out=tmp_path / "run", progress="off")
    assert report.main([str(tmp_path / "run"), "-o", str(tmp_path / "report")]) == 0


@pytest.mark.slow
def test_data_and_predictions_of_time_under_the_users_error_state(raising: None) -> None:
    from pyconv import costmodel, datasets

    datasets.load("faces", limit=64)
    found = costmodel.calibrate("serial", seconds=0.002, messages=False)
    assert costmodel.predict(nn.build("5-4-10-3"), batch=8, images=64, backend="serial", calibration=found) is not None


def test_diverging_under_the_users_error_state(raising: None, rng: np.random.Generator) -> None:
    x, labels = far_apart(rng)
    model = nn.Sequential([nn.Flatten(), nn.Dense(16), nn.Dense(3)], (6, 6, 1))
    with pytest.raises(DivergedError):
        pyconv.fit(model, x, labels, batch_size=16, optimizer=optim.SGD(1e30), epochs=3, progress="off")


@pytest.mark.slow
def test_workers_under_the_users_error_state(tmp_path: Path) -> None:
    """A worker imports the user's main module, and so runs the code at its top."""
    script = tmp_path / "program.py"
    script.write_text(
        "import numpy as np\nnp.seterr(all='raise')\nimport pyconv\nfrom pyconv import nn, optim\n"
        "if __name__ == '__main__':\n"
        "    rng = np.random.default_rng(0)\n"
        "    x = rng.standard_normal((64, 6, 6, 1)).astype(np.float32); x[::2] *= np.float32(1e-30)\n"
        "    model = nn.Sequential([nn.Flatten(), nn.Dense(8, activation='relu'), nn.Dense(3)], (6, 6, 1))\n"
        "    pyconv.fit(model, x, np.arange(64) % 3, validation=(x, np.arange(64) % 3), epochs=2, batch_size=8,\n"
        "               workers=2, update='easgd', optimizer=optim.Adam(0.01), progress='off')\n"
        "    print('trained')\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (0, "trained\n"), done.stderr
