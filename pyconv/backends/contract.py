"""Backend: the base class of backends, with the operations that they must have, and defaults for the others.

Operations take arrays that have been checked: C-contiguous NHWC, of one dtype, with a geometry from
:mod:`pyconv.shapes`. :mod:`pyconv.reference` says what each operation computes. Mypy checks every backend against this
class. A backend without a required operation cannot be made, and one with a public name that this class does not know
is refused when it is defined, so that a misspelt operation is found at once.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from .. import threads as _threads
from ..arrays import as_array, no_array, whole_lines
from ..errors import DtypeError, ShapeError
from ..shapes import ConvGeometry, PoolGeometry
from ..values import choice

DTYPES = (np.dtype(np.float32), np.dtype(np.float64))

#: How many numbers for dropout one count of the generator gives: 16-bit numbers.
_PER_COUNT = 16


class Backend(ABC):
    """A place where operations run.

    A backend is a subclass that binds its functions, such as ``relu = staticmethod(module.relu)``, and one line in
    ``pyconv.backends._TABLE``.

    Attributes
    ----------
    name : str
        The name for users.
    algorithms : tuple of str
        Names of its convolution algorithms, in the order in which the documentation teaches them.
    many_threads : bool
        Whether it uses `threads`.
    narrow_indices : bool
        Whether the indices of fused max pooling may be bytes: positions in the window.
    own_memory : bool
        Whether its arrays are in memory of its own; networks then keep a copy of their parameters there.
    records : bool
        Whether it records operations, to run them again in one call: :meth:`programme`.
    """

    name: ClassVar[str]
    algorithms: ClassVar[tuple[str, ...]]
    many_threads: ClassVar[bool] = False
    narrow_indices: ClassVar[bool] = False
    own_memory: ClassVar[bool] = False
    records: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        unknown = [name for name in vars(cls) if not name.startswith("_") and not hasattr(Backend, name)]
        unknown = [name for name in unknown if name not in Backend.__annotations__]
        if unknown:
            raise TypeError(f"{cls.__name__} has {', '.join(unknown)}, which the contract of a backend does not know")

    def __repr__(self) -> str:
        return f"<pyconv backend {self.name}>"

    # ---- checks of arguments ----------------------------------------------------------------------------------------

    def threads(self, requested: int | None) -> int:
        """How many threads an operation runs on here, if the user asks for `requested`."""
        if self.many_threads:
            return _threads.resolve(requested)
        if requested is not None:
            _threads.asked_for(requested, "threads")
        return 1

    def check_algorithm(self, algorithm: str) -> str:
        """`algorithm` if this backend has it, or "auto"; else an error that lists the known ones."""
        if isinstance(algorithm, str) and algorithm == "auto":  # nearly always
            return algorithm
        return choice(algorithm, f"algorithm of backend {self.name}", ("auto", *self.algorithms))

    def instruction_set(self) -> str | None:
        """Name of the instruction set of the kernels, if there are several."""
        return None

    @staticmethod
    def candidates(
        what: int, g: ConvGeometry, dtype: np.dtype, algorithm: str = "auto", *, operands: Any = None, threads: int = 1
    ) -> list[dict[str, Any]] | None:
        """The kernels that may do a convolution's operation here; None where there are no estimates to compare.

        `what` is 0 for the forward pass, 1 for the input's gradient, 2 for the filters'. With `operands`, two and a
        place for the result, each kernel is measured.
        """
        return None

    def admit(self, value: Any, name: str, ndim: int) -> Any:
        """`value` as an array that the operations take: float32 or float64, aligned, C-contiguous."""
        try:
            return self._admit(value, name, ndim)
        except ValueError as error:
            raise no_array(name, error) from None

    @staticmethod
    def _admit(value: Any, name: str, ndim: int) -> Any:
        array = as_array(value, name)
        if array.dtype not in DTYPES or not array.dtype.isnative:
            raise DtypeError(
                f"{name} has dtype {array.dtype.str if array.dtype in DTYPES else array.dtype}; "
                "convert it to float32 or float64 first"
            )
        if array.ndim != ndim:
            raise ShapeError(f"{name} must have {ndim} dimensions, not {array.ndim}: got shape {array.shape}")
        flags = array.flags
        return array if flags.c_contiguous and flags.aligned else np.require(array, requirements=["C", "A"])

    @staticmethod
    def permute(array: Any, axes: tuple[int, ...]) -> Any:
        """`array` with its axes reordered, contiguous."""
        return np.ascontiguousarray(array.transpose(axes))

    @staticmethod
    def allocate(nbytes: int) -> Any:
        """A vector of `nbytes` bytes of garbage that begins at a multiple of 64."""
        if nbytes > sys.maxsize - 64:
            raise MemoryError(f"Unable to allocate {nbytes} bytes: that is more than an array can hold")
        return whole_lines(nbytes)

    # ---- operations that every backend has ---------------------------------------------------------------------------

    @staticmethod
    @abstractmethod
    def conv2d(
        x: Any, weight: Any, bias: Any, g: ConvGeometry, *, activation: str | None = None, algorithm: str = "auto",
        threads: int = 1, out: Any = None,
    ) -> Any:  # fmt: skip
        """Convolution with bias and activation, ``(N, OH, OW, K)``."""

    @staticmethod
    @abstractmethod
    def conv2d_input_grad(
        grad_out: Any, weight: Any, g: ConvGeometry, *, algorithm: str = "auto", threads: int = 1, out: Any = None
    ) -> Any:
        """Gradient for the images, ``(N, H, W, C)``."""

    @staticmethod
    @abstractmethod
    def conv2d_weight_grad(
        x: Any, grad_out: Any, g: ConvGeometry, *, algorithm: str = "auto", threads: int = 1, out: Any = None
    ) -> Any:
        """Gradient for the filters, ``(kh, kw, C // groups, K)``."""

    @staticmethod
    @abstractmethod
    def max_pool2d(x: Any, pg: PoolGeometry, *, threads: int = 1, out: Any = None, indices: Any = None) -> Any:
        """Largest pixel of each window; `indices`, int32, receives its flat position in the image."""

    @staticmethod
    @abstractmethod
    def max_pool2d_input_grad(
        grad_out: Any, indices: Any, pg: PoolGeometry, *, threads: int = 1, out: Any = None
    ) -> Any:
        """Each window's error goes to the pixel that `indices` names."""

    @staticmethod
    @abstractmethod
    def avg_pool2d(x: Any, pg: PoolGeometry, *, threads: int = 1, out: Any = None) -> Any:
        """Mean of each window's pixels inside the image."""

    @staticmethod
    @abstractmethod
    def avg_pool2d_input_grad(grad_out: Any, pg: PoolGeometry, *, threads: int = 1, out: Any = None) -> Any:
        """Each window's error, divided equally among its pixels."""

    @staticmethod
    @abstractmethod
    def relu(x: Any, *, threads: int = 1, out: Any = None) -> Any:
        """``max(x, 0)``; NaN stays NaN."""

    @staticmethod
    @abstractmethod
    def relu_grad(grad_out: Any, y: Any, *, threads: int = 1, out: Any = None) -> Any:
        """`grad_out` where `y` is positive, else zero; `out` may be `grad_out`."""

    @staticmethod
    @abstractmethod
    def bias_grad(grad_out: Any, *, threads: int = 1) -> Any:
        """Sum over all but the last axis."""

    @staticmethod
    @abstractmethod
    def dense(
        x: Any, weight: Any, bias: Any, *, activation: str | None = None, threads: int = 1, out: Any = None
    ) -> Any:
        """``activation(x weight + bias)``, ``(N, units)``."""

    @staticmethod
    @abstractmethod
    def dense_input_grad(grad_out: Any, weight: Any, *, threads: int = 1, out: Any = None) -> Any:
        """``grad_out weightᵀ``."""

    @staticmethod
    @abstractmethod
    def dense_weight_grad(x: Any, grad_out: Any, *, threads: int = 1, out: Any = None) -> Any:
        """``xᵀ grad_out``."""

    @staticmethod
    @abstractmethod
    def softmax_cross_entropy(logits: Any, labels: Any, *, threads: int = 1) -> Any:
        """Loss ``(N,)`` of each example, in main memory, and its gradient ``(N, classes)``."""

    @staticmethod
    @abstractmethod
    def batch_norm(x: Any, gamma: Any, beta: Any, eps: float, *, threads: int = 1, out: Any = None) -> Any:
        """Normalised `x`, and the mean and 1 / standard deviation of each channel."""

    @staticmethod
    @abstractmethod
    def batch_norm_grad(
        x: Any, grad_out: Any, gamma: Any, mean: Any, inv_std: Any, *, threads: int = 1, out: Any = None
    ) -> Any:
        """Gradients for `x`, gamma and beta."""

    @staticmethod
    @abstractmethod
    def scale_shift(x: Any, scale: Any, shift: Any, *, threads: int = 1, out: Any = None) -> Any:
        """``x scale + shift``, one pair of numbers a channel."""

    @staticmethod
    @abstractmethod
    def activate(
        x: Any, kind: str, first: float = 0.0, second: float = 0.0, *, threads: int = 1, out: Any = None
    ) -> Any:  # fmt: skip
        """The activation `kind` of each number: ``"leaky_relu"`` (slope `first`), ``"clip"`` (to `first` ... `second`),
        ``"sigmoid"`` or ``"tanh"``; `out` may be `x`, and NaN stays NaN.
        """

    @staticmethod
    @abstractmethod
    def activate_grad(
        grad_out: Any, y: Any, kind: str, first: float = 0.0, second: float = 0.0, *, threads: int = 1, out: Any = None
    ) -> Any:
        """`grad_out` times the slope, from the result `y` of :meth:`activate`; `out` may be `grad_out`."""

    @staticmethod
    @abstractmethod
    def pad2d(x: Any, padding: Any, *, threads: int = 1, out: Any = None) -> Any:
        """Images with zeros around them: ``((top, bottom), (left, right))`` pixels."""

    @staticmethod
    @abstractmethod
    def crop2d(x: Any, padding: Any, *, threads: int = 1, out: Any = None) -> Any:
        """Images without so many pixels around them: the gradient of :meth:`pad2d`."""

    # ---- operations that a backend may have a faster form of ---------------------------------------------------------

    def conv2d_pool(
        self, x: Any, weight: Any, bias: Any, g: ConvGeometry, pg: PoolGeometry, *, activation: str | None = None,
        algorithm: str = "auto", threads: int = 1, out: Any = None, indices: Any = None,
    ) -> Any:  # fmt: skip
        """``max_pool2d(conv2d(x, weight, bias))``; `pg` is the geometry of pooling the convolution's result.

        `indices` is as in :meth:`max_pool2d`, or bytes if :attr:`narrow_indices`.
        """
        full = self.conv2d(x, weight, bias, g, activation=activation, algorithm=algorithm, threads=threads)
        return self.max_pool2d(full, pg, threads=threads, out=out, indices=indices)

    def programme(self, x: Any) -> Any:
        """Records operations on `x` and on what comes of it, to run all of them again in one call.

        Returns
        -------
        object
            It has the operations of a backend and keeps them instead of computing; one that it cannot keep raises
            `NotRecorded`. See :mod:`pyconv._programme`.
        """
        raise TypeError(f"the backend {self.name} records nothing")

    def by_transforms(self, x: Any, weight: Any, g: ConvGeometry, *, threads: int = 1) -> Any:
        """The convolution by transforms, or None if direct sums are faster, or its numbers would not hold."""
        return None

    def conv2d_pool_weight_grad(
        self, x: Any, grad_out: Any, indices: Any, y: Any, g: ConvGeometry, pg: PoolGeometry, *,
        activation: str | None = None, threads: int = 1, out: Any = None,
    ) -> Any:  # fmt: skip
        """Gradients of filters and bias directly from the errors of :meth:`conv2d_pool`'s result `y`, or None.

        None means that the backend cannot do this geometry; then nothing was overwritten.
        """
        return None

    @staticmethod
    def multiply(x: Any, factor: Any, *, threads: int = 1, out: Any = None) -> Any:
        """``x factor``, number by number."""
        return np.multiply(x, factor, out=out)

    @staticmethod
    def add(x: Any, y: Any, *, threads: int = 1, out: Any = None) -> Any:
        """``x + y``, number by number; `out` may be either."""
        return np.add(x, y, out=out)

    @staticmethod
    def copy(x: Any, *, out: Any) -> Any:
        """Copy the numbers of `x` to `out`."""
        out[...] = x
        return out

    @staticmethod
    def concatenate(parts: Any, *, threads: int = 1, out: Any) -> Any:
        """Concatenate arrays along the last axis."""
        return np.concatenate(parts, axis=-1, out=out)

    @staticmethod
    def channels(x: Any, start: int, *, threads: int = 1, out: Any) -> Any:
        """The channels of `x` from `start` on, as many as `out` has: the reverse of :meth:`concatenate`."""
        out[...] = x[..., start : start + out.shape[-1]]
        return out

    def mean_cross_entropy(self, logits: Any, labels: Any, *, threads: int = 1) -> tuple[Any, Any]:
        """Loss ``(N,)`` of each example, and the gradient ``(N, classes)`` of their mean."""
        losses, gradient = self.softmax_cross_entropy(logits, labels, threads=threads)
        gradient /= len(labels)
        return losses, gradient

    def batch_norm_inference(
        self, x: Any, gamma: Any, beta: Any, running_mean: Any, running_var: Any, eps: float, *, threads: int = 1,
        out: Any = None,
    ) -> Any:  # fmt: skip
        """`x` normalised by the running statistics; `out` may be `x`."""
        scale = gamma / np.sqrt(running_var + x.dtype.type(eps))
        return self.scale_shift(x, scale, beta - running_mean * scale, threads=threads, out=out)

    def batch_norm_inference_grad(
        self, grad_out: Any, gamma: Any, running_var: Any, eps: float, *, threads: int = 1, out: Any = None
    ) -> Any:
        """The input's gradient of :meth:`batch_norm_inference`."""
        scale = gamma / np.sqrt(running_var + grad_out.dtype.type(eps))
        return self.scale_shift(grad_out, scale, np.zeros_like(scale), threads=threads, out=out)

    @staticmethod
    def move_running_statistics(
        running_mean: Any, running_var: Any, mean: Any, inv_std: Any, eps: float, momentum: float, numbers: int
    ) -> None:
        """Move running statistics, in place, towards those of a batch of `numbers` numbers a channel."""
        biased = 1 / np.square(inv_std, dtype=np.float64) - eps
        for running, batch in ((running_mean, mean), (running_var, biased * (numbers / (numbers - 1)))):
            running *= 1 - momentum
            running += (momentum * batch).astype(running.dtype)

    @staticmethod
    def dropout(
        x: Any, factor: Any, *, seed: int, stream: int, step: int, layer: int, first: int, threshold: int,
        scale: float, threads: int = 1, out: Any = None,
    ) -> Any:  # fmt: skip
        """Drop numbers of `x` with probability ``threshold / 65536``, and multiply the others by `scale`; `factor` gets
        each number's factor. The masks are those of :func:`dropout_mask`."""
        n = len(x)
        keep = dropout_mask(seed, step, layer, first, n, x.size // n, threshold, stream).reshape(x.shape)
        np.multiply(keep, x.dtype.type(scale), out=factor)
        return np.multiply(x, factor, out=out)


def dropout_mask(
    seed: int, step: int, layer: int, first: int, n: int, size: int, threshold: int, stream: int
) -> np.ndarray:
    """Which numbers dropout keeps.

    Parameters
    ----------
    seed, step, layer : int
        The model's seed, the number of the training step, the layer's number.
    first : int
        Position of the first example in the global batch.
    n, size : int
        Examples, and numbers in each.
    threshold : int
        A number is dropped with probability ``threshold / 65536``.
    stream : int
        Sets these random numbers apart from others that come from the same seed.

    Returns
    -------
    (n, size) ndarray of bool
    """
    counts = -(-size // _PER_COUNT)
    counter = np.array([first * counts, 0, layer, step], np.uint64)
    generator = np.random.Philox(counter=counter, key=np.array([seed, stream], np.uint64))
    numbers = generator.random_raw(n * counts * 4).astype("<u8", copy=False).view("<u2")
    return numbers.reshape(n, counts * _PER_COUNT)[:, :size] >= threshold
