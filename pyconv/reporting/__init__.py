"""Reports: the paper's tables and figures from benchmark results, and comparisons of runs."""

from .experiments import experiment_sections
from .page import Picture, Section, Table, write
from .results import Results, read_results
from .run_sections import run_sections
from .runs import Run, read_run, summary
from .sweeps import sweep_sections, sweep_table

__all__ = [
    "Picture",
    "Results",
    "Run",
    "Section",
    "Table",
    "experiment_sections",
    "read_results",
    "read_run",
    "run_sections",
    "summary",
    "sweep_sections",
    "sweep_table",
    "write",
]
