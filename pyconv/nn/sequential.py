"""Sequential: a network of layers in a row, its parameters in one flat vector."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from pyconv.arithmetic import own
from pyconv.arrays import as_array
from pyconv.backends import Backend
from pyconv.backends import get as get_backend
from pyconv.errors import DtypeError, ShapeError
from pyconv.ops import check_labels
from pyconv.threads import default as default_threads
from pyconv.values import flag, integer

from . import model_file, onnx
from .architecture import Architecture
from .home import Batch, Home, How
from .input_range import warn_outside
from .layer import Step, layer_of
from .losses import softmax
from .network import Network
from .one_at_a_time import one_at_a_time
from .vectors import check_vector, views_of
from .weighting import weighting

if TYPE_CHECKING:
    from .on_device import OnDevice

#: Most bytes of the largest array of a prediction; larger inputs are predicted in chunks.
CHUNK_BYTES = 32 << 20


class Sequential(Network):
    """A network of layers; each takes the result of the one before.

    Parameters
    ----------
    layers : sequence of Layer
        Such as ``[nn.Conv2D(32, 5, activation="relu"), nn.MaxPool2D(2), nn.Flatten(), nn.Dense(10)]``.
    input_shape : (int, int, int) or (int,)
        Shape of one example: height, width and channels, or features.
    seed : int
        For the first parameters and for dropout, 0 to 2⁶⁴ - 1.
    dtype : "float32" or "float64"
        The dtype of all computations.

    Attributes
    ----------
    backend : str
        Where operations run; "auto" by default.
    threads : int or None
        For backends that use threads; None is every CPU that the process may use.
    algorithm : str
        How convolutions are computed; "auto" by default.
    between_passes : callable or None
        Called without arguments between the forward and the backward pass of each training step, for timelines.
    before_forward, after_backward : callable or None
        Called with each :class:`~pyconv.nn.layer.Step` of a training step in main memory, before its forward pass
        reads its parameters, and after its backward pass has written their gradients.

    Raises
    ------
    ShapeError, InputError
        If a layer does not fit; the message names it, as ``layer 3 (MaxPool2D): ...``, counting from 0.

    Notes
    -----
    Returned results are new arrays. Work arrays inside are kept from call to call. Several of Python's threads may
    ask one network: it answers one after the other. Copies and pickles are complete networks of their own.

    Examples
    --------
    >>> from pyconv import nn
    >>> model = nn.Sequential([nn.Flatten(), nn.Dense(3)], input_shape=(2, 2, 1))
    >>> {name: view.shape for name, view in model.parameters.items()}
    {'1.weight': (4, 3), '1.bias': (3,)}
    """

    def _prepare(self, architecture: Architecture, seed: int, dtype: DTypeLike) -> None:
        super()._prepare(architecture, seed, dtype)
        self._gradient_views: tuple[np.ndarray | None, dict[str, np.ndarray]] = (None, {})
        self._default_threads: int | None = None
        largest = max(math.prod(shape) for shape in architecture.shapes) * self._dtype.itemsize
        self._chunk = max(1, min(256, CHUNK_BYTES // largest))  # examples that are predicted together
        self._correct = 0
        self.between_passes: Callable[[], None] | None = None
        self.before_forward: Callable[[Step], None] | None = None
        self.after_backward: Callable[[Step], None] | None = None
        self._lock = threading.RLock()

    def _freeze(self, frozen: tuple[str, ...]) -> None:
        super()._freeze(frozen)
        self._here = Home(self._graph, self._dtype, self._seed)  # plans that were made do not fit any more
        self._there: OnDevice | None = None

    @property
    def correct(self) -> int:
        """Examples of the last :meth:`loss_and_gradient` whose largest logit was their label's."""
        return self._correct

    # ---- what it computes -------------------------------------------------------------------------------------------

    @one_at_a_time
    def forward(self, x: ArrayLike, training: bool = False, *, step: int = 0, first: int = 0) -> np.ndarray:
        """Compute the network's result.

        Parameters
        ----------
        x : (N, H, W, C) array of uint8, float32 or float64
            Examples as they are: they are normalised here. ``(N, H, W)`` is accepted for one channel.
        training : bool
            Dropout drops; BatchNorm uses the batch's statistics and updates the running ones.
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
            Once, if `x` is in another scale than :attr:`input_range`; not in training.
        """
        training = flag(training, "training")
        step, first = integer(step, "step", minimum=0), integer(first, "first", minimum=0)
        how = self._how()
        examples = self._examples(x)
        if not training:
            self._warn_of_scale(examples)
        home = self._home(how.ops)
        home.push(self._flat, self._flat_buffers)
        batch = home.stage(examples)
        if training:
            result = self._forward_in_training(home, batch, how, step, first)
        else:
            result = home.infer(batch, how)
        home.forget()
        return result

    @own
    def _forward_in_training(self, home: Home, batch: Batch, how: How, step: int, first: int) -> np.ndarray:
        result = home.fetched(home.forward(batch, how, training=True, step=step, first=first))
        home.pull(None, self._flat_buffers)
        return result

    @one_at_a_time
    @own
    def loss_and_gradient(
        self, x: ArrayLike, labels: ArrayLike, *, out: np.ndarray | None = None, step: int = 0, first: int = 0,
        weights: ArrayLike | None = None, class_weights: ArrayLike | None = None, label_smoothing: float = 0.0,
        weight_sum: float | None = None,
    ) -> tuple[float, np.ndarray]:  # fmt: skip
        """Mean cross-entropy of a batch in training, and its gradient for all parameters.

        Parameters
        ----------
        x : (N, H, W, C) array of uint8, float32 or float64
            Examples as they are: they are normalised here.
        labels : (N,) array of integers
            The class of each example, 0 to classes - 1.
        out : (n,) ndarray, optional
            Vector like :attr:`flat` to which the gradient is written.
        step : int
            Number of the training step, for dropout's masks.
        first : int
            Position of the batch's first example in the global batch, if workers share a step's batch.
        weights : (N,) array, optional
            Weight of each example, at least 0: the loss is the weighted mean.
        class_weights : (classes,) array, optional
            Weight of each class, at least 0.
        label_smoothing : float
            Share of each label that is spread evenly over all classes, 0 to 1.
        weight_sum : float, optional
            Divisor of the weighted sum; by default the sum of the examples' weights, each times its class's. If it is
            0, no example has any weight, and loss and gradient are 0.

        Returns
        -------
        loss : float
            In nats.
        gradient : (n,) ndarray
            `out`, or a fresh vector.

        Raises
        ------
        ShapeError, DtypeError, InputError
            If `x`, `labels`, `out` or the weights do not fit.

        Notes
        -----
        Class weights and label smoothing are those of PyTorch's ``CrossEntropyLoss``: smoothed targets are
        weighted class by class, and the divisor is the sum of the labels' class weights.

        References
        ----------
        The paper, section 2, Algorithm 1: forward and backward pass. Szegedy et al., "Rethinking the Inception
        architecture for computer vision" (2016), section 7: label smoothing.
        """
        if len(self.output_shape) != 1:
            raise ShapeError(f"the network's result has shape {self.output_shape}: a classifier ends in a Dense layer")
        examples = self._examples(x)
        classes = self.output_shape[0]
        targets = check_labels(labels, len(examples), classes)
        counts = weighting(targets, classes, weights, class_weights, label_smoothing, weight_sum)
        step, first = integer(step, "step", minimum=0), integer(first, "first", minimum=0)
        if out is None:
            out = np.empty_like(self._flat)
        how = self._how()
        home = self._home(how.ops)
        home.between, home.before, home.after = self.between_passes, self.before_forward, self.after_backward
        gradients = home.gradients(out, self._views_of_gradient(out))
        batch = home.stage(examples, targets, counts)  # its copy to a device runs while the parameters are copied
        home.push(self._flat, self._flat_buffers)
        losses = home.step(batch, how, gradients, step, first)
        home.pull_gradient(out)
        for start, end in self._trained.rest.spans:
            out[start:end] = 0
        home.pull(None, self._flat_buffers)
        loss = batch.loss(losses)
        self._correct = home.correct(targets)
        home.forget()
        return loss, out

    def predict(self, x: ArrayLike, *, batch_size: int | None = None) -> np.ndarray:
        """The most probable class of each example.

        Parameters
        ----------
        x : (N, H, W, C) array of uint8, float32 or float64
            Of any number: it is computed in chunks.
        batch_size : int, optional
            Examples in a chunk; by default so many that each work array stays below 32 MB.

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
            Overwritten, whole or not at all, if it is there and a regular file.

        Raises
        ------
        CheckpointError
            If it cannot be written, or if something at `path` is not a regular file, such as a device.
        """
        model_file.save(self, path)

    def load_weights(
        self, path: str | Path, names: Mapping[str | int, str] | Sequence[str] | None = None
    ) -> None:  # fmt: skip
        """Read the weights of a PyTorch network of the same architecture, turned into the order of axes here.

        Parameters
        ----------
        path : path
            The ``state_dict``, saved with ``safetensors.torch.save_file``.
        names : mapping or sequence, optional
            Which of the file's modules belongs to which layer, as ``{"0": "conv1", "4.shortcut.0": "layer2.0.down"}``;
            layers are called as in :attr:`parameters`, the two convolutions of a SeparableConv2D ``"5.depthwise"`` and
            ``"5.pointwise"``. Or a list of the file's names in the order of the layers, as ``list(state_dict)`` gives
            it. What is not named is found by order and shapes.

        Raises
        ------
        CheckpointError
            If the file cannot be read; if tensors are missing, left over or of another shape; if several modules fit a
            layer and their names tell no order. The network is as it was then.
        InputError
            If `names` names something that is not there, or a layer is of a kind that PyTorch has no name for.

        Notes
        -----
        Filters ``(K, C, kh, kw)`` become ``(kh, kw, C, K)``, a matrix behind a Flatten takes its rows in the order of
        NHWC, BatchNorm's ``weight`` and ``bias`` become ``gamma`` and ``beta``; ``num_batches_tracked`` is passed over.
        A file does not keep the order of its tensors: names that first differ in a number have an order, others none.
        """
        from .state_dict import load_weights

        load_weights(self, path, names)

    def with_new_head(self, classes: int, *, seed: int | None = None) -> Sequential:
        """The network with a fresh last layer, for other classes; everything before it is copied.

        Parameters
        ----------
        classes : int
            Of the new network.
        seed : int, optional
            Of the fresh parameters and of dropout; this network's by default.

        Returns
        -------
        Sequential
            With the same normalisation, and no names of classes. This one stays as it is.

        Raises
        ------
        InputError
            If the last layer with parameters is no Dense, Conv2D or SeparableConv2D layer whose outputs are classes.

        Examples
        --------
        >>> from pyconv import nn
        >>> model = nn.build("lenet").with_new_head(3)
        >>> model.output_shape
        (3,)
        """
        from .head import with_new_head

        layers, head = with_new_head(self._architecture, integer(classes, "classes", minimum=1))
        made = Sequential(layers, self.input_shape, self._seed if seed is None else seed, self._dtype)
        for theirs, mine in ((made.parameters, self.parameters), (made.buffers, self.buffers)):
            for name, array in theirs.items():
                if layer_of(name) != head:
                    array[...] = mine[name]
        made.normalization, made.input_range = self.normalization, self.input_range
        made.backend, made.threads, made.algorithm = self.backend, self.threads, self.algorithm
        return made

    def to_onnx(self, path: str | Path, *, layout: str = "NCHW", opset: int = 17, softmax: bool = False) -> None:
        """Write what the network computes in inference, normalisation included, as an ONNX file.

        Parameters
        ----------
        path : path
            Overwritten, whole or not at all, if it is there.
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
            If the file cannot be written; an older file is unchanged.

        Notes
        -----
        The input is called ``images``, the result ``logits`` or ``probabilities``; the metadata's key ``classes`` holds
        the names of the classes as JSON. Parameters are written in float32.
        """
        onnx.write(self, path, layout=layout, opset=opset, softmax=softmax)

    @one_at_a_time
    def _logits(self, x: ArrayLike, batch_size: int | None) -> np.ndarray:
        """The logits of all examples, chunk by chunk."""
        if len(self.output_shape) != 1:
            raise ShapeError(f"the network's result has shape {self.output_shape}: a classifier ends in a Dense layer")
        examples = self._examples(x, empty=True)
        self._warn_of_scale(examples)
        size = self._chunk if batch_size is None else integer(batch_size, "batch_size", minimum=1)
        how = self._how()
        home = self._home(how.ops)
        if len(examples):
            home.push(self._flat, self._flat_buffers)
        if 0 < len(examples) <= size:
            logits = home.infer(home.stage(examples), how)
            home.forget()
            return logits
        logits = np.empty((len(examples), *self.output_shape), self._dtype)
        for start in range(0, len(examples), size):
            logits[start : start + size] = home.infer(home.stage(examples[start : start + size]), how)
        home.forget()
        return logits

    def _examples(self, x: ArrayLike, *, empty: bool = False) -> np.ndarray:
        """`x` as a batch with this network's input shape, in any memory layout."""
        array = as_array(x, "x")
        dtype = array.dtype
        if not ((dtype.kind == "f" and dtype.itemsize in (4, 8)) or (dtype.kind == "u" and dtype.itemsize == 1)):
            raise DtypeError(f"x has dtype {dtype}; convert it to uint8, float32 or float64 first")
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
        """Warn once, in the caller's line, of examples in another scale than the training examples."""
        told = self.other_scale(examples, "x")
        if told is not None:
            warn_outside(told)

    def _how(self) -> How:
        """The settings of a pass, from the user's settings."""
        ops = get_backend(self.backend)
        ops.check_algorithm(self.algorithm)
        threads = self.threads
        if threads is None:  # kept, because asking the control groups reads files
            if self._default_threads is None:
                self._default_threads = default_threads()
            threads = self._default_threads
        return How(ops, ops.threads(threads), self.algorithm, self._normalization, self._lending.state)

    def _home(self, ops: Backend) -> Home:
        """The network's home on the backend `ops`."""
        return self.on_device() if ops.own_memory else self._here

    def on_device(self) -> OnDevice:
        """The network's copy in the GPU's memory, with parameters of its own: push them there, pull them back.

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
            self._there = OnDevice(self._architecture, self._dtype, self._seed, self._frozen)
        return self._there

    def _views_of_gradient(self, out: np.ndarray) -> dict[str, np.ndarray]:
        """Views into the gradient vector `out`, by parameter; kept, because usually the same vector comes again."""
        known, views = self._gradient_views
        if known is not out:
            check_vector("out", out, self._flat.size, self._dtype)
            views = views_of(out, self._architecture.parameters)
            self._gradient_views = (out, views)
        return views
