"""Candidates in processes of their own, which take turns on command: nobody's idle threads take another's CPU.

Libraries keep threads that look for work for some time after a call. In one process, or in several that do not wait for
one another, they would slow down whoever comes next.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

#: Seconds that threads have to go to sleep after a turn.
PATIENCE_S = 5.0

#: Seconds between two looks at a process's threads; so many looks in a row must find all of them asleep.
LOOK_S, LOOKS = 0.001, 3

#: Makes a candidate, in its process: a function without arguments.
Make = Callable[..., Callable[[], Any]]


class Separate:
    """A candidate in a process of its own; between its turns the process sleeps.

    Parameters
    ----------
    make : callable
        Makes the candidate, a function without arguments, from the arguments; what it needs is imported there.
    arguments
        Whatever can be pickled.

    Raises
    ------
    ImportError
        If `make` does: the library is not installed.
    """

    def __init__(self, make: Make, *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, make, arguments), daemon=True)
        self._process.start()
        there.close()
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def __call__(self) -> Any:
        """Do the work once; gives its result."""
        return self._ask(None)

    def seconds(self, calls: int) -> float:
        """Mean seconds of a call, by the process's own clock, after one call that does not count."""
        mean: float = self._ask(calls)
        return mean

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(PATIENCE_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _ask(self, calls: int | None) -> Any:
        with suppress(ConnectionError):  # of a process that has ended: the answer says so
            self._pipe.send(calls)
        result = self._answer()
        self._wait_until_asleep()
        return result

    def _answer(self) -> Any:
        try:
            result, error = self._pipe.recv()
        except (EOFError, ConnectionError):
            self._process.join(PATIENCE_S)  # its pipe closes before its status is known
            raise RuntimeError(f"a candidate's process ended with status {self._process.exitcode}") from None
        if error is not None:
            raise error
        return result

    def _wait_until_asleep(self) -> None:
        """Wait until no thread of the process runs any more."""
        end, asleep = time.monotonic() + PATIENCE_S, 0
        while asleep < LOOKS:
            asleep = 0 if any(state not in "SI" for state in thread_states(self._process.pid)) else asleep + 1
            if time.monotonic() > end:
                raise RuntimeError(f"threads of a candidate still run {PATIENCE_S:g} s after its turn")
            time.sleep(LOOK_S)


def thread_states(pid: int | None) -> Iterator[str]:
    """The state of each thread of a process, as Linux has it: "R" runs, "S" sleeps. None on other systems."""
    for each in Path(f"/proc/{pid}/task").glob("*/stat"):
        try:
            yield each.read_text().rpartition(")")[2].split()[0]
        except (OSError, IndexError):  # it has ended
            continue


@contextmanager
def separated(makers: Mapping[str, tuple[Make, tuple[Any, ...]]]) -> Iterator[dict[str, Separate]]:
    """Candidates by name, each in a process of its own until the end of the block; what is not installed is left out.

    Parameters
    ----------
    makers : mapping of str to (callable, tuple)
        Of each candidate: what makes it, and the arguments.
    """
    with ExitStack() as stack:
        made = {}
        for name, (make, arguments) in makers.items():
            try:
                made[name] = Separate(make, *arguments)
            except ImportError:
                continue
            stack.callback(made[name].close)
        yield made


def _serve(pipe: Any, make: Make, arguments: tuple[Any, ...]) -> None:
    """A candidate's process: answers each request with a result and None, or None and an error."""
    try:
        call = make(*arguments)
    except Exception as error:  # it belongs to who asked
        pipe.send((None, _plain(error)))
        return
    pipe.send((None, None))
    while True:
        try:
            calls = pipe.recv()
        except EOFError:  # the other end is closed
            return
        try:
            pipe.send((call() if calls is None else _mean(call, calls), None))
        except Exception as error:
            pipe.send((None, _plain(error)))


def _mean(call: Callable[[], Any], calls: int) -> float:
    call()
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def _plain(error: Exception) -> Exception:
    """An error that can be sent: of a class that every process knows."""
    text = f"{type(error).__name__}: {error}"
    return ImportError(text) if isinstance(error, ImportError) else RuntimeError(text)
