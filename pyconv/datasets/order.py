"""The order of an epoch's examples: random, with the classes in their proportions at every scale.

The paper's Algorithm 4 shuffles so that every worker's shard is representative of the whole. Here this holds at
every scale at once: any run of consecutive places in the order, so every mini-batch and every effective batch, has
the classes in nearly the proportions of the data.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arrays import as_array
from ..errors import ShapeError
from ..values import integer


def stratified_order(labels: ArrayLike, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """All example indices in a random order in which every window has nearly the classes of the whole.

    The examples of class c are shuffled, the i-th of its n_c is given the place (i + u_c) / n_c with one random u_c
    in [0, 1), and all are sorted by place. A window of m consecutive places then holds m n_c / N examples of class c
    up to a rounding that does not grow with m.

    Parameters
    ----------
    labels : array_like, shape (N,), integers
        Class of every example.
    seed, epoch : int
        Each pair gives another order; both at least 0.

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
    # A stable sort by class gives each class's examples as one block, in linear passes however many classes there are.
    by_class = np.argsort(labels, kind="stable")
    ends = np.flatnonzero(np.diff(labels[by_class])) + 1
    for block in np.split(by_class, ends):
        places[rng.permutation(block)] = (np.arange(len(block)) + rng.random()) / max(len(block), 1)
    return np.argsort(places, kind="stable")
