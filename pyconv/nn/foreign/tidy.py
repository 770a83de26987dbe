"""Makes one layer of what exporters write as several nodes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pyconv.errors import CheckpointError
from pyconv.shapes import padding_pairs

from ..conv import Conv2D
from ..dense import Dense, Flatten
from ..global_pool import GlobalAvgPool2D
from ..norm import BatchNorm
from ..normalization import Normalization
from ..pooling import AvgPool2D, MaxPool2D
from ..zero_pad import ZeroPad2D
from .item import Item
from .structure import Chain, Fork

NONE = ((0, 0), (0, 0))


def tidy(chain: Chain) -> Chain:
    """The chain with layers only, also in its branches; forks stay."""
    for entry in chain:
        if isinstance(entry, Fork):
            entry.branches = [tidy(branch) for branch in entry.branches]
    found: Chain = []
    for entry in chain:
        found.append(entry)
        while len(found) > 1:
            first, second = found[-2:]
            if isinstance(first, Fork) or isinstance(second, Fork):
                break
            one = _together(first, second)
            if one is None:
                break
            found[-2:] = [one]
    return [_settled(entry) for entry in found]


def take_normalization(chain: Chain) -> tuple[Normalization, Chain]:
    """What is done to each channel of the input, as a Normalization, and the rest of the chain."""
    scale, shift = np.ones(1), np.zeros(1)
    start = 0
    for start, entry in enumerate([*chain, None]):  # noqa: B007 - `start` is used after the loop
        if not isinstance(entry, Item) or entry.kind != "affine" or (entry.values["scale"] <= 0).any():
            break
        scale = scale * entry.values["scale"]
        shift = shift * entry.values["scale"] + entry.values["shift"]
    if not start:
        return Normalization(), chain
    mean, std = (each[:1] if (each == each[0]).all() else each for each in (-shift / scale, 1 / scale))
    return Normalization((mean + 0.0).tolist(), std.tolist()), chain[start:]


def _together(first: Item, second: Item) -> Item | None:
    """Two neighbours as one, or None."""
    if second.kind == "affine":
        if first.kind == "affine":
            scale, shift = second.values["scale"], second.values["shift"]
            values = {"scale": first.values["scale"] * scale, "shift": first.values["shift"] * scale + shift}
            return replace(second, values=values, adds=first.adds or second.adds)
        if isinstance(first.layer, (Conv2D, Dense, BatchNorm)):
            return _scaled(first, second)
    if first.kind == "affine" and isinstance(second.layer, (Conv2D, Dense)):
        return _fed(first, second)
    if first.kind == "border" and isinstance(second.layer, MaxPool2D) and _pads(second.layer) == NONE:
        return replace(second, layer=replace(second.layer, padding=first.pads))
    if first.kind == "pads":
        if second.kind == "pads":
            (a, b), (c, d) = first.pads, second.pads
            return replace(second, pads=((a[0] + c[0], a[1] + c[1]), (b[0] + d[0], b[1] + d[1])))
        if isinstance(second.layer, Conv2D) and second.layer.padding != "same":
            pads = tuple((a[0] + b[0], a[1] + b[1]) for a, b in zip(first.pads, _pads(second.layer)))
            return replace(second, layer=replace(second.layer, padding=pads))
    mean = first.title.endswith(("(GlobalAveragePool)", "(ReduceMean)"))
    if mean and isinstance(first.layer, AvgPool2D) and isinstance(second.layer, Flatten):
        return replace(second, layer=GlobalAvgPool2D())
    return None


def _pads(layer: Conv2D | MaxPool2D) -> tuple[tuple[int, int], tuple[int, int]]:
    """The padding of a layer; this reader has given it as numbers."""
    vertical, horizontal = padding_pairs(layer.padding)
    assert not isinstance(vertical, str) and not isinstance(horizontal, str)
    return vertical, horizontal


def _scaled(first: Item, affine: Item) -> Item:
    """A layer followed by a scale and a shift of its channels: its parameters, changed to do both."""
    scale, shift = affine.values["scale"], affine.values["shift"]
    values = dict(first.values)
    if isinstance(first.layer, BatchNorm):
        dtype = values["gamma"].dtype
        values["gamma"] = (values["gamma"] * scale).astype(dtype)
        values["beta"] = (values["beta"] * scale + shift).astype(dtype)
        return replace(first, values=values)
    assert isinstance(first.layer, (Conv2D, Dense))
    dtype = values["weight"].dtype
    values["weight"] = (values["weight"] * scale).astype(dtype)
    layer = first.layer
    bias = values.get("bias", np.zeros(1)) * scale + shift
    if layer.bias or affine.adds:
        bias = np.broadcast_to(bias, scale.shape).astype(dtype)
        layer, values["bias"] = replace(layer, bias=True), bias
    return replace(first, layer=layer, values=values)


def _fed(affine: Item, second: Item) -> Item | None:
    """A scale and a shift followed by a layer that multiplies: its parameters, changed to do both; None if zeros are
    padded in between."""
    layer, values = second.layer, dict(second.values)
    scale, shift = affine.values["scale"], affine.values["shift"]
    weight = values["weight"].astype(np.float64)
    dtype = values["weight"].dtype
    if isinstance(layer, Conv2D):
        if shift.any() and (layer.padding == "same" or _pads(layer) != NONE):
            return None
        kh, kw, depth, filters = weight.shape
        groups = layer.groups
        apart = weight.reshape(kh, kw, depth, groups, filters // groups)
        factor, term = (each.reshape(groups, depth).T[:, :, np.newaxis] for each in (scale, shift))
        bias = (apart * term).sum(axis=(0, 1, 2)).ravel()
        weight = (apart * factor).reshape(weight.shape)
    else:
        assert isinstance(layer, Dense)
        bias = shift @ weight
        weight = weight * scale[:, np.newaxis]
    values["weight"] = weight.astype(dtype)
    bias = bias + values.get("bias", 0)
    if layer.bias or bias.any():
        layer, values["bias"] = replace(layer, bias=True), bias.astype(dtype)
    return replace(second, layer=layer, values=values)


def _settled(entry: Item | Fork) -> Item | Fork:
    """What is left, as a layer of its own; raises an error if it is none."""
    if isinstance(entry, Fork) or entry.kind == "layer":
        return entry
    if entry.kind == "pads":
        return replace(entry, kind="layer", layer=ZeroPad2D(entry.pads))
    if entry.kind == "affine" and len(entry.shape) == 3:
        channels = entry.shape[2]
        values = {"weight": entry.values["scale"].reshape(1, 1, 1, channels), "bias": entry.values["shift"]}
        return replace(entry, kind="layer", layer=Conv2D(channels, 1, groups=channels), values=values)
    if entry.kind == "border":
        raise CheckpointError(f"{entry.title}: pads with another number than 0; that can be read before a MaxPool only")
    if entry.kind == "softmax":
        raise CheckpointError(f"{entry.title}: stands before other layers; it can be read at the network's end only")
    raise CheckpointError(f"{entry.title}: scales or shifts vectors; that can be read beside a matrix product only")
