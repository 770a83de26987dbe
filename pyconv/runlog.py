"""pyconv's loggers: their records reach a run's own log and display, whatever the program does with ``logging``.

The program may configure the standard loggers: ``logging.config.dictConfig`` disables existing ones, and a level or
``logging.disable`` silences them. But what a run says, such as a worker's death, must be in its ``log.txt``. So a
record goes to the run's own handlers first, and then to the standard logger of its name.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

LEVEL = logging.INFO
"""The lowest level that a run's handlers hear."""

_handlers: list[logging.Handler] = []
_alone = False


class RunLogger(logging.LoggerAdapter[logging.Logger]):
    """Passes records to the run's handlers and to the standard logger; made by :func:`logger`."""

    def isEnabledFor(self, level: int) -> bool:
        """Whether any handler would hear a record of this level."""
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
    """The logger of that name; every module of pyconv gets its logger here."""
    return RunLogger(logging.getLogger(name), {})


def hand_over(record: logging.LogRecord) -> None:
    """Pass a record to the run's handlers."""
    for handler in list(_handlers):
        if record.levelno >= handler.level:
            handler.handle(record)


def deliver(record: logging.LogRecord) -> None:
    """Log a record that came from a worker process."""
    ours = record.name.partition(".")[0] == "pyconv"
    if ours and record.levelno >= LEVEL:
        hand_over(record)
    standard = logging.getLogger(record.name)
    if standard.isEnabledFor(record.levelno) and (not ours or _wanted(standard)):
        standard.handle(record)


def _wanted(standard: logging.Logger) -> bool:
    """Whether the standard logger gets a record too: without handlers it would print what the run has already shown."""
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
