"""The table of optimizers: a new one is a class in a file of its own, and one line here."""

# ruff: noqa: F401, I001 - the imports are the table, one line each, in the order in which the documentation lists them.
from .base import Optimizer
from .sgd import SGD
from .adagrad import Adagrad
from .adadelta import Adadelta
from .adam import Adam, AdamW
from .adamax import AdaMax

#: The optimizers by name.
OPTIMIZERS: dict[str, type[Optimizer]] = {
    kind.__name__.lower(): kind
    for kind in list(globals().values())
    if isinstance(kind, type) and issubclass(kind, Optimizer) and kind is not Optimizer
}
