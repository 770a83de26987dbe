"""Times by events on the device, as the paper reports them: kernels alone, or with the copies of a whole call."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from . import device as door

#: Calls that are queued at once at most: a driver's queue holds about a thousand launches.
MOST_CALLS = 64


def kernels(run: Callable[[], Any], calls: int = 1) -> float:
    """Mean seconds that the device takes for what `run` starts there.

    Parameters
    ----------
    run : callable
        Starts work on arrays that are on the device already, and does not wait for it. It is called once more than
        `calls` says; compile what it needs first.
    calls : int
        Calls that are timed as one, no more than :data:`MOST_CALLS`.

    Returns
    -------
    float
        Seconds of a call. The device is held up until all calls are queued, so that gaps between launches, in which it
        would wait for the host, are not in it.
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
    """Mean seconds from the start of a call to its end on the device, copies and waiting for the host included."""
    device = door.current()
    device.synchronise()
    with device.timer() as timer:
        for _ in range(calls):
            run()
    return timer.milliseconds / 1e3 / calls
