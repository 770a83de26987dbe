"""Calls a user's functions after steps and epochs of a run; they may stop it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import InputError, short
from ..values import function

Callback = Callable[[dict[str, Any]], object]


class StopTraining(Exception):
    """Raised by a callback of :func:`pyconv.fit`, it ends the run cleanly; returning a true value does the same."""


def _of_one(callback: Callback, name: str) -> Callback:
    """The callback, checked: it can be called with one argument, as far as Python can tell."""
    try:
        inspect.signature(callback).bind({})
    except TypeError as error:
        raise InputError(f"{name} must be callable with one argument, a dict: {short(str(error), 200)}") from None
    except ValueError:  # the function does not tell its arguments
        pass
    return callback


class Callbacks:
    """The user's functions, and which of them has stopped the run.

    Parameters
    ----------
    on_step, on_epoch : callable, optional
        As :func:`pyconv.fit` takes them.
    """

    def __init__(self, on_step: Callback | None = None, on_epoch: Callback | None = None) -> None:
        self._known: dict[str, Callback | None] = {}
        for name, value in (("on_step", on_step), ("on_epoch", on_epoch)):
            self._known[name] = None if value is None else _of_one(function(value, name, f"{name}=print"), name)
        self.stopped_by: str | None = None

    def has(self, name: str) -> bool:
        """Whether there is such a function."""
        return self._known[name] is not None

    def call(self, name: str, about: Mapping[str, Any]) -> bool:
        """Call the function, if there is one; returns whether the run shall stop."""
        callback = self._known[name]
        if callback is None:
            return False
        try:
            stop = bool(callback(dict(about)))
        except StopTraining:
            stop = True
        if stop:
            self.stopped_by = name
        return stop
