"""Only regular files are read or replaced: a device, a pipe or a socket with that name is left alone."""

from __future__ import annotations

import binascii
import os
import socket
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pyconv
from pyconv import checkpoint, costmodel, datasets, nn
from pyconv.checkpoint import Checkpoint
from pyconv.documents import checksum, read_text
from pyconv.errors import CheckpointError, InputError, PyconvError
from pyconv.files import readable, write_atomically
from pyconv.loop.folder import RunFolder
from pyconv.nn import serialize
from pyconv.reporting import read_results, write


def model() -> nn.Sequential:
    return nn.Sequential([nn.Dense(2)], input_shape=(3,))


def fifo(place: Path) -> None:
    os.mkfifo(place)


def unix_socket(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(place))


def link_to_a_fifo(place: Path) -> None:
    os.mkfifo(place.with_name("behind"))
    place.symlink_to("behind")


def write_checkpoint(place: Path) -> None:
    Checkpoint.of(model(), {}, {}, {}, []).save(place)


def calibration(place: Path) -> None:
    fit = costmodel.Fit(1.0, 0.9, 1.1, "s", 3)
    costmodel.Calibration({}, {}, fit, fit, fit, fit, 2, {}).save(place)


KINDS = {"a named pipe": fifo, "a socket": unix_socket, "a named pipe behind a link": link_to_a_fifo}
WRITERS: dict[str, Callable[[Path], object]] = {
    "bytes": lambda place: write_atomically(place, b"new"),
    "model": lambda place: model().save(place),
    "checkpoint": write_checkpoint,
    "calibration": calibration,
    "report": lambda place: write(place.parent, "title", []),
}


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("writer", list(WRITERS))
def test_only_files_are_replaced(tmp_path: Path, kind: str, writer: str) -> None:
    place = tmp_path / "report.md"
    KINDS[kind](place)
    before = {path.name: path.lstat().st_mode for path in tmp_path.iterdir()}
    with pytest.raises((OSError, PyconvError), match=f"there is {kind.removesuffix(' behind a link')} of this name"):
        WRITERS[writer](place)
    left = {path.name: path.lstat().st_mode for path in tmp_path.iterdir() if not path.is_dir()}
    assert left == before


READERS: dict[str, Callable[[Path], object]] = {
    "bytes": readable,
    "text": read_text,
    "model": nn.load,
    "architecture": nn.from_toml,
    "checkpoint": Checkpoint.load,
    "calibration": costmodel.Calibration.load,
    "results": lambda place: read_results([place]),
    "data": datasets.load,
    "pixels": datasets.read_pixels,
    "image": lambda place: datasets.read_image(place, (4, 4, 1)),
}


@pytest.mark.parametrize("kind", [*KINDS, "a device"])
@pytest.mark.parametrize("reader", list(READERS))
def test_only_files_are_read(tmp_path: Path, kind: str, reader: str) -> None:
    place = tmp_path / ("place.npz" if reader == "data" else "place")
    if kind == "a device":
        place.symlink_to("/dev/zero")
    else:
        KINDS[kind](place)
    words = f"is {kind.removesuffix(' behind a link')}, and only files are read"
    with pytest.raises((OSError, PyconvError), match=f"{words}|neither a file nor a folder|is not a regular file"):
        READERS[reader](place)


@pytest.mark.parametrize("read", [nn.load, Checkpoint.load])
def test_a_file_that_no_memory_holds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, read: Any) -> None:
    def no_room(*_: Any, **__: Any) -> None:
        raise MemoryError("Cannot allocate memory (os error 12)")

    (tmp_path / "large").touch()
    for module in (checkpoint, serialize):
        monkeypatch.setattr(module, "safe_open", no_room)
    with pytest.raises(CheckpointError, match=r"large: .*too large for the memory that is left"):
        read(tmp_path / "large")


def test_a_pipe_in_the_place_of_a_new_runs_settings_stays(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.toml")
    with pytest.raises(InputError, match=r"holds config\.toml already"):
        pyconv.fit(model(), np.zeros((8, 3), np.float32), np.arange(8) % 2, out=tmp_path, progress="off")
    assert stat.S_ISFIFO((tmp_path / "config.toml").lstat().st_mode)


def test_a_log_that_cannot_be_written_to_the_end_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "log.txt").symlink_to("/proc/self/environ")  # it can be opened, and takes no byte
    folder = RunFolder(tmp_path)
    folder.note("a line")
    folder.close()


def test_a_models_error_is_pyconvs_own(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="pipe: the model cannot be written: there is a named pipe"):
        model().save(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="is a folder"):
        model().save(tmp_path)
    with pytest.raises(InputError, match="cannot hold the character NUL"):
        write_atomically("a\0b", b"")


@pytest.mark.parametrize("name", ["log.txt", "metrics.jsonl", "model.safetensors", "curves.png", "config.toml"])
def test_a_run_folder_with_a_pipe_in_it_does_not_hang(tmp_path: Path, name: str) -> None:
    x, y = np.zeros((8, 3), np.float32), np.arange(8) % 2
    pyconv.fit(model(), x, y, epochs=1, batch_size=4, out=tmp_path / "run", progress="off")
    (tmp_path / "run" / name).unlink()
    os.mkfifo(tmp_path / "run" / name)
    found: list[BaseException] = []

    def go_on() -> None:
        try:
            pyconv.fit(model(), x, y, epochs=2, batch_size=4, out=tmp_path / "run", resume=True, progress="off")
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    if name != "curves.png":  # a picture that cannot be drawn is a warning
        assert len(found) == 1 and isinstance(found[0], PyconvError)
    assert stat.S_ISFIFO((tmp_path / "run" / name).lstat().st_mode)


def test_links_are_followed_and_files_are_whole(tmp_path: Path) -> None:
    write_atomically(tmp_path / ("n" * 255), b"long")
    (tmp_path / ("n" * 255)).unlink()
    write_atomically(tmp_path / "file", b"one")
    (tmp_path / "link").symlink_to("file")
    write_atomically(tmp_path / "link", b"two")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_bytes() == b"two"
    (tmp_path / "dangling").symlink_to("later")
    write_atomically(tmp_path / "dangling", b"three")
    assert (tmp_path / "later").read_bytes() == b"three"
    threads = [threading.Thread(target=write_atomically, args=(tmp_path / "file", bytes([n]) * 9999)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    content = (tmp_path / "file").read_bytes()
    assert len(content) == 9999 and len(set(content)) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"file", "link", "dangling", "later"}


def test_a_checksum_is_the_crc_of_the_text_and_the_pieces():
    numbers = np.random.default_rng().standard_normal((3, 5, 7))
    across = numbers.transpose(2, 0, 1)
    pieces = [b"name", across, np.empty((0, 4)), np.float32(2).reshape(())]
    joined = b'{"one": 1}' + b"name" + across.tobytes() + np.float32(2).tobytes()
    assert checksum({"one": 1}, pieces) == binascii.crc32(joined)
