"""The one training loop: fit(), the run folder that it leaves, and the progress that it shows."""

from .evaluation import evaluate
from .fitting import fit
from .folder import (
    RunFolder,
    check_free,
    default_folder,
    folder_named,
    holds_run,
    read_config,
    resume_command,
    write_test,
)
from .progress import Progress

__all__ = [
    "Progress",
    "RunFolder",
    "check_free",
    "default_folder",
    "evaluate",
    "fit",
    "folder_named",
    "holds_run",
    "read_config",
    "resume_command",
    "write_test",
]
