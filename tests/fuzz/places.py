"""Puts what is no regular file (a pipe, a device, an endless file) where a file or a folder is read or written."""

from __future__ import annotations

import os
import random
import shutil
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyconv import costmodel, datasets, export, nn, predict, report, reporting, sweep, train
from pyconv.checkpoint import Checkpoint

from . import commands, files, onnx_files
from .cases import Case, Complaint, generator
from .kept import Kept


def _socket(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(place))  # a socket's name has room for some hundred letters


def _linked(target: str) -> Callable[[Path], None]:
    return lambda place: place.symlink_to(target)


def _fifo_behind(place: Path) -> None:
    os.mkfifo(place.with_name("behind"))
    place.symlink_to("behind")


def _endless(place: Path) -> None:
    with place.open("wb") as file:
        file.truncate(1 << 40)  # zeros, none of which is on the disk


def _closed(place: Path) -> None:
    place.write_bytes(b"")
    place.chmod(0)


def _nest(place: Path) -> None:
    (place / place.name).mkdir(parents=True)
    os.mkfifo(place / "pipe.png")


KINDS: dict[str, Callable[[Path], None]] = {
    "a pipe": os.mkfifo,
    "a link to a pipe": _fifo_behind,
    "a socket": _socket,
    "a folder": Path.mkdir,
    "a folder with a folder and a pipe": _nest,
    "a link to itself": lambda place: place.symlink_to(place.name),
    "a link to nothing": _linked("nothing"),
    "a link to its folder": _linked("."),
    **{f"a link to {name}": _linked(name) for name in ("/dev/zero", "/dev/null", "/dev/full", "/dev/urandom")},
    **{f"a link to {name}": _linked(name) for name in ("/proc/self/mem", "/proc/self/environ", "/proc/self/fd/0")},
    "a terabyte of zeros": _endless,
    "an empty file": Path.touch,
    "a closed file": _closed,
}
"""What may be where a file is expected, and what makes it."""


def _calibration() -> costmodel.Calibration:
    return costmodel.Calibration.load("calibration.json")


_RESUME = ["--resume", "run", "--progress", "off", "--epochs"]


def _doors() -> list[tuple[str, Callable[[], Any]]]:
    """The names of files and folders, and the functions that read or write them."""
    run, load = commands.run, datasets.load
    model = nn.Sequential([nn.Flatten(), nn.Dense(2)], (6, 6, 1))
    parts = [
        "config.toml", "metrics.jsonl", "model.safetensors", "best.safetensors", "log.txt", "test.json", "curves.png",
        "checkpoint/last.safetensors", "checkpoint",
    ]  # fmt: skip
    training = commands.training("out")
    return [
        ("data.npz", lambda: load("data.npz")),
        ("new.npz", lambda: load("new.npz")),
        ("new", lambda: load("new")),
        ("new.csv", lambda: load("new.csv")),
        ("fer2013.csv", lambda: load("fer2013.csv")),
        ("fer2013.csv", lambda: datasets.read_pixels("fer2013.csv")),
        ("idx", lambda: load("idx")),
        *((f"idx/{name}", lambda: load("idx")) for name in ("train-images-idx3-ubyte", "t10k-labels-idx1-ubyte")),
        ("idx/t10k-images-idx3-ubyte.gz", lambda: load("idx")),
        *((f"classes/{name}", lambda: load("classes")) for name in ("a", "b/1.png", "b/new.png", "new", "new.csv")),
        ("image.png", lambda: datasets.read_image("image.png", (4, 4, 1))),
        ("image.png", lambda: run(predict.main, ["run", "image.png"])),
        ("new", lambda: run(predict.main, ["run", "new", "--json"])),
        ("model.toml", lambda: nn.from_toml("model.toml")),
        ("run/model.safetensors", lambda: nn.load("run/model.safetensors")),
        ("run/model.safetensors", lambda: run(predict.main, ["run", "image.png"])),
        ("run/best.safetensors", lambda: run(predict.main, ["run", "image.png", "--best"])),
        ("run/model.safetensors", lambda: run(export.main, ["run", "out.onnx"])),
        ("out.onnx", lambda: run(export.main, ["run", "out.onnx"])),
        ("out.onnx", lambda: model.to_onnx("out.onnx")),
        ("out.safetensors", lambda: model.save("out.safetensors")),
        ("run/checkpoint/last.safetensors", lambda: Checkpoint.load("run/checkpoint/last.safetensors")),
        *((("plain.onnx", lambda: nn.load("plain.onnx")),) if onnx_files.THERE else ()),
        ("calibration.json", _calibration),
        ("calibration.json", lambda: files.CALIBRATION.save("calibration.json")),
        ("table1.json", lambda: reporting.read_results([Path("table1.json")])),
        ("table1.json", lambda: run(report.main, ["table1.json", "-o", "out"])),
        ("out", lambda: run(report.main, ["run", "--no-evaluate", "-o", "out"])),
        ("out/run.md", lambda: run(report.main, ["run", "--no-evaluate", "-o", "out"])),
        *((f"run/{part}", lambda: run(train.main, [*_RESUME, "1"])) for part in parts),
        *((f"run/{part}", lambda: run(train.main, [*_RESUME, "2"])) for part in parts),
        *((f"run/{part}", lambda: reporting.read_run("run")) for part in parts),
        ("run", lambda: run(train.main, [*_RESUME, "1"])),
        ("run", lambda: reporting.read_run("run")),
        ("out", lambda: run(train.main, training)),
        *((f"out/{part}", lambda: run(train.main, training)) for part in parts),
        ("data.npz", lambda: run(train.main, training)),
        ("model.toml", lambda: run(train.main, training)),
        (
            "trace.json",
            lambda: run(train.main, [*training, "--workers", "2", "--data", "none", "--trace", "trace.json"]),
        ),
        *(
            (
                f"sweep{name}",
                lambda: run(sweep.main, ["--updates", "sync", "--seeds", "1", *commands.training("sweep")]),
            )
            for name in ("", "/flags.txt", "/sync-0", "/report")
        ),
    ]


def _put(kind: str, place: Path) -> None:
    """Put something of `kind` at `place`, in place of what is there."""
    for folder in reversed(place.parents):
        if not os.path.lexists(folder):
            folder.mkdir()
    if os.path.lexists(place):
        shutil.rmtree(place) if place.is_dir() and not place.is_symlink() else place.unlink()
    KINDS[kind](place)


def _special(place: Path) -> str | None:
    """The kind of what is at `place` if it is neither file nor folder, which nothing replaces."""
    mode = place.lstat().st_mode if os.path.lexists(place) else stat.S_IFREG
    return None if stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode) else oct(stat.S_IFMT(mode))


def maker(folder: Path) -> Callable[[int], Case]:
    """A function of a number that gives the case of that number."""
    files.make_files(folder)
    commands.be_quick()
    kept = Kept(folder)
    doors = _doors()
    pairs = [(name, act, kind) for name, act in doors for kind in KINDS]
    random.Random("places").shuffle(pairs)

    def make(number: int) -> Case:
        rng = generator("places", number)
        name, act, kind = pairs[number % len(pairs)]
        changes = [(name, kind)]
        if number >= len(pairs):  # first each by itself
            changes.append((rng.choice(doors)[0], rng.choice(list(KINDS))))

        def doit() -> None:
            commands.set_drawing(number)
            try:
                put = [other for other in changes if _try(*other)]
                before = {other: _special(Path(other)) for other, _ in put}
                act()
                for other, was in before.items():
                    if was is not None and _special(Path(other)) != was:
                        raise Complaint(f"{other} was replaced")
            finally:
                kept.put_back()

        return Case(lambda: "; ".join(f"{name} is {kind}" for name, kind in changes), doit)

    return make


def _try(name: str, kind: str) -> bool:
    """Put something of `kind` at `name`; returns whether that was possible, given what was put elsewhere before."""
    try:
        _put(kind, Path(name))
    except OSError:
        return False
    return True
