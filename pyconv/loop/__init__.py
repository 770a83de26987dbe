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
from .settings import READING, reading

__all__ = [
    "READING",
    "Progress",
    "RunFolder",
    "check_free",
    "default_folder",
    "evaluate",
    "fit",
    "folder_named",
    "holds_run",
    "read_config",
    "reading",
    "resume_command",
    "write_test",
]
