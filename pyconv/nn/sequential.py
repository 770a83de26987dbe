"""Sequential: a network of layers in a row, its parameters in one flat vector."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from pyconv.arithmetic import own
from pyconv.arrays import as_array
from pyconv.backends import get as get_backend
from pyconv.errors import DtypeError, PyconvError, ShapeError
from pyconv.ops import check_labels
from pyconv.threads import default as default_threads
from pyconv.values import flag, integer

from .architecture import Architecture
from .input_range import warn_outside
from .layer import in_layer
from .losses import count_correct, cross_entropy, softmax
from .network import Network
from .run import Run, Workspace
from .vectors import check_vector, views_of

if TYPE_CHECKING:
    from .on_device import OnDevice

#: Bytes that the largest array of a prediction may take; larger inputs are predicted in chunks.
CHUNK_BYTES = 32 << 20


class Sequential(Network):
    """A network of layers, each fed with the result of the one before.

    Parameters
    ----------
    layers : sequence of Layer
        Such as ``[nn.Conv2D(32, 5, activation="relu"), nn.MaxPool2D(2), nn.Flatten(), nn.Dense(10)]``.
    input_shape : (int, int, int) or (int,)
        Of one example: height, width and channels, or features.
    seed : int
        Of the first parameters and of dropout, 0 to 2⁶⁴ - 1.
    dtype : "float32" or "float64"
        In which everything is computed.

    Attributes
    ----------
    backend : str
        Where operations run; "auto" by default.
    threads : int or None
        For the backends that use several; None is every CPU that the process may use.
    algorithm : str
        How convolutions are computed; "auto" by default.

    Raises
    ------
    ShapeError, InputError
        If a layer does not fit; the message names it, as ``layer 3 (MaxPool2D): ...``, counting from 0.

    Notes
    -----
    Results returned are the caller's own arrays; work arrays are kept inside from call to call, so that one network
    must not compute in two threads at once. Copies and pickles are whole networks of their own.

    Examples
    --------
    >>> from pyconv import nn
    >>> model = nn.Sequential([nn.Flatten(), nn.Dense(3)], input_shape=(2, 2, 1))
    >>> {name: view.shape for name, view in model.parameters.items()}
    {'1.weight': (4, 3), '1.bias': (3,)}
    """

    def _prepare(self, architecture: Architecture, seed: int, dtype: DTypeLike) -> None:
        super()._prepare(architecture, seed, dtype)
        trainable = [position for position, step in enumerate(self._steps) if step.trainable]
        self._first_trainable = trainable[0] if trainable else len(self._steps)
        self._workspace = Workspace()
        self._gradient_views: tuple[np.ndarray | None, dict[str, np.ndarray]] = (None, {})
        self._default_threads: int | None = None
        self._correct = 0
        self._there: OnDevice | None = None

    @property
    def correct(self) -> int:
        """Examples of the last :meth:`loss_and_gradient` whose largest logit was their label's."""
        return self._correct

    # ---- what it computes -------------------------------------------------------------------------------------------

    @own
    def forward(self, x: ArrayLike, training: bool = False, *, step: int = 0, first: int = 0) -> np.ndarray:
        """Compute the network's result.

        Parameters
        ----------
        x : (N, H, W, C) array of uint8, float32 or float64
            Examples as they come: they are normalised here. ``(N, H, W)`` will do for one channel.
        training : bool
            Drop in Dropout, and normalise in BatchNorm with the batch's statistics and update the running ones.
        step, first : int
            As in :meth:`loss_and_gradient`.

        Returns
        -------
        (N, ...) ndarray
            The logits, ``(N, classes)``, of a classifier.

        Raises
        ------
        ShapeError, DtypeError
            If `x` is not a batch of examples for this network.

        Warns
        -----
        UserWarning
            Once, where `x` is in a far other scale than :attr:`input_range`; not in training.
        """
        run = self._run(flag(training, "training"), step, first)
        examples = self._examples(x)
        if not training:
            self._warn_of_scale(examples)
        if run.ops.name == "cuda":
            there = self._pushed_to_device()
            if not training:
                return there.infer(examples, run.ops, self.algorithm, self._normalization)
            result = there.train_forward(examples, run.ops, self.algorithm, self._normalization, run.step, run.first)
            there.pull(None, self._flat_buffers)
            return result
        result = self._forward(examples, run).copy()
        self._forget()
        return result

    @own
    def loss_and_gradient(
        self, x: ArrayLike, labels: ArrayLike, *, out: np.ndarray | None = None, step: int = 0, first: int = 0
    ) -> tuple[float, np.ndarray]:
        """Mean cross-entropy of a batch in training, and its gradient for all parameters.

        Parameters
        ----------
        x : (N, H, W, C) array of uint8, float32 or float64
            Examples as they come: they are normalised here.
        labels : (N,) array of integers
            The class of each example, 0 to classes - 1.
        out : (n,) ndarray, optional
            Vector like :attr:`flat` to which the gradient is written.
        step : int
            Number of the training step, for dropout's masks.
        first : int
            Position of the batch's first example in the global batch, when a step's batch is shared out to workers.

        Returns
        -------
        loss : float
            In nats.
        gradient : (n,) ndarray
            `out`, or a fresh vector.

        Raises
        ------
        ShapeError, DtypeError, InputError
            If `x`, `labels` or `out` does not fit.

        References
        ----------
        The paper, section 2, Algorithm 1: forward and backward pass.
        """
        if len(self.output_shape) != 1:
            raise ShapeError(f"the network's result has shape {self.output_shape}: a classifier ends in a Dense layer")
        examples = self._examples(x)
        targets = check_labels(labels, len(examples), self.output_shape[0])
        if out is None:
            out = np.empty_like(self._flat)
        run = self._run(True, step, first)
        run.gradients = self._views_of_gradient(out)
        if run.ops.name == "cuda":
            there = self.on_device()
            batch = there.stage(examples, targets)  # on its way while the parameters are made ready
            there.push(self._flat, self._flat_buffers)
            how = (run.ops, self.algorithm, self._normalization, run.step, run.first)
            losses = there.begin(batch, *how, fetch=True)
            there.pull_gradient(out)
            there.pull(None, self._flat_buffers)
            loss = float(losses.get().mean(dtype=np.float64))
            self._correct = there.correct(targets)
            return loss, out
        logits = self._forward(examples, run)
        self._correct = count_correct(logits, targets)
        loss, grad = cross_entropy(logits, targets, run)
        error: np.ndarray | None = grad
        for position in range(len(self._steps) - 1, self._first_trainable - 1, -1):
            assert error is not None
            error = self._steps[position].backward(error, run, position > self._first_trainable)
        self._forget()
        return loss, out

    def predict(self, x: ArrayLike, *, batch_size: int | None = None) -> np.ndarray:
        """The most probable class of each example.

        Parameters
        ----------
        x : (N, H, W, C) array of uint8, float32 or float64
            Of any length: it is computed in chunks.
        batch_size : int, optional
            Examples in a chunk; chosen so that work arrays stay below 32 MB each by default.

        Returns
        -------
        (N,) ndarray of int64

        Raises
        ------
        ShapeError, DtypeError
            If `x` is not a batch of examples for this network, or the network is no classifier.
        """
        return self._logits(x, batch_size).argmax(axis=1)

    def predict_proba(self, x: ArrayLike, *, batch_size: int | None = None) -> np.ndarray:
        """The probability of each class.

        Parameters
        ----------
        x, batch_size : see :meth:`predict`

        Returns
        -------
        (N, classes) ndarray of the network's dtype
            Each row adds up to 1.

        Raises
        ------
        ShapeError, DtypeError
            As :meth:`predict`.
        """
        return softmax(self._logits(x, batch_size))

    def save(self, path: str | Path) -> None:
        """Write the network with values, normalisation and class names to a safetensors file; :func:`nn.load` reads it.

        Parameters
        ----------
        path : path
            Written over if it is there and a regular file, whole or not at all.

        Raises
        ------
        CheckpointError
            If it cannot be written, or there is something at `path` that is not a regular file, such as a device.
        """
        from .serialize import save

        save(self, path)

    def to_onnx(self, path: str | Path, *, layout: str = "NCHW", opset: int = 17, softmax: bool = False) -> None:
        """Write what the network computes in inference, normalisation included, as an ONNX file.

        Parameters
        ----------
        path : path
            Written over if it is there, whole or not at all.
        layout : "NCHW" or "NHWC"
            Order of the axes of the images that the file takes: float32, in the units of the training images.
        opset : int
            Version of ONNX's operators, from 7 on.
        softmax : bool
            Give probabilities instead of logits.

        Raises
        ------
        InputError
            If an argument is wrong, or a layer has no form in ONNX.
        BackendUnavailable
            If the package ``onnx`` is not installed.
        CheckpointError
            If the file cannot be written; one that was there before is untouched.

        Notes
        -----
        The input is called ``images``, the result ``logits`` or ``probabilities``; the metadata's key ``classes`` holds
        the names of the classes as JSON. Parameters are written in float32.
        """
        from .onnx import write

        write(self, path, layout=layout, opset=opset, softmax=softmax)

    @own
    def _logits(self, x: ArrayLike, batch_size: int | None) -> np.ndarray:
        """The logits of all examples, chunk by chunk."""
        if len(self.output_shape) != 1:
            raise ShapeError(f"the network's result has shape {self.output_shape}: a classifier ends in a Dense layer")
        examples = self._examples(x, empty=True)
        self._warn_of_scale(examples)
        if batch_size is None:
            largest = max(math.prod(shape) for shape in self._architecture.shapes) * self._dtype.itemsize
            batch_size = max(1, min(256, CHUNK_BYTES // largest))
        size = integer(batch_size, "batch_size", minimum=1)
        logits = np.empty((len(examples), *self.output_shape), self._dtype)
        run = self._run(False, 0, 0)
        there = self._pushed_to_device() if run.ops.name == "cuda" else None
        for start in range(0, len(examples), size):
            chunk = examples[start : start + size]
            if there is not None:
                logits[start : start + size] = there.infer(chunk, run.ops, self.algorithm, self._normalization)
            else:
                logits[start : start + size] = self._forward(chunk, run)
        self._forget()
        return logits

    def _examples(self, x: ArrayLike, *, empty: bool = False) -> np.ndarray:
        """`x` as a batch of this network's input shape, of any memory layout."""
        array = as_array(x, "x")
        if array.dtype != np.uint8 and not (array.dtype.kind == "f" and array.dtype.itemsize in (4, 8)):
            raise DtypeError(f"x has dtype {array.dtype}; convert it to uint8, float32 or float64 first")
        shape = self.input_shape
        if shape[-1] == 1 and len(shape) == 3 and array.shape[1:] == shape[:-1] and array.ndim == 3:
            array = array[..., np.newaxis]
        if array.shape[1:] != shape or array.ndim != len(shape) + 1:
            wanted = ", ".join(map(str, shape))
            hint = "; for one example pass x[None]" if array.shape == shape else ""
            raise ShapeError(f"the network takes a batch of shape (N, {wanted}), but x has shape {array.shape}{hint}")
        if not len(array) and not empty:
            raise ShapeError(f"x holds no examples: got shape {array.shape}")
        return array

    def _warn_of_scale(self, examples: np.ndarray) -> None:
        """Warn once of examples in another scale than training's, where the caller is."""
        told = self.other_scale(examples, "x")
        if told is not None:
            warn_outside(told)

    def _run(self, training: bool, step: int, first: int) -> Run:
        """What a pass needs to know."""
        ops = get_backend(self.backend)
        ops.check_algorithm(self.algorithm)
        threads = self.threads
        if threads is None:  # remembered: asking the control groups reads files
            if self._default_threads is None:
                self._default_threads = default_threads()
            threads = self._default_threads
        return Run(
            ops,
            ops.threads(threads),
            self.algorithm,
            self._dtype,
            self._workspace,
            training,
            self._seed,
            integer(step, "step", minimum=0),
            integer(first, "first", minimum=0),
        )

    def _forward(self, examples: np.ndarray, run: Run) -> np.ndarray:
        """Normalise and run the steps; the result is a work array or the caller's `examples`."""
        x = examples
        ready = x.dtype == self._dtype and x.flags.c_contiguous and x.flags.aligned and self._normalization.identity
        if not ready:
            x = self._normalization.apply(x, run.kept((-1, "x"), x.shape))
        run.owned = not ready
        for step in self._steps:
            try:
                x = step.forward(x, run)
            except PyconvError as error:
                raise in_layer(step.index, type(self.layers[step.index]).__name__, error) from None
            run.owned = run.owned or step.fresh
        return x

    def on_device(self) -> OnDevice:
        """The network's twin in the GPU's memory, whose parameters are its own: push them there, pull them back.

        Returns
        -------
        OnDevice

        Raises
        ------
        BackendUnavailable
            If there is no GPU.
        """
        from .on_device import OnDevice

        if self._there is None or not self._there.valid:
            self._there = OnDevice(self._architecture, self._dtype, self._seed)
        return self._there

    def _pushed_to_device(self) -> OnDevice:
        """The same with the parameters and running statistics as they are now."""
        there = self.on_device()
        there.push(self._flat, self._flat_buffers)
        return there

    def _forget(self) -> None:
        for step in self._steps:
            step.forget()

    def _views_of_gradient(self, out: np.ndarray) -> dict[str, np.ndarray]:
        """Views into the gradient vector `out` by parameter; remembered, as the same vector mostly comes again."""
        known, views = self._gradient_views
        if known is not out:
            check_vector("out", out, self._flat.size, self._dtype)
            views = views_of(out, self._architecture.parameters)
            self._gradient_views = (out, views)
        return views
