"""What all commands use: a parser whose errors are one line, and the exit status for each error."""

from __future__ import annotations

import argparse
import contextlib
import errno
import functools
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, Protocol, TextIO

from . import runlog, values
from .descriptors import open_standard, open_streams, silence
from .errors import InputError, Interrupted, PyconvError, shown
from .interrupts import NOTHING, as_usual, expect_late_ones
from .invocation import typed
from .version import __version__


def version() -> str:
    """The package's version."""
    return __version__


class Parser(argparse.ArgumentParser):
    """A command's parser: it raises `InputError` instead of printing its usage, and takes no abbreviated flags.

    Parameters
    ----------
    command : str
        Its name. In the texts ``python -m pyconv.NAME`` becomes what the user has typed.
    **options
        Those of :class:`argparse.ArgumentParser`.
    """

    def __init__(self, command: str = "", **options: Any) -> None:
        if command and "epilog" in options:
            options["epilog"] = options["epilog"].replace(f"python -m pyconv.{command}", typed(command))
        form = argparse.RawDescriptionHelpFormatter
        super().__init__(prog=typed(command), allow_abbrev=False, formatter_class=form, **options)
        self.add_argument("--version", action="version", version=f"pyconv {version()}", help="print it and exit")

    def error(self, message: str) -> NoReturn:
        words = " ".join(message.split())
        raise InputError(f"{words if len(words) <= 300 else words[:300] + '…'} (see {self.prog} --help)")


def whole(minimum: int, maximum: int = values.MOST) -> Callable[[str], int]:
    """The type of a flag that takes an integer from `minimum` to `maximum`; by default `maximum` is an int64's."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if value < minimum:
            raise argparse.ArgumentTypeError(f"must be an integer of at least {minimum}, not {shown(text)}")
        if value > maximum:
            raise argparse.ArgumentTypeError(f"must be an integer of at most {maximum}, not {shown(text)}")
        return value

    return parse


def real(
    *, above: float | None = None, minimum: float | None = None, maximum: float | None = None
) -> Callable[[str], float]:
    """The type of a flag that takes a finite number within the limits."""

    def parse(text: str) -> float:
        try:
            return values.real(float(text), "", above=above, minimum=minimum, maximum=maximum)
        except ValueError:  # an InputError is one
            limits = values.limits(above=above, minimum=minimum, maximum=maximum)
            raise argparse.ArgumentTypeError(f"must be a finite number{limits}, not {shown(text)}") from None

    return parse


class Main(Protocol):
    """A command: takes the arguments, the process's own by default, and returns the exit status."""

    def __call__(self, argv: Sequence[str] | None = None) -> int: ...


def command(body: Callable[[Sequence[str] | None], int]) -> Main:
    """Make `body` a command: its errors become one line on standard error and the documented exit status.

    0 done; 1 the run failed; 2 the arguments or the data are wrong; 130 interrupted. If the system refuses something
    (room on a disk, descriptors, processes), the run failed, and the line names what was refused. Any other exception
    is a bug in pyconv and keeps its traceback. A closed standard output, or a reader that has gone away, is no error.
    """

    @functools.wraps(body)
    def main(argv: Sequence[str] | None = None) -> int:
        open_standard()
        try:
            with _signals_like_ctrl_c():
                try:
                    status = body(argv)
                except SystemExit:  # --help
                    _flush(sys.stdout)
                    raise
                _flush(sys.stdout)
                return status
        except PyconvError as error:
            return _report("" if error.told else f"pyconv: error: {_one_line(error)}", error.exit_status)
        except KeyboardInterrupt as error:
            told = isinstance(error, Interrupted) and error.told
            return _report("" if told else f"pyconv: {_interruption(error)}", Interrupted.exit_status)
        except MemoryError as error:
            hint = "take a smaller batch, fewer images (--limit) or fewer workers"
            return _report(f"pyconv: error: out of memory: {_one_line(error)}; {hint}".replace(": ;", ";"), 1)
        except BrokenPipeError:  # the reader of standard output has gone away
            _drop(sys.stdout)
            return 0
        except OSError as error:
            if error.errno not in _REFUSALS:
                raise
            if error.filename is not None:
                what = f"{error.filename}: "
            elif _is_faulty(sys.stdout):
                what = "standard output cannot be written: "
                _drop(sys.stdout)
            else:
                what = ""
            hint = _REFUSALS[error.errno]
            return _report(f"pyconv: error: {what}{error.strerror}{'; ' if hint else ''}{hint}", 1)

    return main


#: Errors of the system, and what to do about each.
_REFUSALS = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there",
    errno.EFBIG: "allow larger files (ulimit -f)",
    errno.EIO: "",
    errno.EROFS: "",
    errno.EBADF: "",
    errno.EMFILE: "allow more (ulimit -n)",
    errno.ENFILE: "close other programs",
    errno.EAGAIN: "allow more processes (ulimit -u, or the control group's pids.max)",
}


def _flush(stream: TextIO | None) -> None:
    """Write the stream's buffer; raise OSError also if something unbuffered could not be written."""
    if stream is None or stream.closed:
        return
    stream.flush()
    try:
        number = stream.fileno()
    except (OSError, ValueError):  # no file: a stream of a notebook or of a test
        return
    os.write(number, b"")


def _is_faulty(stream: TextIO | None) -> bool:
    """Whether nothing can be written to `stream`."""
    try:
        _flush(stream)
    except (OSError, ValueError):
        return True
    return False


def _drop(stream: TextIO | None) -> None:
    """Let nothing more of a stream be written: Python flushes it at exit, and would complain that it cannot."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        silence(stream.fileno())  # type: ignore[union-attr]


def script(main: Main) -> NoReturn:
    """Run `main` as the process's program."""
    global _is_program
    _is_program = True
    open_standard()
    open_streams()
    sys.unraisablehook = _send_again
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's name may be no text
    try:
        status = main()
    except KeyboardInterrupt as error:  # a second one, while the first is being reported
        status = _report(f"pyconv: {_interruption(error)}", Interrupted.exit_status)
    _settle()
    for stream in (sys.stdout, sys.stderr):
        if _is_faulty(stream):
            _drop(stream)
    sys.exit(status)


_is_program = False


def _send_again(unraisable: sys.UnraisableHookArgs) -> None:
    """Ctrl-C cannot be raised in a destructor or a weak reference's callback: send it again afterwards."""
    if unraisable.exc_type is KeyboardInterrupt:
        with contextlib.suppress(RuntimeError):  # no new thread: the interpreter is ending
            threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(unraisable)


def _settle() -> None:
    """Ignore signals once a program's exit status is known: another Ctrl-C must not change it."""
    if _is_program:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)


def _interruption(error: BaseException | None) -> str:
    """The message of an interruption: the run's own, also if a second Ctrl-C came while the run was ending."""
    while error is not None:
        if isinstance(error, Interrupted):
            return _one_line(error)
        error = error.__context__
    return NOTHING


def _report(message: str, status: int) -> int:
    _settle()
    if sys.stderr is not None and message:
        try:
            sys.stderr.write(message + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            _drop(sys.stderr)
    return status


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


@contextlib.contextmanager
def _signals_like_ctrl_c() -> Any:
    """Within it SIGTERM and SIGHUP end the command as Ctrl-C does; the training loop has handlers of its own."""
    with contextlib.suppress(ValueError):  # not the main thread
        expect_late_ones()
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            as_usual()


@contextlib.contextmanager
def notes_shown() -> Iterator[None]:
    """Within it, notes about the data that is read go to standard error, one line each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("pyconv: note: %(message)s"))
    with runlog.heard_by(handler):
        yield
