"""Shows a run's progress: a live bar on a terminal, plain lines elsewhere, or nothing.

All text of a run (its settings, an epoch's figures, warnings) goes through the ``pyconv`` logger, so that it reaches
``log.txt`` too. A progress object shows those records to the user, and the steps between them.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sys
import time
from collections.abc import Iterator
from typing import Any, TextIO

from .. import runlog
from ..values import choice

CHOICES = ("auto", "rich", "plain", "off")
PLAIN_INTERVAL_S = 10.0
NOTEBOOK_INTERVAL_S, NOTEBOOK_BAR = 0.25, 24


class Progress:
    """Shows nothing but warnings (on stderr); base class of the others.

    A run calls :meth:`begin` once and :meth:`step` after every step, and is inside :meth:`shown` all the time. A
    program may be inside :meth:`heard` before and after the run.

    Attributes
    ----------
    ranks : int
        Of a run over MPI; 0 without.
    waiting : float
        Which share of the epoch's time the ranks have waited for messages and each other so far.
    """

    def __init__(self) -> None:
        self.ranks, self.waiting = 0, 0.0
        self._hearing = False
        self._epochs = self._steps = 0
        self._todo = self._images = self._first = 0
        self._known_images, self._known_s = 0, 0.0
        self._started = time.monotonic()

    def begin(
        self, *, epochs: int, steps_per_epoch: int, images: int, known_images: int = 0, known_s: float = 0.0
    ) -> None:
        """Receive the totals: epochs, steps in each, and images still to be trained on.

        A run that is continued already knows its speed: `known_s` seconds for the last `known_images`.
        """
        self._epochs, self._steps, self._todo, self._images, self._first = epochs, steps_per_epoch, images, 0, 0
        self._known_images, self._known_s = known_images, known_s
        self._started = time.monotonic()

    def step(self, *, epoch: int, step: int, images: int, loss: float, images_per_s: float) -> None:
        """Show a step: `epoch` and `step`, counted from 1, its `images`, and the epoch's mean loss and speed so far."""
        if not self._images:
            self._first, self._started = images, time.monotonic()
        self._images += images

    def speed(self, images_per_s: float) -> str:
        """The speed as text; over MPI with the ranks, and with the share of communication that nothing hides."""
        text = f"{images_per_s:.0f} images/s"
        return f"{self.ranks} ranks  {text}  {100 * self.waiting:.0f} % waiting" if self.ranks else text

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Within it, records of pyconv's loggers are shown, and so is the live display, if there is one."""
        with self.heard(), self._display():
            yield

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """Within it, records of pyconv's loggers are shown; for before and after a run."""
        if self._hearing:  # else they would be shown twice
            yield
            return
        logger = logging.getLogger("pyconv")
        handler = self._handler()
        before = logger.level
        if before == logging.NOTSET:
            logger.setLevel(logging.INFO)
        else:
            handler.setLevel(max(handler.level, before))  # as the program has set it; log.txt still gets everything
        self._hearing = True
        try:
            with runlog.heard_by(handler):
                yield
        finally:
            self._hearing = False
            logger.setLevel(before)

    def eta(self) -> str:
        """Time left in the run, as ``m:ss``, from its speed so far, validation included.

        The first step does not count: in it workers start, kernels are chosen, and memory is used for the first time.
        """
        images = self._images - self._first
        seconds = time.monotonic() - self._started if images else 0.0
        if images < self._known_images:  # the older part counts less, the more images have been done since
            images, seconds = self._known_images, seconds + self._known_s * (1 - images / self._known_images)
        if not images:
            return "?"
        left = seconds / images * max(self._todo - self._images, 0)
        minutes, seconds = divmod(round(left), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"

    def _handler(self) -> logging.Handler:
        handler = _Lines(lambda text: print_to(sys.stderr, text))
        handler.setLevel(logging.WARNING)
        return handler

    def _display(self) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext()


class Plain(Progress):
    """Lines of text: the log, and every few seconds a line about the steps.

    Parameters
    ----------
    stream : text file, optional
        Standard output by default.
    interval : float
        Seconds between lines about steps.
    """

    def __init__(self, stream: TextIO | None = None, interval: float = PLAIN_INTERVAL_S) -> None:
        super().__init__()
        self._stream = stream
        self._interval = interval
        self._shown_at = time.monotonic()

    def begin(
        self, *, epochs: int, steps_per_epoch: int, images: int, known_images: int = 0, known_s: float = 0.0
    ) -> None:
        super().begin(
            epochs=epochs, steps_per_epoch=steps_per_epoch, images=images, known_images=known_images, known_s=known_s
        )
        self._shown_at = time.monotonic()

    def step(self, *, epoch: int, step: int, images: int, loss: float, images_per_s: float) -> None:
        super().step(epoch=epoch, step=step, images=images, loss=loss, images_per_s=images_per_s)
        if time.monotonic() - self._shown_at >= self._interval:
            self._shown_at = time.monotonic()
            self._say(
                f"  epoch {epoch}/{self._epochs}  step {step}/{self._steps}  loss {loss:.4f}  "
                f"{self.speed(images_per_s)}  ETA {self.eta()}"
            )

    def _say(self, text: str) -> None:
        print_to(self._stream or sys.stdout, text)

    def _handler(self) -> logging.Handler:
        return _Lines(self._say)


class Rich(Progress):
    """A live line on a terminal, with a bar; the log scrolls above it.

    Parameters
    ----------
    stream : text file, optional
        Standard output by default; it is always treated as a terminal.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__()
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        quiet: Any = _Quiet(stream or sys.stdout)
        self._console = Console(file=quiet, force_terminal=True, highlight=False)
        self._bar = Bar(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.description}"),
            console=self._console,
            transient=True,
            expand=True,
            refresh_per_second=5,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task: Any = None

    def begin(
        self, *, epochs: int, steps_per_epoch: int, images: int, known_images: int = 0, known_s: float = 0.0
    ) -> None:
        super().begin(
            epochs=epochs, steps_per_epoch=steps_per_epoch, images=images, known_images=known_images, known_s=known_s
        )
        text = "starting" if not known_images else f"starting  ETA {self.eta()}"
        self._task = self._bar.add_task(text, total=steps_per_epoch, epoch="-", epochs=epochs)

    def step(self, *, epoch: int, step: int, images: int, loss: float, images_per_s: float) -> None:
        super().step(epoch=epoch, step=step, images=images, loss=loss, images_per_s=images_per_s)
        text = (
            f"step {step}/{self._steps}  loss {loss:.4f}  {self.speed(images_per_s)}  ETA {self.eta()}"
            if step < self._steps
            else f"loss {loss:.4f}  {self.speed(images_per_s)}  validating"
        )
        self._bar.update(self._task, completed=step, epoch=epoch, description=text)

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    def _handler(self) -> logging.Handler:
        return _Lines(self._say)

    def _display(self) -> contextlib.AbstractContextManager[Any]:
        return self._bar


class Notebook(Plain):
    """One line below a notebook's cell that changes while the run goes on; the log is printed beside it.

    Parameters
    ----------
    interval : float
        Seconds between changes of the line.
    """

    def __init__(self, interval: float = NOTEBOOK_INTERVAL_S) -> None:
        super().__init__()
        self._between = interval
        self._changed_at = -math.inf
        self._line: Any = None

    def step(self, *, epoch: int, step: int, images: int, loss: float, images_per_s: float) -> None:
        Progress.step(self, epoch=epoch, step=step, images=images, loss=loss, images_per_s=images_per_s)
        now = time.monotonic()
        if now - self._changed_at >= self._between or step == self._steps:
            self._changed_at = now
            done = NOTEBOOK_BAR * step // self._steps
            self._change(
                f"epoch {epoch}/{self._epochs} {'█' * done}{'░' * (NOTEBOOK_BAR - done)} step {step}/{self._steps}  "
                f"loss {loss:.4f}  {self.speed(images_per_s)}  ETA {self.eta()}"
            )

    def _change(self, text: str) -> None:
        from IPython.display import display

        content = {"text/plain": text}
        if self._line is None:
            self._line = display(content, raw=True, display_id=True)
        else:
            self._line.update(content, raw=True)


def in_notebook() -> bool:
    """Whether this process runs a notebook, whose cells can show more than plain lines."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


class _Lines(logging.Handler):
    """Passes log records as lines to a function that takes text."""

    def __init__(self, say: Any) -> None:
        super().__init__(logging.INFO)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
            self._say(text if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {text}")
        except Exception:  # as all of logging's handlers: a message never stops the program
            self.handleError(record)


class _Quiet:
    """A stream that goes silent when its reader is gone, because the run matters more than its display."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        print_to(self._stream, text, end="", flush=False)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            if self._stream is not None:
                self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def print_to(stream: TextIO | None, text: str, *, end: str = "\n", flush: bool = True) -> None:
    """Write `text`, in characters that the stream has; a closed pipe or terminal, or no stream, is no error."""
    if stream is None:  # a standard stream that was closed when the process started
        return
    with contextlib.suppress(OSError, ValueError):
        try:
            stream.write(text + end)
        except UnicodeEncodeError:
            encoding = stream.encoding or "ascii"
            stream.write((text + end).encode(encoding, "replace").decode(encoding))
        if flush:
            stream.flush()


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def choose(progress: str | Progress) -> Progress:
    """The progress that a user asked for.

    Parameters
    ----------
    progress : {"auto", "rich", "plain", "off"} or Progress
        "auto" is the live bar when standard output is a terminal that can show one, plain lines otherwise. In a
        notebook both "auto" and "rich" are one line below the cell, which changes.

    Raises
    ------
    UnknownNameError
        For any other name.
    """
    if isinstance(progress, Progress):
        return progress
    progress = choice(progress, "progress", CHOICES)
    if progress in ("auto", "rich") and in_notebook():
        return Notebook()
    if progress == "auto":
        terminal = _is_terminal(sys.stdout) and os.environ.get("TERM", "") not in ("", "dumb", "unknown")
        progress = "rich" if terminal else "plain"
    return {"rich": Rich, "plain": Plain, "off": Progress}[progress]()
