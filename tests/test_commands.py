"""The commands as a user runs them: what they print, the status they exit with, and what they leave."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_files import FASHION, images_of, labels_of, on_real_images, pixel_field, write_csv
from PIL import Image
from safetensors import safe_open

from pyconv import __main__, __version__, backends, info, nn, predict, train
from pyconv.checkpoint import Checkpoint
from pyconv.errors import Interrupted

ROOT = Path(__file__).parent.parent
SIDE = 12
LAYERS = """
input_shape = [12, 12, 1]
[[layers]]
type = "Conv2D"
filters = 4
kernel_size = 3
[[layers]]
type = "BatchNorm"
[[layers]]
type = "MaxPool2D"
pool_size = 2
[[layers]]
type = "Flatten"
[[layers]]
type = "Dropout"
rate = 0.1
[[layers]]
type = "Dense"
units = 3
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set, a model file, images and a finished run of 2 epochs."""
    folder = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(0)
    y = np.arange(240) % 3
    x = rng.integers(0, 100, (240, SIDE, SIDE, 1), dtype=np.uint8)
    for image, label in zip(x, y):
        image[4 * label : 4 * label + 4] += 120
    np.savez(folder / "data.npz", x=x, y=y)
    np.savez(folder / "one.npz", x=x, y=y * 0)
    np.savez(folder / "nan.npz", x=np.where(x > 218, np.nan, x).astype(np.float32), y=y)
    (folder / "net.toml").write_text(LAYERS)
    (folder / "four.toml").write_text(LAYERS.replace("units = 3", "units = 4"))
    (folder / "bad.toml").write_text(LAYERS.replace("Dropout", "Dropuot"))
    (folder / "file").write_text("not a folder")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n half of it")
    Image.fromarray(x[0, ..., 0]).save(folder / "first.png")
    Image.fromarray(np.repeat(np.repeat(x[1], 3, 2), 2, 0)).resize((30, 20)).save(folder / "big.jpg")
    assert train.main([*flags(folder), "--epochs", "2", "--out", str(folder / "run"), "--progress", "off"]) == 0
    return folder


def flags(place: Path) -> list[str]:
    return ["--data", str(place / "data.npz"), "--model", str(place / "net.toml"), "--batch-size", "8"]


def environment() -> dict[str, str]:
    """The tests' environment; it finds this source tree from every folder."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def run(*arguments: str | Path, cwd: Path | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run ``python -m pyconv.…`` to its end."""
    command = [sys.executable, "-m", *map(str, arguments)]
    env = environment()
    if "preexec_fn" in options:  # under a limit of files Python cuts the compiled modules that other tests read too
        env["PYTHONDONTWRITEBYTECODE"] = "1"
    return subprocess.run(command, capture_output=True, text=True, timeout=100, env=env, cwd=cwd,
                          check=False, **options)  # fmt: skip


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts commands that are signalled later; none outlives the test."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
        # Where the tests run with SIGINT ignored, as in a shell's background, the child must not inherit that.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
            command = [sys.executable, "-X", "faulthandler", "-m", *map(str, arguments)]
            process = subprocess.Popen(command, env=environment(), **options)
        finally:
            signal.signal(signal.SIGINT, before)
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:  # the test failed: make the process print its stacks
            process.send_signal(signal.SIGABRT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                print(*process.communicate(timeout=5))
            process.kill()
        process.communicate()


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def handles(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler of its own for a signal."""
    (mask,) = re.findall(r"SigCgt:\s*([0-9a-f]+)", Path(f"/proc/{pid}/status").read_text())
    return bool(int(mask, 16) & 1 << number - 1)


def has_lines(out: Path, count: int = 1) -> Callable[[], bool]:
    path = out / "metrics.jsonl"
    return lambda: path.exists() and path.read_bytes().count(b"\n") >= count


def tensors(path: Path) -> dict[str, np.ndarray]:
    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict


def one_line(error: str, status: int) -> str:
    """The error output, checked to be a single line in the documented form."""
    assert error.count("\n") == 1 and error.endswith("\n"), error
    assert "Traceback" not in error
    assert error.startswith("pyconv: error: " if status != 130 else "pyconv: "), error
    return error


# ---- train


def test_the_images_kept_for_a_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """FER2013 from its CSV to a model: the accuracy on PrivateTest is measured once, at the end, and recorded."""
    rng = np.random.default_rng()
    x, y = images_of(rng, 60, 48, 48), labels_of(rng, 60, 7)
    usages = ["Training"] * 30 + ["PublicTest"] * 10 + ["PrivateTest"] * 20
    rows = [f"{label},{pixel_field(image)},{usage}" for image, label, usage in zip(x, y, usages)]
    csv = write_csv(tmp_path / "fer2013.csv", "emotion,pixels,Usage", rows)
    out = tmp_path / "run"
    options = [
        "--data",
        str(csv),
        "--model",
        "5-4-8-7",
        "--batch-size",
        "8",
        "--epochs",
        "1",
        "--progress",
        "off",
        "--out",
        str(out),
    ]
    assert train.main(options) == 0
    right = nn.load(out / "model.safetensors").predict(x[40:, ..., None]) == y[40:]
    kept = json.loads((out / "test.json").read_text())
    assert kept["images"] == 20
    assert kept["test_accuracy"] == right.mean()
    assert f"test accuracy {100 * right.mean():.2f} % on 20 images" in capsys.readouterr().out


def test_train_from_start_to_end(place: Path, tmp_path: Path) -> None:
    done = run("pyconv.train", *flags(place), "--epochs", "3", "--flip", "--shift", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    (out,) = (tmp_path / "runs").iterdir()
    for text in ("216 training images of 12×12×1", "24 for validation", "parameters", "MFLOP", "backend auto",
                 "1 worker of", "sgd (lr 0.00707, ", "effective batch 8, 27 steps and 216 samples", "epoch 3/3",
                 "validation accuracy", "images/s", f"run folder runs/{out.name}"):  # fmt: skip
        assert text in done.stdout, text
    assert "\x1b" not in done.stdout
    names = {
        "config.toml",
        "metrics.jsonl",
        "checkpoint",
        "model.safetensors",
        "best.safetensors",
        "classes.json",
        "confusion.png",
        "log.txt",
        "curves.png",
    }
    assert {path.name for path in out.iterdir()} == names
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert all(line.split(" ", 4)[4] in done.stdout for line in (out / "log.txt").read_text().splitlines())


def test_config_repeats_the_run(place: Path, tmp_path: Path) -> None:
    """A run resumed from config.toml alone begins anew and ends with the same bits."""
    (tmp_path / "again").mkdir()
    shutil.copy(place / "run" / "config.toml", tmp_path / "again")
    assert train.main(["--resume", str(tmp_path / "again"), "--progress", "off"]) == 0
    expected, got = tensors(place / "run" / "model.safetensors"), tensors(tmp_path / "again" / "model.safetensors")
    for name, value in expected.items():
        np.testing.assert_array_equal(got[name], value)


def test_resume_of_a_finished_run_says_so(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (place / "run" / "model.safetensors").read_bytes()
    assert train.main(["--resume", str(place / "run"), "--progress", "plain"]) == 0
    out = capsys.readouterr().out
    assert "nothing left to do: 2 epochs" in out and str(place / "run") in out
    assert (place / "run" / "model.safetensors").read_bytes() == before


def test_resume_of_a_finished_run_makes_up_for_lost_files(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(place / "run", tmp_path / "run")
    lost = [tmp_path / "run" / name for name in ("model.safetensors", "best.safetensors", "curves.png")]
    for path in lost:
        path.unlink()
    assert train.main(["--resume", str(tmp_path / "run"), "--progress", "plain"]) == 0
    out = capsys.readouterr().out
    assert "model.safetensors was missing: written again from the checkpoint" in out
    for name, value in tensors(place / "run" / "model.safetensors").items():
        np.testing.assert_array_equal(tensors(lost[0])[name], value)
    figures = [json.loads(line)["val_accuracy"] for line in (place / "run" / "metrics.jsonl").read_text().splitlines()]
    last_is_best = figures[-1] > max(figures[:-1])
    assert lost[1].exists() == last_is_best and ("cannot be made again" in out) != last_is_best
    assert lost[2].exists()


def test_resume_with_more_epochs(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(place / "run", tmp_path / "run")
    assert train.main(["--resume", str(tmp_path / "run"), "--epochs", "4", "--progress", "plain"]) == 0
    assert "epoch 4/4" in capsys.readouterr().out
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 4


def test_resume_auto_begins_a_run_and_continues_it(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    again = [*flags(place), "--out", str(out), "--resume", "auto", "--progress", "plain"]
    assert train.main([*again, "--epochs", "1"]) == 0
    assert train.main([*again, "--epochs", "2"]) == 0
    assert "continues after epoch 1" in capsys.readouterr().out
    assert train.main([*again, "--epochs", "2"]) == 0
    assert "nothing left to do: 2 epochs" in capsys.readouterr().out
    assert train.main([*again, "--epochs", "3", "--batch-size", "9"]) != 0
    assert "this run has batch_size 8, not 9" in capsys.readouterr().err
    assert train.main([*flags(place), "--resume", "auto"]) == 2
    assert "give --out a folder" in capsys.readouterr().err


def test_resume_with_data_that_has_moved(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(place / "data.npz", tmp_path / "before.npz")
    options = [*flags(place), "--data", str(tmp_path / "before.npz"), "--epochs", "1", "--progress", "off"]
    assert train.main([*options, "--out", str(tmp_path / "run")]) == 0
    (tmp_path / "before.npz").rename(tmp_path / "after.npz")
    again = ["--resume", str(tmp_path / "run"), "--epochs", "2", "--progress", "off"]
    assert train.main(again) == 2
    assert "before.npz: no such file" in one_line(capsys.readouterr().err, 2)
    assert train.main([*again, "--data", str(place / "one.npz")]) == 2
    assert train.main([*again, "--data", str(tmp_path / "after.npz")]) == 0
    assert train.main([*again, "--epochs", "3"]) == 0


@pytest.mark.covering("number", most=1)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_leaves_a_checkpoint_within_two_seconds(
    place: Path, tmp_path: Path, start: Callable[..., Any], number: signal.Signals
) -> None:
    out = tmp_path / "my run"
    process = start("pyconv.train", *flags(place), "--epochs", "100000", "--out", out)
    wait_for(has_lines(out), process)
    sent = time.monotonic()
    process.send_signal(number)
    _, error = process.communicate(timeout=20)
    assert time.monotonic() - sent < 2
    assert process.returncode == 130
    assert f"interrupted by {number.name}" in one_line(error, 130)
    assert f"python -m pyconv.train --resume '{out}'" in error
    kept = Checkpoint.load(out / "checkpoint" / "last.safetensors")
    assert re.search(r"after step (\d+);", error)[1] == str(kept.position["total_steps"])  # type: ignore[index]


@pytest.mark.covering("number", most=1)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_while_a_command_imports(start: Callable[..., Any], number: signal.Signals) -> None:
    process = start("pyconv.train", "--help")
    wait_for(lambda: "_multiarray_umath" in Path(f"/proc/{process.pid}/maps").read_text(), process)  # it is early
    process.send_signal(number)
    _, error = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "interrupted" in one_line(error, 130)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_while_the_test_images_are_looked_at(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
) -> None:  # fmt: skip
    with np.load(place / "data.npz") as arrays:
        x, y = arrays["x"], arrays["y"]
    np.savez(tmp_path / "data.npz", x=x, y=y, x_val=x[:30], y_val=y[:30], x_test=x[:60], y_test=y[:60])
    options = [*flags(tmp_path), "--model", str(place / "net.toml"), "--epochs", "1", "--progress", "off"]
    before = [signal.getsignal(other) for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with monkeypatch.context() as patch:
        patch.setattr(train, "examine", lambda *_: signal.raise_signal(number))
        assert train.main([*options, "--out", str(tmp_path / "run")]) == 130
    error = one_line(capsys.readouterr().err, 130)
    assert f"complete in {tmp_path / 'run'}: only the test accuracy is missing" in error
    assert before == [signal.getsignal(other) for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert not (tmp_path / "run" / "test.json").exists()
    assert train.main(["--resume", error.strip().rpartition(" ")[2], "--progress", "off"]) == 0  # as the message says
    assert "test accuracy" in capsys.readouterr().out
    assert (tmp_path / "run" / "test.json").exists()


def test_more_ctrl_c_does_no_harm(place: Path, tmp_path: Path, start: Callable[..., Any]) -> None:
    out = tmp_path / "run"
    process = start("pyconv.train", *flags(place), "--epochs", "100000", "--out", out)
    wait_for(has_lines(out), process)
    for _ in range(200):
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGINT)
        time.sleep(0.001)
    _, error = process.communicate(timeout=20)
    assert process.returncode in (130, -signal.SIGINT), error
    Checkpoint.load(out / "checkpoint" / "last.safetensors")
    if process.returncode == 130:
        one_line(error, 130)


def test_ctrl_c_in_a_destructor_is_neither_lost_nor_printed(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import time\nfrom pyconv import command\n"
        "class Object:\n    def __del__(self):\n        raise KeyboardInterrupt\n"
        "@command.command\ndef main(argv):\n    Object()\n    time.sleep(20)\ncommand.script(main)\n"
    )
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=15)
    assert done.returncode == 130
    one_line(done.stderr, 130)


def test_ctrl_c_while_a_run_is_ending(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def ending() -> None:
        try:
            raise Interrupted("interrupted by SIGINT after step 7; continue with: this")
        finally:
            raise KeyboardInterrupt

    monkeypatch.setattr(info, "collect", ending)
    assert info.main([]) == 130
    assert "after step 7" in one_line(capsys.readouterr().err, 130)


@pytest.mark.slow
def test_kill_9_and_resume_to_the_same_bits(place: Path, tmp_path: Path, start: Callable[..., Any]) -> None:
    options = [*flags(place), "--epochs", "40", "--flip", "--seed", "3"]
    assert run("pyconv.train", *options, "--out", tmp_path / "whole", "--progress", "off").returncode == 0
    out, rng = tmp_path / "killed", np.random.default_rng()
    process = start("pyconv.train", *options, "--out", out, "--checkpoint-every", "0.02")
    kills = 0
    for lines in (1, 12, 25):
        wait_for(lambda: has_lines(out, lines)() or process.poll() is not None, process)  # noqa: B023
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
        process = start("pyconv.train", "--resume", out)
    _, error = process.communicate(timeout=100)
    assert process.returncode == 0, error
    assert kills >= 1
    assert {path.name for path in out.rglob("*")} == {path.name for path in (tmp_path / "whole").rglob("*")}
    for name in ("model.safetensors", "checkpoint/last.safetensors"):
        expected, got = tensors(tmp_path / "whole" / name), tensors(out / name)
        assert expected.keys() == got.keys()
        for tensor, value in expected.items():
            np.testing.assert_array_equal(got[tensor], value)
    losses = [
        [json.loads(line)["train_loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (tmp_path / "whole", out)
    ]
    assert losses[0] == losses[1]


def limit_files(size: int) -> Callable[[], None]:
    """Like a full disk: no file can grow beyond `size` bytes."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_full_disk_at_the_start(place: Path, tmp_path: Path) -> None:
    done = run("pyconv.train", *flags(place), "--out", tmp_path / "run", preexec_fn=limit_files(2000))
    assert done.returncode == 2
    assert str(tmp_path / "run") in one_line(done.stderr, 2)
    assert "cannot be written" in done.stderr
    assert "kept" not in done.stderr  # there was no earlier checkpoint
    assert list(tmp_path.iterdir()) == []  # so that the same command works when there is room again


def test_a_disk_that_fills_up_keeps_the_last_good_checkpoint(place: Path, tmp_path: Path) -> None:
    size = (place / "run" / "checkpoint" / "last.safetensors").stat().st_size
    # The checkpoint and metrics.jsonl grow by a line an epoch, until the limit stops one of them.
    done = run("pyconv.train", *flags(place), "--epochs", "500", "--out", tmp_path / "run",
               preexec_fn=limit_files(size + 3000))  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "cannot be written" in one_line(done.stderr, 1)
    assert "--resume" in done.stderr
    kept = Checkpoint.load(tmp_path / "run" / "checkpoint" / "last.safetensors")
    assert kept.position["epoch"] >= 1
    resumed = run("pyconv.train", "--resume", tmp_path / "run", "--epochs", str(kept.position["epoch"] + 1))
    assert resumed.returncode == 0, resumed.stderr


def test_a_diverging_run(place: Path, tmp_path: Path) -> None:
    done = run("pyconv.train", *flags(place), "--optimizer", "sgd", "--lr", "1e20", "--out", tmp_path / "run")
    assert done.returncode == 1
    assert re.search(r"diverged: .* step \d+.* learning rate .*e\+", one_line(done.stderr, 1))
    assert np.isfinite(Checkpoint.load(tmp_path / "run" / "checkpoint" / "last.safetensors").parameters).all()


def test_target_accuracy(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main([*flags(place), "--epochs", "60", "--target-accuracy", "0.8", "--out", str(tmp_path / "run"),
                       "--progress", "plain"]) == 0  # fmt: skip
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["val_accuracy"] >= 0.8 and last["epoch"] < 60
    assert f"target reached in {last['seconds_to_target']:.1f} s" in capsys.readouterr().out


def test_progress_off_prints_the_result_only(place: Path, tmp_path: Path) -> None:
    done = run("pyconv.train", *flags(place), "--epochs", "1", "--progress", "off", "--out", tmp_path / "run")
    assert done.stdout.startswith("done: 1 epoch") and done.stdout.count("\n") == 1
    assert done.stderr == "" or backends()["multicore"]  # without OpenMP there is a warning


def test_a_broken_pipe_is_quiet(place: Path, tmp_path: Path, start: Callable[..., Any]) -> None:
    process = start("pyconv.train", *flags(place), "--epochs", "3", "--out", tmp_path / "run")
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == 0
    assert process.stderr.read() == ""
    assert has_lines(tmp_path / "run", 3)()
    reader, writer = os.pipe()
    os.close(reader)
    quiet = start("pyconv.info", stdout=writer)
    os.close(writer)
    assert quiet.wait(60) == 0
    assert quiet.stderr.read() == ""


def on_a_terminal(*arguments: str | Path, size: tuple[int, int] = (24, 100)) -> tuple[int, str]:
    """Run a command on a pseudo-terminal; returns its status and all that it wrote there."""
    import fcntl
    import struct
    import termios

    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    environ = {**environment(), "TERM": "xterm-256color"}
    process = subprocess.Popen([sys.executable, "-m", *map(str, arguments)], stdin=child, stdout=child, stderr=child,
                               env=environ, start_new_session=True)  # fmt: skip
    os.close(child)
    written, end = b"", time.monotonic() + 60
    while time.monotonic() < end:
        if select.select([parent], [], [], 1)[0]:
            try:
                block = os.read(parent, 65536)
            except OSError:
                break
            if not block:
                break
            written += block
    os.close(parent)
    return process.wait(10), written.decode()


@pytest.mark.slow
@pytest.mark.parametrize("columns", [60, 100])
def test_a_live_bar_on_a_terminal(tmp_path: Path, columns: int) -> None:
    # The default run, cut to about a second of steps: the display, which changes a few times a second, shows some.
    status, text = on_a_terminal("pyconv.train", "--limit", "700", "--epochs", "1", "--out", tmp_path / "run",
                                 size=(24, columns))  # fmt: skip
    assert status == 0, text
    frames = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", frame) for frame in re.split(r"[\r\n]", text)]
    bars = [frame for frame in frames if re.search("[━╸╺]", frame)]
    assert any("epoch" in bar and "images/s" in bar for bar in bars), bars
    if columns == 100:
        assert any(re.search(r"epoch 1/1 .*step \d+/11 +loss \d.*images/s +ETA \d+:\d\d", bar) for bar in bars), bars
    assert [bar for bar in bars if len(bar) > columns] == []
    assert "\x1b[?25l" in text and text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor comes back
    assert any(frame.startswith("done: 1 epoch") for frame in frames)


@pytest.mark.covering("terminal", most=1)
@pytest.mark.parametrize("terminal", ["dumb", ""])
def test_plain_lines_on_a_terminal_that_cannot(
    place: Path, tmp_path: Path, terminal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "environment",
                        lambda: {**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    status, text = on_a_terminal("pyconv.train", *flags(place), "--epochs", "1", "--progress", "plain", "--out",
                                 tmp_path / "run")  # fmt: skip
    assert status == 0
    assert "\x1b" not in text


@pytest.mark.slow
@on_real_images
def test_real_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A short form of the README's command: a tenth of the images, and the accuracy that this gives."""
    options = ["--data", str(FASHION), "--model", "5-50-100-10", "--limit", "6000", "--epochs", "4"]
    assert train.main([*options, "--out", str(tmp_path / "run"), "--progress", "off"]) == 0
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["val_accuracy"] > 0.84
    assert "validation accuracy" in capsys.readouterr().out


TRAIN_ERRORS: list[tuple[list[str], str]] = [
    (["--epochs", "-1"], "--epochs: must be an integer of at least 1, not '-1'"),
    (["--epochs", "0"], "--epochs"),
    (["--epochs", "1.5"], "--epochs"),
    (["--epochs"], "--epochs: expected one argument"),
    (["--lr", "nan"], "--lr: must be a finite number above 0, not 'nan'"),
    (["--lr", "0"], "--lr"),
    (["--lr", "-1"], "--lr"),
    (["--lr", "inf"], "--lr"),
    (["--lr", "fast"], "--lr: must be a finite number above 0, not 'fast'"),
    (["--batch-size", "0"], "--batch-size"),
    (["--batch-size", "100000"], "batch_size 100000 is more than the 216 training images"),
    (["--seed", "-3"], "--seed"),
    (["--limit", "0"], "--limit"),
    (["--limit", "2"], "limit 2"),
    (["--shift", "-1"], "--shift"),
    (["--cutout", "100"], "augment's cutout of 100 pixels a side hides images of 12x12; give at most 11"),
    (["--optimizer", "sgd", "--momentum", "1"], "momentum must be a finite number of at least 0 and below 1"),
    (["--optimizer", "adam", "--momentum", "0.9"], "unknown setting of Adam 'momentum'"),
    (["--target-accuracy", "90"], "at most 1, not '90'"),
    (["--workers", "0"], "--workers"),
    (["--gpus", "0"], "--gpus chooses among GPUs"),
    (["--workers", "many"], "--workers"),
    (["--threads-per-worker", "0"], "--threads-per-worker"),
    (["--threads-per-worker", "100000000"], "threads_per_worker must be at most "),
    (["--threads-per-worker", "100000000", "--workers", "2"], "threads_per_worker must be at most "),
    (["--resume", "PLACE/run", "--epochs", "3", "--threads-per-worker", "100000000"], "threads_per_worker must be at"),
    (["--checkpoint-every", "0"], "--checkpoint-every"),
    (["--optimizer", "adm"], "did you mean 'adam'? known: sgd,"),
    (["--schedule", "cosin"], "did you mean 'cosine'? known: constant"),
    (["--backend", "gpu"], "unknown backend 'gpu'; known: auto, reference, serial, multicore, cuda"),
    (["--update", "bsp"], "unknown update rule 'bsp'"),
    (["--on-worker-failure", "cry"], "known: restart, drop, abort"),
    (["--progress", "loud"], "known: auto, rich, plain, off"),
    (["--model", "ferr"], "did you mean 'fer'? known: fer, fer-bn, lenet"),
    (["--model", "7-10-3"], "unknown model '7-10-3'"),
    (["--model", "15-4-10-3"], "layer 0 (Conv2D)"),
    (["--model", "5-4-8-9"], "'5-4-8-9' has 9 classes, 3 are needed: write '5-4-8-3'"),
    (["--model", "5-1000000000-100-3"], "GiB of memory, this machine has"),
    (["--model", "PLACE/none.toml"], "none.toml: cannot be read: No such file"),
    (["--model", "PLACE/four.toml"], "four.toml"),
    (["--model", "PLACE/bad.toml"], "did you mean 'Dropout'"),
    (["--data", "PLACE/none.npz"], "none.npz: no such file"),
    (["--data", "facs"], "did you mean 'faces'"),
    (["--data", "PLACE/one.npz"], "one class"),
    (["--data", "PLACE/nan.npz"], "nan.npz"),
    (["--data", "PLACE/first.png"], "first.png"),
    (["--out", ""], "--out"),
    (["--out", "caf\udce9"], r"--out 'caf\udce9': the name is not UTF-8 text"),
    (["--data", "caf\udce9.npz"], r"--data 'caf\udce9.npz': the name is not UTF-8 text"),
    (["--model", "caf\udce9.toml"], r"--model 'caf\udce9.toml': the name is not UTF-8 text"),
    (["--resume", "caf\udce9"], r"--resume 'caf\udce9': the name is not UTF-8 text"),
    (["--out", "PLACE/run"], "holds a run already"),
    (["--out", "PLACE/file"], "file: cannot be used as run folder"),
    (["--out", "PLACE/file/run"], "cannot be used as run folder: Not a directory"),
    (["--out", "/proc/pyconv-run"], "cannot be used as run folder"),
    (["--resume", "PLACE/none"], "no run to continue here"),
    (["--resume", "PLACE/file"], "no run to continue here"),
    (["--resume", "PLACE/run", "--batch-size", "4"], "--batch-size cannot be changed when a run is continued"),
    (["--epoch", "3"], "unrecognized arguments: --epoch"),
    (["--frobnicate"], "unrecognized arguments: --frobnicate (see python -m pyconv.train --help)"),
    (["more"], "unrecognized arguments: more"),
]


@pytest.mark.parametrize(("arguments", "message"), TRAIN_ERRORS, ids=lambda value: " ".join(value)[:40])
def test_bad_arguments_of_train(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: list[str], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    arguments = [argument.replace("PLACE", str(place)) for argument in arguments]
    known = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    leading = [] if "--resume" in arguments else flags(place)
    assert train.main([*leading, *arguments]) == 2
    captured = capsys.readouterr()
    assert message in one_line(captured.err, 2), captured.err
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == known
    assert list(tmp_path.iterdir()) == []


def spoil(path: Path, how: str) -> None:
    checkpoint = path / "checkpoint" / "last.safetensors"
    if how == "truncated":
        checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    elif how == "version":
        checkpoint.write_bytes(checkpoint.read_bytes().replace(b'\\"version\\": 3', b'\\"version\\": 9'))
    elif how == "foreign":
        shutil.copy(path / "model.safetensors", checkpoint)
    elif how == "config":
        (path / "config.toml").write_text("format = 1\n[data]\nsource = [")
    elif how == "format":
        config = path / "config.toml"
        config.write_text(config.read_text().replace("format = 1", "format = 2"))
    elif how == "section":
        config = path / "config.toml"
        config.write_text(config.read_text().replace("[optimizer]", "[optimiser]"))
    elif how == "model":
        config = path / "config.toml"
        config.write_text(config.read_text().replace('\\"filters\\": 4', '\\"filters\\": 5'))
    elif how == "arrays":
        config = path / "config.toml"
        config.write_text(re.sub("source = .*\n", "", config.read_text()))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("truncated", "last.safetensors: not a readable checkpoint, it is truncated or damaged"),
        ("version", "a checkpoint of version 9; this pyconv reads version 3"),
        ("foreign", "last.safetensors: not a checkpoint of pyconv"),
        ("config", "config.toml: is not valid TOML"),
        ("format", "settings of format 2, this pyconv reads 1"),
        ("section", "config.toml: lacks optimizer; put the file back as it was"),
        ("model", "another model"),
        ("arrays", "begun from Python with arrays"),
    ],
)
def test_resume_of_a_spoilt_run(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str, message: str
) -> None:
    out = tmp_path / "run"
    shutil.copytree(place / "run", out)
    spoil(out, how)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != "log.txt"}
    assert train.main(["--resume", str(out), "--epochs", "3"]) == 2
    assert message in one_line(capsys.readouterr().err, 2)
    assert {path: path.read_bytes() for path in before} == before


COMMANDS = [
    path.stem for path in sorted(Path(train.__file__).parent.glob("*.py")) if "script(main)" in path.read_text()
]


@pytest.mark.covering("module", most=3)
@pytest.mark.parametrize("module", COMMANDS)
def test_help(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    done = run(f"pyconv.{module}", "--help")
    assert done.returncode == 0
    assert "usage: python -m pyconv" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 88  # what a page of the documentation shows
    assert "`" not in done.stdout  # no markup in a terminal
    if module == "train":
        for flag in ("--data", "--model", "--workers", "--update", "--optimizer", "--lr", "--epochs", "--batch-size",
                     "--backend", "--threads-per-worker", "--limit", "--seed", "--target-accuracy", "--out",
                     "--resume", "--progress", "--on-worker-failure", "--trace"):  # fmt: skip
            assert f"\n  {flag} " in done.stdout
        assert "(default: faces)" in " ".join(done.stdout.split())


@pytest.mark.covering("module", most=1)
@pytest.mark.parametrize("module", COMMANDS)
def test_version(module: str) -> None:
    done = run(f"pyconv.{module}", "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"pyconv {__version__}\n", "")


def test_the_package_lists_its_commands_and_runs_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(__main__.COMMANDS) == set(COMMANDS) - {"__main__"}
    assert __main__.main([]) == 0
    listed = capsys.readouterr().out
    for name, what in __main__.COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(what)}$", listed, re.MULTILINE)
    assert __main__.main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pyconv"] == __version__
    assert __main__.main(["trian"]) == 2
    assert "unknown command 'trian'; did you mean 'train'?" in one_line(capsys.readouterr().err, 2)
    assert __main__.main(["train", "--limit", "0"]) == 2
    assert "--limit: must be an integer" in one_line(capsys.readouterr().err, 2)


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(info, "collect", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        info.main([])


# ---- predict


def test_predict_prints_probabilities(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = [str(place / "first.png"), str(place / "big.jpg")]
    assert predict.main([str(place / "run"), *images]) == 0
    text = capsys.readouterr().out
    assert predict.main([str(place / "run" / "model.safetensors"), *images, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [image["image"] for image in found["images"]] == images
    for image in found["images"]:
        assert sum(image["probabilities"].values()) == pytest.approx(1, abs=1e-6)
        assert image["class"] == max(image["probabilities"], key=image["probabilities"].get)
        assert f"{image['image']}: {image['class']}" in text
        for value in image["probabilities"].values():
            assert f"{100 * value:6.2f} %" in text
    assert found["images"][0]["note"] is None
    assert found["images"][1]["note"] == "resized from 30x20 to 12x12 and made gray"
    assert found["images"][1]["note"] in text


def test_predict_reads_an_image_whose_name_is_no_text(place: Path, tmp_path: Path) -> None:
    image = shutil.copy(place / "first.png", tmp_path / "caf\udce9.png")
    done = run("pyconv.predict", place / "run", image)
    assert done.returncode == 0, done.stderr
    assert "caf\\udce9.png: " in done.stdout


def test_photographs_of_all_sizes(tmp_path: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]) -> None:
    for name, brightness in (("dark", 0), ("light", 150)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(12):
            image = Image.fromarray(rng.integers(brightness, brightness + 99, (9 + number, 20, 3)).astype(np.uint8))
            image.save(tmp_path / "photos" / name / f"{number}.{('jpg', 'tif', 'webp', 'bmp')[number % 4]}")
    (tmp_path / "photos" / "dark" / "raw.heic").write_text("no image")
    arguments = ["--data", str(tmp_path / "photos"), "--model", "lenet", "--batch-size", "4", "--progress", "off"]
    arguments += ["--epochs", "2", "--out", str(tmp_path / "run")]
    assert train.main(arguments) == 2
    assert "--size 20x9, or size=(9, 20) in Python" in one_line(capsys.readouterr().err, 2)
    assert not (tmp_path / "run").exists()
    assert train.main([*arguments, "--size", "16x12"]) == 0
    note = capsys.readouterr().err
    assert note.startswith(f"warning: {tmp_path / 'photos'}: not read: 1 (1 .heic); what is read are PNG, ")
    config = tomllib.loads((tmp_path / "run" / "config.toml").read_text())["data"]
    assert (config["size"], config["images"]) == ([12, 16], [22, 12, 16, 3])
    assert "not read: 1 (1 .heic)" in config["notes"][0]
    assert train.main(["--resume", str(tmp_path / "run"), "--epochs", "3", "--progress", "off"]) == 0
    capsys.readouterr()
    assert predict.main([str(tmp_path / "run"), str(tmp_path / "photos"), "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)["images"]
    assert [Path(image["image"]) for image in found] == sorted((tmp_path / "photos").rglob("*.[!h]*"))
    assert found[0]["note"] == "resized from 20x9 to 16x12"
    assert captured.err.startswith(f"pyconv: note: {tmp_path / 'photos'}: not read: 1 (1 .heic)")
    (tmp_path / "none").mkdir()
    assert predict.main([str(tmp_path / "run"), str(tmp_path / "none")]) == 2
    assert "none: the folder has no PNG" in one_line(capsys.readouterr().err, 2)


@pytest.mark.parametrize("size", ["64", "64x", "0x5", "64x64x2", "axb", "64x64x3x1", "-5x5", "99999x5"])
def test_wrong_sizes_of_images(place: Path, capsys: pytest.CaptureFixture[str], size: str) -> None:
    assert train.main(["--data", str(place), "--size", size]) == 2
    assert "size" in one_line(capsys.readouterr().err, 2)


@pytest.mark.slow
def test_notes_are_said_once(tmp_path: Path, rng: np.random.Generator) -> None:
    np.savez(tmp_path / "a.npz", x=rng.integers(0, 256, (40, 16, 16), dtype=np.uint8), y=np.arange(40) % 4 + 1)
    for shown in ("off", "plain"):
        arguments = ["--data", "a.npz", "--model", "lenet", "--batch-size", "8", "--epochs", "1", "--progress", shown]
        done = run("pyconv.train", *arguments, "--out", shown, cwd=tmp_path)
        assert done.returncode == 0
        assert (done.stdout + done.stderr).count("1 of 5 classes have no training image") == 1


def test_labels_that_count_from_one(
    tmp_path: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "a.npz", x=rng.integers(0, 256, (40, 8, 8), dtype=np.uint8), y=np.arange(40) % 4 + 1)
    arguments = ["--data", str(tmp_path / "a.npz"), "--model", "3-4-8-5", "--batch-size", "8", "--progress", "off"]
    assert train.main([*arguments, "--epochs", "1", "--out", str(tmp_path / "five")]) == 0
    assert "1 of 5 classes have no training image: 0; if labels count from 1" in capsys.readouterr().err
    arguments += ["--first-label", "1", "--out", str(tmp_path / "four"), "--model", "3-4-8-4"]
    assert train.main([*arguments, "--epochs", "1"]) == 0
    assert "training image" not in capsys.readouterr().err
    assert nn.load(tmp_path / "four" / "model.safetensors").classes == ["1", "2", "3", "4"]
    assert train.main(["--resume", str(tmp_path / "four"), "--epochs", "2", "--progress", "off"]) == 0


def test_predict_warns_of_other_units(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with np.load(place / "data.npz") as arrays:
        np.savez(tmp_path / "data.npz", x=arrays["x"].astype(np.float32) / 255, y=arrays["y"])
    options = [*flags(tmp_path), "--model", str(place / "net.toml"), "--epochs", "1", "--progress", "off"]
    assert train.main([*options, "--out", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().err == ""
    assert predict.main([str(tmp_path / "run"), str(place / "first.png")]) == 0
    line = capsys.readouterr().err
    assert re.search(r"the images: uint8 .* was trained on float32 0 to 0\.\d+; bring both to one scale", line)
    assert line.count("\n") == 1


def test_a_signal_before_the_run(tmp_path: Path, start: Callable[..., Any]) -> None:
    process = start("pyconv.train", "--limit", "100000000", "--out", tmp_path / "run")
    wait_for(lambda: handles(process.pid, signal.SIGTERM), process)
    time.sleep(0.2)  # by now it draws faces
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "interrupted before there was anything to keep" in one_line(error, 130)
    assert list(tmp_path.iterdir()) == []


def test_predict_from_a_run_without_a_model_file(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(place / "run", tmp_path / "run")
    assert predict.main([str(tmp_path / "run"), str(place / "first.png")]) == 0
    expected = capsys.readouterr().out
    (tmp_path / "run" / "model.safetensors").unlink()
    assert predict.main([str(tmp_path / "run"), str(place / "first.png")]) == 0
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["PLACE/none", "PLACE/first.png"], "none"),
        (["caf\udce9", "PLACE/first.png"], r"'caf\udce9': the name is not UTF-8 text"),
        (["PLACE", "PLACE/first.png"], "neither model.safetensors nor a checkpoint"),
        (["PLACE/file", "PLACE/first.png"], "file"),
        (["PLACE/run", "PLACE/none.png"], "none.png"),
        (["PLACE/run", "PLACE/first.png", "PLACE/broken.png"], "broken.png"),
        (["PLACE/run", "PLACE/file"], "file"),
        (["PLACE/run", "PLACE"], "broken.png"),
        (["PLACE/run"], "IMAGE"),
    ],
)
def test_bad_arguments_of_predict(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert predict.main([argument.replace("PLACE", str(place)) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert message in one_line(captured.err, 2)
    assert captured.out == ""


# ---- info


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert info.main([]) == 0
    text = capsys.readouterr().out
    assert info.main(["--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    for name in ("pyconv", "compiled_module", "python", "cpu", "instruction_set", "cpus", "threads", "openmp", "blas",
                 "backends", "packages"):  # fmt: skip
        assert found[name], name
        assert name.replace("_", " ") in text
    assert set(found["backends"]) == {"reference", "serial", "multicore", "cuda"}
    assert found["cpus"]["usable"] <= os.cpu_count()  # type: ignore[operator]


def test_info_without_the_compiled_module(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(info, "_compiled", lambda: None)
    assert info.main([]) == 0
    assert "missing: pyconv's compiled module" in capsys.readouterr().out
