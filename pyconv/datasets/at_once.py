"""Applies a function to many pieces of a data set in threads; results come in the order of the pieces."""

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

    NumPy and Pillow release Python's lock while they compute, so the threads use all CPUs.

    Parameters
    ----------
    work : callable
        Called with one piece; its result must not depend on other pieces.
    pieces : iterable
        Taken one by one as needed, a few ahead.

    Yields
    ------
    piece, result
        In the order of the pieces. If taking or processing a piece raises an error, it comes after the earlier results.
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
