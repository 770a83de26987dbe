"""Twin: a PyTorch network that computes what a pyconv network computes."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyconv import nn

from .torch_modules import Modules
from .training import SGD


class Twin:
    """The PyTorch network with a pyconv network's layers and parameters.

    Parameters
    ----------
    torch : module
    model : nn.Sequential
        Of the layers that :class:`~harness.torch_modules.Modules` knows.
    layout : "contiguous" or "channels_last"
        PyTorch's memory layout of images and filters.
    inplace : bool
        Whether ReLUs and sums overwrite what they read.
    """

    def __init__(self, torch: Any, model: nn.Sequential, layout: str, *, inplace: bool = False) -> None:
        self._torch, self._layout = torch, layout
        modules, _ = Modules(torch, model.parameters, layout, inplace).chain(model.layers, model.input_shape)
        self.network = torch.nn.Sequential(*modules).to(memory_format=self._memory)
        self._optimizer: Any = None

    @property
    def _memory(self) -> Any:
        return self._torch.channels_last if self._layout == "channels_last" else self._torch.contiguous_format

    def images(self, x: np.ndarray) -> Any:
        """NHWC images as a tensor in this network's layout."""
        return self._torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).contiguous(memory_format=self._memory)

    def loss(self, images: Any, labels: Any) -> Any:
        """Mean cross-entropy, with its graph."""
        return self._torch.nn.functional.cross_entropy(self.network(images), labels)

    def train_step(self, images: Any, labels: Any, **settings: float) -> float:
        """One step of SGD, by PyTorch's fused optimizer; the first `settings` are kept. Returns the loss."""
        if self._optimizer is None:
            settings = {**SGD, **settings}
            self._optimizer = self._torch.optim.SGD(self.network.parameters(), **settings, fused=True)
        self._optimizer.zero_grad()
        loss = self.loss(images, labels)
        loss.backward()
        self._optimizer.step()
        return float(loss.item())

    def gradient_norm(self, images: Any, labels: Any) -> float:
        """Euclidean norm of the gradient of all parameters; their order does not matter."""
        self.network.zero_grad()
        self.loss(images, labels).backward()
        return float(sum(float((p.grad.double() ** 2).sum()) for p in self.network.parameters()) ** 0.5)
