"""Writes the figures of each epoch to event files for TensorBoard."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError, needed

FOLDER = "tensorboard"

TAGS = {
    "train_loss": "loss/train",
    "val_loss": "loss/val",
    "train_accuracy": "accuracy/train",
    "val_accuracy": "accuracy/val",
    "lr": "lr",
    "images_per_s": "images_per_s",
}
"""The metrics that are written, and their names. Names with the same part before a slash share a section."""


def check_installed() -> None:
    """Check that event files can be written.

    Raises
    ------
    InputError
        If tensorboardX is not installed.
    """
    with needed("TensorBoard's event files need tensorboardX", extra="tensorboard", error=InputError):
        import tensorboardX.event_file_writer  # noqa: F401


class Events:
    """The event file of one session of a run; a run that is continued has one more.

    tensorboardX's ``SummaryWriter`` writes in a thread, and waits for ever if the thread met a full disk. The class
    beneath it, which is used here, writes at once, so that the run gets the error.

    Parameters
    ----------
    folder : Path
        The folder of the event files; it is made if it is missing.
    history : sequence of mapping
        Lines of metrics before this session. Readers ignore what the files of earlier sessions hold beyond them, such
        as an epoch after which the run was killed. If there are no such files, these lines are written first.
    """

    def __init__(self, folder: Path, history: Sequence[Mapping[str, Any]]) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        folder.mkdir(exist_ok=True)
        new = not any(folder.glob("events.out.tfevents.*"))
        # The library's own name has seconds: it would overwrite the file of a session that began in the same second.
        self._writer = EventsWriter(str(folder / "events"), f".{os.getpid()}.{time.time_ns()}")
        self._event = Event
        begun = len(history) + 1
        self._put(step=begun, file_version="brain.Event:2")
        if new:
            for line in history:
                self.write(line)
        else:
            self._put(step=begun, session_log=SessionLog(status=SessionLog.START))
        self._writer.flush()

    def _put(self, **fields: Any) -> None:
        self._writer.write_event(self._event(wall_time=time.time(), **fields))

    def write(self, line: Mapping[str, Any]) -> None:
        """Add an epoch's figures, at the epoch as the step.

        Parameters
        ----------
        line : mapping
            Of metrics.

        Raises
        ------
        OSError
            If they cannot be written.
        """
        from tensorboardX.proto.summary_pb2 import Summary

        values = [
            Summary.Value(tag=tag, simple_value=line[name]) for name, tag in TAGS.items() if line.get(name) is not None
        ]
        self._put(step=line["epoch"], summary=Summary(value=values))
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()
