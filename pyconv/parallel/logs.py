"""The workers' log records, brought to the parent's loggers: one file, one terminal, each line with its worker.

The receiving side is multiprocessing-logging's ``MultiProcessingHandler``, one for each worker process. Its own
``install_mp_handler`` knows ``fork`` only, and its own queue makes named semaphores, which a ``kill -9`` would
leave in ``/dev/shm``; so here it reads from a pipe instead. A worker that is killed while it writes spoils the
rest of its own pipe, and nobody else's.
"""

from __future__ import annotations

import logging
import multiprocessing
import queue
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection
from typing import Any

from multiprocessing_logging import MultiProcessingHandler


class PipeQueue:
    """One end of a pipe with the methods of a queue that logging needs."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put_nowait(self, item: Any) -> None:
        """Send; the reader is a thread that does nothing else, so this does not wait for long."""
        self._connection.send(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Receive, or raise ``queue.Empty``; ``EOFError`` when the worker is gone and all is read."""
        if not self._connection.poll(timeout):
            raise queue.Empty
        return self._connection.recv()

    def qsize(self) -> int:
        """0 when nothing can be read."""
        return int(self._connection.poll(0))

    def close(self) -> None:
        """Close this end."""
        self._connection.close()

    def join_thread(self) -> None:
        """A pipe has no thread of its own."""


class _Relay(logging.Handler):
    """Hands a record to the logger of its name in this process."""

    def emit(self, record: logging.LogRecord) -> None:
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)


class WorkerLog(MultiProcessingHandler):
    """Receives what one worker logs. Give :attr:`sender` to its process, and close it here once that has started."""

    def __init__(self, worker: int) -> None:
        receiver, self.sender = multiprocessing.get_context("spawn").Pipe(duplex=False)
        self._pipe = PipeQueue(receiver)
        super().__init__(f"pyconv-log-{worker}", sub_handler=_Relay())

    @property
    def queue(self) -> PipeQueue:
        """What the handler's thread reads from."""
        return self._pipe

    @queue.setter
    def queue(self, value: Any) -> None:
        value.close()  # the queue that the base class makes is never used


class _Ranked(QueueHandler):
    """Sends records to the parent, each marked with its worker."""

    def __init__(self, worker: int, sender: Connection) -> None:
        super().__init__(PipeQueue(sender))
        self._worker = worker

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        record = super().prepare(record)
        record.worker = self._worker
        record.msg = f"[worker {self._worker}] {record.msg}"
        record.message = record.msg
        return record

    def handleError(self, record: logging.LogRecord) -> None:
        """The parent is gone or does not read: there is nobody to tell."""


def send_logs(worker: int, sender: Connection, level: int) -> None:
    """In a worker process: let every log record and every warning go to the parent, and nowhere else."""
    root = logging.getLogger()
    root.handlers[:] = [_Ranked(worker, sender)]
    root.setLevel(level)
    logging.captureWarnings(True)
