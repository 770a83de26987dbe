"""The name of the data, as a run records it."""

from __future__ import annotations

import os

from .. import datasets
from ..errors import InputError, is_text, shown


def absolute(source: str) -> str:
    """The data's name, or its path as an absolute path."""
    if source in datasets.NAMED:
        return source
    place = os.path.realpath(source)  # Path.resolve raises if links run in a circle
    if not is_text(place):  # the path is written to the run's files
        raise InputError(f"--data {shown(place)}: the name is not UTF-8 text; rename the file or folder")
    return place
