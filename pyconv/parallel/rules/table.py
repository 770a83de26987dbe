"""The table of update rules: a new rule is a class in a file of its own, and one line here."""

# ruff: noqa: F401, I001 - the imports are the table, one line each, in the order in which the documentation teaches
# the rules.
from .base import Rule
from .sync import Sync
from .asynchronous import Async, SSP
from .hogwild import Hogwild
from .local import Local
from .easgd import EASGD

#: The rules by name.
RULES: dict[str, type[Rule]] = {
    kind.name: kind
    for kind in list(globals().values())
    if isinstance(kind, type) and issubclass(kind, Rule) and kind.name
}
