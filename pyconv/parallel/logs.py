"""Brings the workers' log records to the parent's loggers: one file, one terminal, each line with its worker.

multiprocessing-logging's ``MultiProcessingHandler`` receives them, one handler for each worker process: its thread,
which hands on what it reads until everything is read. Its ``install_mp_handler`` supports ``fork`` only, and its queue
needs semaphores. So here the thread reads from a pipe, and the standard ``QueueHandler`` writes to the other end. A
worker that is killed while it writes spoils the rest of its own pipe only.
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


class _Records:
    """The end of a pipe that is read, with the methods of a queue that the receiving thread uses."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self.close = connection, connection.close

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Receive an item, or raise ``queue.Empty``; ``EOFError`` when the worker is gone and everything is read.

        If an item cannot be read, because the parent lacks a module that the worker has, a record says so instead.
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
        """0 if there is nothing to read."""
        return int(self._connection.poll(0))

    def join_thread(self) -> None:
        """A pipe has no thread of its own."""


class _Relay(logging.Handler):
    """Logs in this process what a worker has logged."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            runlog.deliver(record)
        except Exception:  # one of the program's own handlers failed; the worker's other records still come
            self.handleError(record)


class WorkerLog(MultiProcessingHandler):
    """Receives what one worker logs. Pass :attr:`sender` to its process, and close it here when that has started."""

    def __init__(self, worker: int) -> None:
        receiver, self.sender = multiprocessing.get_context("spawn").Pipe(duplex=False)
        # As the base class begins, but with a pipe: its queue needs semaphores, which need a writable /dev/shm.
        logging.Handler.__init__(self)
        self.sub_handler = _Relay()
        self.queue = _Records(receiver)
        self._is_closed = False
        self._receive_thread = threading.Thread(target=self._receive, name=f"pyconv-log-{worker}", daemon=True)
        try:
            self._receive_thread.start()
        except RuntimeError:  # there is no thread to be had
            receiver.close()
            self.sender.close()
            raise

    def close(self) -> None:
        """Do nothing: ``logging.config.dictConfig`` closes every handler, but the workers go on."""

    def end(self) -> None:
        """Stop, once everything that was sent is read."""
        super().close()


class _Ranked(QueueHandler):
    """Sends records to the parent, each marked with its worker's number."""

    def __init__(self, worker: int, sender: Connection) -> None:
        super().__init__(sender)  # type: ignore[arg-type] # only enqueue uses it
        self._worker, self._sender = worker, sender

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        record = super().prepare(record)
        record.worker = self._worker
        record.msg = f"[worker {self._worker}] {record.msg}"
        record.message = record.msg
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        """Send the record; if something in it cannot be sent, send its text and time, and then a note about it."""
        try:
            self._sender.send(record)  # the reader only reads, so this does not wait for long
        except OSError:
            raise
        except Exception:
            plain = {name: value for name, value in vars(record).items() if isinstance(value, _PLAIN)}
            self._sender.send(logging.makeLogRecord(plain))
            raise

    def handleError(self, record: logging.LogRecord) -> None:
        """Report what is wrong with a record, unless the parent is gone or does not read."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            return
        with contextlib.suppress(Exception):
            text = (
                f"[worker {self._worker}] Logging error: {type(error).__name__}: {error}; message {record.msg!r}, "
                f"from {record.pathname}:{record.lineno}"
            )
            said = {"levelno": logging.ERROR, "levelname": "ERROR", "name": record.name, "msg": text, "message": text}
            self._sender.send(logging.makeLogRecord(said))


def send_logs(worker: int, sender: Connection, level: int) -> None:
    """In a worker process: send every log record and every warning to the parent, and nowhere else."""
    handler = _Ranked(worker, sender)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    runlog.heard_by_alone(handler)
    logging.captureWarnings(True)
