"""Makes update rules by name and options, for programs and the command line; :mod:`.table` lists them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import InputError, unknown_name
from ...values import choice, mapping
from ..kernels import kernel
from .asynchronous import SSP, Async
from .base import Needs, Rule, option
from .easgd import EASGD
from .hogwild import Hogwild
from .local import Local
from .sync import Sync
from .table import RULES


@dataclass(frozen=True)
class Option:
    """An option that some rules have, for a command line: ``--sync-every`` for `sync_every`.

    Attributes
    ----------
    name : str
        As ``sync_every``.
    type : type
        int, float, or bool for a switch.
    default : object
        By rule, the value if none is given.
    help : str
        Which rules have it, and what it does.
    """

    name: str
    type: type
    default: Mapping[str, Any]
    help: str


def _options() -> dict[str, Option]:
    kinds = {"int": int, "float | None": float, "float": float, "bool": bool}
    found: dict[str, Option] = {}
    for name, rule in RULES.items():
        for field in dataclasses.fields(rule):
            known = found.get(field.name)
            help = f"{name}: {field.metadata['help']}"
            default = {**(known.default if known else {}), name: field.default}
            found[field.name] = Option(
                field.name, kinds[str(field.type)], default, f"{known.help}; {help}" if known else help
            )
    return found


#: All options of all rules, by name.
OPTIONS: dict[str, Option] = _options()


def rule_for(update: str | Rule, options: Mapping[str, Any] | None = None) -> Rule:
    """The update rule with a name and options.

    Parameters
    ----------
    update : str or Rule
        One of :data:`RULES`; a rule is returned as it is.
    options : mapping, optional
        The rule's options by name, such as ``{"staleness": 4}``.

    Returns
    -------
    Rule

    Raises
    ------
    UnknownNameError
        If there is no such rule, or the rule has no such option.
    InputError
        If an option's value is not possible.
    """
    options = mapping(options, "options", "{'staleness': 4}")
    if isinstance(update, Rule):
        if options:
            raise InputError(f"the rule {update.describe()} is complete: give the option {next(iter(options))} to it")
        return update
    return made(RULES[choice(update, "update rule", RULES)], options)


def made(kind: type[Rule], options: Mapping[str, Any]) -> Rule:
    """A rule of a class, with these options.

    Parameters
    ----------
    kind : type
        A subclass of :class:`Rule`.
    options : mapping
        By name.

    Returns
    -------
    Rule

    Raises
    ------
    UnknownNameError
        If the rule has no such option.
    InputError
        If an option's value is not possible.
    """
    known = [field.name for field in dataclasses.fields(kind)]
    for name in options:
        if name not in known:
            raise unknown_name(f"option of update {kind.name!r}", name, known)
    return kind(**options)


__all__ = [
    "EASGD",
    "OPTIONS",
    "RULES",
    "SSP",
    "Async",
    "Hogwild",
    "Local",
    "Needs",
    "Option",
    "Rule",
    "Sync",
    "kernel",
    "made",
    "option",
    "rule_for",
]
