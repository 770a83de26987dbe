"""Command lines with one or two arguments that are odd, run in this process."""

from __future__ import annotations

import contextlib
import functools
import io
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pyconv import __main__, export, info, predict, report, sweep, train
from pyconv.files import write_atomically
from pyconv.loop import curves

from .cases import Case, Complaint, check_message, generator
from .kept import Kept

COMMANDS = (__main__, export, info, predict, report, sweep, train)
"""The modules of the commands that are tried."""

_WORDS = (
    "", "-1", "0", "1", "2", "3.5", "-0.0", "nan", "inf", "1e400", "1e-400", "9" * 25, "9" * 5000, "-" + "9" * 400,
    str(2**62), str(2**63), str(2**64), "0x10", "1_0", "١", "½", "True", "None", "null", "auto", "x", "x" * 300,
    "x" * 10_000, "a/" * 3000, "\udcff", "caf\udce9.png", "two\nlines", "\x1b[31m", "\u202e", "--", "-h", "--help",
    "--version",
    "--nonsense", "-", ".", "..", "folder", "model.toml", "data.npz", "image.png", "run", "results.json", "faces",
    "fer",
    "5-2-3-2", "0-0-0-0", "9999999-1-1-1", "sgd", "adam", "cosine", "sync", "ssp", "serial", "cuda", "restart", "off",
    "/dev/null/x", "read", "float16", "1f1b", "rows", "filters", "auto",
    "--pipeline-stages=1", "--split=rows", "--cut=1",
    "0,0", "a,b",
    "balanced", "a=1,b=2", "1,nan", "0,1,2", "a=",
    "body", "0", "0-1", "1-0", "0-", "BatchNorm", "0.shortcut", "12", "17", "data", "6x6", "6x6x1", "6x6x2", "0x0",
    "photos", "photos/a/0.png", "foreign.onnx", "run/model.safetensors", "--freeze=" + "9" * 30, "--bits=" + "9" * 30,
    "[]", "{}", "%s", "$(id)", "*", "a=b", "--lr=-1", "--epochs=" + "9" * 50, "--shift=" + "9" * 30,
    "--staleness=" + "9" * 30, "--seed=" + "9" * 30, "--flip=1", "--workers=" + "9" * 30,
)  # fmt: skip


def training(out: str) -> list[str]:
    """The words of a command that trains for a moment, into the folder `out`."""
    return ["--data", "data.npz", "--model", "model.toml", "--epochs", "1", "--batch-size", "8", "--progress", "off",
    "--out", out,
            "--lr", "0.01", "--seed", "3", "--shift", "1", "--limit", "10", "--optimizer", "sgd", "--momentum", "0.5",
            "--schedule",
            "cosine", "--warmup", "0.1", "--backend", "auto", "--workers", "1", "--threads-per-worker", "1",
            "--update", "sync",
            "--class-weights", "1,2", "--label-smoothing", "0.1",
            "--rotate", "5", "--crop", "0.9", "--brightness", "0.1", "--cutout", "1", "--clip-norm", "1",
            "--early-stopping", "2", "--stopping-metric", "val_accuracy", "--micro-batches", "2",
            "--pipeline-schedule", "gpipe",
            "--target-accuracy", "0.9", "--checkpoint-every", "60", "--on-worker-failure", "restart"]  # fmt: skip


def foreign(out: str) -> list[str]:
    """Words of a training of images of 16 bits, from a network that another library might have written."""
    return ["--data", "photos", "--model", "foreign.onnx", "--new-head", "--freeze", "body", "--size", "6x6x1",
            "--bits", "12", "--flip", "--epochs", "1", "--batch-size", "4", "--progress", "off", "--out", out,
            "--tensorboard", "--cluster", "off", "--shard", "scatter", "--no-overlap", "--wire", "exact",
            "--resume", "auto", "--class-weights", "balanced"]  # fmt: skip


def finding(out: str) -> list[str]:
    """Words of a search for a learning rate."""
    return ["--data", "data.npz", "--model", "run/model.safetensors", "--find-lr", f"{out}.png", "--batch-size", "4",
            "--progress", "off", "--first-label", "0", "--freeze", "0,BatchNorm", "--clip-norm", "1"]  # fmt: skip


def make_files(folder: Path) -> None:
    """Small data, a network, an image, benchmarks' results and a finished run in `folder`, the working folder."""
    from PIL import Image

    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (14, 6, 6, 1)).astype(np.uint8)
    np.savez(folder / "data.npz", x=x, y=np.arange(14) % 2, x_test=x[:4], y_test=np.arange(4) % 2)
    Image.fromarray(x[0, ..., 0]).save(folder / "image.png")
    (folder / "model.toml").write_text(
        'input_shape = [6, 6, 1]\nseed = 1\ndtype = "float32"\n'
        '[[layers]]\ntype = "Conv2D"\nfilters = 2\nkernel_size = [3, 3]\n'
        'activation = "relu"\n[[layers]]\ntype = "BatchNorm"\nmomentum = 0.1\n[[layers]]\ntype = "Flatten"\n'
        '[[layers]]\ntype = "Dense"\nunits = 2\nscale = 1.0\nbias = true\n'
    )  # fmt: skip
    (folder / "folder").mkdir(exist_ok=True)
    for number, image in enumerate(x[:6, ..., 0].astype(np.uint16) * 16):
        place = folder / "photos" / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number}.png")
    results = Path(__file__).parents[2] / "bench" / "results"
    for name in ("table1.json", "prediction.json"):
        if (results / name).exists():
            shutil.copy(results / name, folder / name)
    shutil.copy(next(results.glob("*.json")), folder / "results.json")
    if not (folder / "run").exists():
        run(train.main, training("run"))
        run(export.main, ["run", "foreign.onnx"])


_DRAWN = 16
_draw, _draw_curves = Figure.savefig, curves.draw
_drawing = True


def _savefig(figure: Figure, file: Any, **options: Any) -> None:
    if _drawing:
        _draw(figure, file, **options)
    else:
        file.write(b"a picture")


def _curves(history: list[dict[str, Any]], path: Path) -> None:
    if _drawing:
        _draw_curves(history, path)
    else:
        write_atomically(path, b"a picture")


def set_drawing(number: int) -> None:
    """Draw the pictures in one case of sixteen; in the others, write files without a picture."""
    global _drawing
    _drawing = number % _DRAWN == 0


def be_quick() -> None:
    """Leave out work that takes most of a command's time and does not depend on its arguments.

    Flags are declared once a process, not once a command. Pictures are drawn as `set_drawing` says.
    """
    for module in COMMANDS:
        module.parser = functools.cache(getattr(module.parser, "__wrapped__", module.parser))
    Figure.savefig, curves.draw = _savefig, _curves


def run(main: Callable[[Sequence[str]], int], argv: Sequence[str]) -> None:
    """Run a command, and complain of an undocumented status or of more than a line about an error."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status: Any = main(argv)
    except SystemExit as error:
        status = error.code
        if not any(word in ("-h", "--help", "--version") for word in argv):
            raise Complaint(f"SystemExit({status})") from None
    if status not in (0, 1, 2):
        raise Complaint(f"exit status {status!r}")
    errors = [line for line in err.getvalue().splitlines() if not line.startswith("pyconv: note: ")]
    if status and len([line for line in errors if line.startswith("pyconv: error: ")]) != 1:
        raise Complaint(f"status {status} with {len(errors)} lines of error: {err.getvalue()[:300]!r}")
    for line in errors:
        check_message(line)


def _odd(argv: list[str], rng: random.Random) -> list[str]:
    """The command line with a word changed, added, doubled or taken away, once or twice."""
    argv = list(argv)
    for _ in range(rng.choice((1, 1, 2))):
        place = rng.randrange(len(argv) + 1)
        kind = rng.randrange(6)
        if kind < 3 and argv:
            place = rng.randrange(len(argv))
            argv[place] = rng.choice(_WORDS)
        elif kind == 3:
            argv.insert(place, rng.choice(_WORDS))
        elif kind == 4 and argv:
            argv.pop(rng.randrange(len(argv)))
        else:
            argv[place:place] = argv[:place][-2:]
    return _quick(argv)


def _quick(argv: list[str]) -> list[str]:
    """The command line without valid words that take minutes: training for long, or measuring the machine."""
    for place, word in enumerate(argv[:-1]):
        long = argv[place + 1] in (str(2**62), "2147483647", "auto")
        if word in ("--epochs", "--workers", "--limit") and long:
            argv[place + 1] = "1"
    return argv


def maker(folder: Path) -> Callable[[int], Case]:
    """A function of a number that gives the case of that number."""
    make_files(folder)
    be_quick()
    kept = Kept(folder)

    def make(number: int) -> Case:
        rng = generator("commands", number)
        out = f"out-{number}"
        lines: list[tuple[Any, list[str]]] = [
            (train.main, training(out)),
            (train.main, ["--resume", "run", "--epochs", "1", "--lr", "0.1", "--progress", "off"]),
            (train.main, foreign(out)),
            (train.main, finding(out)),
            (predict.main, ["run", "image.png", "--json"]),
            (predict.main, ["run/model.safetensors", "image.png"]),
            (report.main, ["results.json", "table1.json", "-o", out]),
            (report.main, ["run", "--no-evaluate", "--out", out]),
            (info.main, ["--json"]),
            (export.main, ["run", f"{out}.onnx", "--layout", "NCHW", "--opset", "17", "--softmax"]),
            (sweep.main, ["--updates", "sync", "--seeds", "1", *training(out)[:14], "--workers", "1"]),
            (__main__.main, ["predict", "run", "image.png"]),
            (sweep.main, ["--updates", "sync,ssp", "--seeds", "1", "--out", "sweep", "--data", "data.npz"]),
        ]
        weights = (8, 4, 6, 1, 4, 2, 0.2, 0.2, 0.2, 3, 2, 1, 1)
        main, right = rng.choices(lines, weights)[0]
        argv = _odd(right, rng)
        if main is sweep.main and "--workers" not in argv:
            argv += ["--workers", "1"]  # processes take seconds to start
        if main in (sweep.main, train.main) and "--limit" not in argv and ("--data" not in argv or "faces" in argv):
            argv += ["--limit", "10"]  # the default data, faces, take minutes to draw and to learn

        def doit() -> None:
            set_drawing(number)
            try:
                run(main, argv)
            finally:
                kept.put_back()

        def say() -> str:
            words = " ".join(ascii(word) if len(word) < 60 else f"{word[:40]!a}…({len(word)})" for word in argv)
            return f"{main.__module__} {words}"

        return Case(say, doit)

    return make
