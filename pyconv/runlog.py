"""pyconv's loggers. What they say reaches a run's own log and display, whatever the program does with ``logging``.

The standard loggers are the program's to configure: ``logging.config.dictConfig`` disables those that exist, a level
or ``logging.disable`` silences them. What a run has said, a worker's death for one, must be in its ``log.txt`` all the
same. So a record goes to the run's own handlers first, and then to the standard logger of its name, as everybody's.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

LEVEL = logging.INFO
"""Of the least that a run's handlers hear."""

_handlers: list[logging.Handler] = []
_alone = False


class RunLogger(logging.LoggerAdapter[logging.Logger]):
    """Hands records to the run's handlers and to the standard logger; made by :func:`logger`."""

    def isEnabledFor(self, level: int) -> bool:
        """Whether anybody hears."""
        return (bool(_handlers) and level >= LEVEL) or self.logger.isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Leave everything as it is."""
        return msg, kwargs

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Say `msg % args`, as :meth:`logging.Logger.log` does."""
        if _handlers and level >= LEVEL:
            error = sys.exc_info() if kwargs.get("exc_info") else None
            hand_over(logging.LogRecord(self.logger.name, level, __file__, 0, msg, args, error))
        if not _alone and self.logger.isEnabledFor(level) and _wanted(self.logger):
            self.logger.log(level, msg, *args, **{**kwargs, "stacklevel": kwargs.get("stacklevel", 1) + 1})


def logger(name: str) -> RunLogger:
    """The logger of that name, of pyconv's own: every module takes its from here."""
    return RunLogger(logging.getLogger(name), {})


def hand_over(record: logging.LogRecord) -> None:
    """Give a record to the run's handlers."""
    for handler in list(_handlers):
        if record.levelno >= handler.level:
            handler.handle(record)


def deliver(record: logging.LogRecord) -> None:
    """Say what another process, a worker, has said."""
    ours = record.name.partition(".")[0] == "pyconv"
    if ours and record.levelno >= LEVEL:
        hand_over(record)
    standard = logging.getLogger(record.name)
    if standard.isEnabledFor(record.levelno) and (not ours or _wanted(standard)):
        standard.handle(record)


def _wanted(standard: logging.Logger) -> bool:
    """Whether the standard logger is to have a record too: without handlers it would print what a run has shown."""
    return not _handlers or standard.hasHandlers()


@contextmanager
def heard_by(handler: logging.Handler) -> Iterator[None]:
    """Within it, `handler` hears what pyconv's loggers say at :data:`LEVEL` and above."""
    _handlers.append(handler)
    try:
        yield
    finally:
        _handlers.remove(handler)


def heard_by_alone(handler: logging.Handler) -> None:
    """From here on, `handler` alone hears what pyconv's loggers say in this process."""
    global _alone
    _handlers[:] = [handler]
    _alone = True
