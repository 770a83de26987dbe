"""What a planted mistake is."""

from __future__ import annotations

from typing import NamedTuple


class Mutation(NamedTuple):
    """A mistake that somebody could make.

    Attributes
    ----------
    file : str
        In ``pyconv``.
    old, new : str
        What stands there, once, and what takes its place.
    why : str
        What the mistake breaks.
    tests : str
        Test modules that ought to find it, without ``test_``: they are run first.
    words : str
        As pytest's ``-k``: those of their tests that come before the others, where others take long.
    """

    file: str
    old: str
    new: str
    why: str
    tests: str
    words: str = ""
