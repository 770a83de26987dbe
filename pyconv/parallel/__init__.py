"""Parallel training: who runs the steps, and how workers' gradients or parameters meet."""

from .choose import engine_for
from .engine import Engine, InProcess, Job, StepReport

__all__ = ["Engine", "InProcess", "Job", "StepReport", "engine_for"]
