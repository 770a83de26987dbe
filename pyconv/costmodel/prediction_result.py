"""The result of a prediction."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from ..threads import counted


@dataclass(frozen=True)
class Prediction:
    """The predicted times of an epoch.

    Attributes
    ----------
    workers, threads, update, batch, images
        The setting: processes, threads in each, update rule, images of a worker's step and of the epoch.
    gradient_s : float
        Seconds of one gradient of one worker, while all workers compute.
    step_s : float
        Seconds of one step of one worker, with everything in it.
    compute_s, communication_s : float
        A worker's seconds in the epoch for gradients, and for updating, sending, reading and waiting.
    epoch_s : float
        Seconds of the epoch.
    speedup : float
        Over one worker with the same batch and `base_threads` threads.
    base_threads : int
        Threads of that one worker: as many as each of these workers has. In an :class:`Advice` it is all threads that
        one worker would have, so that its predictions compare with each other.
    shuffle_s : float
        Seconds in which the workers bring the epoch's examples into their order; part of `communication_s`.
    ranks : int
        Ranks of a cluster; 1: one machine.
    split : {"data", "rows", "filters", "pipeline"}
        What the ranks divide: images (each has `workers`), rows of each image, filters and units, or layers.
    stages, micro_batches : int
        Of a pipeline.
    sent_bytes : float
        Bytes that a rank sends in a step, the mean over the ranks; 0 on one machine.

    Notes
    -----
    On ranks, `gradient_s` is what a rank computes in a step, and `speedup` is over one rank alone with the same batch.
    """

    workers: int
    threads: int
    update: str
    batch: int
    images: int
    gradient_s: float
    step_s: float
    compute_s: float
    communication_s: float
    epoch_s: float
    speedup: float
    base_threads: int
    shuffle_s: float = 0.0
    ranks: int = 1
    split: str = "data"
    stages: int = 1
    micro_batches: int = 1
    sent_bytes: float = 0.0

    @property
    def images_per_s(self) -> float:
        """Images a second over all workers."""
        return self.images / self.epoch_s

    @property
    def setting(self) -> str:
        """What runs where, in words."""
        threads = counted(self.threads, "thread")
        if self.ranks == 1:
            return f"{counted(self.workers, 'worker')} × {threads}"
        ranks = f"{counted(self.ranks, 'rank')} × {threads}"
        if self.split == "data":
            each = "" if self.workers == 1 else f", {counted(self.workers, 'worker')} each"
            return f"images over {ranks}{each}"
        if self.split != "pipeline":
            return f"{self.split} over {ranks}"
        pipelines = self.ranks // self.stages
        beside = "" if pipelines == 1 else f", {counted(pipelines, 'pipeline')}"
        return f"layers over {ranks}, {counted(self.stages, 'stage')} of {self.micro_batches} micro-batches{beside}"

    def __str__(self) -> str:
        alone = "one worker" if self.ranks == 1 else "one rank"
        return (
            f"{self.setting}, {self.update}: "
            f"{self.epoch_s:.3g} s an epoch ({self.images_per_s:.0f} images/s; compute {self.compute_s:.3g} s, "
            f"communication {self.communication_s:.3g} s), {self.speedup:.2f} times {alone} with "
            f"{counted(self.base_threads, 'thread')}"
        )

    def over(self, alone: Prediction) -> Prediction:
        """The same prediction, with its speed-up relative to `alone`, the one worker that it could replace.

        Parameters
        ----------
        alone : Prediction
            A prediction for one worker.

        Returns
        -------
        Prediction
        """
        return dataclasses.replace(self, speedup=alone.epoch_s / self.epoch_s, base_threads=alone.threads)
