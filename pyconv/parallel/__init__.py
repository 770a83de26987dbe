"""Parallel training: the engines that run the steps, and the update rules by which workers meet (§3A, Algorithm 4)."""

from .choose import engine_for, worker_count
from .engine import Engine, InProcess, Job, StepReport
from .guard import check_main_guard
from .memory import SharedMemoryError, share
from .rules import OPTIONS, RULES, Needs, Rule, rule_for
from .sampler import EpochOrder, check_shares, smallest_batch
from .weighing import Weighing

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
    "Weighing",
    "check_main_guard",
    "check_shares",
    "engine_for",
    "rule_for",
    "share",
    "smallest_batch",
    "worker_count",
]
