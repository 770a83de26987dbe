"""The flags that say what a run leaves on disk, and what it shows while it runs."""

from __future__ import annotations

from ..command import Parser, real
from ..loop.progress import CHOICES
from .group import group


def add_leaves(made: Parser) -> None:
    """Add the flags of the run folder and of the display."""
    add = group(made, "what it leaves and shows")
    add("--out", "run folder to make (default: runs/<time>)", metavar="DIR")
    add(
        "--resume",
        "continue the run in this folder; of the other flags only those that do not change what is "
        "computed may be given, and --epochs and --lr. auto: continue the run in --out, or begin it there, "
        "with the same flags each time",
        metavar="DIR",
    )
    add("--checkpoint-every", "seconds between checkpoints inside an epoch", type=real(above=0), metavar="S")
    add(
        "--tensorboard",
        "write each epoch's figures for TensorBoard, to the run folder's tensorboard/ (needs tensorboardX)",
        action="store_true",
        default=None,
    )
    add(
        "--progress",
        f"{', '.join(CHOICES)} (default: auto, a live bar on a terminal, lines elsewhere)",
        metavar="HOW",
    )
