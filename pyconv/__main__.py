"""``python -m pyconv``: which commands there are; with the name of one, that command."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from .command import Main, Parser, command, script
from .errors import unknown_name

COMMANDS = {
    "train": "train a network on images, or continue a run",
    "sweep": "train under several update rules and seeds, and compare them",
    "predict": "print what a trained network sees in image files",
    "export": "write a trained network as an ONNX file",
    "report": "make the paper's tables and figures from results, or compare runs",
    "info": "print what pyconv finds on this machine, and why anything is missing",
}


def parser() -> Parser:
    """The command's flags."""
    width = max(map(len, COMMANDS))
    return Parser(
        prog="python -m pyconv",
        usage="python -m pyconv COMMAND ...",
        description="Train convolutional networks in parallel. The commands:\n\n"
        + "\n".join(f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()),
        epilog="python -m pyconv COMMAND --help explains one.\npython -m pyconv.COMMAND is the same command.",
    )


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    made = parser()
    if not arguments:
        made.print_help()
        return 0
    if arguments[0].startswith("-"):
        made.parse_args(arguments)
    if arguments[0] not in COMMANDS:
        raise unknown_name("command", arguments[0], COMMANDS)
    chosen: Main = importlib.import_module(f".{arguments[0]}", __package__).main
    return chosen(arguments[1:])


if __name__ == "__main__":
    script(main)
