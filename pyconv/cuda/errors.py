"""The errors that only a GPU raises."""

from __future__ import annotations

from ..errors import RunError


class DeviceMemoryError(RunError, MemoryError):
    """The GPU's memory, or this worker's part of it, is too small."""


class DeviceLostError(RunError):
    """The GPU stopped working during a run; this process can no longer use it."""


class CompileError(RunError):
    """nvcc refused a kernel."""
