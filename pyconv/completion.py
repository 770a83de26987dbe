"""Shell completion by argcomplete, from a table of the flags: to import the commands would take a second each time.

``completion.json`` holds the table. ``make completion`` writes it anew, and a test compares it with the commands.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

TABLE = Path(__file__).with_name("completion.json")

Table = dict[str, dict[str, Any]]
"""By command: what it does (``"what"``) and its arguments (``"arguments"``, as :func:`argument` describes them)."""


def suggest(action: argparse.Action, names: Iterable[str] = (), files: bool = False) -> None:
    """Let completion offer `names` for the value of `action`, and files if `files`; with neither, it offers nothing.

    If this is not called for an action, completion offers its choices, or files if its value is plain text.
    """
    action.suggested = tuple(names), files  # type: ignore[attr-defined]


def argument(action: argparse.Action) -> dict[str, Any]:
    """What completion needs to know about an argument, as JSON can hold it."""
    plain = tuple(action.choices or ()), action.type is None and not action.choices and action.nargs != 0
    names, files = getattr(action, "suggested", plain)
    return {
        "flags": list(action.option_strings) or [action.dest],
        "nargs": action.nargs,
        "names": list(names),
        "files": files,
        "help": action.help,
    }


def parser(program: str, table: Table) -> argparse.ArgumentParser:
    """A parser that is only good for completion.

    Parameters
    ----------
    program : str
        ``"pyconv"``, where the first word is a command, or ``"pyconv.train"`` for one command alone.
    table : dict
        The commands and their arguments.
    """
    _, _, command = program.partition(".")
    made = argparse.ArgumentParser(allow_abbrev=False)
    if command:
        _add(made, table[command]["arguments"])
        return made
    made.add_argument("--version", action="store_true", help="print it and exit")
    commands = made.add_subparsers()
    for name, about in table.items():
        _add(commands.add_parser(name, help=about["what"], allow_abbrev=False), about["arguments"])
    return made


def _add(made: argparse.ArgumentParser, arguments: Iterable[dict[str, Any]]) -> None:
    for each in arguments:
        options = {"action": "store_true"} if each["nargs"] == 0 else {"nargs": each["nargs"]}
        added: Any = made.add_argument(*each["flags"], help=each["help"], **options)
        added.completer = _Offer(each["names"], each["files"])


class _Offer:
    """What argcomplete calls for the possible values of an argument."""

    def __init__(self, names: list[str], files: bool) -> None:
        self._names, self._files = names, files

    def __call__(self, prefix: str, **about: Any) -> list[str]:
        from argcomplete.completers import FilesCompleter

        return [*self._names, *(FilesCompleter()(prefix) if self._files else ())]  # argcomplete picks those that fit


def answer(program: str) -> NoReturn:
    """Tell the shell what may come next on the command line, and leave.

    A shell asks by starting the command. Without argcomplete it gets no answer, but no training starts either.
    """
    try:
        import argcomplete

        made = parser(program, json.loads(TABLE.read_text(encoding="utf-8")))
        argcomplete.autocomplete(made, always_complete_options="long")
    finally:
        os._exit(1)  # autocomplete leaves by itself, unless something is missing
