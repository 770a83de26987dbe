"""faces(): synthetic faces, the data set with which pyconv can always train.

They are drawings, not photographs. They share the size, the seven expressions and their order with FER2013, and nothing
else. An accuracy on them says that a network and its training work, not how well they would recognise people.
"""

from __future__ import annotations

import sys
from functools import lru_cache

import numpy as np

from ... import runlog
from ...arithmetic import quiet
from ...errors import InputError
from ...values import integer
from ..at_once import in_threads
from ..fer2013 import CLASSES
from ..room import check_room
from ..types import Source, Split
from .draw import SIDE, draw
from .expressions import actions
from .person import person

_log = runlog.logger("pyconv")

TRAINING = 6_000
"""Faces in the training split of ``load("faces")``."""

VALIDATION = 1_400
"""Faces in the validation split of ``load("faces")``, 200 of each expression."""

_BLOCK = 252  # faces that one random generator draws: a multiple of seven
_AT_ONCE = 63  # faces drawn together: their pictures fit in a cache


def faces(n: int, seed: int = 0) -> Split:
    """Draw `n` faces.

    Each run of seven faces shows the seven expressions in random order. The first ``m`` of `n` faces are the same that
    ``faces(m, seed)`` draws.

    Parameters
    ----------
    n : int
        At least 1.
    seed : int
        At least 0; another seed gives other faces.

    Returns
    -------
    Split
        Images of shape (n, 48, 48, 1), uint8; labels as FER2013 numbers expressions, 0 (Angry) to 6 (Neutral).

    Raises
    ------
    InputError
        If `n` or `seed` is out of range.
    DataError
        If there is too little memory for so many.
    """
    most = sys.maxsize // (8 * SIDE * SIDE)
    return _drawn(integer(n, "the number of faces", minimum=1, maximum=most), integer(seed, "seed", minimum=0), 0)


def faces_source(*, limit: int | None, seed: int) -> Source:
    """Draw the splits of ``load("faces")``, with only as many training faces as `limit` says.

    The last set is kept in memory, and copied if it is asked for again.
    """
    n = TRAINING if limit is None else min(limit, TRAINING)
    if n < len(CLASSES):
        raise InputError(f"limit {n} is too small for {len(CLASSES)} classes; keep at least one image of each")
    train, validation = (Split(split.x.copy(), split.y.copy()) for split in _splits(n, seed))
    return Source("faces", train, list(CLASSES), validation)


@lru_cache(maxsize=2)
def _splits(n: int, seed: int) -> tuple[Split, Split]:
    """Training and validation faces; the caller must not change them."""
    _log.info("drawing %s faces", f"{n + VALIDATION:,}")
    return _drawn(n, seed, 0), _drawn(VALIDATION, seed, 1)


@quiet
def _drawn(n: int, seed: int, stream: int) -> Split:
    """Draw `n` faces from one of the seed's random streams."""
    check_room("faces", f"{n:,} images", n * SIDE * SIDE)
    x = np.empty((n, SIDE, SIDE), np.uint8)
    y = np.empty(n, np.int64)
    for (start, stop), split in in_threads(
        lambda span: _block(span[1] - span[0], seed, stream, span[0] // _BLOCK),
        [(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK)],
    ):
        x[start:stop], y[start:stop] = split
    return Split(x[..., None], y)


def _block(count: int, seed: int, stream: int, block: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `count` faces of a block, and their labels."""
    x = np.empty((count, SIDE, SIDE), np.uint8)
    rng = np.random.default_rng([seed, stream, block])
    sevens = np.tile(np.arange(len(CLASSES)), (_BLOCK // len(CLASSES), 1))
    labels = rng.permuted(sevens, axis=1).reshape(-1)
    traits, moves = person(_BLOCK, rng), actions(labels, rng)
    for first in range(0, count, _AT_ONCE):
        some = slice(first, min(first + _AT_ONCE, count))
        noise = rng.standard_normal((some.stop - first, SIDE, SIDE), np.float32)
        x[some] = draw(
            {name: value[some] for name, value in traits.items()},
            {name: value[some] for name, value in moves.items()},
            noise,
        )
    return x, labels[:count]
