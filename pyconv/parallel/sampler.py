"""Which examples are in which mini-batch: one stratified order per (seed, epoch), dealt out to the workers.

The paper's Algorithm 4 shuffles so that every worker's shard is representative of the whole. Here this holds at
every scale at once: any run of consecutive places in the order, so every mini-batch and every effective batch, has
the classes in nearly the proportions of the data.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError, ShapeError


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
    labels = np.asarray(labels)
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


class EpochOrder:
    """The mini-batches of one epoch: every example exactly once, whatever the number of workers.

    Global step s takes ``W * B`` consecutive places of the stratified order; worker w takes the w-th sub-block of B
    of them. The order itself depends on neither W nor B, so that W workers of batch B see, step by step, the same
    examples as one worker of batch ``W * B``. The last, short step is split as evenly as possible.

    Parameters
    ----------
    labels : array_like, shape (N,), integers
        Class of every example.
    seed, epoch : int
        Each pair gives another order.
    workers : int
        W, at least 1.
    batch_size : int
        B, examples of one worker in one step, at least 1.

    Attributes
    ----------
    order : ndarray, shape (N,), int64
        All indices, in order of use.
    steps : int
        Global steps in the epoch, ``ceil(N / (W * B))``.
    """

    def __init__(self, labels: ArrayLike, *, seed: int, epoch: int, workers: int, batch_size: int) -> None:
        if workers < 1 or batch_size < 1:
            raise InputError(f"workers and batch_size must be at least 1, not {workers} and {batch_size}")
        self.order = stratified_order(labels, seed=seed, epoch=epoch)
        if not len(self.order):
            raise InputError("there are no examples to train on: labels is empty")
        self.workers = workers
        self.batch_size = batch_size
        self.steps = -(-len(self.order) // (workers * batch_size))

    def count(self, step: int) -> int:
        """Examples of a global step over all workers.

        Parameters
        ----------
        step : int
            From 0.

        Returns
        -------
        int

        Raises
        ------
        IndexError
            If there is no such step.
        """
        whole = self.workers * self.batch_size
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} is not one of the {self.steps} steps of the epoch")
        return min(whole, len(self.order) - step * whole)

    def span(self, step: int, worker: int) -> tuple[int, int]:
        """Where in the global step the worker's share begins and ends.

        The first number is what `first` of ``model.loss_and_gradient`` expects: with it the randomness of an example
        does not depend on the split over workers. In the last step of an epoch a share can be empty.

        Parameters
        ----------
        step, worker : int
            From 0.

        Returns
        -------
        (int, int)
            In examples.

        Raises
        ------
        IndexError
            If there is no such step or worker.
        """
        if not 0 <= worker < self.workers:
            raise IndexError(f"worker {worker} is not one of the {self.workers} workers")
        count = self.count(step)
        return count * worker // self.workers, count * (worker + 1) // self.workers

    def batch(self, step: int, worker: int = 0) -> NDArray[np.int64]:
        """Indices of the examples that a worker takes in a global step.

        Parameters
        ----------
        step, worker : int
            From 0.

        Returns
        -------
        (n,) ndarray of int64
            With 0 <= n <= B.

        Raises
        ------
        IndexError
            If there is no such step or worker.
        """
        first, last = self.span(step, worker)
        start = step * self.workers * self.batch_size
        return self.order[start + first : start + last]
