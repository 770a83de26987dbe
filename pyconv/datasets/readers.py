"""The table of forms of data on disk: a new form is a file of its own, and one line here."""

# ruff: noqa: F401, I001 - the imports are the table, one line each; the first reader that matches a path reads it.
from .types import Reader
from .fer2013 import READER as _fer2013
from .npz import READER as _npz
from .npy import READER as _npy
from .idx import READER as _idx
from .parquet import READER as _parquet
from .folder import READER as _folder

#: The forms, in the order in which they are tried.
READERS = tuple(value for value in list(globals().values()) if isinstance(value, Reader))
