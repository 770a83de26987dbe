"""Pictures look the same whatever the environment asks of matplotlib; a picture that fails does not harm a run."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pyconv
from pyconv import nn, plotting
from pyconv.reporting import Picture, Section, drawing, write

DRAWING = """
import sys
from pathlib import Path
import test_plotting
test_plotting.draw_all(Path(sys.argv[1]))
import matplotlib
print(matplotlib.rcParams["text.usetex"], matplotlib.rcParams._get("backend"))
"""


def fit(out: Path, epochs: int = 1) -> None:
    x, y = np.random.default_rng(0).normal(size=(8, 3)), np.arange(8) % 2
    model = nn.Sequential([nn.Dense(2)], input_shape=(3,))
    pyconv.fit(model, x, y, epochs=epochs, batch_size=4, out=out, resume=True, progress="off", validation=(x, y))


def draw_all(place: Path) -> None:
    """A run's curves, whose text would go through LaTeX, and a report's picture, which shows the settings' fonts."""
    fit(place / "run")

    def draw() -> Any:
        figure, (axes,) = drawing.figure()
        axes.set(title="$x$ and words", xlabel="a_b")
        return figure

    write(place / "report", "title", [Section("one", [Picture("one", draw, "caption")])])


@pytest.mark.slow
def test_settings_of_the_environment_change_no_picture(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text(
        "text.usetex: True\nfigure.facecolor: red\nsavefig.format: svg\nfont.size: 30\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "MPLBACKEND": "module://no.such.backend"}
    pictures = {}
    for name, settings in (("plain", {}), ("theirs", {"MATPLOTLIBRC": str(tmp_path)}), ("bad", {"MPLBACKEND": "nope"})):
        made = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", DRAWING, str(tmp_path / name)],
                              env={**environment, **settings}, capture_output=True, text=True, check=False)  # fmt: skip
        assert made.returncode == 0, made.stderr
        assert made.stderr == ""
        kept = "no.such.backend" in made.stdout or name == "bad"
        assert kept and made.stdout.startswith(str(name == "theirs")), "the user's settings are as they were"
        pictures[name] = [
            (tmp_path / name / "report" / "pictures" / f"one.{form}").read_bytes() for form in ("svg", "png")
        ]
        assert (tmp_path / name / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert pictures["plain"] == pictures["theirs"] == pictures["bad"]
    assert len(pictures["plain"][1]) > 1000


def test_a_picture_that_fails_is_a_warning_and_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any, **__: Any) -> bytes:
        raise RuntimeError("latex could not be found\nand many lines of log")

    with monkeypatch.context() as broken, caplog.at_level(logging.WARNING):
        broken.setattr("pyconv.loop.curves.content", fails)
        broken.setattr("pyconv.reporting.page.content", fails)
        draw_all(tmp_path)
    run = tmp_path / "run"
    assert [record.getMessage() for record in caplog.records] == [
        f"{run / 'curves.png'}: cannot be drawn: RuntimeError: latex could not be found",
        "the picture one cannot be drawn: RuntimeError: latex could not be found",
    ]
    assert not (run / "curves.png").exists() and (run / "metrics.jsonl").exists()
    assert (tmp_path / "report" / "report.md").read_text() == "# title\n\n## one\n\n*caption*\n"
    html = (tmp_path / "report" / "report.html").read_text()
    assert "<figcaption>caption</figcaption>" in html and "<img" not in html
    before = (run / "model.safetensors").read_bytes()
    fit(run)  # only the picture is left to do
    assert (run / "curves.png").exists() and (run / "model.safetensors").read_bytes() == before


def test_a_users_own_settings_stay() -> None:
    import matplotlib

    with matplotlib.rc_context({"font.size": 31, "text.usetex": True}):
        with plotting.own_style():
            assert matplotlib.rcParams["font.size"] != 31 and not matplotlib.rcParams["text.usetex"]
        assert matplotlib.rcParams["font.size"] == 31 and matplotlib.rcParams["text.usetex"]
