"""The arithmetic of a training step alone: the kernels of ``5-50-100-10`` in their order, and nothing around them."""

from __future__ import annotations

import numpy as np

from pyconv import nn
from pyconv.backends import get
from pyconv.optim import SGD, _fused


class Arithmetic:
    """A training step of the paper's network on one thread, written out call by call.

    Each array is allocated once. Nothing is checked, chosen or looked up. A step does what :func:`pyconv.fit` does with
    one worker, to the bit.

    Parameters
    ----------
    model : nn.Sequential
        ``5-50-100-10``; its parameters are copied.
    batch : int
        Images of a step.
    optimizer : SGD
        With momentum.
    """

    def __init__(self, model: nn.Sequential, batch: int, optimizer: SGD) -> None:
        self._twin = twin = nn.build("5-50-100-10")
        self.flat = twin.flat
        self.flat[...] = model.flat
        self._optimizer = optimizer
        self._gradient, self._velocity = np.empty_like(self.flat), np.zeros_like(self.flat)
        self._ops = get("serial")
        self._p, self._g = list(twin.parameters.values()), []
        start = 0
        for view in self._p:
            self._g.append(self._gradient[start : start + view.size].reshape(view.shape))
            start += view.size
        convolution, pool, _, hidden, last = twin.layers
        self._geometry = g = convolution.geometry(batch, twin.input_shape)
        self._pool = pg = pool.geometry(batch, g.output_shape[1:])
        self.images = np.empty((batch, *twin.input_shape), np.float32)
        self.labels = np.empty(batch, np.int64)
        self._pooled, self._places = np.empty(pg.output_shape, np.float32), np.empty(pg.output_shape, np.uint8)
        self._pooled_grad = np.empty_like(self._pooled)
        self._hidden = np.empty((batch, hidden.units), np.float32)
        self._hidden_grad = np.empty_like(self._hidden)
        self._logits = np.empty((batch, last.units), np.float32)

    def step(self, rate: float) -> float:
        """One step on :attr:`images` and :attr:`labels`; gives the mean loss."""
        ops, g, pg = self._ops, self._geometry, self._pool
        (filters, filter_bias, first, first_bias, second, second_bias), grads = self._p, self._g
        pooled, places, hidden, logits = self._pooled, self._places, self._hidden, self._logits
        ops.conv2d_pool(
            self.images, filters, filter_bias, g, pg, activation="relu", threads=1, out=pooled, indices=places
        )
        vectors = pooled.reshape(len(pooled), -1)
        ops.dense(vectors, first, first_bias, activation="relu", threads=1, out=hidden)
        ops.dense(hidden, second, second_bias, threads=1, out=logits)
        losses, error = ops.mean_cross_entropy(logits, self.labels, threads=1)
        ops.dense_weight_grad(hidden, error, threads=1, out=grads[4])
        grads[5][...] = ops.bias_grad(error, threads=1)
        back = ops.dense_input_grad(error, second, threads=1, out=self._hidden_grad)
        ops.relu_grad(back, hidden, threads=1, out=back)
        ops.dense_weight_grad(vectors, back, threads=1, out=grads[2])
        grads[3][...] = ops.bias_grad(back, threads=1)
        vectors_grad = self._pooled_grad.reshape(vectors.shape)
        ops.dense_input_grad(back, first, threads=1, out=vectors_grad)
        found = ops.conv2d_pool_weight_grad(
            self.images, self._pooled_grad, places, pooled, g, pg, activation="relu", threads=1, out=grads[0]
        )
        grads[1][...] = found[1]
        settings = self._optimizer
        _fused.sgd(
            self.flat, self._gradient, self._velocity, rate, settings.momentum, settings.weight_decay, settings.nesterov
        )
        return float(losses.mean(dtype=np.float64))
