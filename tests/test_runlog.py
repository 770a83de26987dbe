"""A run's own log: it holds what the run and its workers said, whatever the program does with logging."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from parallel_runs import job, train

from pyconv import runlog

ROOT = Path(__file__).parent.parent

SCRIPT = """
import logging.config, sys
sys.path.insert(0, {tests!r})
import pyconv
from parallel_runs import Faults, data, small_model

class Schedule(Faults):
    def __call__(self, step, total):
        if step == 10:
            logging.config.dictConfig({{"version": 1}})  # in mid-run it closes the handlers that there are
        return super().__call__(step, total)

logging.config.dictConfig({{"version": 1}})  # in the workers too: they import this
logging.disable(logging.CRITICAL)
if __name__ == "__main__":
    faults = Schedule({{3: "SIGKILL", 12: "exception"}}, ".")
    pyconv.fit(small_model(), *data(), epochs=2, batch_size=5, workers=4, schedule=faults, out="run", progress="plain")
"""


class Kept(logging.Handler):
    """Keeps what is said to it."""

    def __init__(self, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@pytest.mark.slow
def test_log_txt_does_not_depend_on_the_programs_settings(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT.format(tests=str(ROOT / "tests")))
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
        text=True, timeout=100, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    log = (tmp_path / "run" / "log.txt").read_text()
    for text in (done.stdout, log):
        for words in ("data      240 training", "was killed by SIGKILL", "ValueError: planted", "epoch 2/2", "done: 2"):
            assert words in text
        assert re.search(r"\[worker \d\] Traceback", text)
    lines = [line.split(" MainProcess ")[-1] for line in log.splitlines() if line.startswith("20")]
    assert len(lines) == len(set(lines)), "each is there once"


@pytest.fixture
def mine() -> runlog.RunLogger:
    return runlog.logger("pyconv.test_runlog")


def test_the_runs_handlers_hear_what_the_program_silences(mine: runlog.RunLogger, caplog: Any) -> None:
    kept, severe = Kept(), Kept(logging.ERROR)
    mine.logger.disabled = True
    with runlog.heard_by(kept), runlog.heard_by(severe):
        mine.info("one of %d", 2)
        mine.debug("not for a run")
        mine.error("two")
    mine.warning("after the run")
    assert (kept.said, severe.said) == (["one of 2", "two"], ["two"])
    assert caplog.text == ""
    mine.logger.disabled = False


def test_the_standard_logger_hears_it_once_with_its_caller(mine: runlog.RunLogger, caplog: Any) -> None:
    with caplog.at_level(logging.DEBUG, "pyconv"), runlog.heard_by(Kept()):
        mine.info("here")
        mine.debug("and here")
        mine.log(logging.WARNING, "and %s", "there")
    assert [record.getMessage() for record in caplog.records] == ["here", "and here", "and there"]
    assert {record.funcName for record in caplog.records} == {"test_the_standard_logger_hears_it_once_with_its_caller"}


def test_what_a_run_shows_is_not_printed_again(tmp_path: Path) -> None:
    """Where the standard loggers have no handler, Python prints warnings to standard error."""
    program = """
import logging, sys
from pyconv import runlog
log = runlog.logger("pyconv.test")
with runlog.heard_by(logging.NullHandler()):
    log.warning("one")
    runlog.deliver(logging.LogRecord("pyconv.test", logging.WARNING, "", 0, "two", None, None))
    runlog.deliver(logging.LogRecord("mine", logging.WARNING, "", 0, "three", None, None))
log.warning("four")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=60, check=True,
    )  # fmt: skip
    assert done.stderr == "three\nfour\n"


def test_an_exception_is_kept_with_its_traceback(mine: runlog.RunLogger) -> None:
    class Formatted(Kept):
        def emit(self, record: logging.LogRecord) -> None:
            self.said.append(self.format(record))

    kept = Formatted()
    with runlog.heard_by(kept):
        try:
            raise ValueError("planted")
        except ValueError:
            mine.exception("it failed")
    assert kept.said[0].startswith("it failed\nTraceback") and kept.said[0].endswith("ValueError: planted")


class Unspeakable:
    """A worker can pickle it, but no process can unpickle it."""

    def __reduce__(self) -> Any:
        return _only_in_a_worker, ()


def _only_in_a_worker() -> None:
    raise ImportError("no such module here")


def _say(step: int, total: int) -> float:
    log = logging.getLogger("pyconv.test")
    if step == 3:
        log.warning("with a lock", extra={"lock": threading.Lock()})
        log.warning("%d is no number", "this")
        log.warning("with an object", extra={"thing": Unspeakable()})
        log.warning("and all is well again")
    return 1.0


def test_a_record_that_cannot_be_sent_is_said_all_the_same(caplog: Any) -> None:
    train(job(workers=2, epochs=1, schedule=_say))
    said = [record.getMessage() for record in caplog.records if "[worker 0]" in record.getMessage()]
    assert len([text for text in caplog.messages if "a worker's record cannot be read: ImportError" in text]) == 2
    assert said[0] == "[worker 0] with a lock"
    assert re.match(
        r"\[worker 0\] Logging error: TypeError: cannot pickle .*; message 'with a lock', from .*:\d+$", said[1]
    )
    assert re.match(r"\[worker 0\] Logging error: TypeError: .*; message '%d is no number', from .*", said[2])
    assert said[3:] == ["[worker 0] and all is well again"]
