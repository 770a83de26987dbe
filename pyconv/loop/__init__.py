"""The training loop: fit(), the run folder that it writes, and the progress that it shows."""

from .callbacks import StopTraining
from .evaluation import evaluate, examine
from .finding import find_lr, rates_in_words
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
from .rates import LearningRates
from .scores import of_model
from .settings import READING, reading

__all__ = [
    "READING",
    "LearningRates",
    "Progress",
    "RunFolder",
    "StopTraining",
    "check_free",
    "default_folder",
    "evaluate",
    "examine",
    "find_lr",
    "fit",
    "folder_named",
    "holds_run",
    "of_model",
    "rates_in_words",
    "read_config",
    "reading",
    "resume_command",
    "write_test",
]
