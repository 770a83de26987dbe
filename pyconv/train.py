"""``python -m pyconv.train``: train a network on images, or continue a run."""

from __future__ import annotations

import os
from argparse import SUPPRESS, ArgumentTypeError, Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import datasets, nn, optim
from .command import Parser, command, real, script, whole
from .documents import parse_json
from .errors import DataError, InputError, Interrupted, is_text
from .errors import shown as shown_value
from .loop import (
    READING,
    check_free,
    default_folder,
    evaluate,
    fit,
    folder_named,
    read_config,
    reading,
    recipe,
    resume_command,
    write_test,
)
from .loop.progress import CHOICES, Progress, choose
from .loop.texts import summary
from .parallel import OPTIONS, SharedMemoryError, share
from .parallel.choose import ON_FAILURE, UPDATES
from .values import path as as_path

# Batch size, learning rate, momentum, weight decay, warm-up and the rule's options are loop.recipe's to choose.
DEFAULTS: dict[str, Any] = {
    "data": "faces",
    "model": "fer",
    "epochs": 5,
    "optimizer": recipe.OPTIMIZER,
    "schedule": recipe.SCHEDULE,
    "seed": 0,
    "workers": 1,
    "update": "sync",
    "backend": "auto",
    "on_worker_failure": "restart",
    "checkpoint_every": 60,
    "shift": 0,
}

# What may differ when a run is continued: how long, how fast and how visibly, not what is computed.
WITH_RESUME = {"resume", "data", "epochs", "lr", "backend", "threads_per_worker", "progress", "target_accuracy",
               "checkpoint_every", "on_worker_failure", "trace"}  # fmt: skip

EXAMPLES = """examples:
  python -m pyconv.train                                      synthetic faces, model fer
  python -m pyconv.train --data fer2013.csv --model fer-bn --flip --shift 3 --epochs 30
  python -m pyconv.train --data /usr/share/datasets/fashion-mnist --model 5-50-100-10
  python -m pyconv.train --resume runs/2026-01-31-120000      continue a stopped run

exit status: 0 done; 1 the run failed; 2 the arguments or the data are wrong;
             130 interrupted, after a checkpoint
"""


def parser() -> Parser:
    """The command's flags. All default to None, so that those given can be told from those left out."""
    made = Parser(
        prog="python -m pyconv.train",
        description="Train a network on images, or continue a run.",
        epilog=EXAMPLES,
        argument_default=None,
    )

    def add(group: Any, flag: str, text: str, **options: Any) -> None:
        name = flag.lstrip("-").replace("-", "_")
        if name in DEFAULTS:
            text += f" (default: {DEFAULTS[name]})"
        group.add_argument(flag, help=text.replace("%", "%%"), **options)

    what = made.add_argument_group("what to train")
    add(
        what,
        "--data",
        "faces (synthetic), a fer2013.csv, an .npz with x and y, a folder of IDX files, or a folder of "
        "class folders of images",
        metavar="NAME|PATH",
    )
    add(
        what,
        "--model",
        f"one of {', '.join(nn.MODELS)}, the notation kernel-filters-hidden-classes such as "
        "5-50-100-10, or a TOML file of layers",
        metavar="NAME|NOTATION|FILE.toml",
    )
    add(what, "--limit", "train on this many images of the data", type=whole(1), metavar="N")
    add(
        what,
        "--size",
        "bring the images of a folder to this size in pixels, and to gray (x1) or colour (x3), as 64x64 or 64x64x3",
        type=_size,
        metavar="WIDTHxHEIGHT[xCHANNELS]",
    )
    add(
        what,
        "--first-label",
        "label of the first class, in IDX files and .npz: 1 where labels count from 1 (default: 0)",
        type=whole(0),
        metavar="N",
    )
    add(what, "--flip", "flip half of the training images left to right, at random", action="store_true", default=None)
    add(what, "--shift", "shift training images by up to N pixels, at random", type=whole(0), metavar="N")

    how = made.add_argument_group("how")
    add(how, "--epochs", "passes over the data; with --resume, in all", type=whole(1), metavar="N")
    add(
        how,
        "--batch-size",
        f"images of one worker's step (default: {recipe.BATCH}, shared out over the workers)",
        type=whole(1),
        metavar="N",
    )
    add(how, "--optimizer", f"{', '.join(optim.OPTIMIZERS)}", metavar="NAME")
    rates = ", ".join(f"{name} {rate:g}" for name, rate in recipe.LEARNING_RATES.items())
    follows = "what batch size, workers and update rule make of"
    add(how, "--lr", f"learning rate (default: {follows} {rates})", type=real(above=0), metavar="F")
    add(
        how,
        "--momentum",
        f"of sgd (default: {recipe.MOMENTUM}, or none where the update rule's staleness acts as momentum)",
        type=real(minimum=0),
        metavar="F",
    )
    add(
        how,
        "--weight-decay",
        f"L2 penalty; decay of the weights for adamw (default: {recipe.WEIGHT_DECAY} for sgd, else 0)",
        type=real(minimum=0),
        metavar="F",
    )
    add(how, "--schedule", f"of the learning rate: {', '.join(optim.SCHEDULES)}", metavar="NAME")
    add(
        how,
        "--warmup",
        "share of the run (below 1) or steps over which the learning rate rises (default: "
        f"{recipe.WARMUP}, or {recipe.LONG_WARMUP} where the update rule or large steps need it)",
        type=real(minimum=0),
        metavar="F",
    )
    add(
        how,
        "--target-accuracy",
        "stop when the validation accuracy reaches this share, such as 0.9",
        type=real(above=0, maximum=1),
        metavar="F",
    )
    add(how, "--seed", "seed of weights, order, augmentation and synthetic data", type=whole(0), metavar="N")

    where = made.add_argument_group("where it runs")
    add(where, "--backend", "serial, multicore, cuda, reference or auto", metavar="NAME")
    add(where, "--gpus", "with cuda: numbers of the GPUs to use (default: all that are visible)", metavar="0,1,...")
    add(where, "--workers", "training processes, or auto", type=_workers, metavar="N|auto")
    add(
        where,
        "--threads-per-worker",
        "OpenMP threads of each (default: the usable CPUs, shared out)",
        type=whole(1),
        metavar="N",
    )
    add(where, "--update", f"how workers meet: {', '.join(UPDATES)}", metavar="RULE")
    for name, option in OPTIONS.items():
        kinds: dict[type, dict[str, Any]] = {
            bool: {"action": "store_true", "default": None},
            int: {"type": whole(0), "metavar": "N"},
            float: {"type": real(), "metavar": "F"},
        }
        add(where, f"--{name.replace('_', '-')}", option.help, **kinds[option.type])
    add(where, "--on-worker-failure", f"{', '.join(ON_FAILURE)}", metavar="WHAT")
    add(where, "--trace", "write a timeline of the workers for Perfetto or chrome://tracing", metavar="FILE")

    files = made.add_argument_group("what it leaves and shows")
    add(files, "--out", "run folder to make (default: runs/<time>)", metavar="DIR")
    add(
        files,
        "--resume",
        "continue the run in this folder; of the other flags only those that do not change what is "
        "computed may be given, and --epochs and --lr",
        metavar="DIR",
    )
    add(files, "--checkpoint-every", "seconds between checkpoints inside an epoch", type=real(above=0), metavar="S")
    add(
        files,
        "--progress",
        f"{', '.join(CHOICES)} (default: auto, a live bar on a terminal, lines elsewhere)",
        metavar="HOW",
    )
    return made


def _size(text: str) -> tuple[int, ...]:
    """``WIDTHxHEIGHT`` as (height, width), with the channels where they are given."""
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) not in (2, 3) or not all(part.isdecimal() and len(part) < 9 and int(part) for part in parts):
        raise ArgumentTypeError(f"must be as 64x64, or 64x64x3 for colour, not {text!r}")
    width, height, *channels = (int(part) for part in parts)
    return height, width, *channels


def _workers(text: str) -> int | str:
    return text if text == "auto" else whole(1)(text)


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = parser().parse_args(argv)
    given = {name: value for name, value in vars(args).items() if value is not None and value is not SUPPRESS}
    for name in ("data", "model", "out", "resume", "trace"):  # they are written to the run's files
        if name in given:
            as_path(given[name], f"--{name}", text=True)
    if "gpus" in given:  # for this process and the workers that it starts
        if given.get("backend", "cuda" if "resume" in given else "auto") != "cuda":
            raise InputError("--gpus chooses among GPUs: add --backend cuda, or leave it out")
        os.environ["PYCONV_GPUS"] = given.pop("gpus")
    show = choose(given.get("progress", "auto"))
    with show.heard():
        return _run(given, show)


def _run(given: dict[str, Any], show: Progress) -> int:
    """Load the data, train, and test."""
    plan = _continued(given) if "resume" in given else _new(given)
    data = _in_memory_once(plan.pop("data"), plan["workers"])
    model: nn.Sequential = plan.pop("model")
    history = fit(model, *data.train, validation=data.validation, progress=show, normalize=True, **plan)
    if given.get("progress") == "off":
        print(f"done: {summary(history, Path(plan['out']))}")
    if data.test is not None:
        try:
            loss, accuracy = evaluate(model, *data.test)  # type: ignore[misc]  # None only for one that is stopped
            write_test(plan["out"], loss, accuracy, len(data.test.y))
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted after the training, which is complete in {plan['out']}: only the test accuracy is "
                f"missing; get it with: {resume_command(Path(plan['out']))}"
            ) from None
        print(f"test accuracy {100 * accuracy:.2f} % on {len(data.test.y)} images kept for it")
    return 0


def _new(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of fit() for a run from the flags."""
    args = Namespace(**{**dict.fromkeys(vars(parser().parse_args([]))), **DEFAULTS, **given})
    optimizer = {"name": args.optimizer, **_given(args, "lr", "momentum", "weight_decay")}
    schedule = {"name": args.schedule, **_given(args, "warmup")}
    recipe.Asked.of(args.batch_size, optimizer, schedule, None)  # before the data is read
    options = {name: given[name] for name in OPTIONS if name in given}
    out = default_folder() if args.out is None else folder_named(args.out)
    check_free(out)
    kept = {name: given[name] for name in READING if name in given}
    data = datasets.load(args.data, limit=args.limit, seed=args.seed, **kept)
    model = _model(args.model, data, args.seed)
    model.classes = list(data.classes)
    return {
        "data": data,
        "model": model,
        "epochs": args.epochs,
        "batch_size": args.batch_size,
        "optimizer": optimizer,
        "schedule": schedule,
        "augment": _augmentation(args.flip, args.shift),
        "seed": args.seed,
        "workers": args.workers,
        "update": args.update,
        "update_options": options,
        "threads_per_worker": args.threads_per_worker,
        "backend": args.backend,
        "on_worker_failure": args.on_worker_failure,
        "trace": args.trace,
        "target_accuracy": args.target_accuracy,
        "checkpoint_every": args.checkpoint_every,
        "out": out,
        "description": {
            "data": {
                "source": _absolute(args.data),
                "name": data.name,
                "limit": args.limit,
                "seed": args.seed,
                **kept,
                **({"notes": list(data.notes)} if data.notes else {}),
            },
            "model": {"name": args.model, "classes": list(data.classes)},
        },
    }


def _in_memory_once(data: datasets.Dataset, workers: int | str) -> datasets.Dataset:
    """The data with its training images where workers find them, so that nobody keeps a copy beside those."""
    if workers == 1:
        return data
    try:
        return replace(data, train=datasets.Split(share(data.train.x), share(data.train.y)))
    except SharedMemoryError:
        return data  # "auto" may come to one worker; else the engine says what is too small, and for what


def _continued(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of fit() for the run in a folder, with what the flags may change."""
    fixed = sorted(set(given) - WITH_RESUME)
    if fixed:
        raise InputError(
            f"--{fixed[0].replace('_', '-')} cannot be changed when a run is continued; "
            "leave it out, or begin another run without --resume"
        )
    folder = Path(given["resume"])
    config = read_config(folder)
    about, training = config["data"], config["training"]
    source = given["data"] if "data" in given else about.get("source")  # the data may have moved
    if source is None:
        raise InputError(
            f"{folder}: this run was begun from Python with arrays; continue it there, with "
            "pyconv.fit(..., out=..., resume=True)"
        )
    try:
        settings = {**config["optimizer"], **{name: given[name] for name in ("lr",) if name in given}}
        plan = {
            "optimizer": optim.by_name(**settings),
            "schedule": optim.schedule(**config["schedule"]),
            "augment": config.get("augment") or None,
            "update_options": config.get("update_options", {}),
            "description": {"data": {**about, "source": _absolute(source)}, "model": config["model"]},
            "out": folder,
            "resume": True,
            **{name: training.get(name) for name in ("threads_per_worker", "target_accuracy")},
            **{name: training[name] for name in ("epochs", "batch_size", "seed", "workers", "update", "backend",
                                                 "on_worker_failure", "checkpoint_every")},
        }  # fmt: skip
        plan.update({name: given[name] for name in WITH_RESUME - {"resume", "data", "lr", "progress"} if name in given})
        model = nn.from_config(parse_json(config["model"]["config"]))
        model.classes = config["model"].get("classes")
    except ValueError as error:  # an InputError is one
        raise DataError(
            f"{folder / 'config.toml'}: the settings are not those of a run ({error}); put the file back as it was"
        ) from None
    return {"data": datasets.load(source, **reading(about)), "model": model, **plan}


def _given(args: Namespace, *names: str) -> dict[str, Any]:
    """Those of the flags that were given, by name."""
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def _augmentation(flip: bool | None, shift: int) -> dict[str, Any] | None:
    return {"flip": bool(flip), "shift": shift} if flip or shift else None


def _absolute(source: str) -> str:
    """The data's name or place, good from any working folder."""
    if source in datasets.NAMED:
        return source
    place = str(Path(source).resolve())
    if not is_text(place):  # it is written to the run's files
        raise InputError(f"--data {shown_value(place)}: the name is not UTF-8 text; rename the file or folder")
    return place


def _model(name: str, data: datasets.Dataset, seed: int) -> nn.Sequential:
    """The network called `name`, or described in a TOML file, for this data."""
    if not name.endswith(".toml"):
        return nn.build(name, input_shape=data.image_shape, classes=len(data.classes), seed=seed)
    model = nn.from_toml(name, seed=seed)
    if model.input_shape != data.image_shape or model.output_shape != (len(data.classes),):
        raise InputError(
            f"{name}: the network takes {model.input_shape} to {model.output_shape}, the data needs "
            f"{data.image_shape} to ({len(data.classes)},); change its input_shape or last layer"
        )
    return model


if __name__ == "__main__":
    script(main)
