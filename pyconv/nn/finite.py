"""A warning about weights that are NaN or infinite, when a network comes from a file."""

from __future__ import annotations

import numpy as np

from .. import runlog
from .network import Network

_log = runlog.logger("pyconv.nn")


def warn_not_finite(model: Network, place: object) -> None:
    """Warn, in one line, if a parameter or a running statistic is NaN or infinite.

    Parameters
    ----------
    model : Network
    place : object
        Where it comes from, as text for the message.
    """
    arrays = {**model.parameters, **model.buffers}
    wrong = {name: count for name, array in arrays.items() if (count := int((~np.isfinite(array)).sum()))}
    if wrong:
        numbers = sum(array.size for array in arrays.values())
        _log.warning(
            "%s: %d of %d weights are NaN or infinite, the first in %s: what the network gives means nothing",
            place, sum(wrong.values()), numbers, next(iter(wrong)),
        )  # fmt: skip
