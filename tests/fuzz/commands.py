"""Command lines with one or two arguments that are odd, run in this process."""

from __future__ import annotations

import contextlib
import io
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyconv import info, predict, report, train

from .cases import Case, Complaint, check_message, generator

_WORDS = (
    "", "-1", "0", "1", "2", "3.5", "-0.0", "nan", "inf", "1e400", "1e-400", "9" * 25, "9" * 5000, "-" + "9" * 400,
    str(2**62), str(2**63), str(2**64), "0x10", "1_0", "١", "½", "True", "None", "null", "auto", "x", "x" * 300,
    "x" * 10_000, "a/" * 3000, "\udcff", "caf\udce9.png", "two\nlines", "\x1b[31m", "\u202e", "--", "-h", "--help",
    "--version",
    "--nonsense", "-", ".", "..", "folder", "model.toml", "data.npz", "image.png", "run", "results.json", "faces",
    "fer",
    "5-2-3-2", "0-0-0-0", "9999999-1-1-1", "sgd", "adam", "cosine", "sync", "ssp", "serial", "cuda", "restart", "off",
    "/dev/null/x",
    "0,0", "a,b", "[]", "{}", "%s", "$(id)", "*", "a=b", "--lr=-1", "--epochs=" + "9" * 50, "--shift=" + "9" * 30,
    "--staleness=" + "9" * 30, "--seed=" + "9" * 30, "--flip=1", "--workers=" + "9" * 30,
)  # fmt: skip


def _training(out: str) -> list[str]:
    return ["--data", "data.npz", "--model", "model.toml", "--epochs", "1", "--batch-size", "8", "--progress", "off",
    "--out", out,
            "--lr", "0.01", "--seed", "3", "--shift", "1", "--limit", "10", "--optimizer", "sgd", "--momentum", "0.5",
            "--schedule",
            "cosine", "--warmup", "0.1", "--backend", "auto", "--workers", "1", "--threads-per-worker", "1",
            "--update", "sync",
            "--target-accuracy", "0.9", "--checkpoint-every", "60", "--on-worker-failure", "restart"]  # fmt: skip


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
    results = Path(__file__).parents[2] / "bench" / "results"
    for name in ("table1.json", "prediction.json"):
        if (results / name).exists():
            shutil.copy(results / name, folder / name)
    shutil.copy(next(results.glob("*.json")), folder / "results.json")
    if not (folder / "run").exists():
        run(train.main, _training("run"))


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
    """Without what is right and takes minutes: training for ages, or measuring the machine."""
    for place, word in enumerate(argv[:-1]):
        long = argv[place + 1] in (str(2**62), "2147483647", "auto")
        if word in ("--epochs", "--workers", "--limit") and long:
            argv[place + 1] = "1"
    return argv


def maker(folder: Path) -> Callable[[int], Case]:
    """A function of a number that gives the case of that number."""
    make_files(folder)

    def make(number: int) -> Case:
        rng = generator("commands", number)
        out = f"out-{number}"
        lines: list[tuple[Any, list[str]]] = [
            (train.main, _training(out)),
            (train.main, ["--resume", "run", "--epochs", "1", "--lr", "0.1", "--progress", "off"]),
            (predict.main, ["run", "image.png", "--json"]),
            (predict.main, ["run/model.safetensors", "image.png"]),
            (report.main, ["results.json", "table1.json", "-o", out]),
            (report.main, ["run", "--no-evaluate", "--out", out]),
            (info.main, ["--json"]),
        ]
        weights = (8, 4, 4, 2, 0.3, 0.3, 0.2)
        main, right = rng.choices(lines, weights)[0]
        argv = _odd(right, rng)

        def doit() -> None:
            try:
                run(main, argv)
            finally:
                shutil.rmtree(folder / out, ignore_errors=True)

        words = " ".join(ascii(word) if len(word) < 60 else f"{word[:40]!a}…({len(word)})" for word in argv)
        return Case(f"{main.__module__} {words}", doit)

    return make
