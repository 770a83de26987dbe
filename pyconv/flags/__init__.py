"""The flags of the command ``train``, and the arguments of `fit` that they become.

parsing.py        the whole parser
what.py, how.py, where.py, leaves.py
                  its groups of flags: what is trained, how, where, and what a run leaves and shows
group.py          how a flag is added: its default, and the values that shell completion offers
types.py          flags whose values have a form of their own, such as ``64x64`` or ``0-5``
new_run.py        the arguments of `fit` for a new run
continued_run.py  the same for a run that is continued
model.py          the network that ``--model`` names
source.py         the name of the data, as a run records it
stopping.py       when to stop early
searching.py      ``--find-lr``: looks for a learning rate instead of training
ranks.py          the command on the ranks of a cluster
"""

from .continued_run import continued
from .new_run import AUTO, new
from .parsing import parser
from .ranks import cluster, on_ranks, same_flags
from .searching import search

__all__ = ["AUTO", "cluster", "continued", "new", "on_ranks", "parser", "same_flags", "search"]
