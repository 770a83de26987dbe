"""Mistakes in the commands."""

from __future__ import annotations

from .mutation import Mutation

MUTATIONS = [
    Mutation(
        "flags/types.py",
        "width, height, *channels = (int(part) for part in parts)\n    return height, width, *channels",
        "width, height, *channels = (int(part) for part in parts)\n    return width, height, *channels",
        "--size takes height for width",
        "commands",
        "photographs",
    ),
    Mutation(
        "flags/continued_run.py",
        'apart = {"resume", "data", "lr", "progress",',
        'apart = {"resume", "data", "lr", "epochs", "progress",',
        "--resume --epochs does not train on",
        "commands",
        "more_epochs",
    ),
    Mutation(
        "train.py",
        'if given.get("progress") == "off":\n            print',
        'if given.get("progress") != "off":\n            print',
        "a run without progress ends without a word",
        "commands",
        "progress_off",
    ),
    Mutation(
        "command.py",
        'f"pyconv: error: {_one_line(error)}", error.exit_status)',
        'f"pyconv: error: {_one_line(error)}", 1)',
        "wrong arguments end with status 1",
        "commands",
        "bad_arguments",
    ),
    Mutation(
        "command.py",
        "allow_abbrev=False",
        "allow_abbrev=True",
        "abbreviated flags are taken",
        "commands",
        "bad_arguments",
    ),
    Mutation(
        "predict.py",
        '"class": classes[int(row.argmax())],',
        '"class": classes[int(row.argmin())],',
        "the least probable class is printed",
        "commands",
        "probabilities",
    ),
    Mutation(
        "sweep.py",
        '        if complete(place):\n            print(f"{what}: complete in {place}")\n            continue\n',
        "",
        "a sweep repeats what is complete",
        "sweep",
        "one_table",
    ),
    Mutation(
        "export.py",
        'sizes = [rest[-1], height, *rest[:-1]] if rest and args.layout == "NCHW" else model.input_shape',
        "sizes = model.input_shape",
        "export names the axes of NCHW in NHWC's order",
        "nn_onnx",
        "command",
    ),
]
