"""The order of an epoch's examples: random, but with the classes in their proportions in every part of it.

The paper's Algorithm 4 shuffles so that every worker's shard is representative of the whole. Here every run of
consecutive places in the order is representative: every mini-batch and every step of all workers has the classes in
nearly the proportions of the data.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arrays import as_array
from ..errors import ShapeError
from ..values import integer


def stratified_order(labels: ArrayLike, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """All example indices in a random order, in which every window has nearly the class proportions of the whole.

    The examples of class c are shuffled. The i-th of its n_c examples gets the place (i + u_c) / n_c, with one random
    u_c in [0, 1) for the class; then all are sorted by place. So a window of m consecutive places holds m n_c / N
    examples of class c, up to a rounding that does not grow with m.

    Parameters
    ----------
    labels : array_like, shape (N,), integers
        Class of every example.
    seed, epoch : int
        Each pair gives a different order; both at least 0.

    Returns
    -------
    ndarray, shape (N,), int64
        A permutation of 0 … N - 1.

    References
    ----------
    Algorithm 4 of the paper: "shuffle so that every node's shard is representative".
    """
    labels = as_array(labels, "labels")
    seed, epoch = integer(seed, "seed", minimum=0), integer(epoch, "epoch", minimum=0)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ShapeError(
            f"labels must be a one-dimensional array of integers, not {labels.dtype} of shape {labels.shape}"
        )
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch])))
    places = np.empty(len(labels))
    # A stable sort by class makes each class's examples one block, in linear time for any number of classes.
    by_class = np.argsort(labels, kind="stable")
    ends = np.flatnonzero(np.diff(labels[by_class])) + 1
    for block in np.split(by_class, ends):
        places[rng.permutation(block)] = (np.arange(len(block)) + rng.random()) / max(len(block), 1)
    return np.argsort(places, kind="stable")
