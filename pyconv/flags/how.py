"""The flags that say how a network is trained: the optimizer, its settings, and when to stop."""

from __future__ import annotations

from .. import optim
from ..command import Parser, real, whole
from ..loop import recipe
from ..loop.stopping import METRICS
from . import types
from .group import group


def add_how(made: Parser) -> None:
    """Add the flags of the training."""
    add = group(made, "how")
    add("--epochs", "passes over the data; with --resume, in all", type=whole(1), metavar="N")
    add(
        "--batch-size",
        f"images of one worker's step (default: {recipe.BATCH}, shared out over the workers)",
        type=whole(1),
        metavar="N",
    )
    add("--optimizer", f"{', '.join(optim.OPTIMIZERS)}", metavar="NAME")
    rates = ", ".join(f"{name} {rate:g}" for name, rate in recipe.LEARNING_RATES.items())
    follows = "what batch size, workers and update rule make of"
    add("--lr", f"learning rate (default: {follows} {rates})", type=real(above=0), metavar="F")
    add(
        "--find-lr",
        "do not train, but look for a learning rate: one that rises in 200 steps, and a picture of the losses in this "
        "file (default: find-lr.png)",
        nargs="?",
        const="find-lr.png",
        metavar="FILE.png",
    )
    add(
        "--momentum",
        f"of sgd (default: {recipe.MOMENTUM}, or none where the update rule's staleness acts as momentum)",
        type=real(minimum=0),
        metavar="F",
    )
    add(
        "--weight-decay",
        f"L2 penalty; decay of the weights for adamw (default: {recipe.WEIGHT_DECAY} for sgd, else 0)",
        type=real(minimum=0),
        metavar="F",
    )
    add("--schedule", f"of the learning rate: {', '.join(optim.SCHEDULES)}", metavar="NAME")
    add(
        "--warmup",
        "share of the run (below 1) or steps over which the learning rate rises (default: "
        f"{recipe.WARMUP}, or {recipe.LONG_WARMUP} where the update rule or large steps need it)",
        type=real(minimum=0),
        metavar="F",
    )
    add(
        "--target-accuracy",
        "stop when the validation accuracy reaches this share, such as 0.9",
        type=real(above=0, maximum=1),
        metavar="F",
    )
    add(
        "--clip-norm",
        "largest norm of a gradient, over all parameters; under sync of the mean (default: no limit)",
        type=real(above=0),
        metavar="F",
    )
    add(
        "--freeze",
        "layers that stay as they are: numbers as 0-5, kinds as BatchNorm, ways as 3.shortcut, or body: all but the "
        "last",
        type=types.layers,
        metavar="LAYER,LAYER,...",
    )
    add(
        "--early-stopping",
        "stop when so many epochs in a row bring nothing better, and keep the best epoch's network",
        type=whole(1),
        metavar="N",
    )
    add(
        "--stopping-metric",
        f"what --early-stopping judges by: {', '.join(METRICS)} (default: val_accuracy)",
        choices=tuple(METRICS),
        metavar="NAME",
    )
    add(
        "--class-weights",
        "what images of each class count in the loss: balanced, a number for each class, or some as Happy=0.5,Fear=2 "
        "(default: 1)",
        type=types.class_weights,
        metavar="balanced|W,W,...|NAME=W,...",
    )
    add(
        "--label-smoothing",
        "share of each label that is spread evenly over all classes, such as 0.1 (default: 0)",
        type=real(minimum=0, maximum=1),
        metavar="F",
    )
    add("--seed", "seed of weights, order, augmentation and synthetic data", type=whole(0), metavar="N")
