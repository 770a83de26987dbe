"""Candidates in processes of their own: each has its turn alone, and what it raises reaches who asked."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

#: Leaves a thread behind that looks for work for some time, as libraries do.
RESTLESS = """
import threading, time
def restless():
    def look():
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            pass
    threading.Thread(target=look).start()
    return 7
call = restless
"""


@pytest.fixture
def separate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module, imported as the benchmarks import it."""
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "bench")
    yield importlib.import_module("harness.separate")
    for name in [name for name in sys.modules if name.partition(".")[0] == "harness"]:
        monkeypatch.delitem(sys.modules, name)


def test_a_candidate_answers_and_tells_its_time(separate: Any) -> None:
    with separate.separated({"power": (functools.partial, (pow, 2, 5))}) as made:
        assert made["power"]() == 32
        assert 0 < made["power"].seconds(100) < 0.1
        process = made["power"]._process
        assert process.is_alive()
    assert process.exitcode == 0


def test_what_is_not_installed_is_left_out(separate: Any) -> None:
    makers = {"none": (importlib.import_module, ("no_such_module",)), "power": (functools.partial, (pow, 2, 5))}
    with separate.separated(makers) as made:
        assert list(made) == ["power"]


def test_an_error_reaches_who_asked(separate: Any) -> None:
    with (
        separate.separated({"wrong": (functools.partial, (divmod, 1, 0))}) as made,
        pytest.raises(RuntimeError, match="ZeroDivisionError"),
    ):
        made["wrong"]()
    with (
        pytest.raises(RuntimeError, match="status 3"),
        separate.separated({"gone": (eval, ("__import__('os')._exit(3)",))}),
    ):
        pass


def test_a_process_that_ended_between_turns_is_named(separate: Any) -> None:
    with separate.separated({"gone": (eval, ("lambda: __import__('os')._exit(4)",))}) as made:
        for _ in range(2):
            with pytest.raises(RuntimeError, match="status 4"):
                made["gone"]()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_turn_ends_when_all_threads_sleep(separate: Any) -> None:
    scope = f"(lambda space: (exec({RESTLESS!r}, space), space['call'])[1])({{}})"
    with separate.separated({"restless": (eval, (scope,))}) as made:
        assert made["restless"]() == 7
        assert set(separate.thread_states(made["restless"]._process.pid)) <= set("SI")
