"""Stages: the settings of a pipeline, in which the layers of a network are cut into stages, one rank each."""

from __future__ import annotations

from dataclasses import dataclass

#: The orders in which a stage computes its micro-batches; see :mod:`pyconv.cluster.pipeline.schedule`.
SCHEDULES = ("1f1b", "gpipe")


@dataclass(frozen=True)
class Stages:
    """How a network is cut.

    Attributes
    ----------
    count : int
    cut : tuple of int or None
        The first layer of each stage but the first; None until the cost model has chosen.
    schedule : {"1f1b", "gpipe"}
    """

    count: int
    cut: tuple[int, ...] | None = None
    schedule: str = SCHEDULES[0]

    def layers(self, stage: int, layers: int) -> tuple[int, int]:
        """The first layer of a stage, and the one after its last, of a network of `layers` layers."""
        assert self.cut is not None
        ends = [0, *self.cut, layers]
        return ends[stage], ends[stage + 1]
