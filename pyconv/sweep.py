"""``python -m pyconv.sweep``: the same training under several update rules and seeds, in one table and one picture."""

from __future__ import annotations

import shlex
from argparse import SUPPRESS, Action
from collections.abc import Sequence
from pathlib import Path

from . import train
from .cluster import launched
from .command import Parser, command, script, whole
from .completion import suggest
from .documents import read_text
from .errors import InputError, Interrupted, is_text, shown
from .files import write_atomically
from .loop import read_config
from .loop.folder import METRICS
from .parallel.rules import RULES
from .reporting import Run, read_run, sweep_sections, sweep_table, write
from .reporting.page import markdown_table
from .values import choice
from .values import path as as_path

DESCRIPTION = "Train under several update rules, with several seeds each, and compare them."
EXAMPLES = """All other flags are those of the command train, and are the same for every run; without
--workers there are two. Each run has its folder, DIR/RULE-SEED; a sweep that was
stopped goes on where it was, and runs that are complete are not repeated. The table
shows means over the seeds, and DIR/report has it with a picture, whose error bars
reach from the worst seed to the best.

example:
  python -m pyconv.sweep --updates sync,hogwild --seeds 3 --workers 4 --epochs 5

exit status: 0 done; 1 a run failed; 2 an argument or the data are wrong;
             130 interrupted: the same command goes on
"""

#: Flags of pyconv.train that differ from run to run, or that only a single run can have.
OWN = ("seed", "update", "out", "resume", "trace", "cluster")

FLAGS = "flags.txt"

MOST_SEEDS = 1000


def parser() -> Parser:
    """The command's own flags."""
    made = Parser("sweep", description=DESCRIPTION, epilog=EXAMPLES)
    updates = made.add_argument(
        "--updates", metavar="RULE,...", default=",".join(RULES), help=f"update rules (default: {', '.join(RULES)})"
    )
    suggest(updates, RULES)
    made.add_argument(
        "--seeds", metavar="N", type=whole(1, MOST_SEEDS), default=3, help="seeds 0 to N - 1 for each (default: 3)"
    )
    made.add_argument("--out", metavar="DIR", default="runs/sweep", help="folder of the runs (default: runs/sweep)")
    return made


def all_flags() -> list[Action]:
    """The command's own flags, and those of pyconv.train that it takes for every run."""
    own = parser()._actions
    names = {*OWN, "find_lr", *(action.dest for action in own)}
    return [*own, *(action for action in train.parser()._actions if action.dest not in names)]


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args, rest = parser().parse_known_args(argv)
    parsed = vars(train.parser().parse_args(rest)).items()
    flags = {name: value for name, value in parsed if value is not None and value is not SUPPRESS}
    if launched() is not None:
        raise InputError("a sweep is one process: start it without mpiexec or srun")
    if "workers" not in flags:  # the update rule of a single worker makes no difference
        rest += ["--workers", "2"]
    for name in OWN:
        if name in flags:
            raise InputError(f"--{name} differs from run to run of a sweep: leave it out")
    if "find_lr" in flags:
        raise InputError("--find-lr leaves no run, and a sweep is made of them: find the rate first, with train")
    rules = [choice(rule.strip(), "update rule", RULES) for rule in args.updates.split(",")]
    folder = as_path(args.out, "--out", text=True)
    _same_flags(folder, rest)
    runs = {(rule, seed): folder / f"{rule}-{seed}" for seed in range(args.seeds) for rule in dict.fromkeys(rules)}
    worst = 0
    for number, ((rule, seed), place) in enumerate(runs.items(), 1):
        what = f"run {number} of {len(runs)}: {rule}, seed {seed}"
        if complete(place):
            print(f"{what}: complete in {place}")
            continue
        print(what, flush=True)
        progress = ["--progress", flags["progress"]] if "progress" in flags else []
        new = [*rest, "--update", rule, "--seed", str(seed), "--out", str(place)]
        status = train.main(["--resume", str(place), *progress] if (place / "checkpoint").is_dir() else new)
        if status in (InputError.exit_status, Interrupted.exit_status):
            if not any(run.exists() for run in runs.values()):  # nothing was trained with these flags
                (folder / FLAGS).unlink()
                folder.rmdir()
            return status
        worst = max(worst, status)
    return _report(folder, runs, worst)


def complete(place: Path) -> bool:
    """Whether a folder holds a run with all its epochs, or one that reached its target accuracy."""
    if not (place / METRICS).is_file():
        return False
    training, history = read_config(place)["training"], read_run(place, evaluate=False).history
    target = training.get("target_accuracy")
    return len(history) >= training["epochs"] or (target is not None and (history[-1]["val_accuracy"] or 0) >= target)


def _same_flags(folder: Path, rest: list[str]) -> None:
    """Save the flags of all runs beside them; raise an error if the sweep was begun with other flags."""
    for word in rest:
        if not is_text(word):
            raise InputError(
                f"{shown(word)} is not UTF-8 text, and a sweep writes its flags to a file; rename the file or folder"
            )
    written, flags = folder / FLAGS, shlex.join(rest) + "\n"
    if written.is_file():
        before = read_text(written)
        if before != flags:
            raise InputError(f"{folder}: its runs have the flags {before.strip()!r}: take those, or another --out")
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: is there and holds no sweep; take another --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(written, flags.encode())
    except OSError as error:
        raise InputError(f"{shown(str(folder))}: cannot be written to: {error.strerror}") from None


def _report(folder: Path, runs: dict[tuple[str, int], Path], worst: int) -> int:
    """Print the table of the complete runs, and write it with its picture."""
    groups: dict[str, list[Run]] = {}
    for (rule, _), place in runs.items():
        if complete(place):
            groups.setdefault(rule, []).append(read_run(place, evaluate=False))
    if groups:
        print("\n".join(markdown_table(sweep_table(groups))))
        print(write(folder / "report", "pyconv: update rules over seeds", sweep_sections(groups))[-1])
    missing = [f"{rule} with seed {seed}" for (rule, seed), place in runs.items() if not complete(place)]
    if missing:
        print(f"not complete: {', '.join(missing)}")
    return worst


if __name__ == "__main__":
    script(main)
