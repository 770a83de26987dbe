"""The errors that only a GPU has."""

from __future__ import annotations

from ..errors import RunError


class DeviceMemoryError(RunError, MemoryError):
    """The GPU's memory, or this worker's share of it, does not suffice."""


class DeviceLostError(RunError):
    """The GPU stopped working in mid-run; nothing more can be done with it in this process."""


class CompileError(RunError):
    """nvcc refused a kernel."""
