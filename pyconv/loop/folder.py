"""The run folder: the files that a training run writes, and how they are written.

``config.toml`` holds the settings that repeat the run, ``metrics.jsonl`` a line for each epoch, ``checkpoint/`` the
state to continue from, ``model.safetensors`` the model after the last finished epoch and ``best.safetensors`` the one
with the best validation accuracy, ``log.txt`` the log, ``curves.png`` a picture. If the data have images for a test,
``test.json`` holds the finished model's results on them. ``classes.json`` and ``confusion.png`` hold its results on
each class of the validation images.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from .. import runlog
from ..checkpoint import Checkpoint
from ..documents import read_json, read_toml
from ..errors import CheckpointError, DataError, InputError, RunError, shown
from ..files import regular, write_atomically
from ..invocation import typed
from ..plotting import why
from ..values import path as as_path
from .scores import Scores, recorded
from .settings import check_settings

if TYPE_CHECKING:
    from ..nn import Sequential
    from .tensorboard import Events

_log = runlog.logger("pyconv")

CONFIG, METRICS, MODEL, LOG, CURVES = "config.toml", "metrics.jsonl", "model.safetensors", "log.txt", "curves.png"
TEST, BEST, CLASSES, CONFUSION = "test.json", "best.safetensors", "classes.json", "confusion.png"
CHECKPOINT = Path("checkpoint") / "last.safetensors"
CONFIG_FORMAT = 1


class NewFolder(os.PathLike[str]):
    """A run folder, such as ``runs/<time>``, that gets a number if its name is taken when it is made.

    So runs that begin in the same second, such as those of a job array, get a folder each.

    Parameters
    ----------
    path : Path
        The name to try first.

    Attributes
    ----------
    path : Path
        The folder's path, once it is made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)

    def make(self) -> None:
        """Make the folder; an error is raised if somebody else has made it."""
        first = self.path
        first.parent.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            try:
                self.path.mkdir()
                return
            except FileExistsError:
                number += 1
                self.path = first.with_name(f"{first.name}-{number}")


def default_folder() -> NewFolder:
    """A folder ``runs/<time>`` that does not exist yet; it is made when the run begins."""
    return NewFolder(Path("runs") / time.strftime("%Y-%m-%d-%H%M%S"))


def folder_named(out: str | os.PathLike[str]) -> Path | NewFolder:
    """The run folder that a caller of fit() named.

    Raises
    ------
    InputError
        If a run folder cannot have this name.
    """
    if isinstance(out, NewFolder):
        return out
    return as_path(out, "out", text=True)


def check_free(place: Path | NewFolder) -> None:
    """Check that a run can begin in `place`: it holds no run, and no file that a run would overwrite.

    Raises
    ------
    InputError
        If there is.
    """
    if isinstance(place, NewFolder):
        return
    path = place
    try:
        if holds_run(path):
            raise InputError(
                f"{path}: this folder holds a run already; continue it with "
                f"`{resume_command(path)}` or choose another folder"
            )
        for name in (CONFIG, METRICS, MODEL, BEST, LOG, CURVES, TEST, CLASSES, CONFUSION, CHECKPOINT):
            # If a run was killed before it wrote its settings, its log is there and is empty.
            if os.path.lexists(path / name) and not (name == LOG and _is_empty(path / name)):
                raise InputError(
                    f"{path}: this folder holds {name} already, which a run would write over; choose another folder"
                )
    except OSError as error:
        raise _unusable(path, error) from None


def _is_empty(path: Path) -> bool:
    return path.is_file() and not path.stat().st_size


def resume_command(folder: Path) -> str:
    """The command, on one line, that continues the run in `folder`."""
    return f"{typed('train')} --resume {_quoted(str(folder))}"


def _quoted(text: str) -> str:
    """`text` as a word for the shell; a newline and the like are written with ``$'...'``."""
    if text.isprintable():
        return shlex.quote(text)
    escaped = (
        letter
        if letter.isprintable() and letter not in "'\\"
        else "".join(f"\\x{byte:02x}" for byte in os.fsencode(letter))
        for letter in text
    )
    return f"$'{''.join(escaped)}'"


def holds_run(folder: str | os.PathLike[str]) -> bool:
    """Whether `folder` holds a run that can be continued."""
    return (Path(folder) / CONFIG).is_file()


def read_config(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The settings in a run folder's ``config.toml``.

    Raises
    ------
    InputError
        If there is no such file.
    DataError
        If it cannot be read as TOML, is of another version, or a setting is missing or of another kind.
    """
    path = as_path(folder, "folder") / CONFIG
    if not os.path.lexists(path):
        raise InputError(
            f"{folder}: no run to continue here, there is no {CONFIG}; give the folder that a run printed at its start"
        )
    try:
        config = read_toml(path)
        if config.get("format") == CONFIG_FORMAT:
            check_settings(config, str(path))
            return config
    except DataError as error:
        raise DataError(f"{error}; put the file back as it was") from None
    raise DataError(f"{path}: settings of format {shown(config.get('format'))}, this pyconv reads {CONFIG_FORMAT}")


def read_classes(folder: Path, step: int) -> Scores | None:
    """The scores by class in a run's folder; None if there are none of its model after so many steps.

    Raises
    ------
    DataError
        If the file cannot be read, or is not one of pyconv's.
    """
    path = folder / CLASSES
    if not path.exists():
        return None
    content = read_json(path)
    found = recorded(content, str(path))
    return found if content.get("step") == step else None


def write_test(folder: str | os.PathLike[str], loss: float, found: Scores) -> None:
    """Write the results of the finished model of the run in `folder` on the images that were kept for a test.

    Raises
    ------
    RunError
        If the file cannot be written.
    """
    images = int(found.support.sum())
    figures = {"test_loss": loss, "test_accuracy": found.accuracy, "images": images, "scores": found.record()}
    with _written(Path(folder), TEST):
        write_atomically(Path(folder) / TEST, (json.dumps(figures) + "\n").encode())


class RunFolder:
    """A run's folder, open for writing; only one process at a time can have it open.

    Make it with :meth:`create` or :meth:`reopen`; it is a context manager.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._made: list[Path] = []
        self._events: Events | None = None
        try:
            self._handler = _LogFile(regular(path / LOG))
        except OSError as error:
            raise _unusable(path, error) from None
        try:
            fcntl.flock(self._handler.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._handler.end()
            raise InputError(f"{path}: another process is training in this folder; wait for it or stop it") from None
        except OSError:  # a file system without locks: go on without one
            pass

    @classmethod
    def create(cls, place: Path | NewFolder) -> RunFolder:
        """Begin a run in `place`, which must not hold one.

        Raises
        ------
        InputError
            If the folder holds a run already, or cannot be written.
        """
        check_free(place)
        try:
            made = [folder for folder in (Path(place), *Path(place).parents) if not folder.exists()]
            if isinstance(place, NewFolder):
                place.make()
                made = [place.path, *(folder for folder in made if folder in place.path.parents)]
            path = Path(place)
            if not (path / CHECKPOINT).parent.exists():
                made = [(path / CHECKPOINT).parent, *made]
            (path / CHECKPOINT).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(Path(place), error) from None
        folder = cls(path)
        folder._made = made
        try:
            check_free(path)  # again, now that nobody else can begin a run here
        except InputError:
            folder.close()
            raise
        folder.sweep()
        return folder

    @classmethod
    def reopen(cls, path: Path) -> RunFolder:
        """Open the run in `path` to continue it."""
        read_config(path)
        try:
            (path / CHECKPOINT).parent.mkdir(exist_ok=True)
        except OSError as error:
            raise _unusable(path, error) from None
        folder = cls(path)
        folder.sweep()
        return folder

    def sweep(self) -> None:
        """Remove half-written files of a killed process; the folder is locked, so nobody else writes here."""
        for name in (CONFIG, METRICS, MODEL, BEST, CURVES, TEST, CLASSES, CONFUSION, CHECKPOINT):
            whole = self.path / name
            for half in whole.parent.glob(f".{whole.name}.*.tmp"):
                with contextlib.suppress(OSError):
                    half.unlink()

    def discard(self) -> None:
        """Remove a folder in which no run has begun; files and folders that were there before it stay."""
        for name in (CONFIG, LOG, CHECKPOINT):
            with contextlib.suppress(OSError):
                (self.path / name).unlink()
        self.sweep()
        for folder in self._made:
            with contextlib.suppress(OSError):  # not empty: somebody else has put a file into it
                folder.rmdir()

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write ``config.toml``; values that are None are left out, because TOML has no None."""
        head = f"# A run of pyconv. To continue it, or to see that it is done:\n#     {resume_command(self.path)}\n"
        text = head + tomli_w.dumps(_without_none({"format": CONFIG_FORMAT, **config}))
        with _written(self.path, CONFIG):
            write_atomically(self.path / CONFIG, text.encode())

    def load_checkpoint(self) -> Checkpoint | None:
        """The last checkpoint, or None if the run was killed before its first.

        Raises
        ------
        CheckpointError
            If it cannot be read, or if it is missing although the run had gone further: to begin again would overwrite.
        """
        path = self.path / CHECKPOINT
        if path.exists():
            return Checkpoint.load(path)
        for name in (METRICS, MODEL, TEST):
            if (self.path / name).exists() and (self.path / name).stat().st_size:
                raise CheckpointError(
                    f"{path}: the checkpoint is missing, although there is {name}; put it back, or begin the run again "
                    "in another folder"
                )
        return None

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint; if that fails, the last good one stays."""
        kept = " (the checkpoint before it is kept)" if (self.path / CHECKPOINT).exists() else ""
        with _written(self.path, CHECKPOINT, kept):
            checkpoint.save(self.path / CHECKPOINT)

    def save_model(self, model: Sequential) -> None:
        """Replace ``model.safetensors``."""
        self._save(model, MODEL)

    def save_best(self, model: Sequential) -> None:
        """Replace ``best.safetensors``."""
        self._save(model, BEST)

    def load_best(self, model: Sequential) -> None:
        """Give `model` the parameters in ``best.safetensors``.

        Raises
        ------
        CheckpointError
            If it is damaged, or another network's.
        """
        from ..nn import load

        best = load(self.path / BEST)
        if best.config() != model.config():
            raise CheckpointError(f"{self.path / BEST}: holds another network than this run's; put the file back")
        model.flat[...], model.flat_buffers[...] = best.flat, best.flat_buffers

    def _save(self, model: Sequential, name: str) -> None:
        try:
            model.save(self.path / name)
        except CheckpointError as error:
            raise RunError(str(error)) from None

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Add a line to ``metrics.jsonl``."""
        with _written(self.path, METRICS), regular(self.path / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def rewrite_metrics(self, history: list[dict[str, Any]]) -> None:
        """Write the checkpoint's history to ``metrics.jsonl``: a killed run may have written a line more."""
        with _written(self.path, METRICS):
            write_atomically(self.path / METRICS, "".join(json.dumps(line) + "\n" for line in history).encode())

    def draw_curves(self, history: list[dict[str, Any]]) -> None:
        """Draw ``curves.png``. If that fails, only log it: the run has all its results."""
        from .curves import draw

        with _drawn(self.path / CURVES):
            draw(history, self.path / CURVES)

    def write_classes(self, found: Scores, step: int) -> None:
        """Write ``classes.json``, the scores by class of the model after so many steps, and draw ``confusion.png``."""
        from .confusion import draw

        with _written(self.path, CLASSES):
            write_atomically(self.path / CLASSES, (json.dumps({"step": step, **found.record()}) + "\n").encode())
        with _drawn(self.path / CONFUSION):
            draw(found, self.path / CONFUSION)

    def write_events(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Add the last epoch of `history` to this session's TensorBoard file, which is made when there is none yet."""
        from .tensorboard import FOLDER, Events

        with _written(self.path, FOLDER):
            if self._events is None:
                self._events = Events(self.path / FOLDER, history[:-1])
            self._events.write(history[-1])

    def has(self, name: str) -> bool:
        """Whether the run has the file `name`."""
        return (self.path / name).is_file()

    @contextlib.contextmanager
    def logging(self) -> Iterator[None]:
        """Within it, pyconv's loggers also write to ``log.txt``."""
        with runlog.heard_by(self._handler):
            yield

    def note(self, text: str) -> None:
        """Write a line to ``log.txt`` alone."""
        self._handler.handle(logging.LogRecord("pyconv", logging.ERROR, __file__, 0, text, None, None))

    def close(self) -> None:
        """Close the folder; another process can then open it."""
        if self._events is not None:
            with contextlib.suppress(OSError):
                self._events.close()
        self._handler.end()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class _LogFile(logging.FileHandler):
    """``log.txt``. If the disk is full, the writing of results stops the run, not the log with a traceback."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, mode="a", encoding="utf-8")
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(processName)s %(message)s"))

    @property
    def descriptor(self) -> int:
        """The open file's descriptor, for its lock."""
        assert self.stream is not None  # it was opened when this was made
        return self.stream.fileno()

    def close(self) -> None:
        """Do nothing: ``logging.config.dictConfig`` closes every handler, but the run goes on."""

    def end(self) -> None:
        """Close the file, which releases its lock; text that could not be written is lost."""
        with contextlib.suppress(OSError):
            super().close()

    def handleError(self, record: logging.LogRecord) -> None:
        """Say nothing."""


@contextlib.contextmanager
def _written(folder: Path, name: str | Path, consequence: str = "") -> Iterator[None]:
    """Within it, the file `name` of a run folder is written; if that fails, the error says what to do."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{folder / name}: cannot be written: {error.strerror or error}{consequence}; make room "
            f"or mend the folder, then continue with `{resume_command(folder)}`"
        ) from None


@contextlib.contextmanager
def _drawn(path: Path) -> Iterator[None]:
    """Within it a picture is drawn; where that fails, say so and no more: the run has all its results."""
    try:
        yield
    except Exception as error:
        _log.warning("%s: cannot be drawn: %s", path, why(error))


def _unusable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: cannot be used as run folder: {error.strerror or error}; choose another with --out")


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_without_none(item) for item in value]
    return value
