"""Training under a real Slurm of one node, this machine, with daemons of the test's own; MPICH's ranks meet by PMI-2.

``make test-mpi`` runs it where Slurm and Munge are installed (Debian: ``slurm-wlm``, ``munge``), as root.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from test_cluster_mpi import SMALL, _kind, _pythons, alone, assert_same_run, checkpoint

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "scancel", "sinfo", "scontrol")
HERE = Path(__file__).parent

pytestmark = [pytest.mark.timeout(180)]


def _where(program: str) -> str | None:
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))


def _until(over, seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not over():
        assert time.monotonic() < end, what
        time.sleep(0.1)


class Slurm:
    """Daemons in a folder, and commands that find them."""

    def __init__(self, folder: Path, python: Path) -> None:
        self.folder, self.python = folder, python
        ports = [socket.socket() for _ in range(2)]
        for port in ports:
            port.bind(("127.0.0.1", 0))
        numbers = [port.getsockname()[1] for port in ports]
        for port in ports:
            port.close()
        host, munge = socket.gethostname().partition(".")[0], folder / "munge.socket"
        (folder / "slurm.conf").write_text(f"""\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket={munge},cred_expire=10
CredType=cred/munge
SlurmUser=root
StateSaveLocation={folder}
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPort={numbers[0]}
SlurmdPort={numbers[1]}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs={os.cpu_count()} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES State=UP OverSubscribe=FORCE:4
""")
        paths = os.pathsep.join([str(HERE.parent), str(HERE)])
        self.environment = {
            **os.environ,
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PYTHONPATH": paths,
            "OMP_NUM_THREADS": "1",
        }
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o600)
        files = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
        words = ["munged", "--foreground", "--force", f"--socket={munge}", *files]
        self._daemons: list[psutil.Popen] = []
        self._begin(words)
        _until(munge.exists, 10, "munged does not begin")
        self._begin(["slurmctld", "-D", "-i"])
        self._begin(["slurmd", "-D"])
        _until(lambda: "idle" in self.run("sinfo", "-h", "-o", "%t").stdout, 30, "Slurm's node does not become idle")

    def _begin(self, words: list[str]) -> None:
        program = str(_where(words[0]))
        with (self.folder / f"{words[0]}.out").open("w") as out:
            self._daemons.append(psutil.Popen([program, *words[1:]], stdout=out, stderr=out, env=self.environment))

    def run(self, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """A command of Slurm's, to its end."""
        return subprocess.run(
            words, env=self.environment, cwd=cwd, capture_output=True, text=True, timeout=90, check=False
        )

    def train(self, cwd: Path, mpi: str, *flags: str) -> subprocess.CompletedProcess[str]:
        """Two ranks that train."""
        words = ["srun", f"--mpi={mpi}", "-n", "2", str(self.python), "-m", "pyconv.train", "--progress", "plain"]
        return self.run(*words, *flags, cwd=cwd)

    def close(self) -> None:
        self.run("scancel", "--user=root")
        for daemon in reversed(self._daemons):
            children = daemon.children(recursive=True)
            daemon.terminate()
            with contextlib.suppress(psutil.TimeoutExpired):
                daemon.wait(5)
            for each in [daemon, *children]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """Slurm, with an interpreter that has MPICH beside it."""
    if missing := [name for name in PROGRAMS if _where(name) is None]:
        pytest.skip(f"needs Slurm and Munge (Debian: slurm-wlm, munge): {', '.join(missing)} is not installed")
    if os.getuid() != 0:
        pytest.skip("needs root: Slurm's daemons start processes as their users")
    python = next((each for each in _pythons() if _kind(each) == "MPICH"), None)
    if python is None:
        pytest.skip("needs mpi4py and MPICH: make test-mpi installs them")
    made = Slurm(tmp_path_factory.mktemp("slurm"), python)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _data(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    x, y = rng.integers(0, 256, (420, 12, 12, 1)).astype(np.uint8), np.arange(420) % 7
    np.savez(tmp_path / "d.npz", x=x, y=y)


def test_srun_trains_as_one_machine_does(slurm: Slurm, tmp_path: Path) -> None:
    done = slurm.train(tmp_path, "pmi2", *SMALL, "--out", "run")
    assert done.returncode == 0, done.stdout + done.stderr
    alone(tmp_path, *SMALL, "--workers", "2", "--out", "alone")
    assert_same_run(tmp_path / "run", tmp_path / "alone")


def test_srun_without_mpi_is_refused(slurm: Slurm, tmp_path: Path) -> None:
    done = slurm.train(tmp_path, "none", *SMALL, "--out", "run")
    assert done.returncode == 2
    said = [line for line in done.stderr.splitlines() if line.startswith("pyconv: ")]
    assert len(said) == 1
    assert "2 processes were started, and each finds itself alone" in said[0]
    assert "srun --mpi=pmi2" in said[0]
    assert not (tmp_path / "run").exists()


class Batch:
    """A batch script of two ranks that train, and what it writes."""

    def __init__(self, slurm: Slurm, folder: Path, *options: str, epochs: int = 30, then: str = "") -> None:
        self.slurm, self.folder = slurm, folder
        self.flags = [*SMALL[:-4], "--batch-size", "8", "--epochs", str(epochs), "--checkpoint-every", "0.3"]
        self.flags += ["--out", "run"]
        train = f"{slurm.python} -m pyconv.train --progress plain {' '.join(self.flags)} --resume auto"
        lines = ["--ntasks=2", "--output=job-%j.out", "--open-mode=append", *options]
        (folder / "job.sh").write_text(
            "#!/bin/bash\n" + "".join(f"#SBATCH {line}\n" for line in lines)
            + f"status=0\nsrun --mpi=pmi2 --kill-on-bad-exit=1 {train} || status=$?\necho status $status\n{then}\n"
        )  # fmt: skip

    def submit(self) -> None:
        self.job = self.slurm.run("sbatch", "--parsable", "job.sh", cwd=self.folder).stdout.strip()

    @property
    def out(self) -> str:
        path = self.folder / f"job-{self.job}.out"
        return path.read_text() if path.exists() else ""

    def until(self, what: str, times: int = 1, seconds: float = 60.0) -> None:
        _until(lambda: self.out.count(what) >= times, seconds, f"{what!r} is missing in {self.out}")

    def assert_undisturbed(self) -> None:
        """The run has the numbers of one machine's."""
        alone(self.folder, *self.flags[:-2], "--workers", "2", "--out", "alone")
        assert_same_run(self.folder / "run", self.folder / "alone")


def test_a_batch_script_that_is_signalled_goes_on_when_it_is_submitted_again(slurm: Slurm, tmp_path: Path) -> None:
    batch = Batch(slurm, tmp_path)
    batch.submit()
    batch.until("epoch 2/")
    slurm.run("scancel", "--signal=TERM", batch.job)
    batch.until("status ")
    assert "status 130" in batch.out
    assert batch.out.count("pyconv: interrupted by SIGTERM") == 1
    batch.submit()
    batch.until("status ")
    assert "status 0" in batch.out
    assert "continues after epoch" in batch.out
    batch.assert_undisturbed()


def test_the_signal_before_the_time_limit_leaves_a_checkpoint(slurm: Slurm, tmp_path: Path) -> None:
    batch = Batch(slurm, tmp_path, "--time=1", "--signal=TERM@50", epochs=2000)
    batch.submit()
    batch.until("status ", seconds=75)  # Slurm looks every half a minute
    assert "status 130" in batch.out
    assert batch.out.count("pyconv: interrupted by SIGTERM") == 1
    assert "TIME LIMIT" not in batch.out
    assert 0 < len(checkpoint(tmp_path / "run").history) < 2000


@pytest.mark.slow
def test_a_batch_script_that_asks_for_it_is_started_again_and_goes_on(slurm: Slurm, tmp_path: Path) -> None:
    """As the how-to's script does; a job that is queued again waits for `cred_expire`, by default two minutes."""
    again = '[ "$status" -ne 130 ] || scontrol requeue "$SLURM_JOB_ID"'
    batch = Batch(slurm, tmp_path, "--requeue", then=again)
    batch.submit()
    batch.until("epoch 2/")
    slurm.run("scancel", "--signal=TERM", batch.job)
    batch.until("status 130")
    assert batch.out.count("pyconv: interrupted by SIGTERM") == 1
    batch.until("status 0")
    assert batch.out.count("continues after epoch") == 1
    batch.assert_undisturbed()
