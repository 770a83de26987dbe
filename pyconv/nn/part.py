"""Part: some layers of a network in a row, with parameters of their own, for several batches at a time.

A stage of a pipeline computes one. A batch that has gone forward keeps its slot, a set of work arrays, until it comes
back; all slots read the same parameters, and move the same running statistics in the order of their forward passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pyconv.arithmetic import own
from pyconv.backends import get
from pyconv.errors import InputError
from pyconv.threads import counted

from .architecture import Architecture
from .freezing import Spans, freeze_steps
from .home import Here, Home, How
from .layer import Parameter
from .losses import count_correct
from .network import Network
from .normalization import Normalization
from .plan import Graph
from .vectors import size_of, views_of
from .weighting import Weighting


def borders(network: Network) -> dict[int, int]:
    """Where a network can be cut: the layers before which a stage may begin, and the graph's node of each.

    Not every layer is there: a ReLU or a pool that is computed together with the layer before it is not.

    Parameters
    ----------
    network : Network

    Returns
    -------
    dict of int to int
        In order, from layer 0 to the number of layers.
    """
    return _borders(Architecture(network.layers, network.input_shape).graph())


def _borders(graph: Graph) -> dict[int, int]:
    found = {0: 0}
    for number, node in enumerate(graph.nodes):
        if len(node.titles) == 1:  # else it is inside a branch
            found[int(node.titles[0][0]) + node.step.layers] = number + 1
    return found


def check_cut(network: Network, cut: Sequence[int]) -> None:
    """Check that a network can be cut before these layers.

    Raises
    ------
    InputError
        If a layer is not there, they are not in order, or two layers are computed together.
    """
    count, places = len(network.layers), borders(network)
    for layer in cut:
        if not 0 < layer < count:
            raise InputError(f"cut {layer} is outside the network's {count} layers: take numbers from 1 to {count - 1}")
    if list(cut) != sorted(set(cut)):
        raise InputError(f"cut {','.join(map(str, cut))} must be layers in rising order")
    for layer in cut:
        if layer not in places:
            before, after = max(p for p in places if p < layer), min(p for p in places if p > layer)
            where = [str(place) for place in (before, after) if 0 < place < count]
            advice = f"cut at {' or '.join(where)}" if where else "cut elsewhere"
            kinds = [type(each).__name__ for each in network.layers[layer - 1 : layer + 1]]
            raise InputError(
                f"cut {layer} would part layers that are computed together, {kinds[0]} and {kinds[1]}: {advice}"
            )


def check_stages(network: Network, stages: int) -> None:
    """Check that a network can be cut into so many stages.

    Raises
    ------
    InputError
        If it has fewer layers, or layers that are computed together.
    """
    most, layers = len(borders(network)) - 1, len(network.layers)
    if stages > most:
        apart = "" if most == layers else f", of which {most} can be parted: the others are computed with those before"
        raise InputError(
            f"{stages} stages are more than the network's {counted(layers, 'layer')}{apart}; take at most {most}"
        )


class Part:
    """The layers from `first` to before `last` of a network, in training.

    Parameters
    ----------
    network : Network
        Its parameters and running statistics are copied.
    first, last : int
        Borders, as :func:`check_cut` allows them.
    slots : int
        How many batches are between their forward and backward pass at most.
    backend : str
        One that computes in main memory.
    threads : int
    algorithm : str
        Of every convolution.

    Attributes
    ----------
    span, buffer_span : slice
        Where its parameters and running statistics lie in those of the whole network.
    flat, buffers, gradient : (n,), (m,) and (n,) ndarray
        Its parameters, its running statistics, and the gradient that the last backward pass has computed.
    trained : Spans
        Where in `flat` the parameters are that are not frozen.
    input_shape, output_shape : tuple of int
        Of one example.
    input_grad : bool
        Whether a layer before it is trained, so that backward passes give the gradient of the input.
    """

    def __init__(
        self, network: Network, first: int, last: int, slots: int, *, backend: str, threads: int, algorithm: str
    ) -> None:
        architecture = Architecture(network.layers, network.input_shape)
        self.span, own_parameters = _those(architecture.parameters, first, last)
        self.buffer_span, own_buffers = _those(architecture.buffers, first, last)
        self.flat = network.flat[self.span].copy()
        self.buffers = network.flat_buffers[self.buffer_span].copy()
        self.gradient = np.zeros_like(self.flat)
        self.trained = Spans.of(own_parameters, network.frozen)
        self.input_shape, self.output_shape = architecture.shapes[first], architecture.shapes[last]
        self.dtype = network.dtype
        self._gradients = views_of(self.gradient, own_parameters)
        arrays = {**views_of(self.flat, own_parameters), **views_of(self.buffers, own_buffers)}
        normalization = network.normalization if first == 0 else Normalization()
        self._how = How(get(backend), threads, algorithm, normalization)
        self._results: list[Any] = [None] * slots
        self._homes = []
        for _ in range(slots):
            graph = architecture.graph()
            freeze_steps(graph, network.frozen)
            places = _borders(graph)
            start, stop = places[first], places[last]
            self.input_grad = any(node.step.trainable for node in graph.nodes[:start])
            part = graph.slice(start, stop)
            part.bind(arrays)
            self._homes.append(Home(part, network.dtype, network.seed, input_grad=self.input_grad))

    @property
    def nbytes(self) -> int:
        """Bytes of the work arrays of all slots."""
        return sum(home.nbytes for home in self._homes)

    @own
    def forward(self, slot: int, x: np.ndarray, step: int, first: int) -> np.ndarray:
        """The result for a batch.

        Parameters
        ----------
        slot : int
            Which is free, and stays taken until :meth:`backward`.
        x : (N, ...) ndarray
            For the first layers examples as they are, else of the network's dtype; kept until :meth:`backward`.
        step, first : int
            Number of the training step, and position of the first example in the global batch, for dropout.

        Returns
        -------
        (N, ...) ndarray
            A work array of the slot, or `x`.
        """
        result = self._homes[slot].forward(Here(x), self._how, training=True, step=step, first=first)
        self._results[slot] = result
        return result

    @own
    def loss(self, slot: int, labels: np.ndarray, weighting: Weighting | None) -> tuple[float, int, np.ndarray]:
        """Loss, correct answers and the loss's gradient, if the slot's result is the network's logits.

        Parameters
        ----------
        slot : int
        labels : (N,) ndarray of int64
        weighting : Weighting or None

        Returns
        -------
        loss : float
        correct : int
        error : (N, classes) ndarray
        """
        logits = self._results[slot]
        batch = Here(logits, labels, weighting)
        losses, error = batch.error(self._how, logits, labels)
        return batch.loss(losses), count_correct(logits, labels), error

    @own
    def backward(self, slot: int, error: np.ndarray | None) -> np.ndarray | None:
        """Write :attr:`gradient`, and give the slot back.

        Parameters
        ----------
        slot : int
        error : (N, ...) ndarray or None
            Gradient of the loss with respect to the slot's result; may be overwritten. None if nothing is trained here
            or before.

        Returns
        -------
        (N, ...) ndarray or None
            Gradient of the slot's input, if :attr:`input_grad`; a work array.
        """
        home = self._homes[slot]
        found = None if error is None else home.backward(error, self._gradients)
        for start, end in self.trained.rest.spans:
            self.gradient[start:end] = 0
        self._results[slot] = None
        home.forget()
        return found if self.input_grad else None

    def forget(self) -> None:
        """Give all slots back, after a step that was not finished."""
        for home in self._homes:
            home.forget()


def spans(network: Network, first: int, last: int) -> tuple[slice, slice]:
    """Where the parameters, and the running statistics, of the layers from `first` to before `last` lie in a network's.

    Parameters
    ----------
    network : Network
    first, last : int

    Returns
    -------
    (slice, slice)
        Of ``network.flat`` and of ``network.flat_buffers``.
    """
    architecture = Architecture(network.layers, network.input_shape)
    return _those(architecture.parameters, first, last)[0], _those(architecture.buffers, first, last)[0]


def _those(parameters: Mapping[str, Parameter], first: int, last: int) -> tuple[slice, dict[str, Parameter]]:
    """The parameters or buffers of some top-level layers, and where they lie in the network's vector."""

    def layer(name: str) -> int:
        return int(name.partition(".")[0])

    own_ones = {name: each for name, each in parameters.items() if first <= layer(name) < last}
    start = size_of({name: each for name, each in parameters.items() if layer(name) < first})
    return slice(start, start + size_of(own_ones)), own_ones
