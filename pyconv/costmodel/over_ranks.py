"""Predicts the time of an epoch on the ranks of a cluster, for each way to split the work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .. import nn
from ..errors import InputError
from ..nn.part import check_cut
from ..parallel import Rule
from ..parallel.stages import SCHEDULES
from ..values import choice, flag, integer
from .equations import shuffle_time
from .layers import cut as cut_of
from .prediction_result import Prediction
from .rig import Rig
from .rules import between_meetings
from .splits import SPLITS, Overlapped, Phases, Piped, by_filters, by_images, by_rows, by_stages
from .waiting import expected_lead


@dataclass(frozen=True)
class Way:
    """How a network is trained on ranks.

    Attributes
    ----------
    ranks : int
    split : str
        One of :data:`.SPLITS`.
    workers : int
        Of each rank, if its images are its own.
    overlap : bool
        Whether messages travel while steps are computed, under rules that allow it.
    stages, micro_batches, schedule, cut
        Of a pipeline; `cut` None: where the slowest stage is as fast as it can be.
    every : float or None
        Steps between meetings, for rules with the option ``sync_every``.
    cpus : int or None
        CPUs that all ranks share; None: each has its own.
    """

    ranks: int = 1
    split: str = "data"
    workers: int = 1
    overlap: bool = True
    stages: int | None = None
    micro_batches: int | None = None
    schedule: str = "1f1b"
    cut: Sequence[int] | None = None
    every: float | None = None
    cpus: int | None = None

    def checked(self, rule: Rule, batch: int) -> Way:
        """The same with plain numbers, and a pipeline's defaults.

        Raises
        ------
        UnknownNameError, InputError
            If something is wrong, or does not go together.
        """
        ranks = integer(self.ranks, "ranks", minimum=1)
        split = choice(self.split, "split", SPLITS)
        workers = integer(self.workers, "workers", minimum=1)
        overlap = flag(self.overlap, "overlap")
        cpus = None if self.cpus is None else integer(self.cpus, "shared_cpus", minimum=1)
        stages = micro = None
        cut = None if self.cut is None else tuple(integer(each, "cut", minimum=1) for each in self.cut)
        if split != "pipeline":
            given = {"stages": self.stages, "micro_batches": self.micro_batches, "cut": self.cut}
            for name, value in given.items():
                if value is not None:
                    raise InputError(f"{name} is for split pipeline: leave it out with split {split}")
        if split != "data":
            if workers != 1:
                raise InputError(f"split {split} is one worker on all its ranks, not {workers}: leave workers out")
            if rule.name != "sync":
                raise InputError(f"split {split} is for update sync, not {rule.name}")
        if split == "pipeline":
            usual = ranks if cut is None else len(cut) + 1
            stages = integer(usual if self.stages is None else self.stages, "stages", minimum=1)
            if cut is not None and stages != len(cut) + 1:
                raise InputError(f"cut makes {len(cut) + 1} stages, and stages says {stages}")
            if ranks % stages:
                raise InputError(f"{ranks} ranks cannot be shared by pipelines of {stages} stages: take a multiple")
            micro = usual_micro_batches(batch, stages) if self.micro_batches is None else self.micro_batches
            micro = integer(micro, "micro_batches", minimum=1)
            if batch % micro:
                raise InputError(f"micro_batches must divide the batch of {batch} images, and {micro} does not")
            choice(self.schedule, "pipeline schedule", list(SCHEDULES))
        return Way(ranks, split, workers, overlap, stages, micro, self.schedule, cut, self.every, cpus)


def usual_micro_batches(batch: int, stages: int) -> int:
    """Micro-batches of a step if nobody says: the most that divide the batch, up to 4 for each stage.

    Beyond 4 the bubble is small (Huang et al., "GPipe", 2019, section 2.3), and layers on few images are slow.
    """
    return max(m for m in range(1, batch + 1) if batch % m == 0 and m <= max(1, 4 * stages))


def step_of(rig: Rig, batch: int, rule: Rule, way: Way, images: int, known: int) -> Phases | Overlapped | Piped:
    """A step of all ranks; `way` is checked, `known` are the images for which a known gradient's time holds."""
    model = rig.model
    if way.split == "data":
        steps = images / (batch * way.workers * way.ranks)
        return by_images.step(
            rig.profile(batch, known), model.trained.count, model.flat.itemsize, rule, way.ranks, way.workers,
            rig.links, overlap=way.overlap, every=way.every, steps=steps, crowd=measured_crowd(rig, way),
        )  # fmt: skip
    if way.split == "pipeline":
        assert way.stages is not None and way.micro_batches is not None
        micro = batch // way.micro_batches
        if way.cut is None:
            how: dict[str, Any] = {"backend": rig.backend, "threads": rig.threads, "calibration": rig.calibration}
            cut = cut_of(model, way.stages, micro, **how)
        else:
            cut = tuple(way.cut)
            check_cut(model, cut)
        profile = rig.profile(micro, known)
        profile = profile.scaled(1 / measured_crowd(rig, way))
        return by_stages.step(
            model, profile, cut, way.micro_batches, schedule=way.schedule, replicas=way.ranks // way.stages,
            cpus=way.cpus, t_a=rig.links.t_a,
        )  # fmt: skip
    profile, part_s = rig.profile(batch, known), rig.part(way.split, way.ranks, batch)
    if way.split == "rows":
        return by_rows.phases(model, profile, way.ranks, part_s)
    return by_filters.phases(model, profile, way.ranks, part_s, backend=rig.backend)


def images_of_step(way: Way, batch: int) -> int:
    """Images of a step of all ranks."""
    if way.split == "data":
        return batch * way.workers * way.ranks
    if way.split == "pipeline":
        assert way.stages is not None
        return batch * (way.ranks // way.stages)
    return batch


def measured_crowd(rig: Rig, way: Way) -> float:
    """How many ranks took turns on each CPU while the profile was measured."""
    if way.cpus is None or rig.session is None:
        return 1.0
    return max(1.0, way.ranks * rig.threads / way.cpus)


def crowding(rig: Rig, way: Way) -> float:
    """How many times as long ranks compute because they take turns on CPUs, unless that was measured so."""
    if way.cpus is None or rig.session is not None or way.split == "pipeline":
        return 1.0
    return max(1.0, way.ranks * rig.threads / way.cpus)


def predicted(rig: Rig, batch: int, rule: Rule, way: Way, images: int, known: int | None = None) -> Prediction:
    """An epoch of the network on ranks.

    Parameters
    ----------
    rig : Rig
    batch : int
        Images of one worker's step.
    rule : Rule
    way : Way
        Checked.
    images : int
        Of the epoch.
    known : int, optional
        Images of the step whose gradient's time is known.

    Returns
    -------
    Prediction
    """
    known = batch if known is None else known
    step = step_of(rig, batch, rule, way, images, known)
    links, model = rig.links, rig.model
    taken = step.time(links)
    slower = crowding(rig, way)
    compute_s = taken.compute_s * slower
    profile = rig.profile(batch if way.split != "pipeline" else batch // (way.micro_batches or 1), known)
    waiting_s = 0.0
    if way.split != "pipeline" and rule.lockstep and way.ranks > 1:
        often = 1.0
        if way.split == "data" and "sync_every" in rule.options():
            own = between_meetings(rule, images / images_of_step(way, batch))
            often = max(1.0, own if way.every is None else way.every)
        waiting_s = profile.spread * compute_s * expected_lead(way.ranks) / often**0.5
    step_s = taken.seconds + compute_s - taken.compute_s + waiting_s
    steps = images / images_of_step(way, batch)  # a short last step counts in proportion
    shuffle_s = shuffle_time(way.ranks, images, t_n=rig.calibration.t_n.value, cpus=way.cpus)
    end_s = _end(model, rule, way, links.t_s, links.t_b)
    epoch_s = shuffle_s + steps * step_s + end_s
    whole = rig.profile(batch, known) if way.split != "pipeline" else None
    one_s = (
        whole.gradient_s + whole.update_s
        if whole is not None
        else (way.micro_batches or 1) * profile.gradient_s + profile.update_s
    )
    one_s /= measured_crowd(rig, way)  # alone it would have a CPU to itself
    alone_s = shuffle_time(1, images, t_n=rig.calibration.t_n.value) + images / batch * one_s
    return Prediction(
        workers=way.workers,
        threads=rig.threads,
        update=rule.name,
        batch=batch,
        images=images,
        gradient_s=compute_s,
        step_s=step_s,
        compute_s=steps * compute_s,
        communication_s=epoch_s - steps * compute_s,
        epoch_s=epoch_s,
        speedup=alone_s / epoch_s,
        base_threads=rig.threads,
        shuffle_s=shuffle_s,
        ranks=way.ranks,
        split=way.split,
        stages=way.stages or 1,
        micro_batches=way.micro_batches or 1,
        sent_bytes=taken.sent,
    )


def _end(model: nn.Sequential, rule: Rule, way: Way, t_s: float, t_b: float) -> float:
    """Seconds at the end of an epoch in which rank 0 gets what it lacks of the parameters.

    A rule with a result of its own reads every worker's.
    """
    if way.ranks == 1 or way.split == "rows":
        return 0.0
    if type(rule).result is not Rule.result:
        return t_s + t_b * model.flat.nbytes * way.workers * (way.ranks - 1)
    if way.split == "filters":
        return t_s + t_b * by_filters.parameters_of_others(model, way.ranks)
    p = way.ranks if way.split == "data" else way.stages or 1
    return t_s + t_b * model.flat.nbytes * (p - 1) / p
