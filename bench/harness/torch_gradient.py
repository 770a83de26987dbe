"""The gradient of a network's PyTorch twin, in pyconv's order."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyconv import nn

from .torch_network import Twin
from .torch_peer import filters_from_torch


def loss_and_gradient(twin: Twin, model: nn.Sequential, images: Any, labels: Any) -> tuple[float, np.ndarray]:
    """The twin's mean loss, and its gradient as ``model.loss_and_gradient`` returns it.

    Parameters
    ----------
    twin : Twin
        Made from `model`.
    model : nn.Sequential
        Gives the parameters' shapes and order.
    images, labels : torch.Tensor
        A batch.

    Returns
    -------
    loss : float
        Nats.
    gradient : numpy.ndarray, (n,)
    """
    twin.network.zero_grad()
    loss = twin.loss(images, labels)
    loss.backward()
    gradient = np.empty_like(model.flat)
    shaped = nn.from_config(model.config())
    shaped.attach(gradient)
    views = shaped.parameters
    theirs = iter(twin.network.parameters())
    flattened: tuple[int, ...] | None = None  # (H, W, C) behind a Flatten: PyTorch flattens channels first
    shape = model.input_shape
    for index, layer in enumerate(model.layers):
        if isinstance(layer, nn.Flatten):
            flattened = shape
        elif isinstance(layer, nn.Conv2D):
            views[f"{index}.weight"][...] = filters_from_torch(next(theirs).grad)
            views[f"{index}.bias"][...] = next(theirs).grad.numpy()
        elif isinstance(layer, nn.Dense):
            weight = next(theirs).grad.numpy().T
            if flattened is not None:
                h, w, c = flattened
                weight = weight.reshape(c, h, w, -1).transpose(1, 2, 0, 3).reshape(h * w * c, -1)
                flattened = None
            views[f"{index}.weight"][...] = weight
            views[f"{index}.bias"][...] = next(theirs).grad.numpy()
        shape = layer.output_shape(shape)
    return loss.item(), gradient
