"""Training on ranks that MPI has started, with each MPI that is installed; most of the tests are of failures.

`make test-mpi` installs MPICH and Open MPI, each beside mpi4py in an environment of its own, and runs this with both.
Without ``PYCONV_TEST_MPI``, a list of such environments' interpreters, it takes the MPI beside this interpreter.
"""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from pyconv.checkpoint import Checkpoint

HERE = Path(__file__).parent
GONE_S = 10.0  # seconds within which all ranks of a run that cannot go on are gone

pytestmark = [pytest.mark.timeout(180)]


def _pythons() -> list[Path]:
    named = os.environ.get("PYCONV_TEST_MPI", "")
    return [Path(each) for each in named.split(os.pathsep)] if named else [Path(sys.executable)]


@functools.cache
def _kind(python: Path) -> str:
    """Name of the MPI beside an interpreter, or why there is none."""
    if not (python.parent / "mpiexec").exists():
        return f"not usable: no mpiexec beside {python}"
    code = "import mpi4py; mpi4py.rc.initialize = False; from mpi4py import MPI; print(MPI.get_vendor()[0])"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return done.stdout.strip() or f"not usable: {done.stderr.strip().splitlines()[-1]}"


@pytest.fixture(params=_pythons(), ids=lambda python: python.parent.parent.name)
def mpi(request: pytest.FixtureRequest) -> Path:
    """The interpreter of each environment with an MPI, in turn."""
    kind = _kind(request.param)
    if kind.startswith("not usable"):
        pytest.skip(f"needs mpi4py and an MPI: make test-mpi installs them ({kind})")
    return request.param


# ---- runs -----------------------------------------------------------------------------------------

SMALL = ["--data", "d.npz", "--model", "3-4-8-7", "--epochs", "2", "--batch-size", "8"]


@pytest.fixture(autouse=True)
def _data(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    x, y = rng.integers(0, 256, (420, 12, 12, 1)).astype(np.uint8), np.arange(420) % 7
    np.savez(tmp_path / "d.npz", x=x, y=y)


class Run:
    """Ranks that a launcher has started, and what they leave."""

    def __init__(self, python: Path, *programs: list[str], ranks: int = 1, folder: Path, alone: bool = False) -> None:
        self.kind = _kind(python)
        flags = []
        if self.kind == "Open MPI":
            flags = ["--oversubscribe", "--bind-to", "none"]
            flags += ["--allow-run-as-root"] if os.getuid() == 0 else []
        words: list[str] = [str(python.parent / "mpiexec"), *flags]
        for index, program in enumerate(programs):
            words += [":"] if index else []
            words += ["-n", str(ranks), str(python), *program]
        if alone:  # the program starts the ranks
            words = [str(python), *programs[0]]
        paths = [str(HERE.parent), str(HERE), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
        self._out, self._err = folder / "out.txt", folder / "err.txt"
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = psutil.Popen(
                words, stdout=out, stderr=err, stdin=subprocess.DEVNULL, cwd=folder, env=environment
            )

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def said(self) -> list[str]:
        """The lines that pyconv has written to standard error; launchers have a lot to say of their own."""
        return [line for line in self._err.read_text().splitlines() if line.startswith("pyconv: ")]

    def ranks(self) -> list[psutil.Process]:
        """The processes of pyconv, in the order of their ranks."""
        found = {}
        for child in self.process.children(recursive=True):
            try:
                words, environment = child.cmdline(), child.environ()
            except psutil.Error:
                continue
            rank = environment.get("PMI_RANK", environment.get("OMPI_COMM_WORLD_RANK"))
            if rank is not None and words and "python" in words[0]:
                found[int(rank)] = child
        return [found[rank] for rank in sorted(found)]

    def until(self, what: str, seconds: float = 60.0) -> None:
        """Wait until standard output has that in it."""
        end = time.monotonic() + seconds
        while what not in self.out:
            assert self.process.poll() is None, self._err.read_text()
            assert time.monotonic() < end, self.out + self._err.read_text()
            time.sleep(0.02)

    def end(self, seconds: float = 90.0) -> int:
        """The launcher's status; all its processes have to be gone by then."""
        children = self.process.children(recursive=True)
        try:
            status = self.process.wait(seconds)
        except psutil.TimeoutExpired:
            for each in [*children, self.process]:
                each.kill()
            raise AssertionError(f"still there after {seconds} s: {self.out} {self._err.read_text()}") from None
        _, alive = psutil.wait_procs(children, 2.0)
        assert not alive
        print(self.out, self._err.read_text())
        return int(status)


def train(*flags: str) -> list[str]:
    return ["-m", "pyconv.train", "--progress", "plain", *flags]


def alone(folder: Path, *flags: str) -> None:
    """Train without MPI."""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *train(*flags)], cwd=folder, env=environment, check=True, capture_output=True)


def checkpoint(folder: Path) -> Checkpoint:
    return Checkpoint.load(folder / "checkpoint" / "last.safetensors")


def assert_same_run(one: Path, other: Path) -> None:
    """The same numbers in two run folders: parameters, the optimizer's state, losses."""
    mine, theirs = checkpoint(one), checkpoint(other)
    assert mine.engine.keys() == theirs.engine.keys()
    for name, value in mine.engine.items():
        np.testing.assert_array_equal(value, theirs.engine[name], err_msg=name)
    np.testing.assert_array_equal(mine.parameters, theirs.parameters)
    losses = [[(line["train_loss"], line["val_accuracy"]) for line in each.history] for each in (mine, theirs)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(("ranks", "workers", "update"), [(2, 2, "sync"), (3, 1, "local")])
def test_ranks_train_as_one_machine_does(mpi, tmp_path, ranks, workers, update):
    flags = [*SMALL, "--update", update]
    run = Run(mpi, train(*flags, "--workers", str(workers), "--out", "run"), ranks=ranks, folder=tmp_path)
    assert run.end() == 0
    assert run.said == []
    assert run.out.count("done: ") == 1
    assert f"{ranks} ranks" in run.out
    alone(tmp_path, *flags, "--workers", str(ranks * workers), "--out", "alone")
    assert_same_run(tmp_path / "run", tmp_path / "alone")


WIDE = """
import hashlib, os, sys
import pyconv
from parallel_runs import data
from pyconv import cluster, nn
if __name__ == "__main__":
    fault, workers, overlap, out = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "overlap", sys.argv[4]
    layers = [nn.Flatten(), nn.Dense(700, activation="relu"), nn.Dense(900), nn.Dense(3)]
    model = nn.Sequential(layers, (6, 6, 1), seed=1)
    if fault != "none" and cluster.session().rank == 1:
        after, calls = nn.home.Home.gradient_of, [0]
        def planted(home, step):
            calls[0] += 1
            if calls[0] == 42:  # within a backward pass: half of the gradient is on its way
                os.kill(os.getpid(), 9) if fault == "kill" else 1 / 0
            after(home, step)
        nn.home.Home.gradient_of = planted
    if fault == "twice" and cluster.session().rank == 1:
        rounds = cluster.session().rounds
        logs = rounds.logs
        def second():
            if rounds.world._limit is not None:  # while the error is told
                raise KeyError("the second one")
            return logs()
        rounds.logs = second
    x, y = data()
    pyconv.fit(model, x, y, epochs=2, batch_size=5, workers=workers, optimizer="sgd", progress="off", overlap=overlap)
    open(out + "-" + str(os.getpid()), "w").write(hashlib.sha256(model.flat.tobytes()).hexdigest())
"""


def test_float16_travels_over_mpi(mpi, tmp_path):
    flags = [*SMALL, "--model", "3-64-200-7", "--seed", "3"]
    runs = {}
    for how in ("exact", "float16"):
        run = Run(mpi, train(*flags, "--wire", how, "--out", how), ranks=2, folder=tmp_path)
        assert run.end() == 0
        runs[how] = checkpoint(tmp_path / how)
    exact, half = (runs[how].parameters for how in ("exact", "float16"))
    assert 0 < np.abs(exact - half).max() < 1e-2 * np.abs(exact).max()
    again = Run(mpi, train("--resume", "float16", "--epochs", "3"), ranks=2, folder=tmp_path)
    assert again.end() == 0


def test_vectors_that_travel_in_many_pieces_give_the_same_bits(mpi, tmp_path):
    (tmp_path / "script.py").write_text(WIDE)
    for how in ("overlap", "between"):
        assert Run(mpi, ["script.py", "none", "2", how, "ranks"], ranks=2, folder=tmp_path).end() == 0
    environment = {**os.environ, "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}", "OMP_NUM_THREADS": "1"}
    alone = [sys.executable, "script.py", "none", "4", "between", "alone"]
    subprocess.run(alone, cwd=tmp_path, env=environment, check=True)
    results = [path.read_text() for path in (*tmp_path.glob("ranks-*"), *tmp_path.glob("alone-*"))]
    assert len(results) == 5
    assert len(set(results)) == 1


@pytest.mark.parametrize("fault", ["exception", "kill"])
def test_a_fault_while_pieces_are_on_their_way_ends_all(mpi, tmp_path, fault):
    (tmp_path / "script.py").write_text(WIDE)
    run = Run(mpi, ["script.py", fault, "1", "overlap", "ranks"], ranks=3, folder=tmp_path)
    assert run.end(60) != 0
    if fault == "exception":
        assert (tmp_path / "err.txt").read_text().count("ZeroDivisionError: division by zero\n") >= 1
    assert not list(tmp_path.glob("ranks-*"))


def test_of_two_errors_the_first_is_said_and_all_are_gone(mpi, tmp_path):
    (tmp_path / "script.py").write_text(WIDE)
    run = Run(mpi, ["script.py", "twice", "1", "overlap", "ranks"], ranks=3, folder=tmp_path)
    assert run.end(60) != 0
    (said,) = run.said
    assert re.fullmatch(r"pyconv: error: rank 1 on \S+: failed: ZeroDivisionError: division by zero", said)
    assert not list(tmp_path.glob("ranks-*"))


@pytest.mark.parametrize("how", ["scatter", "off"])
def test_however_the_data_are_shared_the_bits_are_the_same(mpi, tmp_path, how):
    flags = [*SMALL, "--epochs", "3", "--shift", "1"]
    run = Run(mpi, train(*flags, "--shard", how, "--out", "run"), ranks=3, folder=tmp_path)
    assert run.end() == 0
    alone(tmp_path, *flags, "--workers", "3", "--out", "alone")
    assert_same_run(tmp_path / "run", tmp_path / "alone")


MEMORY = """
import json, sys, threading
import numpy as np
import pyconv
from pyconv import cluster, nn

def resident():
    lines = open("/proc/self/status").read().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("RssAnon:", "RssShmem:")))

def watch():
    while not done.wait(0.01):
        most[0] = max(most[0], resident())

if __name__ == "__main__":
    ranks, count, how = cluster.session(), int(sys.argv[1]), sys.argv[2]
    most, done = [0], threading.Event()
    threading.Thread(target=watch, daemon=True).start()
    x, y = None, None
    if how == "read" or ranks.leads:
        x, y = np.load("x.npy", mmap_mode="r")[:count], np.arange(count) % 3
    x, y = cluster.shard(x, y, how=how)
    model = nn.Sequential([nn.Flatten(), nn.Dense(3)], input_shape=(64, 64, 3), seed=1)
    pyconv.fit(model, x, y, epochs=2, batch_size=100, progress="off")
    done.set()
    json.dump([resident(), most[0]], open(f"{how}-{count}-{ranks.rank}.json", "w"))
"""


@pytest.mark.parametrize(("ranks", "how"), [(2, "read"), (4, "scatter")])
def test_a_rank_holds_its_part_of_the_data_and_a_constant(mpi, tmp_path, ranks, how):
    few, many, image = 4_000, 16_000, 64 * 64 * 3  # with fewer, what is the same for any number would not be
    (tmp_path / "script.py").write_text(MEMORY)
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, (many, 64, 64, 3))
    rng = np.random.default_rng(7)
    for begin in range(0, many, 1000):
        x[begin : begin + 1000] = rng.integers(0, 256, (1000, 64, 64, 3), np.uint8)
    del x
    for count in (few, many):
        assert Run(mpi, ["script.py", str(count), how], ranks=ranks, folder=tmp_path).end(150) == 0
    part = (many - few) * image / ranks
    for rank in range(ranks):
        now, most = np.subtract(*(json.loads((tmp_path / f"{how}-{n}-{rank}.json").read_text()) for n in (many, few)))
        print(f"rank {rank}: {now / part:.3f} of its part at the end, {most / part:.3f} at most")
        assert abs(now - part) < 0.15 * part
        assert most < 1.35 * part  # labels and orders of all, and what is on its way


FREE = """
import json, sys
import numpy as np
import pyconv
from parallel_runs import data, small_model
if __name__ == "__main__":
    model, (x, y), (xv, yv) = small_model(), data(3000), data(400)
    history = pyconv.fit(model, x[400:], y[400:], validation=(xv, yv), epochs=4, workers=int(sys.argv[2]),
                         update=sys.argv[1], progress="off")
    last = {name: history[-1][name] for name in ("val_accuracy", "staleness_max", "staleness_histogram")}
    json.dump({**last, "images": sum(line["images"] for line in history)}, open(sys.argv[3], "w"))
"""


@pytest.mark.parametrize("update", ["async", "ssp", "hogwild", "easgd"])
def test_rules_that_wait_for_nobody_learn_as_on_one_machine(mpi, tmp_path, update):
    (tmp_path / "script.py").write_text(FREE)
    assert Run(mpi, ["script.py", update, "2", "ranks.json"], ranks=2, folder=tmp_path).end() == 0
    environment = {**os.environ, "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "script.py", update, "4", "alone.json"], cwd=tmp_path, env=environment, check=True)
    ranks, alone = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("ranks", "alone"))
    print(ranks, alone)
    assert ranks["images"] == alone["images"] == 4 * 2600
    assert ranks["val_accuracy"] > alone["val_accuracy"] - 0.03 > 0.6
    if update in ("async", "hogwild"):  # under ssp, ranks that compute so little may well take turns
        assert ranks["staleness_max"] > 0
    if update != "easgd":
        assert sum(ranks["staleness_histogram"]) == sum(alone["staleness_histogram"])


RULE = """
import sys, json, hashlib
from parallel_runs import MajorityVote, data, small_model
import pyconv
if __name__ == "__main__":
    model = small_model()
    x, y = data()
    history = pyconv.fit(model, x, y, epochs=2, batch_size=5, optimizer="sgd", workers=int(sys.argv[1]),
                         update=MajorityVote(0.01), progress="off")
    line = json.dumps([hashlib.sha256(model.flat.tobytes()).hexdigest(), [each["train_loss"] for each in history]])
    open(sys.argv[2] + "-" + str(__import__("os").getpid()), "w").write(line)
"""


def test_a_users_own_rule_and_script(mpi, tmp_path):
    (tmp_path / "script.py").write_text(RULE)
    assert Run(mpi, ["script.py", "2", "ranks"], ranks=2, folder=tmp_path).end() == 0
    environment = {**os.environ, "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "script.py", "4", "alone"], cwd=tmp_path, env=environment, check=True)
    results = [path.read_text() for path in (*tmp_path.glob("ranks-*"), *tmp_path.glob("alone-*"))]
    assert len(results) == 3
    assert len(set(results)) == 1


# ---- bad ends -------------------------------------------------------------------------------------


def endless(*flags: str, epochs: int = 500) -> list[str]:
    return train(*SMALL[:-4], "--batch-size", "8", "--epochs", str(epochs), "--checkpoint-every", "0.5", *flags)


@pytest.mark.parametrize(("signal_name", "update"), [("SIGKILL", "sync"), ("SIGSTOP", "sync"), ("SIGKILL", "ssp")])
def test_a_rank_that_dies_ends_all_and_the_run_goes_on(mpi, tmp_path, signal_name, update):
    run = Run(mpi, endless("--out", "run", "--update", update), ranks=3, folder=tmp_path)
    run.until("epoch 1/")
    time.sleep(0.7)
    began = time.monotonic()
    victim = run.ranks()[1]
    victim.send_signal(getattr(signal, signal_name))
    assert run.end(GONE_S) != 0
    assert time.monotonic() - began < GONE_S
    what = "was killed by SIGKILL" if signal_name == "SIGKILL" else "was stopped by a signal"
    if signal_name == "SIGSTOP" or run.said:  # a launcher may end all ranks before a rank notices
        assert len(run.said) == 1
        assert re.fullmatch(rf"pyconv: error: rank 1 on \S+ \(pid {victim.pid}\) {what}.*", run.said[0])
    done = len(checkpoint(tmp_path / "run").history)
    epochs = str(done + 2)
    again = Run(mpi, train("--resume", "run", "--epochs", epochs), ranks=2, folder=tmp_path)
    assert again.end() == 0
    assert "ranks were 3 and are 2" in again.out
    if signal_name == "SIGKILL":
        # Up to the death the schedule counted on 500 epochs, so the undisturbed run is done in the same two parts.
        history = checkpoint(tmp_path / "run").history
        assert [line["epoch"] for line in history] == list(range(1, done + 3))


def test_a_killed_run_goes_on_to_the_undisturbed_runs_bits(mpi, tmp_path):
    flags = [*SMALL[:-4], "--batch-size", "8", "--epochs", "12", "--checkpoint-every", "0.2"]
    run = Run(mpi, train(*flags, "--out", "run"), ranks=2, folder=tmp_path)
    run.until("epoch 3/")
    run.ranks()[1].kill()
    assert run.end(GONE_S) != 0
    assert len(checkpoint(tmp_path / "run").history) < 12
    assert Run(mpi, train("--resume", "run"), ranks=2, folder=tmp_path).end() == 0
    alone(tmp_path, *flags, "--workers", "2", "--out", "alone")
    assert_same_run(tmp_path / "run", tmp_path / "alone")


def test_ranks_are_started_again_after_a_death(mpi, tmp_path):
    flags = [*SMALL[:-4], "--batch-size", "8", "--epochs", "20", "--checkpoint-every", "0.2"]
    launcher = str(mpi.parent / "mpiexec")
    if _kind(mpi) == "Open MPI":
        launcher += " --oversubscribe --bind-to none" + (" --allow-run-as-root" if os.getuid() == 0 else "")
    words = ["-m", "pyconv.cluster", "-n", "2", "--mpiexec", launcher, "--", "--progress", "plain", *flags]
    run = Run(mpi, [*words, "--out", "run"], alone=True, folder=tmp_path)
    run.until("epoch 3/")
    run.ranks()[1].kill()
    assert run.end() == 0
    assert [line for line in run.said if "; restart 1 of 3, from the checkpoint of step " in line]
    alone(tmp_path, *flags, "--workers", "2", "--out", "alone")
    assert_same_run(tmp_path / "run", tmp_path / "alone")


@pytest.mark.parametrize(
    ("number", "update"), [(signal.SIGINT, "sync"), (signal.SIGTERM, "sync"), (signal.SIGINT, "async")]
)
def test_a_signal_to_the_launcher_ends_all(mpi, tmp_path, number, update):
    run = Run(mpi, endless("--out", "run", "--update", update), ranks=3, folder=tmp_path)
    run.until("epoch 1/")
    run.process.send_signal(number)
    status = run.end(GONE_S)
    assert status != 0
    checkpoint(tmp_path / "run")
    if run.kind == "MPICH" and number == signal.SIGINT:
        assert status == 130
        assert len(run.said) == 1
        assert re.match(r"pyconv: interrupted by SIG\w+ after step \d+; continue with: ", run.said[0])


FAULT = """
import os, sys
from parallel_runs import data, small_model
import numpy as np
import pyconv
from pyconv import cluster, nn
if __name__ == "__main__":
    model, (x, y) = small_model(), data()
    ranks, calls, compute = cluster.session(), [0], nn.Sequential.loss_and_gradient
    def spoilt(self, *args, **settings):
        calls[0] += 1
        loss, gradient = compute(self, *args, **settings)
        if calls[0] == 20 and ranks.rank == int(sys.argv[2]):
            if sys.argv[1] == "nan":
                gradient[...] = np.nan
            elif sys.argv[1] == "exit":
                os._exit(0)
            else:
                raise ValueError("planted")
        return loss, gradient
    nn.Sequential.loss_and_gradient = spoilt
    pyconv.fit(model, x, y, epochs=50, batch_size=5, out="run", progress="off", update=sys.argv[3])
"""


@pytest.mark.parametrize(
    ("fault", "guilty", "update"),
    [
        ("exception", 2, "sync"),
        ("exception", 0, "sync"),
        ("nan", 1, "sync"),
        ("exit", 2, "sync"),
        ("exception", 2, "async"),
        ("exception", 0, "easgd"),
        ("nan", 1, "hogwild"),
    ],
)
def test_a_fault_of_one_rank_ends_all(mpi, tmp_path, fault, guilty, update):
    (tmp_path / "script.py").write_text(FAULT)
    run = Run(mpi, ["script.py", fault, str(guilty), update], ranks=3, folder=tmp_path)
    status = run.end(60)
    checkpoint(tmp_path / "run")
    text = (tmp_path / "err.txt").read_text()
    if fault == "exit":
        # MPICH's launcher takes this for success, status 0, and kills the other ranks, before or after they notice.
        if run.kind != "MPICH":
            assert status != 0 or run.said, "a launcher may take this for a good end: another rank has to say it"
        assert len(checkpoint(tmp_path / "run").history) < 50
        assert not (tmp_path / "run" / "curves.png").exists()  # a complete run has one
        return
    assert status == 1
    if fault == "nan":
        assert f"rank {guilty} on " in text
        assert "the gradient is not finite" in text
    else:
        assert text.count("ValueError: planted\n") >= 1


@pytest.mark.parametrize(
    ("first", "second", "line"),
    [
        (["--lr", "0.1"], ["--lr", "-1"], r"rank 1 on \S+: .*--lr.*"),
        (["--seed", "1"], ["--seed", "2"], r"rank 1 on \S+ was given another .*; start all ranks with the same.*"),
        (["--data", "a.npz"], ["--data", "a.npz"], r"(?!rank).*a\.npz.*"),
        (["--data", "a.npz", "--shard", "scatter"], ["--shard", "scatter"], r"rank 0 on \S+: .*a\.npz.*"),
        (["--shard", "scatter"], [], r"rank 1 on \S+ was given another --shard .*"),
        ([], ["--checkpoint-every", "1"], r"rank 1 on \S+ was given another --checkpoint-every \(1\.?0?\) .*"),
        ([], ["--resume", "auto"], r"rank 1 on \S+ was given another --resume .*"),
        (["--update", "async"], ["--update", "async", "--data", "a.npz"], r"rank 1 on \S+: a\.npz: no such file.*"),
        (["--out", "d.npz/run"], ["--out", "d.npz/run"], r"rank 0 on \S+: d\.npz/run: cannot be used as run folder.*"),
    ],
)
def test_what_is_refused_is_refused_once_and_by_all(mpi, tmp_path, first, second, line):
    common = ["--data", "d.npz", "--model", "3-4-8-7", "--epochs", "1", "--out", "run"]
    run = Run(mpi, *(train(*common, *own) for own in (first, second)), folder=tmp_path)
    assert run.end(60) == 2
    assert len(run.said) == 1
    assert re.fullmatch(f"pyconv: error: {line}", run.said[0])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("own", "line", "status"),
    [
        (["-c", "raise SystemExit(3)"], "rank 2 has ended before it came to MPI's start, at which all others wait", 0),
        (["-c", ""], "rank 2 has ended before it came to MPI's start, at which all others wait", 0),
        (train(*SMALL, "--cluster", "off"), "rank 2 was started with --cluster off, and rank 0 without: .*", 2),
    ],
)
def test_a_rank_that_does_not_come_to_mpis_start_ends_all(mpi, tmp_path, own, line, status):
    together = train(*SMALL, "--out", "run")
    run = Run(mpi, together, together, own, folder=tmp_path)
    ended = run.end(GONE_S)
    assert ended == status if status else ended != 0
    if run.said or run.kind == "MPICH" or not own[-1].startswith("raise"):  # Open MPI's launcher may end all itself
        assert len(run.said) == 1
        assert re.fullmatch(f"pyconv: (error: {line}|interrupted before .*)", run.said[0])
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "runs").exists()


def test_help_is_shown_once(mpi, tmp_path):
    run = Run(mpi, train("--help"), ranks=2, folder=tmp_path)
    assert run.end(60) == 0
    assert run.out.count("usage: ") == 1


def test_info_tells_library_and_ranks(mpi, tmp_path):
    run = Run(mpi, ["-m", "pyconv.info", "--json"], ranks=2, folder=tmp_path)
    assert run.end(60) == 0
    found = json.loads(run.out)["mpi"]
    assert found["library"].startswith(run.kind)
    assert found["ranks"].startswith("2: 2 on ")
    way = next(value for name, value in found.items() if name.startswith("link within "))
    bandwidth, latency = re.fullmatch(r"([\d,]+) MB/s, ([\d,]+) microseconds", way).groups()
    assert 1 < int(bandwidth.replace(",", "")) < 1e6 and 0 <= int(latency.replace(",", "")) < 1e6


@pytest.mark.parametrize("rank", ["0", "1"])
def test_worlds_of_one_rank_are_refused(mpi, tmp_path, rank):
    """The wrong mpiexec, or srun without --mpi, starts such worlds."""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": rank}
    words = [str(mpi), *train(*SMALL, "--out", "run")]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    line = r"pyconv: error: 2 processes were started, and each finds itself alone in .*\n"
    assert re.fullmatch(line if rank == "0" else "", done.stderr)
    assert not (tmp_path / "run").exists()
    off = [*words, "--cluster", "off"]
    assert subprocess.run(off, cwd=tmp_path, env=environment, capture_output=True, timeout=90).returncode == 0


# ---- convolutions of images split by rows ---------------------------------------------------------

ROWS = """
import json, sys
import numpy as np
import pyconv
from pyconv import cluster
from pyconv.cluster.rows import RowSplit
from pyconv.shapes import conv_geometry
from test_cluster_rows import _case, _rows

if __name__ == "__main__":
    ranks, cases, worst = cluster.session(), 0, 0.0
    rng = np.random.default_rng(int(sys.argv[1]))
    while cases < 30:
        dtype, layout = str(rng.choice(["float32", "float64"])), str(rng.choice(["NHWC", "NCHW"]))
        g, heights, how, x, w, b, e = _case(rng, dtype, layout)
        if len(heights) != ranks.size:
            continue
        cases += 1
        how |= {"layout": layout, "algorithm": str(rng.choice(["auto", "naive"]))}
        errors = _rows(e, RowSplit(g, tuple(heights)).outputs[ranks.rank], layout)
        mine = cluster.split_rows(x if ranks.leads else None, heights, layout=layout)
        y, gx = cluster.conv2d(mine, w, b, **how), cluster.conv2d_input_grad(errors, w, mine.shape, **how)
        found = [
            *(cluster.gather_rows(each, layout=layout, everywhere=True) for each in (y, gx)),
            cluster.conv2d_weight_grad(mine, errors, (g.kh, g.kw), **how),
        ]
        whole = [
            pyconv.conv2d(x, w, b, **how),
            pyconv.conv2d_input_grad(e, w, x.shape, **how),
            pyconv.conv2d_weight_grad(x, e, (g.kh, g.kw), **how),
        ]
        for one, other in zip(found, whole):
            assert one.dtype == other.dtype == dtype and one.shape == other.shape
            off = np.abs(one - other).max() / max(np.abs(other).max(), 1)
            worst = max(worst, off * (1 if dtype == "float32" else 1e6))
        if how["algorithm"] == "naive":
            np.testing.assert_array_equal(found[0], whole[0])
            np.testing.assert_array_equal(found[1], whole[1])
    print(f"rank {ranks.rank}: worst {worst:.1e}", flush=True)
    assert worst < 2e-5
"""


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_ranks_convolve_images_that_are_split_by_rows(mpi, tmp_path, ranks):
    (tmp_path / "script.py").write_text(ROWS)
    seed = str(np.random.SeedSequence().entropy % 2**32)
    run = Run(mpi, ["script.py", seed], ranks=ranks, folder=tmp_path)
    assert run.end() == 0, seed
    assert run.out.count("worst") == ranks


HALO = """
import os, signal, sys, time
import numpy as np
from pyconv import cluster
from pyconv.cluster.mpi import MPIWorld

if __name__ == "__main__":
    ranks, send, calls = cluster.session(), MPIWorld.send, [0]
    def spoilt(self, rank, array, tag):
        calls[0] += 1
        if calls[0] == 20 and self.rank == 1:
            calls[0] = 1000
            if sys.argv[1] == "exception":
                raise ValueError("planted")
            os.kill(os.getpid(), getattr(signal, sys.argv[1]))
        return send(self, rank, array, tag)
    MPIWorld.send = spoilt
    x, w = np.ones((1, 30, 200, 8), np.float32), np.ones((5, 5, 8, 8), np.float32)
    layer = cluster.RowConvolution(x.shape, w.shape, padding="same")
    print("begun", flush=True)
    for _ in range(1000):
        layer(x, w)
        time.sleep(0.01)
    print("done", flush=True)
"""


@pytest.mark.parametrize("fault", ["exception", "SIGKILL", "SIGSTOP"])
def test_a_rank_that_is_lost_in_an_exchange_of_rows_ends_all(mpi, tmp_path, fault):
    (tmp_path / "script.py").write_text(HALO)
    run = Run(mpi, ["script.py", fault], ranks=3, folder=tmp_path)
    run.until("begun")
    assert run.end(GONE_S) != 0
    assert "done" not in run.out
    if fault != "SIGKILL" or run.said:  # a launcher may end all ranks before a rank notices
        assert len(run.said) == 1
        cause = {"exception": "failed: ValueError: planted", "SIGKILL": "was killed", "SIGSTOP": "was stopped"}[fault]
        assert re.match(rf"pyconv: error: rank 1 on \S+?:? .*{cause}", run.said[0])


# ---- networks split within layers -----------------------------------------------------------------


@pytest.mark.parametrize("split", ["filters", "rows"])
def test_a_network_split_within_layers_trains_as_on_one_machine(mpi, tmp_path, split):
    flags = [*SMALL, "--optimizer", "adam"]
    run = Run(mpi, train(*flags, "--split", split, "--out", "run"), ranks=3, folder=tmp_path)
    assert run.end() == 0
    assert run.said == []
    assert f"{split} split over 3 ranks" in run.out
    alone(tmp_path, *flags, "--out", "alone")
    mine, theirs = checkpoint(tmp_path / "run"), checkpoint(tmp_path / "alone")
    assert mine.engine.keys() == theirs.engine.keys()
    np.testing.assert_allclose(mine.parameters, theirs.parameters, rtol=0, atol=2e-3)
    for one, other in zip(mine.history, theirs.history, strict=True):
        assert abs(one["train_loss"] - other["train_loss"]) < 1e-3 * other["train_loss"]


@pytest.mark.parametrize("split", ["filters", "rows"])
def test_a_killed_split_run_goes_on_to_the_undisturbed_runs_bits(mpi, tmp_path, split):
    flags = [*SMALL[:-4], "--batch-size", "8", "--epochs", "12", "--checkpoint-every", "0.2", "--split", split]
    run = Run(mpi, train(*flags, "--out", "run"), ranks=2, folder=tmp_path)
    run.until("epoch 3/")
    run.ranks()[1].kill()
    assert run.end(GONE_S) != 0
    assert len(checkpoint(tmp_path / "run").history) < 12
    assert len(run.said) <= 1
    assert Run(mpi, train("--resume", "run"), ranks=2, folder=tmp_path).end() == 0
    assert Run(mpi, train(*flags, "--out", "whole"), ranks=2, folder=tmp_path).end() == 0
    assert_same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize(("signal_name", "split"), [("SIGSTOP", "rows"), ("SIGSTOP", "filters"), ("SIGINT", "filters")])
def test_a_split_run_ends_well(mpi, tmp_path, signal_name, split):
    run = Run(mpi, endless("--out", "run", "--split", split), ranks=3, folder=tmp_path)
    run.until("epoch 1/")
    time.sleep(0.7)
    victim = run.ranks()[1]
    if signal_name == "SIGSTOP":
        victim.send_signal(signal.SIGSTOP)
    else:
        run.process.send_signal(signal.SIGINT)
    assert run.end(GONE_S) != 0
    checkpoint(tmp_path / "run")
    if signal_name == "SIGSTOP":
        assert len(run.said) == 1
        assert re.match(rf"pyconv: error: rank 1 on \S+ \(pid {victim.pid}\) was stopped", run.said[0])


@pytest.mark.parametrize("split", ["filters", "rows"])
@pytest.mark.parametrize("fault", ["exception", "nan"])
def test_a_fault_in_a_split_step_ends_all(mpi, tmp_path, fault, split):
    script = FAULT.replace("small_model(), data()", "nn.build('3-4-8-3', input_shape=(6, 6, 1), classes=3), data()")
    (tmp_path / "script.py").write_text(script.replace("update=sys.argv[3]", "split=sys.argv[3]"))
    began = time.monotonic()
    run = Run(mpi, ["script.py", fault, "1", split], ranks=3, folder=tmp_path)
    status = run.end(60)
    text = (tmp_path / "err.txt").read_text()
    print(status, time.monotonic() - began)
    assert status == 1
    if fault == "exception":
        assert text.count("ValueError: planted\n") >= 1
    else:
        assert "training diverged: " in text
        assert "rank 1 on " in text
    assert len(checkpoint(tmp_path / "run").history) < 50


@pytest.mark.parametrize(
    ("first", "second", "line"),
    [
        (["--split", "filters"], [], r".*rank 1 on \S+ was given another .*"),
        (
            ["--split", "filters", "--workers", "2"],
            ["--split", "filters", "--workers", "2"],
            r"a network that is split.*",
        ),
        (["--split", "filters", "--clip-norm", "1"], ["--split", "filters", "--clip-norm", "1"], r"clip_norm needs.*"),
        (["--split", "rows", "--update", "ssp"], ["--split", "rows", "--update", "ssp"], r"split rows is one worker.*"),
        (["--split", "filters", "--shard", "read"], ["--split", "filters", "--shard", "read"], r".*take shard off.*"),
    ],
)
def test_what_cannot_be_split_is_refused_once(mpi, tmp_path, first, second, line):
    common = ["--data", "d.npz", "--model", "3-4-8-7", "--epochs", "1", "--out", "run"]
    run = Run(mpi, *(train(*common, *own) for own in (first, second)), folder=tmp_path)
    assert run.end(60) == 2
    assert len(run.said) == 1
    assert re.fullmatch(f"pyconv: error: {line}", run.said[0])
    assert not (tmp_path / "run").exists()


# ---- without MPI ----------------------------------------------------------------------------------


def _without_mpi(tmp_path: Path, *flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Train where mpi4py cannot be imported."""
    (tmp_path / "mpi4py.py").write_text("raise ModuleNotFoundError('No module named mpi4py', name='mpi4py')")
    paths = os.pathsep.join([str(tmp_path), str(HERE.parent)])
    environment = {**os.environ, "PYTHONPATH": paths, **variables}
    words = [sys.executable, *train(*SMALL, "--out", "run", *flags)]
    return subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=90)


def test_ranks_without_mpi4py_are_told_what_to_install(tmp_path):
    done = _without_mpi(tmp_path, PMI_SIZE="2", PMI_RANK="0")
    assert done.returncode == 2
    assert re.fullmatch(r"pyconv: error: mpi4py is not installed: pip install '\.\[mpi\]' .*\n", done.stderr)
    assert not (tmp_path / "run").exists()


def test_one_process_does_not_look_for_mpi(tmp_path):
    assert _without_mpi(tmp_path).returncode == 0


def test_insisting_on_ranks_where_there_are_none(mpi, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    words = [str(mpi), *train(*SMALL, "--out", "run", "--cluster", "mpi")]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert re.fullmatch(r"pyconv: error: cluster mpi: this is the only rank; start several.*\n", done.stderr)
