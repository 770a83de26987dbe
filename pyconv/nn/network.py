"""What a network is: its layers, its values in flat vectors, and what it knows of its images and classes."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from pyconv.errors import InputError, ShapeError, is_text, shown
from pyconv.values import float_dtype, integer, sequence

from .architecture import Architecture, Summary
from .initialisation import fill
from .input_range import InputRange
from .layer import Layer, Shape, Step
from .normalization import Normalization
from .vectors import check_memory, check_vector, size_of, views_of


class Network:
    """A network at rest; :class:`pyconv.nn.Sequential` is one that computes, and says what the parameters are."""

    def __init__(
        self, layers: Iterable[Layer], input_shape: Sequence[int], seed: int = 0, dtype: DTypeLike = "float32"
    ) -> None:
        self._prepare(Architecture(layers, input_shape), seed, dtype)
        for name, view in self._parameters.items():
            layer = int(name.partition(".")[0])
            fill(view, self._architecture.parameters[name], self._seed, layer)

    def _prepare(self, architecture: Architecture, seed: int, dtype: DTypeLike) -> None:
        """Everything but the parameters' first values."""
        self._dtype = float_dtype(dtype)
        self._seed = integer(seed, "seed", minimum=0, maximum=2**64 - 1)
        check_memory(architecture, self._dtype.itemsize)
        self._architecture = architecture
        self._steps: list[Step] = architecture.steps()
        self.backend: str = "auto"
        self.threads: int | None = None
        self.algorithm: str = "auto"
        self._normalization = Normalization()
        self._input_range: InputRange | None = None
        self._told_of_range = False
        self._classes: list[str] | None = None
        self._flat_buffers = np.empty(size_of(architecture.buffers), self._dtype)
        for name, view in views_of(self._flat_buffers, architecture.buffers).items():
            fill(view, architecture.buffers[name], self._seed, 0)
        self.attach(np.empty(size_of(architecture.parameters), self._dtype))

    # ---- what it is -------------------------------------------------------------------------------------------------

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, in order."""
        return self._architecture.layers

    @property
    def input_shape(self) -> Shape:
        """Of one example."""
        return self._architecture.input_shape

    @property
    def output_shape(self) -> Shape:
        """Of one example's result; ``(classes,)`` for a classifier."""
        return self._architecture.output_shape

    @property
    def seed(self) -> int:
        """Of the first parameters and of dropout."""
        return self._seed

    @property
    def dtype(self) -> np.dtype:
        """In which everything is computed."""
        return self._dtype

    @property
    def flat(self) -> np.ndarray:
        """All parameters, ``(n,)``; writing to it changes the network."""
        return self._flat

    @property
    def parameters(self) -> Mapping[str, np.ndarray]:
        """Views into :attr:`flat`, by name: position of the layer, from 0, and name within it, as ``"0.weight"``."""
        return MappingProxyType(self._parameters)

    @property
    def flat_buffers(self) -> np.ndarray:
        """All that is kept but not trained (BatchNorm's running statistics), ``(m,)``."""
        return self._flat_buffers

    @property
    def buffers(self) -> Mapping[str, np.ndarray]:
        """Views into :attr:`flat_buffers`, by name, as ``"1.running_mean"``."""
        return MappingProxyType(self._buffers)

    @property
    def normalization(self) -> Normalization:
        """Applied to every batch at the door."""
        return self._normalization

    @normalization.setter
    def normalization(self, value: Normalization) -> None:
        if not isinstance(value, Normalization):
            raise InputError(f"normalization must be a Normalization, not {shown(value)}")
        if value.channels not in (1, self.input_shape[-1]):
            raise ShapeError(f"the normalization has {value.channels} channels, the input {self.input_shape[-1]}")
        self._normalization = value
        self.input_range = None  # it was another normalisation's

    @property
    def input_range(self) -> InputRange | None:
        """Dtype, smallest and largest number of the examples of :func:`pyconv.fit`, or None; files keep it."""
        return self._input_range

    @input_range.setter
    def input_range(self, value: InputRange | None) -> None:
        if not isinstance(value, (InputRange, type(None))):
            raise InputError(f"input_range must be an InputRange or None, not {shown(value)}")
        self._input_range, self._told_of_range = value, False

    def other_scale(self, x: np.ndarray, name: str) -> str | None:
        """Say, but only once, that examples are in another scale than those of the training.

        Parameters
        ----------
        x : ndarray
        name : str
            What to call them.

        Returns
        -------
        str or None
            One line that says so; None where they fit or it was said before, or nothing is known of the training.
        """
        known = self._input_range or InputRange.implied(self._normalization)
        if self._told_of_range or not x.size or known is None:
            return None
        told = known.complaint(x, name)
        self._told_of_range = told is not None
        return told

    @property
    def classes(self) -> list[str] | None:
        """Names of the classes, in the order of the logits, or None."""
        return self._classes

    @classes.setter
    def classes(self, names: Iterable[str] | None) -> None:
        if names is not None:
            given = sequence(names)
            if given is None or not all(isinstance(name, str) and is_text(name) for name in given):
                raise InputError(f"classes must be a list of names that are text, not {shown(names)}")
            names = list(map(str, given))
            if self.output_shape != (len(names),):
                raise ShapeError(f"{len(names)} class names for a network whose result has shape {self.output_shape}")
        self._classes = names

    @property
    def least_batch(self) -> int:
        """Examples that a batch of training needs: 2 with a BatchNorm that sees one number a channel, else 1."""
        return self._architecture.least_batch

    def config(self) -> dict[str, Any]:
        """Everything but the values.

        Returns
        -------
        dict of str to object
            For JSON or TOML; :func:`pyconv.nn.from_config` makes a network of it.
        """
        return {
            "input_shape": list(self.input_shape),
            "seed": self.seed,
            "dtype": self.dtype.name,
            "layers": [layer.config() for layer in self.layers],
        }

    def flops(self, batch: int = 1, *, training: bool = False) -> int:
        """Floating-point operations of a forward pass, or of a whole training step.

        Parameters
        ----------
        batch : int
            Examples.
        training : bool
            Count the backward pass too.

        Returns
        -------
        int
            A multiply-add of direct convolution counts as two.
        """
        return self._architecture.flops(batch, training=training)

    def summary(self) -> Summary:
        """A table of layers, output shapes, parameters and floating-point operations of one example.

        Returns
        -------
        Summary
            A str, which an interactive session shows as a table.
        """
        return self._architecture.summary()

    def __repr__(self) -> str:
        return (
            f"<Sequential of {len(self.layers)} layers, {self.input_shape} to {self.output_shape}, "
            f"{self._flat.size:,} parameters>"
        )

    # ---- its memory -------------------------------------------------------------------------------------------------

    def attach(self, flat: np.ndarray, buffers: np.ndarray | None = None) -> None:
        """Live on `flat`, and on `buffers` if given, from now on: vectors in shared memory, for one.

        Parameters
        ----------
        flat : (n,) ndarray
            Becomes :attr:`flat`, with the values that it has.
        buffers : (m,) ndarray, optional
            Becomes :attr:`flat_buffers`, with the values that it has.

        Raises
        ------
        ShapeError, DtypeError
            If they are not contiguous vectors of the network's sizes and dtype.
        """
        buffers = self._flat_buffers if buffers is None else buffers
        for name, array, known in (
            ("flat", flat, self._architecture.parameters),
            ("buffers", buffers, self._architecture.buffers),
        ):
            check_vector(name, array, size_of(known), self._dtype)
        self._flat, self._flat_buffers = flat, buffers
        self._parameters = views_of(flat, self._architecture.parameters)
        self._buffers = views_of(buffers, self._architecture.buffers)
        for step in self._steps:
            step.bind({**self._parameters, **self._buffers})

    def __getstate__(self) -> dict[str, Any]:
        return {
            "architecture": (self.layers, self.input_shape),
            "seed": self._seed,
            "dtype": self._dtype.name,
            "flat": self._flat.copy(),
            "buffers": self._flat_buffers.copy(),
            "settings": {name: getattr(self, name) for name in ("backend", "threads", "algorithm")},
            "normalization": self._normalization,
            "input_range": self._input_range,
            "classes": self._classes,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._prepare(Architecture(*state["architecture"]), state["seed"], state["dtype"])
        self.attach(state["flat"], state["buffers"])
        for name, value in state["settings"].items():
            setattr(self, name, value)
        self._normalization, self._classes = state["normalization"], copy.copy(state["classes"])
        self._input_range = state["input_range"]
