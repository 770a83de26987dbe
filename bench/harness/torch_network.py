"""A PyTorch network that computes what a pyconv one computes, to train beside it."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyconv import nn

from .torch_peer import filters_to_torch
from .training import SGD


class Twin:
    """The PyTorch network with a pyconv network's layers and parameters.

    Parameters
    ----------
    torch : module
    model : nn.Sequential
        Of Conv2D, MaxPool2D, ReLU, Flatten and Dense layers.
    layout : "contiguous" or "channels_last"
        PyTorch's memory layout of images and filters.
    """

    def __init__(self, torch: Any, model: nn.Sequential, layout: str) -> None:
        self._torch, self._layout = torch, layout
        modules: list[Any] = []
        shape = (1, *model.input_shape)
        before_flatten: tuple[int, ...] | None = None
        for index, layer in enumerate(model.layers):
            modules += self._modules(layer, shape, model.parameters, index, before_flatten)
            if isinstance(layer, nn.Flatten):
                before_flatten = shape[1:]
            elif isinstance(layer, nn.Dense):
                before_flatten = None
            shape = (1, *layer.output_shape(shape[1:]))
        self.network = torch.nn.Sequential(*modules).to(memory_format=self._memory)
        self._optimizer: Any = None

    @property
    def _memory(self) -> Any:
        return self._torch.channels_last if self._layout == "channels_last" else self._torch.contiguous_format

    def _modules(self, layer: Any, shape: tuple[int, ...], parameters: Any, index: int, flat: Any) -> list[Any]:
        """PyTorch's modules for one layer; `flat` is (H, W, C) behind a Flatten, whose order differs there."""
        torch = self._torch
        if isinstance(layer, nn.Flatten):
            return [torch.nn.Flatten()]
        if isinstance(layer, nn.ReLU):
            return [torch.nn.ReLU()]
        if isinstance(layer, nn.MaxPool2D):
            return [torch.nn.MaxPool2d(layer.pool_size)]
        if isinstance(layer, nn.Conv2D):
            g = layer.geometry(1, shape[1:])
            made = torch.nn.Conv2d(g.c, g.k, (g.kh, g.kw), (g.sh, g.sw), (g.pt, g.pl), (g.dh, g.dw), g.groups)
            if (g.pt, g.pl) != (g.pb, g.pr):
                raise ValueError(f"layer {index}: PyTorch's module has no asymmetric padding")
            weight = filters_to_torch(torch, parameters[f"{index}.weight"], self._layout)
        elif isinstance(layer, nn.Dense):
            weight_in = parameters[f"{index}.weight"]
            if flat is not None:
                h, w, c = flat
                weight_in = weight_in.reshape(h, w, c, -1).transpose(2, 0, 1, 3).reshape(h * w * c, -1)
            made = torch.nn.Linear(*weight_in.shape)
            weight = torch.from_numpy(np.ascontiguousarray(weight_in.T))
        else:
            raise ValueError(f"layer {index} is a {type(layer).__name__}: the twin does not know it")
        with torch.no_grad():
            made.weight.copy_(weight)
            made.bias.copy_(torch.from_numpy(parameters[f"{index}.bias"].copy()))
        return [made, torch.nn.ReLU()] if layer.activation == "relu" else [made]

    def images(self, x: np.ndarray) -> Any:
        """NHWC images as a tensor in this network's layout."""
        return self._torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).contiguous(memory_format=self._memory)

    def loss(self, images: Any, labels: Any) -> Any:
        """Mean cross-entropy, with its graph."""
        return self._torch.nn.functional.cross_entropy(self.network(images), labels)

    def train_step(self, images: Any, labels: Any, **settings: float) -> float:
        """One step of SGD, by PyTorch's fused optimiser; `settings` of the first step stay. Returns the loss."""
        if self._optimizer is None:
            settings = {**SGD, **settings}
            self._optimizer = self._torch.optim.SGD(self.network.parameters(), **settings, fused=True)
        self._optimizer.zero_grad()
        loss = self.loss(images, labels)
        loss.backward()
        self._optimizer.step()
        return float(loss.item())

    def gradient_norm(self, images: Any, labels: Any) -> float:
        """Euclidean norm of the gradient over all parameters: the same in any order of them."""
        self.network.zero_grad()
        self.loss(images, labels).backward()
        return float(sum(float((p.grad.double() ** 2).sum()) for p in self.network.parameters()) ** 0.5)
