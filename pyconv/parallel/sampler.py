"""Which examples are in which mini-batch: one stratified order for each (seed, epoch), divided among the workers."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..datasets.order import stratified_order
from ..errors import InputError
from ..threads import counted
from ..values import integer


def check_shares(examples: int, batch_size: int, workers: int, least: int) -> None:
    """Check that an epoch can be divided so that no share of a step is too small for the network, unless it is empty.

    Parameters
    ----------
    examples : int
        Examples in the epoch.
    batch_size : int
        Examples of one worker in one step.
    workers : int
    least : int
        The fewest examples that a batch may have: :attr:`pyconv.nn.Sequential.least_batch`.

    Raises
    ------
    InputError
        If it cannot; the message names a batch size, or a number of workers, that works.
    """
    examples, batch_size, workers, least = _counts(examples, batch_size, workers, least)
    if _splits(examples, batch_size, workers, least):
        return
    several = f" of each of {workers} workers" if workers > 1 else ""
    larger = range(batch_size + 1, 2 * least)  # the last of them always works, if there are enough images
    better = next((size for size in larger if _splits(examples, size, workers, least)), None)
    most = 0 if better is None else examples // better
    advice = f"take batch_size {better}" if most else "give more images"
    if 0 < most < workers:
        advice += f" and at most {counted(most, 'worker')}"
    raise InputError(
        f"batch_size {batch_size}{several} does not split {examples} training images into shares of at least {least}, "
        f"which this network's BatchNorm needs; {advice}"
    )


def smallest_batch(examples: int, batch_size: int, workers: int, least: int) -> int:
    """The smallest batch size, from `batch_size` on, with which :func:`check_shares` is satisfied.

    Parameters
    ----------
    examples, batch_size, workers, least : int
        As in :func:`check_shares`.

    Returns
    -------
    int
        `batch_size` itself if there is none.
    """
    examples, batch_size, workers, least = _counts(examples, batch_size, workers, least)
    sizes = range(batch_size, max(2 * least, batch_size + 1))
    return next((size for size in sizes if _splits(examples, size, workers, least)), batch_size)


def _counts(*values: int) -> list[int]:
    names = ("examples", "batch_size", "workers", "least")
    return [integer(value, name, minimum=name != "examples") for value, name in zip(values, names)]


def _steps(examples: int, whole: int) -> tuple[int, int]:
    """The number of steps of an epoch, with `whole` examples each, and the examples of the last one."""
    steps = -(-examples // whole)
    return steps, examples - (steps - 1) * whole


def _sharing(count: int, workers: int, least: int) -> int:
    """How many workers can share `count` examples so that each has at least `least`."""
    return workers if least == 1 or count >= least * workers else max(count // least, 1)


def _splits(examples: int, batch_size: int, workers: int, least: int) -> bool:
    """Whether every share of the epoch is empty or holds `least` to `batch_size` examples."""
    if least == 1:
        return True
    steps, last = _steps(examples, workers * batch_size)
    moved = max(least - last, 0)
    if steps > 1 and workers * batch_size - moved < workers * least:  # the step before the last becomes too small
        return False
    last += moved
    return examples >= last and -(-last // _sharing(last, workers, least)) <= batch_size


class EpochOrder:
    """The mini-batches of one epoch: every example exactly once, whatever the number of workers.

    Global step s takes ``W * B`` consecutive places of the stratified order, and worker w the w-th block of B of them.
    The order itself depends on neither W nor B. So W workers with batch size B see, step by step, the same examples as
    one worker with batch size ``W * B``. The last, short step is divided as evenly as possible.

    If a share of the last step would hold fewer than `least` examples, fewer workers share that step. If the step has
    fewer than `least` in all, the step before it gives up some of its examples.

    Parameters
    ----------
    labels : array_like, shape (N,), integers
        Class of every example.
    seed, epoch : int
        Each pair gives a different order.
    workers : int
        W, at least 1.
    batch_size : int
        B, examples of one worker in one step, at least 1.
    least : int
        Fewest examples of a share that is not empty: :attr:`pyconv.nn.Sequential.least_batch`.

    Attributes
    ----------
    order : ndarray, shape (N,), int64
        All indices, in order of use.
    steps : int
        Global steps in the epoch, ``ceil(N / (W * B))``.

    Raises
    ------
    InputError
        If the examples cannot be divided so; the message names a batch size that works.
    """

    def __init__(
        self, labels: ArrayLike, *, seed: int, epoch: int, workers: int, batch_size: int, least: int = 1
    ) -> None:
        workers, batch_size, least = (
            integer(value, name, minimum=1)
            for value, name in ((workers, "workers"), (batch_size, "batch_size"), (least, "least"))
        )
        self.order = stratified_order(labels, seed=seed, epoch=epoch)
        if not len(self.order):
            raise InputError("there are no examples to train on: labels is empty")
        check_shares(len(self.order), batch_size, workers, least)
        self.workers = workers
        self.batch_size = batch_size
        self.steps, last = _steps(len(self.order), workers * batch_size)
        self._moved = max(least - last, 0)  # examples that move from the step before the last to the last
        self._sharing = _sharing(last + self._moved, workers, least)  # workers that have a share of the last step

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
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} is not one of the {self.steps} steps of the epoch")
        if step == self.steps - 1:
            return len(self.order) - self._start(step)
        return self._start(step + 1) - self._start(step)

    def _start(self, step: int) -> int:
        """The step's first place in the order."""
        return step * self.workers * self.batch_size - (self._moved if step == self.steps - 1 else 0)

    def span(self, step: int, worker: int) -> tuple[int, int]:
        """First and last place of a worker's share, counted from the beginning of the global step.

        The first number is the argument `first` of ``model.loss_and_gradient``: with it an example's random numbers do
        not depend on how the step is divided. In the last step of an epoch a share can be empty.

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
        shares = self._sharing if step == self.steps - 1 else self.workers
        return count * min(worker, shares) // shares, count * min(worker + 1, shares) // shares

    def whole(self, step: int) -> NDArray[np.int64]:
        """Indices of the examples of a global step, over all workers.

        Parameters
        ----------
        step : int
            From 0.

        Returns
        -------
        (n,) ndarray of int64

        Raises
        ------
        IndexError
            If there is no such step.
        """
        count, start = self.count(step), self._start(step)
        return self.order[start : start + count]

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
        start = self._start(step)
        return self.order[start + first : start + last]
