"""Blocks of work on threads. How work is cut follows from the shapes, so the bits do not depend on the threads."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ...arithmetic import own

#: Bytes of a block: it stays in a core's L2 cache from transform to transform.
BLOCK_BYTES = 1 << 18

Rows = tuple[slice, slice]


def blocks(count: int, nbytes: int) -> list[slice]:
    """`count` things of `nbytes` bytes each, as slices of about BLOCK_BYTES."""
    size = max(BLOCK_BYTES // max(nbytes, 1), 1)
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]


def blocks_of_rows(images: int, rows: int, nbytes: int) -> list[Rows]:
    """Blocks of rows of `nbytes` bytes each: some whole images, or some rows of one."""
    if rows * nbytes <= BLOCK_BYTES:
        return [(some, slice(0, rows)) for some in blocks(images, rows * nbytes)]
    inside = blocks(rows, nbytes)
    return [(slice(image, image + 1), some) for image in range(images) for some in inside]


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "pyconv-fft")


def each(work: Callable[[Any], None], parts: Sequence[Any], threads: int) -> None:
    """Do `work` on every part, in pyconv's own arithmetic, on up to `threads` threads."""
    work = own(work)
    threads = min(threads, len(parts))
    if threads <= 1:
        for part in parts:
            work(part)
        return
    for _ in _pool(threads).map(work, parts):
        pass
