"""Parallel training: who runs the steps, and how workers meet (the paper's §3A, Algorithm 4)."""

from . import messages as messages  # lends the cost model its measurement
from .choose import engine_for, worker_count
from .engine import Engine, InProcess, Job, StepReport
from .memory import SharedMemoryError, share
from .sampler import EpochOrder

__all__ = [
    "Engine",
    "EpochOrder",
    "InProcess",
    "Job",
    "SharedMemoryError",
    "StepReport",
    "engine_for",
    "share",
    "worker_count",
]
