"""``python -m pyconv.report``: the paper's tables and figures from benchmark results, or a comparison of runs."""

from __future__ import annotations

from collections.abc import Sequence

from .command import Parser, command, script
from .errors import InputError
from .reporting import experiment_sections, read_results, read_run, run_sections, summary, write
from .reporting.page import markdown_table
from .reporting.runs import distinct
from .values import path as as_path

DESCRIPTION = "Write the paper's tables and figures from benchmarks' results, or a comparison of runs."
EXAMPLES = """Files are results of pytest --benchmark-only (bench/results/*.json, or its
--benchmark-json FILE); folders are runs of pyconv.train. Both write report.md,
pictures, and report.html, which needs no other file.

examples:
  python -m pyconv.report bench/results/*.json -o report
  python -m pyconv.report runs/one-worker runs/two-workers -o comparison

exit status: 0 done; 1 the report cannot be written; 2 an argument, a file or a folder
is wrong
"""


def parser() -> Parser:
    """The command's flags."""
    made = Parser("report", description=DESCRIPTION, epilog=EXAMPLES)
    made.add_argument("sources", metavar="RESULTS.json|RUN_DIR", nargs="+", help="benchmarks' results, or run folders")
    made.add_argument("-o", "--out", metavar="DIR", default="report", help="folder for the report (default: report)")
    made.add_argument("--no-evaluate", action="store_true", help="do not run models to score them by class")
    return made


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = parser().parse_args(argv)
    sources = [as_path(source, "file or folder") for source in args.sources]
    as_path(args.out, "--out")
    for source in sources:
        if not source.exists():
            raise InputError(f"{source}: there is no such file or folder; give results of benchmarks or run folders")
    folders = [source for source in sources if source.is_dir()]
    files = [source for source in sources if not source.is_dir()]
    sections = []
    title = "pyconv: the paper's experiments" if files else "pyconv: runs compared"
    if files:
        sections += experiment_sections(read_results(files))
    if folders:
        runs = distinct([read_run(folder, evaluate=not args.no_evaluate) for folder in folders])
        print("\n".join(markdown_table(summary(runs))))
        sections += run_sections(runs)
    written = write(args.out, title, sections)
    print(f"{written[-1]}  (and {len(written) - 1} files beside it)")
    return 0


if __name__ == "__main__":
    script(main)
