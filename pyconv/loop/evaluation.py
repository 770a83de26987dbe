"""Evaluates a model on images (loss, accuracy, predictions), and merges the statistics of two parts of an epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arithmetic import quiet

if TYPE_CHECKING:
    from ..nn import Sequential

WORK = 4e9
"""Floating-point operations between two looks at the stop signal: except on the slowest backend, less than a second."""
NUMBERS = 1 << 24
"""At most so many pixels are evaluated together, because images may be in a file that is larger than memory."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model answers to images whose labels are known.

    Attributes
    ----------
    loss, accuracy : float
        As :func:`evaluate` gives them.
    classes : (N,) int64 array
        The answer to each image: the class of the largest logit.
    """

    loss: float
    accuracy: float
    classes: np.ndarray


def evaluate(
    model: Sequential, x: np.ndarray, labels: np.ndarray, *, stop: Callable[[], bool] | None = None
) -> tuple[float, float] | None:
    """Mean cross-entropy and accuracy of `model`.

    Parameters
    ----------
    model : Sequential
    x : (N, H, W, C) array
        Images as the model takes them.
    labels : (N,) integer array
    stop : callable, optional
        Called before each chunk of images; if it returns True, the evaluation ends.

    Returns
    -------
    loss : float
        Mean over the images, in nats, accumulated in float64.
    accuracy : float
        Share of images whose largest logit is their label's, from 0 to 1.

        None instead of both if the evaluation was ended by `stop`.
    """
    found = examine(model, x, labels, stop=stop)
    return None if found is None else (found.loss, found.accuracy)


@quiet
def examine(
    model: Sequential, x: np.ndarray, labels: np.ndarray, *, stop: Callable[[], bool] | None = None
) -> Answers | None:
    """As :func:`evaluate`, with the answer to each image.

    Parameters
    ----------
    model, x, labels, stop
        As there.

    Returns
    -------
    Answers or None
        None when it was given up.
    """
    loss, answers = 0.0, np.empty(len(x), np.int64)
    chunk = int(
        min(max(WORK / max(model.flops(), 1), 16), 512, max(NUMBERS // max(math.prod(model.input_shape), 1), 1))
    )
    for begin in range(0, len(x), chunk):
        if stop is not None and stop():
            return None
        logits = model.forward(x[begin : begin + chunk]).astype(np.float64)
        expected = labels[begin : begin + chunk]
        top = logits.max(axis=1)
        log_sum = np.log(np.exp(logits - top[:, None]).sum(axis=1)) + top
        loss += float((log_sum - logits[np.arange(len(logits)), expected]).sum())
        answers[begin : begin + chunk] = logits.argmax(axis=1)
    return Answers(loss / len(x), int((answers == labels).sum()) / len(x), answers)


def merge_statistics(first: Mapping[str, Any], images: int, second: Mapping[str, Any], more: int) -> dict[str, Any]:
    """Combine an engine's figures for two parts of an epoch, of `images` and `more` images.

    The larger is kept for names that end in ``_max``; the mean over images is taken for ``_mean``; all others are
    added, lists and dicts (histograms) entry by entry.
    """
    merged = dict(first)
    for name, value in second.items():
        if name not in merged:
            merged[name] = value
        elif name.endswith("_max"):
            merged[name] = max(merged[name], value)
        elif name.endswith("_mean"):
            merged[name] = (merged[name] * images + value * more) / max(images + more, 1)
        else:
            merged[name] = _added(merged[name], value)
    return merged


def _added(one: Any, other: Any) -> Any:
    if isinstance(one, Mapping):
        return {**one, **{key: one.get(key, 0) + value for key, value in other.items()}}
    if isinstance(one, list):
        longer, shorter = sorted((one, other), key=len, reverse=True)
        return [value + (shorter[i] if i < len(shorter) else 0) for i, value in enumerate(longer)]
    return one + other
