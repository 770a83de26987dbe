"""``python -m pyconv.train``: train a network on images, or continue a run; its flags are in ``flags/``."""

from __future__ import annotations

import contextlib
import os
from argparse import SUPPRESS
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import datasets, nn
from .cluster import session
from .command import command, script
from .errors import InputError, Interrupted
from .flags import AUTO, cluster, continued, new, on_ranks, parser, same_flags, search
from .loop import examine, fit, of_model, resume_command, write_test
from .loop.progress import choose
from .loop.texts import summary
from .parallel import SharedMemoryError, share
from .parallel.memory import share_images
from .values import path as as_path

__all__ = ["main", "parser"]


@command
@on_ranks
def main(argv: Sequence[str] | None = None) -> int:
    """Read the flags, load the data, train, and test; returns the exit status."""
    ranks = session(cluster(argv))
    args = parser().parse_args(argv)
    given = {name: value for name, value in vars(args).items() if value is not None and value is not SUPPRESS}
    if ranks is not None:
        same_flags(ranks, given)
    for name in ("data", "model", "out", "resume", "trace"):  # these names are written to the run's files
        if name in given:
            as_path(given[name], f"--{name}", text=True)
    if "gpus" in given:  # for this process and the workers that it will start
        if given.get("backend", "cuda" if "resume" in given else "auto") != "cuda":
            raise InputError("--gpus chooses among GPUs: add --backend cuda, or leave it out")
        os.environ["PYCONV_GPUS"] = given.pop("gpus")
    show = choose(given.get("progress", "auto"))
    if "find_lr" in given and ranks is not None:
        raise InputError("--find-lr is one process: start it without mpiexec or srun")
    with show.heard() if ranks is None or ranks.leads else contextlib.nullcontext():
        if "find_lr" in given:
            print(*search(given, show), sep="\n")
            return 0
        plan = new(given, ranks) if given.get("resume", AUTO) == AUTO else continued(given, ranks)
        data = _in_memory_once(plan.pop("data"), plan["workers"] if ranks is None else 1)
        model: nn.Sequential = plan.pop("model")
        history = fit(model, *data.train, validation=data.validation, progress=show, **{"normalize": True, **plan})
        if ranks is not None and not ranks.leads:
            return 0
        if given.get("progress") == "off":
            print(f"done: {summary(history, Path(plan['out']))}")
        if data.test is not None:
            _test(model, data.test, Path(plan["out"]))
    return 0


def _in_memory_once(data: datasets.Dataset, workers: int | str) -> datasets.Dataset:
    """The data, with its training images in shared memory, so that only one copy of them is kept."""
    if workers == 1:
        return data
    try:
        return replace(
            data, train=datasets.Split(share_images(data.train.x, "the training images"), share(data.train.y))
        )
    except SharedMemoryError:
        return data  # with "auto" it may come to one worker; otherwise the engine says what is too small


def _test(model: nn.Sequential, data: datasets.Split, out: Path) -> None:
    """Print and write the model's results on the images that the data keep for a test."""
    try:
        found: Any = examine(model, *data)  # None only if it is stopped
        write_test(out, found.loss, of_model(model, data.y, found.classes))
    except KeyboardInterrupt:
        raise Interrupted(
            f"interrupted after the training, which is complete in {out}: only the test accuracy is missing; get it "
            f"with: {resume_command(out)}"
        ) from None
    print(f"test accuracy {100 * found.accuracy:.2f} % on {len(data.y)} images kept for it")


if __name__ == "__main__":
    script(main)
