"""Starts ranks again after a death: the same command each time, which goes on from the run folder's last checkpoint."""

from __future__ import annotations

import contextlib
import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..checkpoint import Checkpoint
from ..errors import CheckpointError, InputError, Interrupted, RunError

END_S = 30.0
"""Seconds for the launcher to end after a signal, before it is killed."""

LOOK_S = 0.1
"""Seconds between two looks for a signal."""


class Restarts:
    """A launcher's command, and how often it may be started again.

    Parameters
    ----------
    command : sequence of str
        Starts the ranks, and continues the run if it has begun.
    most : int
        Starts after the first.
    checkpoint : Path
        The run's last checkpoint.
    proof : Path
        The file that rank 0 writes at the end of a run: launchers may report status 0 for a run that has lost a rank.
    settings : Path
        A file that a folder with a run has.
    say : callable
        ``say(line)``.
    """

    def __init__(
        self, command: Sequence[str], most: int, *, checkpoint: Path, proof: Path, settings: Path,
        say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._command, self._most = list(command), most
        self._checkpoint, self._proof, self._say = checkpoint, proof, say
        self._out, self._settings = proof.parent, settings

    def run(self) -> None:
        """Start the ranks until the run is complete.

        Raises
        ------
        InputError
            If the launcher cannot be started, or the ranks have refused the arguments.
        RunError
            If the run does not end, however often it is started, or ends twice at the same step.
        """
        before, kept = self._steps(), self._without_proof()
        for start in range(self._most + 1):
            status = self._once()
            if status == 0 and self._proof.exists():
                return
            if status == InputError.exit_status:
                if kept is not None and not self._proof.exists():
                    self._proof.write_bytes(kept)
                raise _told(InputError("the ranks have refused their arguments"))
            if status == Interrupted.exit_status:
                raise _told(Interrupted("interrupted"))
            steps = self._steps()
            ended = f"the ranks ended with status {status}" if status else "the ranks ended before the run was complete"
            if start == self._most:
                raise RunError(
                    f"{ended}, after {self._most} restarts; continue with the same command and --out {self._out}"
                )
            if steps is None:
                raise RunError(f"{ended}, and left no checkpoint to continue from")
            if start and steps == before:
                raise RunError(f"{ended}, twice after step {steps}: not restarted again")
            self._say(f"{ended}; restart {start + 1} of {self._most}, from the checkpoint of step {steps}")
            before = steps
        raise AssertionError("a loop without an end")

    def _without_proof(self) -> bytes | None:
        """Take the proof of an earlier end of the same run away: ranks that come to the end write it again.

        Returns
        -------
        bytes or None
            Its content, in case they refuse their arguments.
        """
        kept = None
        if self._settings.is_file():
            with contextlib.suppress(OSError):  # there is none; or nothing can be written here, and ranks will say so
                kept = self._proof.read_bytes()
                self._proof.unlink()
        return kept

    def _once(self) -> int:
        """Start the ranks once; returns the launcher's exit status.

        A signal must not end this process between the launcher's start and the moment in which it is known. So it is
        noted, and goes to the launcher.
        """
        heard: list[int] = []
        numbers = [each for each in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(each) != signal.SIG_IGN]
        before = {each: signal.signal(each, lambda number, _: heard.append(number)) for each in numbers}
        try:
            status = self._ended(self._begun(), heard)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if heard and status != Interrupted.exit_status:
            raise Interrupted(f"interrupted by {signal.Signals(heard[0]).name}")
        return status

    def _begun(self) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(self._command, stdin=subprocess.DEVNULL, start_new_session=True)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            what = f"{self._command[0]} cannot be started ({reason})"
            raise InputError(f"{what}; name MPI's launcher with --mpiexec") from None

    @staticmethod
    def _ended(process: subprocess.Popen[bytes], heard: list[int]) -> int:
        """The status of the launcher, which gets a signal that is heard meanwhile."""
        end = math.inf
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.wait(LOOK_S)
                if heard and end == math.inf:
                    end = time.monotonic() + END_S
                    process.send_signal(signal.SIGINT)
                if time.monotonic() > end:
                    return Interrupted.exit_status
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    def _steps(self) -> int | None:
        """The step of the last checkpoint, or None if there is none."""
        try:
            return int(Checkpoint.load(self._checkpoint).position["total_steps"])
        except (CheckpointError, KeyError, TypeError, ValueError):
            return None


def _told(error: InputError | Interrupted) -> InputError | Interrupted:
    """The error, whose line a rank has printed already."""
    error.told = True
    return error


def launcher() -> str:
    """MPI's launcher: the one beside this interpreter, which belongs to its MPI, or else the first on PATH."""
    beside = Path(sys.executable).parent / "mpiexec"
    return str(beside) if beside.exists() else "mpiexec"
