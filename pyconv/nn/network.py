"""Network: a network's layers, its values in flat vectors, and its settings; Sequential adds the computation."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from pyconv.errors import InputError, ShapeError, is_text, shown
from pyconv.values import float_dtype, integer, sequence

from .architecture import Architecture, Summary
from .freezing import Layers, Spans, freeze_steps, ways
from .initialisation import fill
from .input_range import InputRange
from .layer import Layer, Shape, Step, stream_of
from .lending import Lending
from .normalization import Normalization
from .vectors import Views, check_memory, check_vector, read_only, size_of, views_of


class Network:
    """A network that does not compute; :class:`pyconv.nn.Sequential` does, and documents the parameters."""

    def __init__(
        self, layers: Iterable[Layer], input_shape: Sequence[int], seed: int = 0, dtype: DTypeLike = "float32"
    ) -> None:
        self._prepare(Architecture(layers, input_shape), seed, dtype)
        for name, view in self._parameters.items():
            layer = stream_of(name.rpartition(".")[0])
            fill(view, self._architecture.parameters[name], self._seed, layer)

    def _prepare(self, architecture: Architecture, seed: int, dtype: DTypeLike) -> None:
        """Prepare everything but the first values of the parameters."""
        self._dtype = float_dtype(dtype)
        self._seed = integer(seed, "seed", minimum=0, maximum=2**64 - 1)
        check_memory(architecture, self._dtype.itemsize)
        self._architecture = architecture
        self._graph = architecture.graph()
        self.backend: str = "auto"
        self.threads: int | None = None
        self.algorithm: str = "auto"
        self._normalization = Normalization()
        self._input_range: InputRange | None = None
        self._told_of_range = False
        self._classes: list[str] | None = None
        self._freeze(())
        self._lending = Lending()
        self._lent: weakref.ref[Views] | None = None  # views of what is lent
        self._flat = self._flat_buffers = np.empty(0)  # until there are others
        self._use(*(np.empty(size_of(each), self._dtype) for each in (architecture.parameters, architecture.buffers)))
        for name, view in self._buffers.items():
            fill(view, architecture.buffers[name], self._seed, 0)

    # ---- what it is -------------------------------------------------------------------------------------------------

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, in order."""
        return self._architecture.layers

    def leaves(self) -> Iterator[tuple[int | str, Layer, Shape, bool]]:
        """All layers, inner ones included; inner layers come before the layer that they are in.

        Yields
        ------
        index : int or str
            Path to the layer, as in the names of its parameters.
        layer : Layer
        shape : tuple of int
            Of one example before the layer.
        trained : bool
            Whether a layer before it is trained, so that its input's gradient is needed.
        """
        yield from self._architecture.leaves(self._frozen)

    @property
    def steps(self) -> list[Step]:
        """The steps that run: layers, or several layers at once, in the order of the forward pass."""
        return self._graph.steps

    @property
    def input_shape(self) -> Shape:
        """Shape of one example."""
        return self._architecture.input_shape

    @property
    def output_shape(self) -> Shape:
        """Shape of one example's result; ``(classes,)`` for a classifier."""
        return self._architecture.output_shape

    @property
    def seed(self) -> int:
        """The seed of the first parameters and of dropout."""
        return self._seed

    @property
    def dtype(self) -> np.dtype:
        """The dtype of all computations."""
        return self._dtype

    @property
    def flat(self) -> np.ndarray:
        """All parameters, ``(n,)``; writing to it changes the network.

        As long as neither this array, nor one of :attr:`parameters`, nor a view of them is held, predictions for few
        images need not transform the filters again.
        """
        return self._lending.lent()

    @property
    def parameters(self) -> Mapping[str, np.ndarray]:
        """Views into :attr:`flat`, by name: position of the layer, from 0, and name within it, as ``"0.weight"``."""
        flat = self._lending.lent()
        views = None if self._lent is None else self._lent()
        if views is None:
            views = Views(views_of(flat, self._architecture.parameters))
            self._lent = weakref.ref(views)
        return MappingProxyType(views)

    @property
    def flat_buffers(self) -> np.ndarray:
        """All buffers: what is kept but not trained (BatchNorm's running statistics), ``(m,)``."""
        return self._flat_buffers

    @property
    def buffers(self) -> Mapping[str, np.ndarray]:
        """Views into :attr:`flat_buffers`, by name, as ``"1.running_mean"``."""
        return MappingProxyType(self._buffers)

    @property
    def normalization(self) -> Normalization:
        """The normalisation of every batch before the first layer."""
        return self._normalization

    @normalization.setter
    def normalization(self, value: Normalization) -> None:
        if not isinstance(value, Normalization):
            raise InputError(f"normalization must be a Normalization, not {shown(value)}")
        if value.channels not in (1, self.input_shape[-1]):
            raise ShapeError(f"the normalization has {value.channels} channels, the input {self.input_shape[-1]}")
        self._normalization = value
        self.input_range = None  # it belonged to the last normalisation

    @property
    def input_range(self) -> InputRange | None:
        """Dtype, smallest and largest number of the examples of :func:`pyconv.fit`, or None; model files keep it."""
        return self._input_range

    @input_range.setter
    def input_range(self, value: InputRange | None) -> None:
        if not isinstance(value, (InputRange, type(None))):
            raise InputError(f"input_range must be an InputRange or None, not {shown(value)}")
        self._input_range, self._told_of_range = value, False

    def other_scale(self, x: np.ndarray, name: str) -> str | None:
        """Say, once only, that examples are in another scale than the training examples.

        Parameters
        ----------
        x : ndarray
        name : str
            What the message calls them.

        Returns
        -------
        str or None
            One line; None if they fit, if it was said before, or if the training examples are unknown.
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
        """The fewest examples of a training batch: 2 with a BatchNorm that sees one number a channel, else 1."""
        return self._architecture.least_batch

    def config(self) -> dict[str, Any]:
        """The whole network except its values.

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

    # ---- what training changes --------------------------------------------------------------------------------------

    @property
    def frozen(self) -> tuple[str, ...]:
        """Ways to the layers that training leaves as they are, as ``("0", "3.shortcut.0")``; none by default.

        Set with layers as :func:`pyconv.fit` takes them in `freeze`. Their part of a gradient is 0, and a BatchNorm
        among them normalises with its running statistics, as in inference, and does not move them. Files do not keep
        it.
        """
        return self._frozen

    @frozen.setter
    def frozen(self, layers: Layers) -> None:
        self._freeze(self.which(layers))

    def which(self, layers: Layers) -> tuple[str, ...]:
        """The layers with parameters that numbers and names stand for.

        Parameters
        ----------
        layers : int, str, or list of them
            As :func:`pyconv.fit` takes them in `freeze`.

        Returns
        -------
        tuple of str
            Ways to them, in the network's order.

        Raises
        ------
        InputError
            If a layer is not there, none has parameters, or these are all that have.
        """
        return ways(layers, self._architecture)

    def _freeze(self, frozen: tuple[str, ...]) -> None:
        self._frozen = frozen
        self._trained = Spans.of(self._architecture.parameters, frozen)
        self._trained_buffers = Spans.of(self._architecture.buffers, frozen)
        freeze_steps(self._graph, frozen)

    @property
    def trained(self) -> Spans:
        """Where in :attr:`flat` the parameters lie that are not :attr:`frozen`."""
        return self._trained

    @property
    def trained_buffers(self) -> Spans:
        """Where in :attr:`flat_buffers` the running statistics lie that are not :attr:`frozen`."""
        return self._trained_buffers

    # ---- its memory -------------------------------------------------------------------------------------------------

    def attach(self, flat: np.ndarray, buffers: np.ndarray | None = None) -> None:
        """Use the vector `flat`, and `buffers` if given, from now on: for example vectors in shared memory.

        Parameters
        ----------
        flat : (n,) ndarray
            Becomes :attr:`flat`, with its values.
        buffers : (m,) ndarray, optional
            Becomes :attr:`flat_buffers`, with its values.

        Raises
        ------
        ShapeError, DtypeError
            If they are not contiguous vectors of the network's sizes and dtype.
        """
        buffers = self._flat_buffers if buffers is None else buffers
        check_vector("flat", flat, size_of(self._architecture.parameters), self._dtype)
        check_vector("buffers", buffers, size_of(self._architecture.buffers), self._dtype)
        self._use(flat, buffers, owned=False)

    def _use(self, flat: np.ndarray, buffers: np.ndarray, *, owned: bool = True) -> None:
        """Use these vectors; nobody else has `flat` if it is `owned`."""
        if not self._lending.has(flat):  # workers come back with the same vector at each step
            self._lending.take(flat, owned=owned)
            self._flat, self._lent = self._lending.array, None
            self._parameters = views_of(self._flat, self._architecture.parameters)
            self._read = {name: read_only(view) for name, view in self._parameters.items()}
        if buffers is not self._flat_buffers:
            self._flat_buffers, self._buffers = buffers, views_of(buffers, self._architecture.buffers)
        self._graph.bind({**self._read, **self._buffers})

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
            "frozen": self._frozen,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._prepare(Architecture(*state["architecture"]), state["seed"], state["dtype"])
        # Arrays that joblib has mapped from a file, as it does for its processes, are others' memory, and read-only.
        given = (state[name] for name in ("flat", "buffers"))
        self._use(*(each if each.flags.writeable and each.flags.owndata else np.array(each) for each in given))
        for name, value in state["settings"].items():
            setattr(self, name, value)
        self._normalization, self._classes = state["normalization"], copy.copy(state["classes"])
        self._input_range = state["input_range"]
        if state.get("frozen"):
            self._freeze(tuple(state["frozen"]))
