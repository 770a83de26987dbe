"""``python -m pyconv.predict``: what a trained network sees in image files."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import nn
from .checkpoint import Checkpoint
from .command import Parser, command, notes_shown, script
from .datasets.brightness import Brightness
from .datasets.decoding import decode_all
from .datasets.folder import described, images_under
from .datasets.images import FORMAT_NAMES, Picture
from .errors import DataError, InputError, shown
from .loop import holds_run, read_config
from .loop.folder import BEST, CHECKPOINT, CONFIG, MODEL
from .values import path as as_path

EXAMPLES = """The network's classes are printed with their probabilities, the most probable first.

examples:
  python -m pyconv.predict runs/2026-01-31-120000 face.png
  python -m pyconv.predict model.safetensors photos/*.jpg --json
  python -m pyconv.predict runs/photos new-photos

exit status: 0 done; 2 the arguments, the model or an image are wrong (then nothing is
printed)
"""


def parser() -> Parser:
    """The command's flags."""
    made = Parser(
        "predict",
        description="Print what a trained network sees in image files.",
        epilog=EXAMPLES,
    )
    made.add_argument("model", metavar="RUN_DIR", help="a run folder, or a model's .safetensors file")
    made.add_argument("images", metavar="IMAGE|FOLDER", nargs="+", help=f"{FORMAT_NAMES} files, or folders of such")
    made.add_argument(
        "--best", action="store_true", help="of a run folder: the model of the epoch with the best validation accuracy"
    )
    made.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    return made


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = parser().parse_args(argv)
    model = load_model(as_path(args.model, "the model's name", text=True), best=args.best)
    if len(model.input_shape) != 3:
        raise InputError(f"{args.model}: the network takes vectors of {model.input_shape[0]} numbers, not images")
    paths, notes = _files(args.images)
    brightness = _brightness(Path(args.model))
    images = np.empty((len(paths), *model.input_shape), np.uint8)
    done: list[str | None] = []
    with notes_shown():
        for at, (_, picture) in enumerate(decode_all([Path(path) for path in paths], model.input_shape)):
            if picture.deep and images.dtype == np.uint8:
                images = images.astype(np.float32)
            images[at] = brightness.scaled(picture.pixels) if picture.deep else picture.pixels
            done.append(_done(picture, brightness))
    told = model.other_scale(images, "the images")
    for note in [*notes, *([told] if told else [])]:
        print(f"pyconv: note: {note}", file=sys.stderr)
    probabilities = model.predict_proba(images)
    classes = model.classes or [f"class {index}" for index in range(probabilities.shape[1])]
    results = [
        {
            "image": path,
            "class": classes[int(row.argmax())],
            "probabilities": {name: float(value) for name, value in zip(classes, row)},
            "note": note,
        }
        for path, note, row in zip(paths, done, probabilities)
    ]
    if args.json:
        print(json.dumps({"model": args.model, "classes": classes, "images": results}, indent=1))
    else:
        for result in results:
            _show(result)
    return 0


def load_model(place: Path, *, best: bool = False) -> nn.Sequential:
    """Load the network of a run folder, after its last epoch or its best one, or of a model file.

    If a run was stopped in its first epoch, there is no model file yet, and the checkpoint is used.

    Raises
    ------
    CheckpointError, InputError
        If there is none, or it cannot be read.
    """
    if best:
        if not (place / BEST).exists():
            raise InputError(f"{place}: there is no {BEST} in it; --best takes a run folder with validated epochs")
        return nn.load(place / BEST)
    if not place.is_dir():
        return nn.load(place)
    if (place / MODEL).exists():
        return nn.load(place / MODEL)
    if (place / CHECKPOINT).exists():
        return Checkpoint.load(place / CHECKPOINT).build()
    raise InputError(f"{place}: neither {MODEL} nor a checkpoint in it; give a run folder or a model file")


def _files(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The image files that the arguments name, a folder's in order of name; and what was skipped in folders."""
    files: list[str] = []
    notes: list[str] = []
    for argument in arguments:
        if not as_path(argument, "image").is_dir():
            files.append(argument)
            continue
        found, unread = images_under(Path(argument))
        if not found:
            raise InputError(f"{argument}: the folder has no {FORMAT_NAMES} files in it; give image files")
        if unread:
            notes.append(f"{argument}: {described(unread)}")
        files += map(str, found)
    return files, notes


def _brightness(place: Path) -> Brightness:
    """How a run scaled its images of 16 bits; by their type's range where it had none, or there is only a model."""
    if not holds_run(place):
        return Brightness()
    kept = read_config(place)["data"].get("brightness")
    if kept is None:
        return Brightness()
    if len(kept) != 2 or kept[0] >= kept[1]:
        raise DataError(f"{place / CONFIG}: data.brightness must be two numbers that rise, not {shown(kept)}")
    return Brightness(*kept)


def _done(picture: Picture, brightness: Brightness) -> str | None:
    """What had to be done to an image to bring it to the network's shape."""
    height, width, channels = picture.pixels.shape
    done = []
    if (picture.height, picture.width) != (height, width):
        done.append(f"resized from {picture.width}x{picture.height} to {width}x{height}")
    if picture.channels != channels:
        done.append("made gray" if channels == 1 else "given three equal channels")
    if picture.deep:
        done.append(f"brought from {brightness.low:g}–{brightness.high:g} to 0–255")
    if picture.several:
        done.append("the first of several pictures")
    return " and ".join(done) or None


def _show(result: dict[str, Any]) -> None:
    note = f" ({result['note']})" if result["note"] else ""
    print(f"{result['image']}: {result['class']}{note}")
    width = max(map(len, result["probabilities"]))
    for name, value in sorted(result["probabilities"].items(), key=lambda item: -item[1]):
        print(f"  {name:<{width}}  {100 * value:6.2f} %")


if __name__ == "__main__":
    script(main)
