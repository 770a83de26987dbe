"""Stage: a rank's part of a pipeline. It computes its layers for all micro-batches of a step, and steps its parameters.

A rank that cannot go on finishes the step's messages without computing, and says so when all ranks meet before the next
step. So no other rank waits for it within a step.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...backends import get
from ...errors import DivergedError
from ...nn import Sequential
from ...nn.part import Part, spans
from ...nn.weighting import Weighting, weighting
from ...parallel import Job
from ...parallel.batches import gathered
from ...parallel.communicator import CHUNK
from ...parallel.micro import Micro, MicroOrder, add_gradient, mean_loss
from ...parallel.program import share
from ...parallel.sums import in_order
from ..finite import finite
from ..shards import Shard
from ..tracing.tape import NUMBER
from ..world import Message, World
from .clipping import shrink
from .schedule import FORWARD, Exchange, Pass, alive, exchanges, passes


class Stage:
    """What one rank computes. Rank ``r S + s`` has stage s of replica r, for S stages.

    Parameters
    ----------
    model : Sequential
        The whole network; read.
    x : (N, H, W, C) ndarray or Shard
        Only a first stage reads it.
    labels : (N,) int64 ndarray
    job : Job
        Its `workers` are the replicas, and its `stages` have a cut.
    world : World
    threads : int
        OpenMP threads of this rank.

    Attributes
    ----------
    part : Part
        Its layers.
    state : dict of str to (n,) ndarray
        The optimizer's, of these layers' parameters.
    done : int
        Steps since the beginning of the run.
    steps : int
        Of an epoch.
    loss : float
        In a last stage, mean loss of its replica's images in the last step.
    correct : int
        In a last stage, how many of these were classified correctly.
    compute_ns, update_ns, wait_ns, schedule_ns : int
        Time so far for passes, for updates with what replicas send each other, for waiting for neighbours; and for
        whole schedules, from the first pass or message to the last.
    alive : int
        The most micro-batches that were between their passes at a time.
    """

    def __init__(
        self, model: Sequential, x: np.ndarray, labels: np.ndarray, job: Job, world: World, threads: int
    ) -> None:  # fmt: skip
        stages = job.stages
        assert stages is not None
        self._x, self._labels, self._job, self._world, self._count = x, labels, job, world, stages.count
        self.replica, self.stage = divmod(world.rank, stages.count)
        self._slots = alive(stages.schedule, stages.count, self.stage, job.micro_batches)
        ends = [stages.layers(stage, len(model.layers)) for stage in range(stages.count)]
        self.spans = [spans(model, *each) for each in ends]
        self.part = Part(
            model, *ends[self.stage], self._slots, backend=get(job.backend).name, threads=threads,
            algorithm=model.algorithm,
        )  # fmt: skip
        self._back = _back(model, [first for first, _ in ends])
        self._classes, self._least = model.output_shape[-1], model.least_batch
        self.total = np.zeros_like(self.part.flat)
        self.state = job.optimizer.init(self.part.flat.size, self.part.flat.dtype)
        self._updates = [
            job.optimizer.planned(
                self.part.flat[start:end],
                self.total[start:end],
                {name: vector[start:end] for name, vector in self.state.items()},
            )
            for start, end in self.part.trained.spans
        ]
        self.done = self.alive = 0
        self.steps = -(-len(labels) // (job.batch_size * job.workers))
        self.loss, self.correct = 0.0, 0
        self.compute_ns = self.update_ns = self.wait_ns = self.schedule_ns = 0
        self._epoch, self._arranged = -1, False
        self._order: MicroOrder | None = None
        self._memory: dict[tuple[str, int], np.ndarray] = {}
        self._broken: BaseException | None = None
        self._tape = world.tape
        self._spoilt = False  # what has arrived in this step is not finite

    @property
    def _where(self) -> str:
        """The step that is computed, as people count."""
        return f"epoch {self._epoch + 1}, step {self.done + 1}"

    @property
    def is_last(self) -> bool:
        """Whether this stage computes the loss."""
        return self.stage == self._count - 1

    def order(self, epoch: int) -> MicroOrder:
        """The micro-batches of an epoch."""
        if self._order is None or epoch != self._epoch:
            job = self._job
            self._order = MicroOrder(
                self._labels, seed=job.seed, epoch=epoch, workers=job.workers, batch_size=job.batch_size,
                parts=job.micro_batches, least=self._least,
            )  # fmt: skip
            self._epoch = epoch
        return self._order

    def begin(self, epoch: int) -> None:
        """Begin an epoch, or go on with it; all ranks call it."""
        order = self.order(epoch)
        if not isinstance(self._x, Shard) or (self._arranged and self._job.workers == 1):
            return
        owner = np.zeros(len(self._labels), np.uint16)
        for step in range(order.steps if self._job.workers > 1 else 0):
            for replica in range(order.workers):
                owner[order.batch(step, replica)] = replica * self._count
        self._x.arrange(owner)
        self._arranged = True

    def counts(self, step: int) -> list[int]:
        """Images of each replica in a step of the present epoch."""
        assert self._order is not None
        spans = [self._order.span(step, replica) for replica in range(self._job.workers)]
        return [last - first for first, last in spans]

    # ---- a step -----------------------------------------------------------------------------------

    def step(self, step: int) -> None:
        """Do a step of the present epoch, from 0.

        Raises
        ------
        Exception
            What a pass has raised, after the step's last message.
        """
        assert self._order is not None
        self._broken, self._spoilt = None, False
        micro = self._order.micro(step, self.replica)
        began = time.monotonic_ns()
        self._run(step, micro)
        ended = time.monotonic_ns()
        self.schedule_ns += ended - began
        if not micro:
            self.total[:] = 0
        if self._broken is None and not self._spoilt and not finite(self.total):
            self._broken = DivergedError(f"the gradient is not finite in {self._where}")
        self._meet(self.counts(step))
        most = self._job.clip_norm
        times = 1.0 if most is None else self._shrink(most)
        if self._broken is not None:
            self.part.forget()
            raise self._broken
        if times != 1.0:
            np.multiply(self.total, self.total.dtype.type(times), out=self.total)
        self.done += 1
        rate, began = self._job.learning_rate(self.done, self.steps), time.monotonic_ns()
        for update in self._updates:
            update(self.done, rate)
        now = time.monotonic_ns()
        self.update_ns += now - ended
        if self._tape is not None:
            self._tape.add(0, NUMBER["update"], began, now, self.done - 1)

    def _run(self, step: int, micro: Sequence[Micro]) -> None:
        """All passes of the step, and their messages."""
        stages = self._job.stages
        assert stages is not None
        order = passes(stages.schedule, self._count, self.stage, len(micro))
        losses: list[float] = []
        self.correct, now = 0, 0
        result: np.ndarray | None = None
        for each, messages in zip([*order, None], exchanges(order, self._count, self.stage, self._back)):
            arrived = self._exchange(messages, result, each, micro)
            if each is None:
                break
            now += 1 if each.way == FORWARD else -1
            self.alive = max(self.alive, now)
            result = self._pass(each, micro[each.micro], arrived, step, losses)
        self.loss = mean_loss(losses, [each.images for each in micro]) if len(losses) == len(micro) else 0.0

    def _exchange(
        self, messages: Exchange, result: np.ndarray | None, following: Pass | None, micro: Sequence[Micro]
    ) -> np.ndarray | None:
        """Send the last pass's result, and receive the next pass's input."""
        sends: list[Message] = []
        receives: list[Message] = []
        arrived = None
        if messages.to is not None:
            assert result is not None
            sends.append((self._rank(messages.to), result))
        if messages.source is not None:
            assert following is not None
            shape = self.part.input_shape if following.way == FORWARD else self.part.output_shape
            arrived = self._room(following, (micro[following.micro].images, *shape))
            receives.append((self._rank(messages.source), arrived))
        if sends or receives:
            began = time.monotonic_ns()
            self._world.swap(sends, receives)
            self.wait_ns += time.monotonic_ns() - began
        return arrived

    def _rank(self, stage: int) -> int:
        return self.replica * self._count + stage

    def _room(self, each: Pass, shape: tuple[int, ...]) -> np.ndarray:
        """Memory for what arrives.

        An input is needed until its micro-batch comes back. A gradient is needed for one pass; the result may be in its
        memory, and is sent while the next one arrives.
        """
        key = (each.way, each.micro % (self._slots if each.way == FORWARD else 2))
        found = self._memory.get(key)
        if found is None or len(found) < shape[0]:
            found = self._memory[key] = np.empty(shape, self.part.dtype)
        return found[: shape[0]]

    def _pass(
        self, each: Pass, micro: Micro, arrived: np.ndarray | None, step: int, losses: list[float]
    ) -> np.ndarray | None:
        """Compute a pass; returns what the neighbour gets, which is without meaning if this rank cannot go on."""
        began = time.monotonic_ns()
        result = None
        if self._broken is None:
            try:
                self._spoilt = self._spoilt or not (arrived is None or finite(arrived))
                if each.way == FORWARD:
                    result = self._forward(each.micro, micro, arrived, step)
                else:
                    result = self._backward(each.micro, micro, arrived, step, losses)
                self._check(result, each)
            except BaseException as error:
                self._broken = error
        now = time.monotonic_ns()
        self.compute_ns += now - began
        if self._tape is not None:
            what = "forward" if each.way == FORWARD else "backward"
            self._tape.add(0, NUMBER[what], began, now, self.done, each.micro + 1)
        if self._broken is not None:
            shape = self.part.output_shape if each.way == FORWARD else self.part.input_shape
            return np.zeros((micro.images, *shape), self.part.dtype)
        return None if result is None else np.ascontiguousarray(result)

    def _check(self, result: np.ndarray | None, each: Pass) -> None:
        """Check that this rank is not the first whose numbers are not finite: so the error names the rank that is."""
        if not (self._spoilt or result is None or finite(result)):
            what = "result" if each.way == FORWARD else "gradient"
            raise DivergedError(f"the {what} is not finite in {self._where}")

    def _forward(self, number: int, micro: Micro, x: np.ndarray | None, step: int) -> np.ndarray:
        job, order = self._job, self._order
        assert order is not None
        if self.stage == 0:
            how: dict[str, Any] = {"seed": job.seed, "epoch": self._epoch, "augmented": job.augment}
            x, _ = gathered(self._x, self._labels, order.fine, step, micro.share, **how)
        assert x is not None
        return self.part.forward(number % self._slots, x, self.done, micro.first)

    def _backward(
        self, number: int, micro: Micro, error: np.ndarray | None, step: int, losses: list[float]
    ) -> np.ndarray | None:
        part, slot = self.part, number % self._slots
        if self.is_last:
            loss, correct, error = part.loss(slot, *self._targets(micro, step))
            losses.append(loss)
            self.correct += correct
        result = part.backward(slot, error)
        add_gradient(self.total, part.gradient, micro.weight, number == 0)
        return result

    def _targets(self, micro: Micro, step: int) -> tuple[np.ndarray, Weighting | None]:
        order = self._order
        assert order is not None
        labels = self._labels[order.fine.batch(step, micro.share)]
        counts = self._job.weights(self._labels, order.fine, step, micro.share)
        return labels, weighting(labels, self._classes, **counts)

    def _shrink(self, most: float) -> float:
        """The factor that clips the whole gradient."""
        chunk = CHUNK if self._job.workers > 1 else None
        return shrink(self.total, most, [span for span, _ in self.spans], self._world, chunk)

    def _meet(self, counts: Sequence[int]) -> None:
        """With several replicas: the mean of their gradients, weighted by their images and added in their order."""
        replicas = len(counts)
        if replicas == 1 or not self.total.size:
            return
        own = slice(*share(self.total.size, replicas, self.replica))
        rows = np.empty((replicas, own.stop - own.start), self.total.dtype)
        rows[self.replica] = self.total[own]
        others = [(each, each * self._count + self.stage) for each in range(replicas) if each != self.replica]
        stretches = {each: self.total[slice(*share(self.total.size, replicas, each))] for each, _ in others}
        self._world.swap(
            [(rank, stretches[each]) for each, rank in others], [(rank, rows[each]) for each, rank in others]
        )
        mean = np.empty(own.stop - own.start, self.total.dtype)
        in_order(rows, np.asarray(counts, np.float64) / max(sum(counts), 1), mean)
        self.total[own] = mean
        self._world.swap([(rank, mean) for _, rank in others], [(rank, stretches[each]) for each, rank in others])


def _back(model: Sequential, firsts: Sequence[int]) -> list[bool]:
    """For each stage, which begins with these layers, whether a layer before it is trained."""
    layers = [int(name.partition(".")[0]) for name in model.parameters if name.rpartition(".")[0] not in model.frozen]
    return [any(layer < first for layer in layers) for first in firsts]
