"""Sends a user's objects to worker processes, wherever their classes and functions are defined.

A spawned process imports the program's main module, and finds classes and functions there by name. It cannot find those
of a notebook's cell, of a prompt or of ``python -c``, nor functions without a name. If cloudpickle is installed, it
sends such classes and functions themselves.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

from ..errors import InputError


class Parcel:
    """An object as cloudpickle wrote it; the worker process receives the object itself."""

    def __init__(self, content: bytes, unpack: Callable[[bytes], Any]) -> None:
        self._content, self._unpack = content, unpack

    def __reduce__(self) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
        return self._unpack, (self._content,)


def parcel(value: Any, name: str) -> Any:
    """`value`, if a spawned process can receive it as it is; else a :class:`Parcel` of it.

    Raises
    ------
    InputError
        If neither works; `name` is what the message calls it.
    """
    reason = "it comes from a notebook, a prompt or python -c, where no other process finds it"
    try:
        if b"__main__" not in bytes(ForkingPickler.dumps(value)):
            return value
        plain = _others_import_main()
    except Exception as error:
        plain, reason = False, " ".join(str(error).split())
    try:
        import cloudpickle
    except ImportError:
        if plain:
            return value
        raise InputError(
            f"the {name} cannot be sent to worker processes: {reason}; pip install cloudpickle, or define what it uses "
            "at the top level of a module"
        ) from None
    try:
        return Parcel(cloudpickle.dumps(value), cloudpickle.loads)
    except Exception as error:
        if plain:
            return value
        raise InputError(
            f"the {name} cannot be sent to worker processes: {' '.join(str(error).split())[:200]}; define what it uses "
            "at the top level of a module"
        ) from None


def _others_import_main() -> bool:
    """Whether a spawned process can import the program's main module: it has a file, or a name to import it by."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    return getattr(main, "__file__", None) is not None or (spec is not None and spec.name != "__main__")
