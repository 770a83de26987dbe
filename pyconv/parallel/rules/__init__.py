"""The update rules by name. A new rule is a new class in a new file, and one line here."""

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

#: The rules by name, in the order in which the documentation teaches them.
RULES: dict[str, type[Rule]] = {rule.name: rule for rule in (Sync, Async, SSP, Hogwild, Local, EASGD)}


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
        The value when it is not given, by the name of the rule.
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
    """The update rule of a name, with options.

    Parameters
    ----------
    update : str or Rule
        One of :data:`RULES`; a rule is given back as it is.
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
    update = choice(update, "update rule", RULES)
    known = [field.name for field in dataclasses.fields(RULES[update])]
    for name in options:
        if name not in known:
            raise unknown_name(f"option of update {update!r}", name, known)
    return RULES[update](**options)


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
    "option",
    "rule_for",
]
