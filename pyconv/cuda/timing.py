"""Times by events on the device, as the paper reports them: of kernels alone, or of whole calls with their copies."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from . import device as door

#: The most calls that are queued at once: a driver's queue holds about a thousand launches.
MOST_CALLS = 64


def kernels(run: Callable[[], Any], calls: int = 1) -> float:
    """Mean seconds that the device takes for the work that `run` starts.

    Parameters
    ----------
    run : callable
        Starts work on arrays that are on the device already, and does not wait for it. It is called ``calls + 1``
        times; compile what it needs first.
    calls : int
        Calls that are timed as one, no more than :data:`MOST_CALLS`.

    Returns
    -------
    float
        Seconds of a call. The device is kept busy until all calls are queued, so gaps between launches, in which it
        would wait for the host, are not counted.
    """
    device = door.current()
    device.synchronise()
    began = time.perf_counter()
    run()
    host_ms = 1e3 * (time.perf_counter() - began)
    device.hold(1.5 * host_ms * calls + 0.1)
    with device.timer() as timer:
        for _ in range(calls):
            run()
    return timer.milliseconds / 1e3 / calls


def whole(run: Callable[[], Any], calls: int = 1) -> float:
    """Mean seconds from the start of a call to its end on the device, with copies and waiting for the host."""
    device = door.current()
    device.synchronise()
    with device.timer() as timer:
        for _ in range(calls):
            run()
    return timer.milliseconds / 1e3 / calls
