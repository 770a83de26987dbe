"""The parser of the command ``train``, with all its flags."""

from __future__ import annotations

from ..command import Parser
from .how import add_how
from .leaves import add_leaves
from .what import add_what
from .where import add_where

EXAMPLES = """examples:
  python -m pyconv.train                                      synthetic faces, model fer
  python -m pyconv.train --data fer2013.csv --model fer-bn --flip --shift 3 --epochs 30
  python -m pyconv.train --data /usr/share/datasets/fashion-mnist --model 5-50-100-10
  python -m pyconv.train --resume runs/2026-01-31-120000      continue a stopped run
  python -m pyconv.train --data fer2013.csv --model fer-bn --find-lr

exit status: 0 done; 1 the run failed; 2 the arguments or the data are wrong;
             130 interrupted, after a checkpoint
"""


def parser() -> Parser:
    """The command's flags. All default to None, so that those given can be told from those left out."""
    made = Parser(
        "train",
        description="Train a network on images, or continue a run.",
        epilog=EXAMPLES,
        argument_default=None,
    )
    for add in (add_what, add_how, add_where, add_leaves):
        add(made)
    return made
