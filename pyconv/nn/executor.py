"""Executor: runs a planned list of steps, forward and backward, on the arrays of any backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pyconv.arithmetic import own
from pyconv.backends import Backend
from pyconv.errors import PyconvError

from .layer import Join, Step, in_layer
from .plan import ALIGNMENT, EXAMPLES, FIRST, INTO_NEW, INTO_OLD, Forward, Graph, Node, Plan, plan
from .programme import Programme
from .run import Run, Workspace

#: How many plans are kept: for the batch sizes of training and validation, and for the short last batches.
REMEMBERED = 8


class Pass:
    """A plan with its arrays, which are reused by every pass over a batch of the same kind.

    Attributes
    ----------
    run : Run
        The state that the steps read.
    examples : array or None
        Memory for normalised examples, if the plan has any.
    programme : Programme or None
        The recorded pass, in inference; None until the first pass, and if the backend does not record.
    bindings : int
        How often the steps had been bound to parameters when it was recorded.
    """

    def __init__(self, plan: Plan, memory: Any, values: int, run: Run) -> None:
        self.plan, self.run = plan, run
        run.planned = {
            key: memory[offset : offset + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize]
            .view(dtype)
            .reshape(shape)
            for key, (offset, shape, dtype) in plan.places.items()
        }
        self.examples = run.planned.get(EXAMPLES)
        self.programme: Programme | None = None
        self.bindings = 0
        self.values: list[Any] = [None] * values
        self.grads: list[Any] = [None] * values


class Executor:
    """Runs the steps of a network, or of a part of one.

    Parameters
    ----------
    graph : Graph
        The steps; for a stage of a pipeline, a slice of a network's graph.
    dtype : dtype
        In which everything is computed.
    seed : int
        The model's seed, for dropout.
    input_grad : bool
        Whether the backward pass also computes the input's gradient, which a stage hands to the stage before it.
    """

    def __init__(self, graph: Graph, dtype: np.dtype, seed: int, *, input_grad: bool = False) -> None:
        self._graph, self._dtype, self._seed, self._input_grad = graph, dtype, seed, input_grad
        self._memory: Any = None
        self._workspace: Workspace | None = None
        self._ops: Backend | None = None
        self._passes: dict[tuple[int, bool, bool], Pass] = {}
        self._held = False  # whether steps may have arrays of the last pass

    def bind(self, arrays: Mapping[str, Any]) -> None:
        """Give the steps their parameters and buffers from `arrays`, by full name."""
        self._graph.bind(arrays)

    @property
    def nbytes(self) -> int:
        """Bytes of work arrays that are held."""
        held = 0 if self._memory is None else self._memory.nbytes
        return held + (0 if self._workspace is None else self._workspace.nbytes)

    def prepared(
        self, n: int, ops: Backend, threads: int, algorithm: str, *, training: bool, owned: bool
    ) -> Pass:  # fmt: skip
        """The pass for a batch of `n` examples; it is planned when the first such batch comes.

        Parameters
        ----------
        n : int
            Examples.
        ops : Backend
            Where operations run.
        threads : int
            For every operation.
        algorithm : str
            For every convolution.
        training : bool
            Whether a backward pass may follow.
        owned : bool
            Whether the input will be in ``Pass.examples``.

        Returns
        -------
        Pass
        """
        if ops is not self._ops:
            self._ops, self._memory, self._workspace = ops, None, Workspace(ops)
            self._passes.clear()
        key = (n, training, owned)
        found = self._passes.get(key)
        if found is None:
            found = self._passes[key] = self._planned(n, ops, training, owned)
        found.run.threads, found.run.algorithm = threads, algorithm
        return found

    def _planned(self, n: int, ops: Backend, training: bool, owned: bool) -> Pass:
        made = plan(
            self._graph, n, ops, self._dtype, training=training, owned=owned, input_grad=self._input_grad
        )  # fmt: skip
        if len(self._passes) >= REMEMBERED:
            self._passes.clear()
        if self._memory is None or self._memory.nbytes < made.nbytes:
            self._passes.clear()  # their arrays would keep the old memory alive
            self._memory = None
            self._memory = ops.allocate(max(made.nbytes, ALIGNMENT))
        assert self._workspace is not None
        run = Run(ops, 1, "auto", self._dtype, self._workspace, training=training, seed=self._seed)
        return Pass(made, self._memory, len(self._graph.shapes), run)

    def forward(
        self, batch: Pass, x: Any, step: int = 0, first: int = 0, ahead: Callable[[Step], None] | None = None
    ) -> Any:
        """Compute the result of a batch.

        Parameters
        ----------
        batch : Pass
            From :meth:`prepared`.
        x : (N, ...) array, of the executor's dtype
            ``batch.examples`` if the pass owns its input; else the caller's array, which is not overwritten.
        step, first : int
            Number of the training step, and position of the first example in the global batch, for dropout.
        ahead : callable, optional
            Called with each step before it is computed.

        Returns
        -------
        (N, ...) array
            A work array, or `x` itself; valid until the next pass.
        """
        run, values = batch.run, batch.values
        run.step, run.first = step, first
        self._held = True
        values[0] = x
        for each in batch.plan.forward:
            node, taken = each.node, each.node.step
            run.owned = each.owned
            if ahead is not None:
                ahead(taken)
            try:
                if isinstance(taken, Join):
                    values[node.target] = taken.meet([values[source] for source in node.sources], run)
                else:
                    values[node.target] = taken.forward(values[node.sources[0]], run)
            except PyconvError as error:
                raise _named(node, error) from None
        return values[self._result]

    def infer(self, batch: Pass, x: Any, weights: object | None = None) -> Any:
        """Compute the result of a batch in inference by a programme, on a backend that records.

        Parameters
        ----------
        batch, x : see :meth:`forward`
            The pass is one in inference.
        weights : object, optional
            The same object as in an earlier pass says that the parameters are what they were then.

        Returns
        -------
        (N, ...) ndarray
            A new array.
        """
        made = batch.programme
        if made is None or batch.bindings != self._graph.bindings[0] or not made.fits(batch):
            return self._record(batch, x)
        if made.whole:
            return made.run(batch, x, weights)
        return self._infer_by_steps(made, batch, x, weights)

    @own
    def _record(self, batch: Pass, x: Any) -> Any:
        self._held = True
        batch.programme = Programme(batch, x, self._result, _compute)
        batch.bindings = self._graph.bindings[0]
        return batch.values[self._result].copy()

    @own
    def _infer_by_steps(self, made: Programme, batch: Pass, x: Any, weights: object | None) -> Any:
        self._held = True
        found = made.run(batch, x, weights) if made.usable else None
        return self.forward(batch, x).copy() if found is None else found

    @property
    def _result(self) -> int:
        return self._graph.nodes[-1].target

    def backward(
        self, batch: Pass, error: Any, gradients: Mapping[str, Any], done: Callable[[Step], None] | None = None
    ) -> Any:
        """Compute the gradients after a forward pass.

        Parameters
        ----------
        batch : Pass
            The pass of :meth:`forward`, in training.
        error : (N, ...) array
            Gradient of the loss with respect to the result; may be overwritten.
        gradients : mapping of str to array
            The arrays that the parameters' gradients are written to.
        done : callable, optional
            Called with each step when its gradients are computed or, on a GPU, started.

        Returns
        -------
        (N, ...) array or None
            The input's gradient, if the executor was made to give it.
        """
        run, grads, ops = batch.run, batch.grads, batch.run.ops
        run.gradients = gradients
        grads[self._graph.nodes[-1].target] = error
        for each in batch.plan.backward:
            node, taken = each.node, each.node.step
            grad, grads[node.target] = grads[node.target], None
            if each.copied:
                grad = ops.copy(grad, out=run.kept((taken.index, "dy"), grad.shape))
            parts = taken.part(grad, run) if isinstance(taken, Join) else (taken.backward(grad, run, each.wanted[0]),)
            for place, source in enumerate(node.sources):
                if each.wanted[place]:
                    how = each.added[place]
                    part = parts[place]
                    if how != FIRST:
                        part = self._sum(run, node, place, how, grads[source], part)
                    grads[source] = part
            if done is not None:
                done(taken)
        result, grads[0] = grads[0], None
        return result

    @staticmethod
    def _sum(run: Run, node: Node, place: int, how: int, old: Any, new: Any) -> Any:
        """The sum of the gradients that two steps give to one value."""
        if how == INTO_OLD:
            out = old
        elif how == INTO_NEW:
            out = new
        else:
            out = run.kept((node.step.index, f"sum{place}"), old.shape)
        return run.ops.add(old, new, threads=run.threads, out=out)

    def forget(self, batch: Pass) -> None:
        """Drop the arrays that a pass keeps: the examples belong to the caller."""
        if not self._held:
            return
        self._held = False
        batch.values[:] = [None] * len(batch.values)
        for node in self._graph.nodes:
            node.step.forget()


def _compute(batch: Pass, each: Forward) -> None:
    """Compute one step, as :meth:`Executor.forward` does, for a programme."""
    run, values, node, step = batch.run, batch.values, each.node, each.node.step
    run.owned = each.owned
    try:
        if isinstance(step, Join):
            values[node.target] = step.meet([values[source] for source in node.sources], run)
        else:
            values[node.target] = step.forward(values[node.sources[0]], run)
    except PyconvError as error:
        raise _named(node, error) from None


def _named(node: Node, error: PyconvError) -> PyconvError:
    """`error` with the layers in front in which it happened."""
    for index, kind in reversed(node.titles):
        error = in_layer(index, kind, error)
    return error
