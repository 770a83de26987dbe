"""Advises which split of a network trains it fastest on the ranks of a cluster."""

from __future__ import annotations

from .. import nn
from ..errors import InputError
from ..nn.part import check_stages
from ..parallel import Rule
from ..threads import counted
from .advised import WORTH, Advice
from .calibration import Calibration
from .over_ranks import Way, predicted
from .prediction_result import Prediction
from .ranks import at_ranks
from .rig import Rig

PIPELINES = "pipeline"


def ways(ranks: int, cpus: int | None) -> list[Way]:
    """All that is compared on so many ranks: every split, and pipelines of as many stages as divide the ranks."""
    found = [Way(ranks, split, cpus=cpus) for split in ("data", "rows", "filters")]
    stages = [count for count in range(2, ranks + 1) if ranks % count == 0]
    return found + [Way(ranks, PIPELINES, stages=count, cpus=cpus) for count in stages]


def over_ranks(
    model: nn.Sequential, batch: int, rule: Rule, *, images: int, backend: str, threads: int | None, shared: bool,
    calibration: Calibration | None, seconds: float, ranks: int | None, shared_cpus: int | None, cluster: bool,
    measure: bool,
) -> Advice:  # fmt: skip
    """See :func:`.advise`; the arguments are checked."""
    considered: list[Prediction] = []
    left_out: dict[str, str] = {}
    asked = {"batch": batch, "images": images, "update": rule.name, "shared": shared, "seconds": seconds}
    with at_ranks(ranks, cluster, backend, threads, calibration, asked) as place:
        rig = Rig(
            model, place.calibration, backend=backend, threads=place.threads, measure=measure, seconds=seconds,
            session=place.session,
        )  # fmt: skip
        for way in ways(place.ranks, shared_cpus):
            name = f"{way.split}, {counted(way.stages, 'stage')}" if way.stages else way.split
            workers = place.ranks if way.split == "data" else place.ranks // (way.stages or place.ranks)
            own = max(batch // workers, 1) if shared else batch
            try:
                if way.stages:
                    check_stages(model, way.stages)
                considered.append(predicted(rig, own, rule, way.checked(rule, own), images))
            except InputError as error:
                left_out[name] = str(error)
        alone = predicted(rig, batch, rule, Way(1).checked(rule, batch), images)
    considered = [each.over(alone) for each in considered] if place.ranks > 1 else []
    considered = sorted([*considered, alone], key=lambda each: each.epoch_s)
    best = considered[0]
    how = {"considered": tuple(considered), "left_out": tuple(left_out.items())}
    if best.ranks == 1 or best.speedup < WORTH:
        others = [each for each in considered if each.ranks > 1]
        reason = "there is one rank" if not others else _why_alone(others[0])
        return Advice(1, alone.threads, rule.name, reason, **how)  # type: ignore[arg-type]
    reason = f"{best.speedup:.2f} times as fast as one rank alone ({best.epoch_s:.3g} s an epoch)"
    beside = [each for each in considered if each.ranks > 1 and each.split != best.split]
    if beside:
        reason += f"; next {beside[0].setting} ({beside[0].epoch_s:.3g} s)"
    return Advice(best.workers, best.threads, rule.name, reason, ranks=best.ranks, split=best.split, **how)  # type: ignore[arg-type]


def _why_alone(other: Prediction) -> str:
    share = 100 * other.communication_s / other.epoch_s
    return (
        f"more ranks do not pay: {other.setting} would be {other.speedup:.2f} times as fast ({share:.0f} % of their "
        "time would go into communication)"
    )
