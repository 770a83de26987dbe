"""Limits of the system: they are read from control groups of both versions, and a run is refused before it starts."""

from __future__ import annotations

import errno
import os
import resource
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parallel_runs import data, job, small_model, train
from PIL import Image

import pyconv
from pyconv import datasets, interrupts, limits, nn
from pyconv.errors import DataError, InputError, WorkerError
from pyconv.limits import Limit
from pyconv.parallel import SharedMemoryError, memory
from pyconv.parallel.server import ParameterServer
from pyconv.parallel.supervisor import Supervisor

ROOT = Path(__file__).parent.parent
MB = 1 << 20


def groups(folder: Path, files: dict[str, Any], own: str) -> tuple[Path, Path]:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{text}\n")
    (folder / "self").write_text(own + "\n")
    return folder, folder / "self"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a/b/memory.max": 100, "a/b/memory.current": 60}, Limit(100, 40)),
        ({"a/b/memory.max": "max", "a/b/memory.current": 60,
          "a/memory.max": 80, "a/memory.current": 70}, Limit(80, 10)),
        ({"a/b/memory.max": 100, "a/b/memory.current": 60,
          "a/memory.max": 200, "a/memory.current": 190}, Limit(200, 10)),
        ({"a/b/memory.max": 100, "a/b/memory.current": 95,
          "a/memory.max": 200, "a/memory.current": 150}, Limit(100, 5)),
        ({"a/b/memory.max": 100, "a/b/memory.current": 90,
          "a/b/memory.stat": "anon 20\ninactive_file 30\nactive_file 10\nshmem 5"}, Limit(100, 50)),
        ({"a/b/memory.max": 50, "a/b/memory.current": 90}, Limit(50, 0)),
        ({"memory/a/b/memory.limit_in_bytes": 100, "memory/a/b/memory.usage_in_bytes": 70,
          "memory/a/b/memory.stat": "active_file 9\ntotal_active_file 5"}, Limit(100, 35)),
        ({"memory/memory.limit_in_bytes": 9223372036854771712, "memory/memory.usage_in_bytes": 70}, None),
        ({"a/b/memory.max": "nonsense", "a/b/memory.current": 60}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_memory_of_control_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, Any], expected: Limit | None
) -> None:
    table = limits._table
    monkeypatch.setattr(limits, "_table", lambda path: {} if path.name == "meminfo" else table(path))
    place = groups(tmp_path, files, "4:memory:/a/b\n0::/a/b")
    assert limits.memory(*place) == expected


def test_swap_that_a_group_may_use_counts_as_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = limits._table
    monkeypatch.setattr(limits, "_table", lambda path: {"SwapFree": 1} if path.name == "meminfo" else table(path))
    files = {"a/memory.max": 3000, "a/memory.current": 2000, "a/memory.swap.max": "max", "a/memory.swap.current": 0}
    assert limits.memory(*groups(tmp_path, files, "0::/a")) == Limit(3000, 1000 + 1024)
    files |= {"a/memory.swap.max": 500, "a/memory.swap.current": 200}
    assert limits.memory(*groups(tmp_path, files, "0::/a")) == Limit(3000, 1000 + 300)


@pytest.mark.parametrize("mount", ["", "pids/"])
def test_processes_of_control_groups(tmp_path: Path, mount: str) -> None:
    files = {f"{mount}a/b/pids.max": "max", f"{mount}a/b/pids.current": 3, f"{mount}a/pids.max": 10}
    own = "7:pids:/a/b" if mount else "0::/a/b"
    assert limits.processes(*groups(tmp_path, files, own)) is None
    files[f"{mount}a/pids.current"] = 8
    assert limits.processes(*groups(tmp_path, files, own)) == Limit(10, 2)


def test_the_machine_says_what_it_has() -> None:
    machine = limits.machine_memory()
    assert machine is None or 0 < machine.left <= machine.most


@pytest.mark.parametrize(
    ("reader", "words"),
    [
        ("memory", r"control group's limit of 3\.0 MB leaves 1\.0 MB; raise memory\.max"),
        ("machine_memory", r"of the machine's 3\.0 MB of memory 1\.0 MB are left"),
        ("file_size", r"a file of this process may have 3\.0 MB at most"),
    ],
)
def test_shared_memory_that_the_system_does_not_grant(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reader: str, words: str
) -> None:
    monkeypatch.setattr(limits, reader, lambda: Limit(3 * MB, MB))
    memory.Segment(MB, "a test")
    with pytest.raises(
        SharedMemoryError, match=r"^for a test, 1\.0 MB of shared memory are needed, and .*" + words
    ) as error:
        memory.Segment(MB + 1, "a test")
    assert error.value.exit_status == 2
    monkeypatch.setattr(limits, reader, lambda: Limit(3 * MB, 100))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SharedMemoryError, match="for the training images"):
        pyconv.fit(small_model(), *data(), workers=2, batch_size=5, out=tmp_path / "run", progress="off")
    assert sorted(tmp_path.iterdir()) == before


def test_workers_that_no_memory_is_left_for_are_not_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(limits, "memory", lambda: Limit(100 * MB, 60 * MB))
    words = r"^2 workers cannot be started: they need 68\.\d MB of memory at least, and .* limit of 100\.0 MB leaves 60"
    with pytest.raises(SharedMemoryError, match=words) as error:
        pyconv.fit(small_model(), *data(), workers=2, batch_size=5, out=tmp_path / "run", progress="off")
    assert error.value.exit_status == 2 and not (tmp_path / "run").exists()


def _idx(folder: Path, shape: tuple[int, ...]) -> Path:
    folder.mkdir()
    for name, of in (("images-idx3", shape), ("labels-idx1", shape[:1])):
        content = np.zeros(of, np.uint8)
        content[0] = 1
        header = bytes([0, 0, 8, len(of)]) + struct.pack(f">{len(of)}I", *of)
        (folder / f"train-{name}-ubyte").write_bytes(header + content.tobytes())
    return folder


def _pictures(folder: Path) -> Path:
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for number in range(4):
            Image.fromarray(np.full((20, 30, 3), number, np.uint8)).save(folder / name / f"{number}.png")
    return folder


def test_data_that_no_memory_is_left_for_are_not_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    x, y = np.zeros((40, 20, 30), np.uint8), np.arange(40) % 2
    np.savez_compressed(tmp_path / "a.npz", x=x, y=y)
    np.savez(tmp_path / "wide.npz", x=x.astype(np.float64), y=y)
    wide = len((tmp_path / "wide.npz").read_bytes())
    cases: list[tuple[str | Path, int, str]] = [
        (tmp_path / "a.npz", x.nbytes, r"a\.npz: the entries of x need 23\.6 kB of memory"),
        (tmp_path / "wide.npz", 8 * x.size, "the entries of x need"),
        (tmp_path / "wide.npz", wide, ""),
        (_idx(tmp_path / "idx", x.shape), x.nbytes, "images-idx3-ubyte: 40 entries need"),
        (_pictures(tmp_path / "folder"), 8 * 1800, "folder: 8 images of 30x20 need"),
        ("faces", 77 * 2304, r"faces: 77 images need"),
    ]
    for source, needed, words in cases:
        monkeypatch.setattr(limits, "memory", lambda needed=needed: Limit(4 * MB, needed - 1))
        if words:
            with pytest.raises(DataError, match=words + r".* and the control group's limit of 4\.0 MB leaves"):
                datasets.load(source, limit=77, seed=987)
        else:
            datasets.load(source)
    with pytest.raises(InputError, match=r"parameters need .* MB of memory, and the control group's"):
        nn.build("fer")


def test_a_limit_on_files_is_heard() -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    try:
        with pytest.raises(SharedMemoryError, match=r"a file of this process may have 8\.0 kB at most"):
            memory.Segment(MB, "a test")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def two_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "processes", lambda: Limit(10, 2))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"workers": 2, "threads_per_worker": 2},
         r"2 workers cannot be started: they need \d+ processes and threads, .* limit of 10 leaves 2; raise pids\.max"),
        ({"threads_per_worker": 4, "backend": "multicore"},
         r"4 threads cannot be started: they need 3 processes and threads, .* limit of 10 leaves 2; raise pids\.max"),
    ],
)  # fmt: skip
def test_processes_that_the_system_does_not_grant(
    two_left: None, tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        pyconv.fit(small_model(), *data(), batch_size=5, out=tmp_path / "run", progress="off", **settings)
    assert not (tmp_path / "run").exists()


def test_one_thread_needs_nothing(two_left: None) -> None:
    pyconv.fit(small_model(), *data(), epochs=1, batch_size=5, threads_per_worker=3, backend="serial", progress="off")


def limited(program: str, words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    return subprocess.run(
        ["sh", "-c", f'{words} && exec "$0" -c "$1"', sys.executable, program],
        capture_output=True, text=True, timeout=60, env=environment, check=False,
    )  # fmt: skip


DESCRIPTORS = """
import resource
from parallel_runs import *
from pyconv.errors import InputError
try:
    train(job(workers=2, epochs=1))
except InputError as error:
    print(error)
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def test_too_few_descriptors_are_named() -> None:
    done = limited(DESCRIPTORS, "ulimit -n 20")
    assert done.returncode == 0, done.stderr
    assert "2 workers cannot be started: they need about 24 more descriptors, and of the 20 of this" in done.stdout


def test_descriptors_that_may_be_had_are_taken() -> None:
    done = limited(DESCRIPTORS, "ulimit -Sn 20")
    assert (done.returncode, done.stderr) == (0, "")
    assert 20 < int(done.stdout) < 60


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group with 300 MB of memory, if this user may make one."""
    version_1 = Path("/sys/fs/cgroup/memory")
    group = (version_1 if version_1.exists() else Path("/sys/fs/cgroup")) / f"pyconv-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("this user may not make a control group")
    try:
        name = "memory.limit_in_bytes" if version_1.exists() else "memory.max"
        try:
            (group / name).write_text(str(300 * MB))
        except OSError:
            pytest.skip("control groups here do not limit memory")
        yield group
    finally:
        group.rmdir()


def test_a_real_control_group(small_group: Path) -> None:
    program = "from pyconv.parallel.memory import Segment; Segment(50 << 20, 'a'); Segment(400 << 20, 'a test')"
    done = limited(program, f"echo $$ > {small_group}/cgroup.procs")
    assert done.returncode == 1, "not killed"
    assert "for a test, 400.0 MB of shared memory are needed, and the control group's limit of 300.0 MB" in done.stderr


def test_what_does_not_fit_into_a_real_control_group(small_group: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in (("x", np.zeros((100_000, 60, 60), np.uint8)), ("y", np.arange(100_000) % 2)):
            with archive.open(f"{name}.npy", "w") as stream:
                np.lib.format.write_array(stream, array)
    program = f"import sys; from pyconv import train; sys.exit(train.main(['--data', '{tmp_path}/a.npz']))"
    done = limited(program, f"echo $$ > {small_group}/cgroup.procs")
    assert done.returncode == 2, "not killed"
    assert "a.npz: the entries of x need 343.3 MB of memory, and the control group's limit of 300.0 MB" in done.stderr


def test_where_memory_runs_out_a_worker_goes_first() -> None:
    own = Path("/proc/self/oom_score_adj")
    if not own.exists():
        pytest.skip("this kernel takes no wishes for whom to end")
    before, scores = own.read_text(), []

    def look(engine: ParameterServer, count: int) -> None:
        if count == 2:
            scores.extend(Path(f"/proc/{pid}/oom_score_adj").read_text() for pid in engine.worker_pids())

    train(job(workers=2, epochs=1), each=look)
    assert scores == ["1000\n", "1000\n"]
    assert own.read_text() == before


@pytest.mark.covering("error", most=1)
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (BlockingIOError(errno.EAGAIN, "busy"), "the system refuses another process or thread; allow more processes"),
        (RuntimeError("can't start new thread"), "the system refuses another process or thread"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files; allow more descriptors"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_the_system_refuses_all_the_same(monkeypatch: pytest.MonkeyPatch, error: Exception, words: str) -> None:
    start = Supervisor._start_many
    calls = []

    def refuse(self: Supervisor, indices: list[int], attempts: int = 0) -> None:
        calls.append(indices)
        if len(calls) == refused:
            raise error
        start(self, indices, attempts)

    monkeypatch.setattr(Supervisor, "_start_many", refuse)
    refused = 1
    with pytest.raises(InputError, match="workers cannot be started: " + words):
        ParameterServer(small_model(), *data(), job(workers=2))
    calls.clear()
    refused = 2
    with pytest.raises(
        WorkerError, match=r"worker \d \(pid \d+\) was killed by SIGKILL.*, and no other can start: " + words
    ):
        train(job(workers=2, epochs=200), each=lambda engine, count: count == 3 and os.kill(engine.worker_pids()[0], 9))


@pytest.mark.parametrize(("left", "status"), [(0, 1), (5, 130)])
def test_openblas_without_its_threads_is_no_interruption(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], left: int, status: int
) -> None:
    """OpenBLAS sends its own process SIGINT if it gets no threads."""
    monkeypatch.setattr(limits, "processes", lambda: Limit(7, left))

    def leave(number: int) -> None:
        raise SystemExit(number)

    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(SystemExit) as end:
        interrupts._leave(2, None)
    assert end.value.code == status
    assert ("limit of 7 processes and threads is reached" in capsys.readouterr().err) == (left == 0)


READ_ONLY = "mount -t tmpfs -o ro none /dev/shm"


def test_workers_need_no_dev_shm() -> None:
    """If it is read-only, as in some containers, anonymous files of the kernel are used."""
    probe = subprocess.run(["unshare", "-rm", "sh", "-c", READ_ONLY], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("this machine does not let a user mount")
    program = "from parallel_runs import *; print(sum(train(job(workers=2, epochs=1)).images))"
    script = f"{READ_ONLY} && exec {sys.executable} -c '{program}'"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        capture_output=True, text=True, timeout=60, env=environment, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "240\n", "")


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOENT])
def test_memory_without_the_folder(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(path: Path, flags: int, mode: int = 0o777) -> int:
        if path == memory.FOLDER:
            raise OSError(number, "planted")
        return opened(path, flags, mode)

    opened = os.open
    monkeypatch.setattr(os, "open", refuse)
    assert memory.Segment(100, "a test").array((100,), "u1").sum() == 0


def test_a_working_folder_that_is_gone() -> None:
    done = limited(DESCRIPTORS, 'gone=$(mktemp -d) && cd "$gone" && rmdir "$gone"')
    assert "the folder that the program runs in no longer exists: change to one that does" in done.stdout
