"""How good a model is on images that it has not been trained on, and how an epoch's figures add up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arithmetic import quiet

if TYPE_CHECKING:
    from ..nn import Sequential

WORK = 4e9
"""Floating-point operations between two looks at the stop signal: well under a second, but on the slowest backend."""


@quiet
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
        Asked before each chunk of images; when it says True the evaluation is given up.

    Returns
    -------
    loss : float
        Mean over the images, in nats, accumulated in float64.
    accuracy : float
        Share of images whose largest logit is their label's, from 0 to 1.

        None instead of both when it was given up.
    """
    loss, right = 0.0, 0
    chunk = int(min(max(WORK / max(model.flops(), 1), 16), 512))
    for begin in range(0, len(x), chunk):
        if stop is not None and stop():
            return None
        logits = model.forward(x[begin : begin + chunk]).astype(np.float64)
        expected = labels[begin : begin + chunk]
        top = logits.max(axis=1)
        log_sum = np.log(np.exp(logits - top[:, None]).sum(axis=1)) + top
        loss += float((log_sum - logits[np.arange(len(logits)), expected]).sum())
        right += int((logits.argmax(axis=1) == expected).sum())
    return loss / len(x), right / len(x)


def merge_statistics(first: Mapping[str, Any], images: int, second: Mapping[str, Any], more: int) -> dict[str, Any]:
    """An engine's figures over two stretches of an epoch, of `images` and `more` images.

    Names that end in ``_max`` keep the larger, those in ``_mean`` are averaged over images, all others add up;
    lists and dicts (histograms) add up entry by entry.
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
