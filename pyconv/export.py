"""``python -m pyconv.export``: a trained network as an ONNX file, for other runtimes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .command import Parser, command, script, whole
from .errors import InputError, RunError
from .files import place_for, write_atomically
from .nn.onnx import DEFAULT_OPSET
from .nn.onnx.export import LAYOUTS, OLDEST_OPSET, to_bytes
from .predict import load_model
from .values import path as as_path

EXAMPLES = """examples:
  python -m pyconv.export runs/2026-01-31-120000 face.onnx
  python -m pyconv.export model.safetensors face.onnx --layout NHWC --softmax

exit status: 0 done; 1 the file cannot be written: no room, or the system refuses it;
2 an argument or the model is wrong, the file's folder is not there, or the file is a
folder
"""


def parser() -> Parser:
    """The command's flags."""
    made = Parser(
        "export",
        description="Write a trained network as an ONNX file.",
        epilog=EXAMPLES,
    )
    made.add_argument("model", metavar="RUN_DIR", help="a run folder, or a model's .safetensors file")
    made.add_argument("file", metavar="FILE.onnx", help="file to write; one that is there is replaced")
    made.add_argument(
        "--layout",
        choices=LAYOUTS,
        default="NCHW",
        help="order of the axes of the images that it takes (default: NCHW)",
    )
    made.add_argument(
        "--opset",
        type=whole(OLDEST_OPSET),
        default=DEFAULT_OPSET,
        metavar="N",
        help=f"version of ONNX's operators, from {OLDEST_OPSET} on (default: {DEFAULT_OPSET})",
    )
    made.add_argument("--softmax", action="store_true", help="give probabilities instead of logits")
    return made


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = parser().parse_args(argv)
    for name in (args.model, args.file):
        as_path(name, "file", text=True)
    if not args.file.endswith(".onnx"):
        raise InputError(f"{args.file}: the name of an ONNX file ends in .onnx")
    place = place_for(args.file)
    model = load_model(Path(args.model))
    content = to_bytes(model, layout=args.layout, opset=args.opset, softmax=args.softmax)
    try:
        write_atomically(place, content)
    except OSError as error:
        why = error.strerror or error
        raise RunError(f"{args.file}: cannot be written: {why}; make room there, or give another place") from None
    height, *rest = model.input_shape
    sizes = [rest[-1], height, *rest[:-1]] if rest and args.layout == "NCHW" else model.input_shape
    result = "probabilities" if args.softmax else "logits"
    print(
        f"{args.file}: takes images of float32, (N, {', '.join(map(str, sizes))}), in the units of the training "
        f"images; gives {result}, (N, {', '.join(map(str, model.output_shape))}); opset {args.opset}"
    )
    return 0


if __name__ == "__main__":
    script(main)
