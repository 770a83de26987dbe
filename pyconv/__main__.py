# PYTHON_ARGCOMPLETE_OK
"""``pyconv`` and ``python -m pyconv``: lists the commands; with a command's name, runs that command."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence
from typing import NoReturn

from . import completion
from .command import Main, Parser, command, script
from .errors import unknown_name
from .invocation import typed

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
        usage=f"{typed()} COMMAND ...",
        description="Train convolutional networks in parallel. The commands:\n\n"
        + "\n".join(f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()),
        epilog=f"{typed()} COMMAND --help explains one.\npython -m pyconv.COMMAND is the same command.",
    )


def completions() -> completion.Table:
    """What shell completion needs to know of the commands."""
    table = {}
    for name, what in COMMANDS.items():
        module = importlib.import_module(f".{name}", __package__)
        actions = module.all_flags() if hasattr(module, "all_flags") else module.parser()._actions
        arguments = [completion.argument(action) for action in actions if action.dest != "help"]
        table[name] = {"what": what, "arguments": arguments}
    return table


def write_completions() -> None:
    """Write the table of shell completion anew."""
    parts = []
    for name, about in completions().items():
        lines = ",\n  ".join(json.dumps(each, ensure_ascii=False) for each in about["arguments"])
        parts.append(f' "{name}": {{"what": {json.dumps(about["what"])}, "arguments": [\n  {lines}\n ]}}')
    completion.TABLE.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


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


def program() -> NoReturn:
    """The console command ``pyconv``."""
    script(main)


if __name__ == "__main__":
    program()
