"""Optimizer: the base class of optimizers. Vectors are flat, state has names, updates go block by block."""

from __future__ import annotations

import dataclasses
import functools
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from pyconv.arithmetic import own
from pyconv.errors import DtypeError, InputError, ShapeError, shown
from pyconv.values import flag, float_dtype, integer, real

#: Elements of a block. Parameters, gradient, two states and two scratch blocks of float32 take 384 KB: they stay in the
#: L2 cache while an update passes over them several times.
BLOCK = 16384

_local = threading.local()


def scratch(dtype: np.dtype, count: int) -> list[np.ndarray]:
    """`count` scratch blocks of `dtype`, kept from call to call; each thread has its own."""
    blocks = _local.__dict__.setdefault(dtype.char, [])
    while len(blocks) < count:
        blocks.append(np.empty(BLOCK, dtype))
    return blocks[:count]


class DeviceStep(NamedTuple):
    """A GPU kernel that does an optimizer's step, with its arguments.

    Attributes
    ----------
    kernel : str
        Its name in `source`.
    numbers : tuple of float
        Arguments in the parameters' dtype, after the vectors (parameters, gradient, state) and their size.
    flags : tuple of int
        Further arguments, as 32-bit integers.
    absent : int
        How many of the kernel's state vectors this optimizer does not have; null pointers are passed for them.
    source : str
        File in ``pyconv/cuda``.
    """

    kernel: str
    numbers: tuple[float, ...]
    flags: tuple[int, ...] = ()
    absent: int = 0
    source: str = "updates.cu"


@dataclass(frozen=True)
class Optimizer:
    """Turns a gradient into a step. Base class: use one of its subclasses.

    An optimizer holds its settings only. The caller keeps its state, a dict of flat vectors. So the state can be in
    shared memory or in a checkpoint, and a worker can update a slice of it, because every rule is elementwise.

    Parameters
    ----------
    lr : float
        Learning rate, at least 0.
    """

    #: The learning rate grows with this power of a step's number of images: 1 if steps are as large as the gradient
    #: (Goyal et al., 2017), 0.5 if they are divided by its root mean square (Malladi et al., 2022).
    batch_power: ClassVar[float] = 0.5

    lr: float

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type == "bool":
                value = flag(value, field.name)
            else:
                value = real(value, field.name, minimum=0, below=1 if field.name in self._fractions() else None)
            object.__setattr__(self, field.name, value)

    @classmethod
    def _fractions(cls) -> tuple[str, ...]:
        """Names of the settings that must lie in [0, 1)."""
        return ()

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the state vectors, each of the size of the parameters."""
        return ()

    @property
    def name(self) -> str:
        """The name by which :func:`pyconv.optim.by_name` knows this optimizer."""
        return type(self).__name__.lower()

    def config(self) -> dict[str, Any]:
        """Name and settings as a dict that JSON and TOML can hold.

        Returns
        -------
        dict of str to object
            ``optim.by_name(**config)`` makes the same optimizer.
        """
        return {"name": self.name, **dataclasses.asdict(self)}

    def init(self, n: int, dtype: DTypeLike = np.float32) -> dict[str, np.ndarray]:
        """Make the state before the first step.

        Parameters
        ----------
        n : int
            Number of parameters.
        dtype : dtype
            The parameters' dtype.

        Returns
        -------
        dict of str to ndarray
            ``(n,)`` vectors of zeros by name.
        """
        n = integer(n, "n", minimum=0, maximum=sys.maxsize // 8)
        kind = float_dtype(dtype)
        return {name: np.zeros(n, kind) for name in self.state_names}

    def update(
        self,
        flat: np.ndarray,
        gradient: np.ndarray,
        state: dict[str, np.ndarray],
        step: int,
        lr: float | None = None,
    ) -> None:
        """Do one step, in place, on the whole flat vector or on any slice of it.

        Parameters
        ----------
        flat : (n,) ndarray of float32 or float64
            Parameters; overwritten.
        gradient : (n,) ndarray of the same dtype
            Gradient of the loss; only read.
        state : dict of str to (n,) ndarray
            The state vectors, or the same slice of them; overwritten.
        step : int
            Number of this step, from 1 on.
        lr : float, optional
            Learning rate of this step, if a schedule sets it; by default the optimizer's.

        Raises
        ------
        ShapeError, DtypeError
            If the vectors do not fit together.
        InputError
            If `step` is below 1 or a state vector is missing.
        """
        vectors = self._checked(flat, gradient, state)
        step = integer(step, "step", minimum=1)
        rate = self.lr if lr is None else real(lr, "lr", minimum=0)
        self._run(vectors, step, rate)

    def planned(
        self, flat: np.ndarray, gradient: np.ndarray, state: dict[str, np.ndarray]
    ) -> Callable[[int, float], None]:
        """As :meth:`update`, for many steps on the same vectors: they are checked here, and not at every step.

        Parameters
        ----------
        flat, gradient, state : see :meth:`update`

        Returns
        -------
        callable
            ``step(number, lr)`` does one step, with a number from 1 on and a learning rate that are not checked.

        Raises
        ------
        ShapeError, DtypeError, InputError
            As :meth:`update`.
        """
        if type(self).update is not Optimizer.update:  # a subclass may have its own
            return lambda number, lr: self.update(flat, gradient, state, number, lr)
        return functools.partial(self._run, self._checked(flat, gradient, state))

    @own
    def _run(self, vectors: list[np.ndarray], step: int, lr: float) -> None:
        self._update_vectors(vectors, self._constants(step, lr))

    def _checked(self, flat: np.ndarray, gradient: np.ndarray, state: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Parameters, gradient and state vectors, if they fit together."""
        vectors = {"flat": flat, "gradient": gradient, **self._state_vectors(state)}
        for name, vector in vectors.items():
            if not isinstance(vector, np.ndarray) or isinstance(vector, np.ma.MaskedArray):
                raise InputError(f"{name} must be a vector of NumPy's without a mask, not {shown(vector)}")
            if vector.ndim != 1 or vector.shape != flat.shape:
                raise ShapeError(f"parameters have shape {flat.shape}, but {name} has {vector.shape}")
            if vector.dtype != flat.dtype or vector.dtype not in (np.float32, np.float64):
                raise DtypeError(
                    f"parameters, gradient and state must all be float32 or all float64, "
                    f"not {flat.dtype.str} and {vector.dtype.str}"
                )
            if name != "gradient" and not vector.flags.writeable:
                raise InputError(f"{name} is read-only")
        return list(vectors.values())

    def _state_vectors(self, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The state vectors that the rule needs, in its order."""
        if not isinstance(state, Mapping):
            raise InputError(f"state must be what init() gave, not {shown(state)}")
        for name in self.state_names:
            if name not in state:
                raise InputError(f"{type(self).__name__} needs the state vector {name!r}; make it with init()")
        return {f"state[{name!r}]": state[name] for name in self.state_names}

    def _update_vectors(self, vectors: list[np.ndarray], constants: tuple[float, ...]) -> None:
        """Update parameters, by gradient and state, block by block.

        A rule with a compiled pass over the whole vectors calls it here; it gives the bits of `_update_block`.
        """
        for start in range(0, vectors[0].size, BLOCK):
            block = slice(start, start + BLOCK)
            self._update_block(*(vector[block] for vector in vectors), constants=constants)

    def _constants(self, step: int, lr: float) -> tuple[float, ...]:
        """Numbers that depend on step and learning rate; they are computed once for all blocks."""
        return (lr,)

    def device_step(self, step: int, lr: float) -> DeviceStep | None:
        """The same step on a GPU: a kernel with its arguments, or None if there is no kernel.

        A class with formulas of its own must define this itself: what it inherits is another optimizer's step.

        Parameters
        ----------
        step : int
            Number of the step, from 1 on.
        lr : float
            Learning rate of the step.

        Returns
        -------
        DeviceStep or None
        """
        return None

    def _update_block(self, p: np.ndarray, g: np.ndarray, *state: np.ndarray, constants: tuple[float, ...]) -> None:
        """Update one block of at most `BLOCK` elements in place; `state` in the order of `state_names`."""
        raise TypeError(f"{type(self).__name__} is not an optimizer of its own: it has no rule")


def decayed(p: np.ndarray, g: np.ndarray, weight_decay: float, out: np.ndarray) -> np.ndarray:
    """The gradient plus the L2 penalty's, ``g + weight_decay p``, in `out`; `g` itself if there is no penalty."""
    if not weight_decay:
        return g
    np.multiply(p, weight_decay, out=out)
    out += g
    return out
