"""Recorder: where those who compute note what they do; this one keeps no timeline."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..nn import Sequential

#: The kinds of events; a kernel's rule declares which of the last three it is.
KINDS = ("data", "forward", "backward", "wait", "push", "pull", "update")


class Recorder:
    """Notes what lanes do, if the run keeps a timeline; this one notes nothing.

    Attributes
    ----------
    on : bool
        Whether it notes anything.
    """

    on = False

    def add(self, lane: int, what: str, began: int, ended: int) -> None:
        """Note that the lane did `what` from `began` to `ended` (monotonic ns)."""

    def watch(self, lane: int, model: Sequential) -> Any:
        """The model's ``loss_and_gradient``; with a timeline, it also notes the forward and the backward pass."""
        if not self.on:
            return model.loss_and_gradient

        def watched(*args: Any, **kwargs: Any) -> Any:
            began = time.monotonic_ns()
            split: list[int] = []
            model.between_passes = lambda: split.append(time.monotonic_ns())
            try:
                result = model.loss_and_gradient(*args, **kwargs)
            finally:
                model.between_passes = None
            ended = time.monotonic_ns()
            middle = split[-1] if split else began
            self.add(lane, "forward", began, middle)
            self.add(lane, "backward", middle, ended)
            return result

        return watched
