"""Work on many pieces of a data set at once, with results in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from ..threads import default

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def in_threads(work: Callable[[Piece], Result], pieces: Iterable[Piece]) -> Iterator[tuple[Piece, Result]]:
    """Apply `work` to the pieces in as many threads as this process may use.

    NumPy and Pillow let other threads run while they compute, so that threads share the work out to the CPUs.

    Parameters
    ----------
    work : callable
        Of one piece; must not depend on what was done before.
    pieces : iterable
        Taken one after the other as they are needed, a few ahead.

    Yields
    ------
    piece, result
        In the order of the pieces. An error of the pieces or of `work` is raised in its turn, after the results before.
    """
    threads = default()
    waiting: deque[tuple[Piece, Future[Result]]] = deque()
    source = iter(pieces)
    failure: BaseException | None = None
    with ThreadPoolExecutor(threads, "pyconv-data") as pool:
        try:
            while True:
                while failure is None and len(waiting) < 2 * threads:
                    try:
                        piece = next(source)
                    except StopIteration:
                        break
                    except Exception as error:
                        failure = error
                        break
                    waiting.append((piece, pool.submit(work, piece)))
                if not waiting:
                    break
                piece, result = waiting.popleft()
                yield piece, result.result()
        finally:
            for _, result in waiting:
                result.cancel()
    if failure is not None:
        raise failure
