"""The workers' log records, brought to the parent's loggers: one file, one terminal, each line with its worker.

The receiving side is multiprocessing-logging's ``MultiProcessingHandler``, one for each worker process. Its own
``install_mp_handler`` knows ``fork`` only, and its own queue makes named semaphores, which a ``kill -9`` would
leave in ``/dev/shm``; so here it reads from a pipe instead. A worker that is killed while it writes spoils the
rest of its own pipe, and nobody else's.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import queue
import sys
import threading
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any

from multiprocessing_logging import MultiProcessingHandler

from .. import runlog

_PLAIN = (str, int, float, type(None))


class PipeQueue:
    """One end of a pipe with the methods of a queue that logging needs."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put_nowait(self, item: Any) -> None:
        """Send; the reader is a thread that does nothing else, so this does not wait for long."""
        self._connection.send(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Receive, or raise ``queue.Empty``; ``EOFError`` when the worker is gone and all is read.

        What cannot be read, for the parent lacks a module that the worker has, becomes a record that says so.
        """
        if not self._connection.poll(timeout):
            raise queue.Empty
        data = self._connection.recv_bytes()
        try:
            return ForkingPickler.loads(data)
        except Exception as error:
            text = f"Logging error: a worker's record cannot be read: {type(error).__name__}: {error}"
            return logging.LogRecord("pyconv.parallel", logging.ERROR, __file__, 0, text, None, None)

    def qsize(self) -> int:
        """0 when nothing can be read."""
        return int(self._connection.poll(0))

    def close(self) -> None:
        """Close this end."""
        self._connection.close()

    def join_thread(self) -> None:
        """A pipe has no thread of its own."""


class _Relay(logging.Handler):
    """Says in this process what a worker has said."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            runlog.deliver(record)
        except Exception:  # a handler of the program's own failed: the worker is heard all the same
            self.handleError(record)


class WorkerLog(MultiProcessingHandler):
    """Receives what one worker logs. Give :attr:`sender` to its process, and close it here once that has started."""

    def __init__(self, worker: int) -> None:
        receiver, self.sender = multiprocessing.get_context("spawn").Pipe(duplex=False)
        # As the base class begins, but with a pipe: its own queue needs semaphores, and those a /dev/shm to write to.
        logging.Handler.__init__(self)
        self.sub_handler = _Relay()
        self.queue = PipeQueue(receiver)
        self._is_closed = False
        self._receive_thread = threading.Thread(target=self._receive, name=f"pyconv-log-{worker}", daemon=True)
        try:
            self._receive_thread.start()
        except RuntimeError:  # there is no thread to be had
            receiver.close()
            self.sender.close()
            raise

    def close(self) -> None:
        """Do nothing: ``logging.config.dictConfig`` closes every handler there is, and workers go on."""

    def end(self) -> None:
        """Hear no more, once all is read that was sent."""
        super().close()


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

    def enqueue(self, record: logging.LogRecord) -> None:
        """Send the record; where something in it cannot be sent, what is said and when, and then say so."""
        try:
            super().enqueue(record)
        except OSError:
            raise
        except Exception:
            plain = {name: value for name, value in vars(record).items() if isinstance(value, _PLAIN)}
            super().enqueue(logging.makeLogRecord(plain))
            raise

    def handleError(self, record: logging.LogRecord) -> None:
        """Say what is wrong with a record; unless the parent is gone or does not read: there is nobody to tell."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            return
        with contextlib.suppress(Exception):
            text = (
                f"[worker {self._worker}] Logging error: {type(error).__name__}: {error}; message {record.msg!r}, "
                f"from {record.pathname}:{record.lineno}"
            )
            super().enqueue(logging.makeLogRecord({**_SAID, "name": record.name, "msg": text, "message": text}))


_SAID = {"levelno": logging.ERROR, "levelname": "ERROR"}


def send_logs(worker: int, sender: Connection, level: int) -> None:
    """In a worker process: let every log record and every warning go to the parent, and nowhere else."""
    handler = _Ranked(worker, sender)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    runlog.heard_by_alone(handler)
    logging.captureWarnings(True)
