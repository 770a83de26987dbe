"""Programme: a pass in inference as few calls: runs of steps that the backend repeats by itself, and others between.

The steps are those of the layer-by-layer pass, and so are the bits. While the pass runs for the first time, the
backend records what the steps ask of it (:meth:`pyconv.backends.Backend.programme`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pyconv.errors import NotRecorded

from .layer import Step
from .plan import Forward

#: Computes one step of a pass, with the operations of ``pass.run.ops``.
Compute = Callable[[Any, Forward], None]


def is_recorded(step: Step) -> bool:
    """Whether a step's own class says that its operations may be repeated; a class derived from it may do more."""
    return bool(vars(type(step)).get("recorded", False))


class Programme:
    """The recorded pass.

    Parameters
    ----------
    batch : object
        A :class:`~pyconv.nn.executor.Pass` in inference.
    x : (N, ...) ndarray
        Input of the first run, which is the recording.
    result : int
        Number of the value that is the result.
    compute : callable

    Attributes
    ----------
    usable : bool
        Whether it can be run again: else layer by layer is as fast, or the only way.
    whole : bool
        Whether that is a single call, of which the steps see nothing.
    """

    def __init__(self, batch: Any, x: np.ndarray, result: int, compute: Compute) -> None:
        self._compute, self._result = compute, result
        self._parts: list[Any] = []  # what the backend recorded, and between them steps
        self._inputs = {0}  # values that are views of the input
        self._algorithm = batch.run.algorithm
        self._writes = False  # whether the last part writes the result to another array each time
        self._record(batch, x)
        self._recorded = [part for part in self._parts if not isinstance(part, Forward)]
        self._values: list[Any] = [None if at in self._inputs else array for at, array in enumerate(batch.values)]
        read = {source for part in self._parts if isinstance(part, Forward) for source in part.node.sources}
        self.usable = bool(self._recorded) and not self._inputs & (
            (read - {0}) | {result}
        )  # a step, or the caller, would see a view of the first input
        self.whole = self.usable and self._writes and len(self._parts) == 1

    def _record(self, batch: Any, x: np.ndarray) -> None:
        run, values = batch.run, batch.values
        ops, now = run.ops, run.ops.programme(x)
        values[0] = x
        for each in batch.plan.forward:
            before, alone = len(now), not is_recorded(each.node.step)
            if not alone:
                run.ops = now
                try:
                    self._compute(batch, each)
                except NotRecorded:
                    now.cut(before)
                    alone = True
                finally:
                    run.ops = ops
            if alone:
                self._end(now, x, run.threads)
                self._compute(batch, each)
                self._parts.append(each)
                now = ops.programme(x)
            if np.may_share_memory(values[each.node.target], x):
                self._inputs.add(each.node.target)
        self._writes = self._end(now, x, run.threads, values[self._result])

    def _end(self, now: Any, x: np.ndarray, threads: int, result: Any = None) -> bool:
        """End a recording, and run it."""
        if not len(now):
            return False
        writes: bool = now.finish(result)
        now.run(x, threads)
        self._parts.append(now)
        return writes

    def fits(self, batch: Any) -> bool:
        """Whether a recording would still be the same."""
        if self._algorithm != batch.run.algorithm:
            return False
        for part in self._recorded:  # noqa: SIM110  (a generator takes as long as a small layer)
            if not part.fresh:
                return False
        return True

    def run(self, batch: Any, x: np.ndarray, weights: object | None = None) -> np.ndarray | None:
        """The result for another input, in a new array; None if a step has put its result elsewhere this time.

        `weights` is as in :meth:`pyconv.nn.executor.Executor.infer`.
        """
        threads = batch.run.threads
        result: np.ndarray = self._values[self._result]
        out = np.empty(result.shape, result.dtype)
        if self.whole:
            self._parts[0].run(x, threads, out, weights)
            return out
        batch.values[:] = self._values
        batch.values[0] = x
        for part in self._parts:
            if isinstance(part, Forward):
                self._compute(batch, part)
                target = part.node.target
                if not _same_place(batch.values[target], self._values[target]):
                    return None
            elif part is self._parts[-1] and self._writes:
                part.run(x, threads, out, weights)
                return out
            else:
                part.run(x, threads, None, weights)
        out[...] = result
        return out


def _same_place(a: np.ndarray, b: np.ndarray) -> bool:
    return a is b or (a.shape == b.shape and a.ctypes.data == b.ctypes.data and a.flags.c_contiguous)
