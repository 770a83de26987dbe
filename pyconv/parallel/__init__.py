"""Parallel training: who runs the steps, and how workers meet (the paper's §3A, Algorithm 4)."""

from . import messages as messages  # lends the cost model its measurement
from .choose import advised_workers, engine_for, worker_count
from .engine import Engine, InProcess, Job, StepReport
from .guard import check_main_guard
from .memory import SharedMemoryError, share
from .rules import OPTIONS, RULES, Needs, Rule, rule_for
from .sampler import EpochOrder, check_shares, smallest_batch

__all__ = [
    "OPTIONS",
    "RULES",
    "Engine",
    "EpochOrder",
    "InProcess",
    "Job",
    "Needs",
    "Rule",
    "SharedMemoryError",
    "StepReport",
    "advised_workers",
    "check_main_guard",
    "check_shares",
    "engine_for",
    "rule_for",
    "share",
    "smallest_batch",
    "worker_count",
]
