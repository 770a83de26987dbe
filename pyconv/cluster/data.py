"""Divides the training images among the ranks of a cluster: each rank reads its part itself, or rank 0 sends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import as_array
from ..datasets import Dataset, Split
from ..datasets.rows import Rows
from ..errors import DtypeError, InputError, ShapeError
from ..limits import amount, shortage
from ..values import choice
from .session import Session, session
from .shards import PIECE, Facts, Shard

#: The values of ``--shard``: each rank reads all data and keeps its part; rank 0 reads the data and sends each rank its
#: part; each rank keeps all data.
SHARD = ("read", "scatter", "off")


def shard(
    x: ArrayLike | None, labels: ArrayLike | None, *, how: str = "read", cluster: str = "auto"
) -> tuple[np.ndarray, np.ndarray]:
    """On the ranks of a cluster, keep only this rank's part of the training images, for :func:`pyconv.fit`.

    All ranks call it in the same way, and should then drop `x`. Between two epochs :func:`pyconv.fit` exchanges images,
    so that every rank holds those that its workers take: the results are the same to the bit.

    Parameters
    ----------
    x : (N, H, W, C) array of uint8, float32 or float64, or None
        All images, of which each rank copies its part: at best a map, as ``numpy.load("x.npy", mmap_mode="r")``.
    labels : (N,) array of integers, or None
        All ranks keep all labels.
    how : {"read", "scatter"}
        "read": all ranks give the same images and labels. "scatter": rank 0 gives them and sends each other rank its
        part; the arguments of the others are ignored, and may be None.
    cluster : {"auto", "mpi", "off"}
        As for :func:`pyconv.fit`.

    Returns
    -------
    x : Shard
        Takes the place of the images; in a single process, `x` itself.
    labels : (N,) int64 array

    Raises
    ------
    InputError
        If they are no images and labels, or there is no memory for them.
    """
    choice(how, "how", SHARD[:2])
    ranks = session(cluster)
    if ranks is None:
        return cast(np.ndarray, x), cast(np.ndarray, labels)
    with ranks.together():
        ranks.agree({"how": how})
        found, numbers = distribute(ranks, x, labels, how)
    return cast(np.ndarray, found), numbers


def distribute(ranks: Session, x: ArrayLike | None, labels: ArrayLike | None, how: str) -> tuple[Shard, np.ndarray]:
    """Give each rank its part of the images, and all labels; every rank calls it.

    Parameters
    ----------
    ranks : Session
    x, labels : (N, H, W, C) and (N,) array
        The whole data; for "scatter" at rank 0 only.
    how : {"read", "scatter"}

    Returns
    -------
    x : Shard
    labels : (N,) int64 ndarray

    Raises
    ------
    InputError
        If they are no images and labels; or for want of memory.
    """
    if how == "read" or ranks.leads:
        images, numbers = _checked(x, labels)
        facts = Facts.of(images, numbers)
    if how == "scatter":
        told = ranks.of_leader(lambda: facts.record())
        if not ranks.leads:
            facts = Facts(**{**told, "shape": tuple(told["shape"])})
            numbers = np.empty(facts.shape[0], np.int64)
    needed = -(-facts.shape[0] // ranks.size) * facts.image_bytes
    if (reason := shortage(needed)) is not None:
        raise InputError(
            f"this rank's part of the images needs {amount(needed)} of memory, and {reason}; or start more ranks on "
            "other nodes, or leave the images in their .npy with --shard off"
        )
    made = Shard(ranks.world, facts)
    if how == "read":
        for start, piece in _pieces(images, made, ranks.rank):
            made.fill(start, piece)
    elif ranks.leads:
        _send(ranks, made, images, numbers)
    else:
        ranks.world.swap([], [(0, numbers)])
        block = made.block(ranks.rank)
        step = _step(facts)
        for start in range(block.start, block.stop, step):
            piece = np.empty((min(step, block.stop - start), *facts.shape[1:]), facts.dtype)
            ranks.world.swap([], [(0, piece)])
            made.fill(start, piece)
    return made, numbers


def _send(ranks: Session, made: Shard, x: np.ndarray | Rows, labels: np.ndarray) -> None:
    """Rank 0: send each rank all labels and its images, a few at a time."""
    ranks.world.swap([(rank, labels) for rank in range(1, ranks.size)], [])
    for rank in range(ranks.size):
        for start, piece in _pieces(x, made, rank):
            if rank:
                ranks.world.swap([(rank, np.ascontiguousarray(piece))], [])
            else:
                made.fill(start, piece)


def _step(facts: Facts) -> int:
    """How many images are sent at a time."""
    return max(PIECE // facts.image_bytes, 1)


def _pieces(x: np.ndarray | Rows, made: Shard, rank: int) -> Iterator[tuple[int, np.ndarray]]:
    """The images of a rank's block, some at a time, each time with the number of the first."""
    block, step = made.block(rank), _step(made.facts)
    return ((start, x[start : min(start + step, block.stop)]) for start in range(block.start, block.stop, step))


def _checked(x: ArrayLike | None, labels: ArrayLike | None) -> tuple[np.ndarray | Rows, np.ndarray]:
    """Images and labels as arrays; :func:`pyconv.fit`, which knows the network, checks more."""
    if x is None or labels is None:
        raise InputError("there are no images or labels to share out: give them at rank 0, or with how='read' at all")
    images = x if isinstance(x, Rows) else as_array(x, "x")
    numbers = as_array(labels, "labels")
    if images.dtype.name not in ("uint8", "float32", "float64"):
        raise DtypeError(f"x has dtype {images.dtype}; convert the images to uint8, float32 or float64 first")
    if numbers.dtype.kind not in "iu" or numbers.shape != images.shape[:1]:
        raise ShapeError(
            f"labels must be an integer for each of {len(images)} images, not {numbers.dtype} of shape {numbers.shape}"
        )
    return images, np.ascontiguousarray(numbers, np.int64)


def load(ranks: Session, read: Callable[[], Dataset], how: str) -> Dataset:
    """A data set of which each rank holds a part of the training images; rank 0 alone has the others.

    Parameters
    ----------
    ranks : Session
    read : callable
        ``read()``: the whole data set.
    how : {"read", "scatter", "off"}

    Returns
    -------
    Dataset
        With "off" as it is read. Else `train` holds a :class:`~.shards.Shard`; the validation images of another rank
        than 0 are one image without a meaning, and its test images are None.
    """
    ranks.agree({"--shard": how})
    if how == "off":
        return read()
    found = read() if how == "read" or ranks.leads else None
    about: dict[str, Any] | None = None if found is None else {"name": found.name, "classes": found.classes}
    if how == "scatter":
        about = ranks.of_leader(lambda: about)
    assert about is not None
    given = (None, None) if found is None else found.train
    x, labels = distribute(ranks, given[0], given[1], how)
    del given
    train = Split(cast(np.ndarray, x), labels)
    if found is not None and ranks.leads:
        return Dataset(found.name, train, found.validation, found.classes, found.test, found.notes, found.brightness)
    nothing = Split(np.zeros((1, *x.shape[1:]), x.dtype), np.zeros(1, np.int64))
    return Dataset(about["name"], train, nothing, about["classes"])
