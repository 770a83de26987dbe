"""``python -m pyconv.cluster``: trains on ranks, and starts them again when one has died."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from ..command import Parser, command, script, whole
from ..errors import InputError
from ..loop.folder import CHECKPOINT, CONFIG, CURVES, default_folder
from .restarts import Restarts, launcher


def parser() -> Parser:
    """The command's flags."""
    made = Parser(
        "cluster",
        usage="python -m pyconv.cluster [-n RANKS] [--restarts TIMES] [--mpiexec COMMAND] -- FLAGS",
        description="Start ranks with MPI's launcher, as mpiexec -n RANKS python -m pyconv.train FLAGS does,\n"
        "and start them again when a rank has died: the run goes on from its last checkpoint.",
        epilog="FLAGS are those of python -m pyconv.train, with --out, the run folder (default: runs/<time>).\n\n"
        "  python -m pyconv.cluster -n 4 --restarts 3 -- --data /shared/images --model fer --out runs/faces",
    )
    made.add_argument("-n", dest="ranks", type=whole(1), default=2, metavar="RANKS", help="default: %(default)s")
    made.add_argument(
        "--restarts", type=whole(0), default=3, metavar="TIMES", help="how often to start again (default: %(default)s)"
    )
    made.add_argument(
        "--mpiexec", default=None, metavar="COMMAND",
        help='the launcher and its flags, as "mpiexec --bind-to none" (default: that beside this Python, or on PATH)',
    )  # fmt: skip
    return made


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    words = sys.argv[1:] if argv is None else list(argv)
    own, flags = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    args = parser().parse_args(own)
    if not flags:
        raise InputError("give the flags of the training after --, as in: python -m pyconv.cluster -n 4 -- --data DIR")
    for flag in ("--resume", "--find-lr"):
        if any(word == flag or word.startswith(f"{flag}=") for word in flags):
            raise InputError(f"{flag} is not for ranks that are started again: give --out, where a run goes on")
    if _value(flags, "--cluster") == "off":
        raise InputError("with --cluster off each rank would train by itself: leave it out, or start pyconv.train")
    named = _value(flags, "--out")
    out = Path(default_folder()) if named is None else Path(named)
    if named is None:
        flags = [*flags, "--out", str(out)]
    launch = [launcher()] if args.mpiexec is None else _words(args.mpiexec)
    train = [sys.executable, "-m", "pyconv.train", *flags, "--resume", "auto"]
    ranks = [*launch, "-n", str(args.ranks), *train]
    files = {"checkpoint": out / CHECKPOINT, "proof": out / CURVES, "settings": out / CONFIG}
    Restarts(ranks, args.restarts, say=_say, **files).run()
    return 0


def _words(launcher: str) -> list[str]:
    """The words of the launcher's command."""
    try:
        found = shlex.split(launcher)
    except ValueError as error:
        raise InputError(f"--mpiexec is no command: {error}") from None
    if not found:
        raise InputError("--mpiexec needs a command")
    return found


def _value(flags: Sequence[str], flag: str) -> str | None:
    """The value of a flag of the training."""
    found = None
    for word, following in zip(flags, [*flags[1:], None]):
        if word == flag and following is None:
            raise InputError(f"{flag} needs a value")
        if word == flag or word.startswith(f"{flag}="):
            found = str(following) if word == flag else word.partition("=")[2]
    return found


def _say(line: str) -> None:
    print(f"pyconv: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    script(main)
