"""Memory that is kept from call to call: fresh memory costs a page fault every 4 KiB."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np

#: Larger arrays are not kept.
MOST_KEPT = 64 << 20

_of_this_thread = threading.local()


def kept(name: str, shape: tuple[int, ...], dtype: Any) -> Any:
    """An array of garbage, the same memory for the same name on the same thread: until the next call for it."""
    nbytes = math.prod(shape) * np.dtype(dtype).itemsize
    if nbytes > MOST_KEPT:
        return np.empty(shape, dtype)
    memory = getattr(_of_this_thread, name, None)
    if memory is None or memory.nbytes < nbytes:
        memory = np.empty(nbytes, np.uint8)
        setattr(_of_this_thread, name, memory)
    return memory[:nbytes].view(dtype).reshape(shape)
