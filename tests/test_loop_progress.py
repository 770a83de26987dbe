"""Progress objects: what they write, and that no stream can stop a run."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
import types
from collections.abc import Callable

import pytest

from pyconv import runlog
from pyconv.errors import UnknownNameError
from pyconv.loop import progress
from pyconv.loop.evaluation import merge_statistics
from pyconv.loop.progress import Plain, Progress, Rich, choose


def steps(shown: Progress, epochs: int = 2, steps_per_epoch: int = 5) -> None:
    """The calls that a run makes to its progress object."""
    log = runlog.logger("pyconv")
    with shown.shown():
        log.info("data      some")
        shown.begin(epochs=epochs, steps_per_epoch=steps_per_epoch, images=epochs * steps_per_epoch * 10)
        for epoch in range(epochs):
            for step in range(steps_per_epoch):
                shown.step(epoch=epoch + 1, step=step + 1, images=10, loss=1 / (step + 1), images_per_s=123.4)
            log.info("epoch done")
        log.warning("a worker is slow")


class Terminal(io.StringIO):
    """A terminal that keeps what is written to it."""

    def isatty(self) -> bool:
        return True


def test_plain_lines() -> None:
    stream = io.StringIO()
    steps(Plain(stream, interval=0))
    lines = stream.getvalue().splitlines()
    assert lines[0] == "data      some"
    assert re.fullmatch(r"  epoch 1/2  step 3/5  loss 0\.3333  123 images/s  ETA \d+:\d\d", lines[3])
    assert lines[1].endswith("ETA ?")
    assert lines[-1] == "warning: a worker is slow"
    assert "\x1b" not in stream.getvalue()
    few = io.StringIO()
    steps(Plain(few, interval=1000))
    assert few.getvalue().splitlines() == ["data      some", "epoch done", "epoch done", "warning: a worker is slow"]


def test_a_line_of_ranks_has_their_number_and_what_is_not_hidden() -> None:
    stream = io.StringIO()
    show = Plain(stream, interval=0)
    show.begin(epochs=2, steps_per_epoch=5, images=100)
    show.ranks, show.waiting = 4, 0.068
    show.step(epoch=1, step=3, images=10, loss=1 / 3, images_per_s=123.4)
    assert re.match(r"  epoch 1/2  step 3/5  loss 0\.3333  4 ranks  123 images/s  7 % waiting  ETA ", stream.getvalue())


def test_a_continued_run_knows_its_time_from_the_start() -> None:
    stream = Terminal()
    for shown in (Progress(), Plain(io.StringIO()), Rich(stream)):
        assert shown.eta() == "?"
        with shown.shown():
            shown.begin(epochs=4, steps_per_epoch=5, images=300, known_images=100, known_s=40.0)
            assert shown.eta() == "2:00"
            shown.step(epoch=2, step=1, images=50, loss=1.0, images_per_s=1.0)
            assert shown.eta() == "1:40"  # the first step does not show how long steps take
            shown.step(epoch=2, step=2, images=50, loss=1.0, images_per_s=1.0)
            assert shown.eta() == "0:40"  # 200 images, at half the known 40 s for 100: the new half took no time
    assert "ETA 2:00" in stream.getvalue()


def test_the_live_line() -> None:
    stream = Terminal()
    steps(Rich(stream))
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())
    assert "data      some" in text and "warning: a worker is slow" in text
    assert "\x1b[?25h" in stream.getvalue()


def test_off_shows_warnings_only(capsys: pytest.CaptureFixture[str]) -> None:
    steps(Progress())
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "warning: a worker is slow\n"


def closed() -> io.TextIOWrapper:
    stream = io.TextIOWrapper(io.BytesIO())
    stream.close()
    return stream


def without_reader() -> io.TextIOWrapper:
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w", buffering=1)


@pytest.mark.parametrize("make", [closed, without_reader])
@pytest.mark.parametrize("kind", [Rich, lambda stream: Plain(stream, interval=0)], ids=["rich", "plain"])
def test_a_reader_that_is_gone_stops_nothing(
    make: Callable[[], io.TextIOWrapper],
    kind: Callable[[io.TextIOWrapper], Progress],
    capsys: pytest.CaptureFixture[str],
) -> None:
    stream = make()
    steps(kind(stream))
    assert capsys.readouterr().err == ""
    if not stream.closed:
        with pytest.raises(BrokenPipeError):
            stream.close()


def test_characters_that_the_stream_lacks() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    progress.print_to(stream, "48×48")
    assert raw.getvalue() == b"48?48\n"


def test_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    shown = Progress()
    shown.begin(epochs=1, steps_per_epoch=10, images=1000)
    assert shown.eta() == "?"
    now[0] += 500  # 16 workers are starting
    shown.step(epoch=1, step=1, images=100, loss=1.0, images_per_s=0.2)
    assert shown.eta() == "?"
    now[0] += 30
    shown.step(epoch=1, step=2, images=100, loss=1.0, images_per_s=0.4)
    assert shown.eta() == "4:00"
    now[0] += 970
    assert shown.eta() == "2:13:20"


def test_choosing(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Progress()
    assert choose(mine) is mine
    assert type(choose("off")) is Progress
    assert isinstance(choose("auto"), Plain)  # pytest's standard output is no terminal
    monkeypatch.setattr(progress.sys, "stdout", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(choose("auto"), Rich)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(choose("auto"), Plain)
    with pytest.raises(UnknownNameError, match="known: auto, rich, plain, off"):
        choose("loud")


def test_loggers_are_left_as_they_were() -> None:
    logger = logging.getLogger("pyconv")
    before = (logger.level, list(logger.handlers))
    steps(Plain(io.StringIO()))
    assert (logger.level, list(logger.handlers)) == before


def test_the_programs_level_is_the_displays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("pyconv"), "level", logging.WARNING)
    stream = io.StringIO()
    steps(Plain(stream))
    assert stream.getvalue() == "warning: a worker is slow\n"


def test_figures_of_two_stretches_of_an_epoch() -> None:
    first = {"compute_s": 1.0, "staleness_mean": 2.0, "staleness_max": 3, "staleness": {"0": 4, "3": 1}, "waits": [1]}
    second = {"compute_s": 0.5, "staleness_mean": 5.0, "staleness_max": 9, "staleness": {"0": 1, "9": 2},
              "waits": [2, 3], "restarts": 1}  # fmt: skip
    assert merge_statistics(first, 30, second, 10) == {
        "compute_s": 1.5, "staleness_mean": 2.75, "staleness_max": 9, "staleness": {"0": 5, "3": 1, "9": 2},
        "waits": [3, 3], "restarts": 1,
    }  # fmt: skip
    assert merge_statistics({}, 0, second, 10) == second


def test_a_notebook_has_one_line_that_changes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    shown: list[str] = []

    class Handle:
        def update(self, content: dict, raw: bool) -> None:
            assert raw
            shown.append(content["text/plain"])

    def display(content: dict, raw: bool, display_id: bool) -> Handle:
        assert raw and display_id and not shown
        shown.append(content["text/plain"])
        return Handle()

    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=display))
    bar = choose("auto")
    assert isinstance(bar, progress.Notebook) and isinstance(choose("rich"), progress.Notebook)
    bar._between = 1e9  # the first step and the last of each epoch
    steps(bar)
    assert [re.sub("[█░]+", "=", line) for line in shown] == [
        "epoch 1/2 = step 1/5  loss 1.0000  123 images/s  ETA ?",
        "epoch 1/2 = step 5/5  loss 0.2000  123 images/s  ETA 0:00",
        "epoch 2/2 = step 5/5  loss 0.2000  123 images/s  ETA 0:00",
    ]
    assert "█" * 24 in shown[-1] and "░" in shown[0]
    assert capsys.readouterr().out.splitlines() == [
        "data      some",
        "epoch done",
        "epoch done",
        "warning: a worker is slow",
    ]
    shell.kernel = None  # IPython at a prompt
    assert not isinstance(choose("auto"), progress.Notebook)
