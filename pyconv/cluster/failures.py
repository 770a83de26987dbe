"""Turns an error into bytes and back, so that all ranks of a cluster can end with the error of one rank."""

from __future__ import annotations

import json
from typing import Any

from .. import errors
from ..errors import Interrupted, PyconvError, RunError
from ..interrupts import NOTHING

_KINDS: dict[str, Any] = {
    kind.__name__: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, (PyconvError, Interrupted))
}


def written(error: BaseException) -> bytes:
    """The bytes that tell the other ranks of an error."""
    kind = next((each.__name__ for each in type(error).__mro__ if each.__name__ in _KINDS), None)
    try:
        text = " ".join(str(error).split())
    except Exception:  # of a user's own class
        text = ""
    if kind is None and isinstance(error, KeyboardInterrupt):
        kind, text = "Interrupted", NOTHING
    elif kind is None:
        kind, text = "RunError", f"failed: {type(error).__name__}: {text}"
    return json.dumps({"kind": kind, "text": text}).encode()


def read(data: bytes, before: str = "") -> PyconvError | Interrupted:
    """The error in such bytes, with `before` in front of its message."""
    found = json.loads(data)
    return made(found["kind"], before + found["text"])


def made(kind: str, text: str) -> PyconvError | Interrupted:
    """The error that all ranks raise, of the class with this name."""
    error: PyconvError | Interrupted = _KINDS.get(kind, RunError)(text)
    return error
