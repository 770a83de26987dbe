"""Stages and micro-batches: from the user's arguments, and for a run's folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from ..cluster import Session
from ..costmodel import cut as cut_by_cost
from ..errors import InputError, shown
from ..nn import Sequential
from ..nn.part import check_cut, check_stages
from ..parallel import Job
from ..parallel.stages import SCHEDULES, Stages
from ..threads import counted
from ..values import choice, integer, sequence


@dataclasses.dataclass(frozen=True)
class Split:
    """How the user wants a step to be split.

    Attributes
    ----------
    stages : Stages or None
        None if one rank, or one process, computes all layers.
    micro_batches : int
    changes : list of str
        Lines for the log.
    """

    stages: Stages | None
    micro_batches: int
    changes: tuple[str, ...] = ()

    def replicas(self, workers: int | None, ranks: Session) -> int:
        """How often the whole pipeline is there, for so many workers of each rank.

        Raises
        ------
        InputError
            If a rank has several workers.
        """
        if workers != 1:
            raise InputError(
                "workers of a rank and stages of a pipeline do not go together: leave workers out, or take 1"
            )
        assert self.stages is not None
        return ranks.size // self.stages.count

    def check_workers(self, workers: int | None, ranks: Session) -> None:
        """Check that a run that is continued has as many workers as there are pipelines.

        Raises
        ------
        InputError
            If it has not.
        """
        assert self.stages is not None
        stages, times = self.stages.count, ranks.size // self.stages.count
        if workers is None or workers == times:
            return
        fewer, odd = divmod(ranks.size, workers)
        instead = f", or take {counted(fewer, 'stage')} (--pipeline-stages {fewer})" if fewer and not odd else ""
        raise InputError(
            f"a run of {counted(workers, 'worker')} cannot be continued as {times} times {stages} stages: start "
            f"{workers * stages} ranks{instead}"
        )


def split(
    model: Sequential, pipeline_stages: Any, micro_batches: Any, cut: Any, schedule: Any, ranks: Session | None,
    recorded: Mapping[str, Any] | None,
) -> Split:  # fmt: skip
    """Check how a step is to be split into stages and micro-batches.

    Parameters
    ----------
    model : Sequential
    pipeline_stages, micro_batches, cut, schedule
        As :func:`pyconv.fit` takes them; those left out are the run's own, if one is continued.
    ranks : Session or None
    recorded : mapping or None
        The section "training" of a run that is continued.

    Returns
    -------
    Split

    Raises
    ------
    InputError
        If they do not fit each other, the network or the ranks.
    """
    known = recorded or {}
    micro = integer(
        known.get("micro_batches", 1) if micro_batches is None else micro_batches, "micro_batches", minimum=1
    )
    if schedule is None:
        schedule = known.get("pipeline_schedule", SCHEDULES[0])
    schedule = choice(schedule, "pipeline schedule", SCHEDULES)
    given = None if cut is None else _cut(cut)
    if pipeline_stages is None and given is None and "pipeline_stages" in known:
        if ranks is None and known["workers"] > 1:
            count, times = known["pipeline_stages"], known["workers"]
            raise InputError(
                f"a run of {times} times {count} stages is continued on as many ranks: mpiexec -n {times * count}"
            )
        if ranks is not None:
            pipeline_stages, given = known["pipeline_stages"], _cut(known.get("cut"))
    if given is not None:
        check_cut(model, given)
    count = 1 if pipeline_stages is None else integer(pipeline_stages, "pipeline_stages", minimum=1)
    if pipeline_stages is None and given is not None:
        count = len(given) + 1
    if given is not None and len(given) != count - 1:
        where = ",".join(map(str, given)) or "nowhere"
        raise InputError(f"cut {where} makes {counted(len(given) + 1, 'stage')}, not {count}: give one of the two")
    check_stages(model, count)
    size = 1 if ranks is None else ranks.size
    if size % count:
        ranks_there = "1 rank" if size == 1 else f"{size} ranks"
        raise InputError(
            f"{count} stages do not fit {ranks_there}: each stage is a rank; start {count}, or a multiple, as with: "
            f"mpiexec -n {count} python -m pyconv.train"
        )
    before, changes = known.get("pipeline_stages", 1), []
    if recorded is not None and before != count:
        changes = [f"stages were {before} and are {count} from here on; the numbers stay the same"]
    stages = None if count == 1 else Stages(count, given, schedule)
    return Split(stages, micro, tuple(changes))


def _cut(value: Any) -> tuple[int, ...]:
    layers = sequence(value)
    if layers is None or isinstance(value, str):
        raise InputError(f"cut must be layers, such as [3, 7], not {shown(value)}")
    return tuple(integer(layer, "a layer in cut", minimum=0) for layer in layers)


def decided(job: Job, model: Sequential, ranks: Session) -> Job:
    """The job with its cut; if the user gave none, rank 0 asks the cost model, and tells the others."""
    stages = job.stages
    if stages is None or stages.cut is not None:
        return job
    found = ranks.of_leader(
        lambda: cut_by_cost(
            model, stages.count, max(job.batch_size // job.micro_batches, 1), backend=job.backend,
            threads=ranks.threads(job.threads_per_worker),
        )
    )  # fmt: skip
    return dataclasses.replace(job, stages=dataclasses.replace(stages, cut=tuple(found)))


def recorded(job: Job) -> dict[str, Any]:
    """The split for ``config.toml``; a resumed run takes it from there."""
    stages = job.stages
    made: dict[str, Any] = {"micro_batches": job.micro_batches if job.micro_batches > 1 else None}
    if stages is not None and stages.count > 1:
        cut: Iterable[int] = stages.cut or ()
        made |= {"pipeline_stages": stages.count, "cut": list(cut), "pipeline_schedule": stages.schedule}
    return made


def facts(job: Job) -> dict[str, Any]:
    """What must be the same on all ranks, before the cut is chosen."""
    stages = job.stages
    return {"pipeline": None if stages is None else [stages.count, stages.cut, stages.schedule]}
