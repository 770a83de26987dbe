"""Calibration: the constants of the cost model, measured on this machine."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import optim
from ..backends import algorithms, backends
from ..backends import get as get_backend
from ..cluster.link import Exchange, between, eager, ends, exchanges
from ..cluster.session import session
from ..datasets.order import stratified_order
from ..documents import read_json
from ..errors import CheckpointError, DataError, InputError, shown
from ..files import write_atomically
from ..parallel.messages import time_messages
from ..shapes import ConvGeometry, conv_geometry
from ..threads import usable_cpus
from ..values import choice, flag, integer, mapping, real
from ..values import path as as_path
from .checks import not_negative
from .fits import Fit, line, median_of
from .timing import median_seconds

#: Layers for measuring t_c, as (batch, image, channels, filters, kernel): from first layers to deep ones.
LAYERS = ((16, 28, 1, 16, 5), (8, 24, 16, 32, 3), (8, 12, 64, 64, 3), (16, 12, 32, 64, 3), (32, 12, 64, 128, 3))
#: The same for algorithms that are slow by design: the literal loops of the paper.
SMALL_LAYERS = ((1, 14, 1, 8, 5), (1, 12, 4, 8, 3), (1, 12, 8, 16, 3), (2, 12, 8, 16, 3), (2, 14, 16, 16, 3))
SLOW = ("naive", "literal")
FEWEST = 3  # measurements that a line with an interval needs
FORMAT = 1
#: t_n in a calibration that was made before t_n was measured.
UNKNOWN = Fit(0.0, 0.0, 0.0, "s/example", 0)
#: The constants of an exchange where none was measured.
NO_START, NO_BYTE = Fit(0.0, 0.0, 0.0, "s", 0), Fit(0.0, 0.0, 0.0, "s/byte", 0)
LATER = ("t_n", "x_s", "x_b", "x_c")


@dataclass(frozen=True)
class Calibration:
    """How long this machine takes for an operation, a message and a byte.

    Attributes
    ----------
    t_c : dict of str to dict of str to Fit
        By backend and algorithm: seconds for one operation of convolution, forward and backward passes together.
    start_up : dict of str to dict of str to Fit
        By backend and algorithm: seconds that each call takes whatever its size.
    t_s : Fit
        Seconds to start a message between two processes: the time until the other one is awake.
    t_b : Fit
        Seconds a byte, into shared memory and out of it.
    t_u : Fit
        Seconds a parameter for one update by SGD with momentum.
    t_copy : Fit
        Seconds a byte of a copy inside one process.
    cpus : int
        CPUs that the process may use: affinity and control group.
    parallel_share : dict of str to float
        By backend: the share of a training step's work that threads divide (Amdahl's law); 0 for one thread only.
    slowdown : float
        Time of a training step while one other process trains too, over the time while none does.
    t_n : Fit
        Seconds to bring one example of an epoch into its place; 0 in calibrations made before it was measured.
    x_s, x_b : Fit
        Of an exchange in which every rank of a cluster sends every other one a message: seconds to start it, and
        seconds for each byte that a rank sends. Without points if there were no ranks.
    x_c : Fit
        Seconds of a CPU for each byte that a rank sends in such an exchange, and receives as many: what messages take
        from computing while they travel.
    eager : int
        Bytes of the largest message, of those that were tried between ranks, that leaves at once while its receiver
        computes; 0 if there is none.
    """

    t_c: Mapping[str, Mapping[str, Fit]]
    start_up: Mapping[str, Mapping[str, Fit]]
    t_s: Fit
    t_b: Fit
    t_u: Fit
    t_copy: Fit
    cpus: int
    parallel_share: Mapping[str, float]
    slowdown: float = 1.0
    t_n: Fit = UNKNOWN
    x_s: Fit = NO_START
    x_b: Fit = NO_BYTE
    x_c: Fit = NO_BYTE
    eager: int = 0

    def __post_init__(self) -> None:
        for name in ("t_c", "start_up"):
            for backend, known in mapping(getattr(self, name), name, "{'serial': {'direct': fit}}").items():
                for algorithm, fit in mapping(known, f"{name}[{shown(backend)}]", "{'direct': fit}").items():
                    _fit(fit, f"{name}[{shown(backend)}][{shown(algorithm)}]")
        for name in ("t_s", "t_b", "t_u", "t_copy", *LATER):
            _fit(getattr(self, name), name)
        object.__setattr__(self, "eager", integer(self.eager, "eager", minimum=0))
        object.__setattr__(self, "cpus", integer(self.cpus, "cpus", minimum=1))
        for name, share in mapping(self.parallel_share, "parallel_share", "{'multicore': 0.9}").items():
            real(share, f"parallel_share[{shown(name)}]", minimum=0, maximum=1)
        object.__setattr__(self, "slowdown", real(self.slowdown, "slowdown", above=0))

    @property
    def link(self) -> tuple[Fit, Fit]:
        """Seconds to start a message, and seconds a byte, while all send: those of exchanges, else t_s and t_b."""
        return (self.x_s, self.x_b) if self.x_b.points else (self.t_s, self.t_b)

    def rate(self, backend: str, algorithm: str = "auto", geometry: ConvGeometry | None = None) -> Fit:
        """t_c of a backend's algorithm.

        Parameters
        ----------
        backend : str
            Its name.
        algorithm : str
            Its name; "auto" is the fastest that was measured.
        geometry : ConvGeometry, optional
            Limits "auto" to algorithms that do this convolution: not every algorithm does every kernel and stride.

        Returns
        -------
        Fit
            Seconds an operation.

        Raises
        ------
        UnknownNameError
            If it was not measured.
        """
        known = self.t_c[choice(backend, "calibrated backend", [name for name, found in self.t_c.items() if found])]
        choice(algorithm, f"calibrated algorithm of backend {backend}", ("auto", *known))
        if algorithm == "auto":
            able = [fit for name, fit in known.items() if geometry is None or _stands_for(backend, name, geometry)]
            # On a busy machine a fitted line may be flat: an interval that reaches zero says nothing about the rate.
            sure = [fit for fit in able or known.values() if fit.low > 0]
            return min(sure or able or known.values(), key=lambda fit: fit.value)
        return known[algorithm]

    def save(self, path: str | Path) -> None:
        """Write the constants as JSON.

        Parameters
        ----------
        path : path
            Overwritten if it is there and a regular file.

        Raises
        ------
        CheckpointError
            If it cannot be written; an older file is unchanged.
        """
        try:
            write_atomically(path, (json.dumps(self._content(), indent=1) + "\n").encode())
        except OSError as error:
            raise CheckpointError(f"{path}: the calibration cannot be written: {error.strerror}") from None

    @staticmethod
    def load(path: str | Path) -> Calibration:
        """Read what :meth:`save` wrote.

        Parameters
        ----------
        path : path

        Returns
        -------
        Calibration

        Raises
        ------
        CheckpointError
            If the file is not one of this format.
        """
        path = as_path(path, "path")
        try:
            return Calibration._of(read_json(path))
        except DataError as error:
            raise CheckpointError(f"{error}; this is not a calibration, or a damaged one: calibrate again") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise CheckpointError(f"{path} is not a calibration of this version of pyconv: calibrate again") from None

    def _content(self) -> dict[str, Any]:
        """For a file or a message, as JSON has it."""
        return {"format": FORMAT, **dataclasses.asdict(self)}

    @staticmethod
    def _of(content: dict[str, Any]) -> Calibration:
        """From such content; errors of several kinds if it is not."""
        if content.pop("format") != FORMAT:
            raise ValueError("another format")
        fits: dict[str, Any] = {name: Fit(**content.pop(name)) for name in ("t_s", "t_b", "t_u", "t_copy")}
        fits |= {name: Fit(**content.pop(name)) for name in LATER if name in content}
        for name in ("t_c", "start_up"):
            fits[name] = {b: {a: Fit(**fit) for a, fit in by.items()} for b, by in content.pop(name).items()}
        return Calibration(**fits, **content)

    def __str__(self) -> str:
        lines = [f"t_c {backend} {name}: {fit}" for backend, by in self.t_c.items() for name, fit in by.items()]
        lines += [f"{name}: {getattr(self, name)}" for name in ("t_s", "t_b", "t_u", "t_n", "t_copy")]
        if self.x_b.points:
            lines += [f"{name}: {getattr(self, name)}" for name in ("x_s", "x_b", "x_c")]
            lines.append(f"messages that leave at once: up to {self.eager} bytes")
        return "\n".join([*lines, f"CPUs: {self.cpus}", f"slower in company: {self.slowdown:.3f} times"])


def _fit(value: Any, name: str) -> None:
    if not isinstance(value, Fit):
        raise InputError(f"{name} must be a Fit, not {shown(value)}")


def calibration_of(value: Any) -> Calibration:
    """`value` if it is a Calibration, else an `InputError`."""
    if not isinstance(value, Calibration):
        raise InputError(f"calibration must be a Calibration, as calibrate() gives one, not {shown(value)}")
    return value


def calibrate(
    backend: str | None = None, *, seconds: float = 0.03, messages: bool = True, cluster: bool = False,
    largest: int = 1 << 21,
) -> Calibration:  # fmt: skip
    """Measure the constants of the cost model on this machine, or on a cluster; takes some seconds.

    Parameters
    ----------
    backend : str, optional
        Only this backend; by default every backend that runs here except ``reference``.
    seconds : float
        Time for each measurement of an algorithm (five layers, three passes).
    messages : bool
        Whether to start a process and measure messages to it; without it t_s is 0, and t_b is that of a copy.
    cluster : bool
        Whether this is one of the ranks of a cluster, which all call this alike. Then t_s and t_b are those of messages
        between ranks, x_s and x_b those of exchanges, and all ranks get the same constants. The others are rank 0's,
        with the threads that a rank has and while all ranks measure theirs. `messages` does not matter.
    largest : int
        Bytes of the largest message between ranks. Where messages of the network to be predicted are smaller, so should
        this be: a line through all sizes is not the best one for some of them.

    Returns
    -------
    Calibration

    Raises
    ------
    BackendUnavailable
        If `backend` cannot run here.
    InputError
        If a script calls this without a main guard: the process that receives the messages imports the script. With
        `cluster`, if this is the only rank.
    WorkerError
        If the process that receives the messages fails.

    Notes
    -----
    t_c, and t_s with t_b, are straight lines through the measured times (SciPy's least squares, relative errors), with
    95 % confidence intervals. Section 4 of the paper calls them the time of one operation, start-up and time per byte.

    Between ranks, messages of 8 to `largest` bytes go there and back again; the smallest and the four largest sizes
    count, with the median of half the time of a round trip. Of the ways from rank 0 to a rank on its host and to ranks
    on some others, the one with the largest t_b counts. In exchanges all ranks send at once, in both directions, as in
    training: a second line, whose byte takes longer where ranks share links or CPUs.
    """
    not_negative(seconds=seconds)
    messages = flag(messages, "messages")
    if flag(cluster, "cluster"):
        return _of_ranks(backend, seconds, integer(largest, "largest", minimum=64))
    return _constants(backend, seconds, messages)


def _constants(backend: str | None, seconds: float, messages: bool = False, threads: int | None = None) -> Calibration:
    """The constants of this machine; `threads` are those of a rank that shares it."""
    names = [name for name, reason in backends().items() if reason is None and name != "reference"]
    if backend is not None:
        names = [get_backend(backend).name]
    timed = time_messages() if messages else None  # first, so that a script without a main guard is told at once
    rates: dict[str, dict[str, Fit]] = {}
    starts: dict[str, dict[str, Fit]] = {}
    shares: dict[str, float] = {}
    for name in names:
        measured = {algorithm: _operations(name, algorithm, seconds, threads) for algorithm in algorithms(name)}
        starts[name] = {algorithm: fits[0] for algorithm, fits in measured.items() if fits is not None}
        rates[name] = {algorithm: fits[1] for algorithm, fits in measured.items() if fits is not None}
        shares[name] = _parallel_share(name, seconds, threads)
    copy = _copies(seconds)
    t_s, t_b, slowdown = Fit(0.0, 0.0, 0.0, "s", 0), copy, 1.0
    if timed is not None:
        t_s, t_b = line(timed.bytes, timed.seconds, "byte")
        slowdown = timed.slowdown
    t_u, t_n = _updates(seconds), _orders(seconds)
    cpus = usable_cpus() if threads is None else threads
    return Calibration(rates, starts, t_s, t_b, t_u, copy, cpus, shares, slowdown, t_n)


def _of_ranks(backend: str | None, seconds: float, largest: int) -> Calibration:
    """The constants of a cluster: rank 0's, and those of messages between ranks."""
    ranks = session("mpi")
    assert ranks is not None
    with ranks.together():
        ranks.agree(
            {"backend": backend, "seconds": seconds, "largest": largest}, remedy="calibrate with the same on all ranks"
        )
        made = _constants(backend, seconds, threads=ranks.threads(None))
        ranks.agree({})  # nobody computes any more
        ways = between(ranks.world, ranks.hosts.places, largest)
        ranks.agree({})  # nobody waits for a message any more
        swapped, at_once = list[Exchange](), 0
        if ranks.size > 1:
            swapped = exchanges(ranks.world, largest, getattr(ranks.world, "patience", None))
            at_once = eager(ranks.world, largest)
        if ranks.leads:
            made = dataclasses.replace(made, **_exchanged(swapped), eager=at_once)
            fits = [line(ends(list(way)), [way[size] for size in ends(list(way))], "byte") for way in ways.values()]
            t_s, t_b = max(fits, key=lambda fit: fit[1].value)
            made = dataclasses.replace(made, t_s=t_s, t_b=t_b)
        return Calibration._of(ranks.of_leader(made._content))


def _exchanged(found: Sequence[Exchange]) -> dict[str, Any]:
    """The constants of exchanges; nothing if messages were too small for a line."""
    if len(found) < FEWEST:
        return {}
    x_s, x_b = line([each.size for each in found], [each.seconds for each in found], "byte")
    return {"x_s": x_s, "x_b": x_b, "x_c": median_of([each.cpu_s / each.size for each in found[1:]], "s/byte")}


def _probe(layer: tuple[int, int, int, int, int]) -> ConvGeometry:
    batch, size, channels, filters, kernel = layer
    return conv_geometry((batch, size, size, channels), (kernel, kernel, channels, filters), padding="same")


def _passes(backend: Any, g: ConvGeometry, algorithm: str, threads: int) -> list[Any]:
    """The three passes of a layer as functions on new random numbers."""
    rng = np.random.default_rng()
    shapes = (g.input_shape, g.weight_shape, g.output_shape)
    x, weight, grad = (backend.admit(rng.standard_normal(shape, dtype=np.float32), "x", 4) for shape in shapes)
    how = {"algorithm": algorithm, "threads": threads}
    return [
        lambda: backend.conv2d(x, weight, None, g, **how),
        lambda: backend.conv2d_input_grad(grad, weight, g, **how),
        lambda: backend.conv2d_weight_grad(x, grad, g, **how),
    ]


def _operations(name: str, algorithm: str, seconds: float, threads: int | None) -> tuple[Fit, Fit] | None:
    """Start-up of a call, and t_c, of one algorithm, from three passes over several layers.

    Only the passes and layers that the algorithm does are measured; None if they are too few for a line.
    """
    backend = get_backend(name)
    amounts, times = [], []
    for layer in SMALL_LAYERS if algorithm in SLOW else LAYERS:
        g = _probe(layer)
        for run in _passes(backend, g, algorithm, backend.threads(threads)):
            with contextlib.suppress(InputError):  # it refuses this operation
                times.append(median_seconds(run, budget=seconds))
                amounts.append(g.flops)
    return line(amounts, times, "operation") if len(times) >= FEWEST else None


def _stands_for(backend: str, algorithm: str, g: ConvGeometry) -> bool:
    """Whether the rate of an algorithm may be used for convolutions like `g`."""
    if algorithm == "winograd" and (g.kh, g.kw) != (3, 3):
        return False  # other kernels are done along rows: by winograd_1d, which has a rate of its own
    return takes(backend, algorithm, g)


def takes(backend: str, algorithm: str, g: ConvGeometry) -> bool:
    """Whether an algorithm of a backend does convolutions like `g`: it tries one, on a small image.

    Parameters
    ----------
    backend, algorithm : str
        Their names.
    g : ConvGeometry
        Kernel size, stride, dilation, groups and channels matter; the number and size of images do not.
    """
    return _takes(backend, algorithm, (g.kh, g.kw), (g.sh, g.sw), (g.dh, g.dw), g.groups, g.c, g.k)


@functools.cache
def _takes(
    backend: str, algorithm: str, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int],
    groups: int, channels: int, filters: int,
) -> bool:  # fmt: skip
    size = (1, *(d * (k - 1) + 1 for k, d in zip(kernel, dilation)), channels)
    shape = (*kernel, channels // groups, filters)
    g = conv_geometry(size, shape, stride=stride, dilation=dilation, groups=groups)
    try:
        _passes(get_backend(backend), g, algorithm, 1)[0]()
    except InputError:
        return False
    return True


def _parallel_share(name: str, seconds: float, most: int | None) -> float:
    """The share of a middle layer's work that threads divide (Amdahl's law), from times on one and on all threads."""
    backend = get_backend(name)
    threads = backend.threads(most)
    if threads < 2:
        return 0.0
    g = _probe(LAYERS[-1])
    one, many = (
        sum(median_seconds(run, budget=seconds) for run in _passes(backend, g, "auto", count)) for count in (1, threads)
    )
    share = (1 - many / one) / (1 - 1 / threads)
    return float(np.clip(share, 0.0, 1.0))


def _samples(work: Callable[[], object], seconds: float, before: Callable[[], object] = lambda: None) -> list[float]:
    """Seconds of single calls, at least nine of them, so that the median leaves out those that lost their CPU.

    `before` is called before each, and is not timed.
    """
    before()
    work()
    samples: list[float] = []
    end = time.perf_counter() + seconds
    while len(samples) < 9 or time.perf_counter() < end:
        before()
        start = time.perf_counter()
        work()
        samples.append(time.perf_counter() - start)
    return samples


def _copies(seconds: float) -> Fit:
    """Seconds a byte to copy 4 MB, about a model's parameters, between arrays of one process."""
    source = np.random.default_rng().integers(0, 255, 1 << 22, dtype=np.uint8)
    target = np.empty_like(source)
    samples = _samples(lambda: np.copyto(target, source), seconds)
    return median_of([sample / source.nbytes for sample in samples], "s/byte")


def _orders(seconds: float) -> Fit:
    """Seconds an example to make an epoch's order, with as many examples and classes as FER2013 has."""
    labels = np.random.default_rng().integers(0, 7, 28709)
    samples = _samples(lambda: stratified_order(labels, seed=0, epoch=0), seconds)
    return median_of([sample / labels.size for sample in samples], "s/example")


def _updates(seconds: float) -> Fit:
    """Seconds a parameter for an update of a million parameters, which are in no cache, by SGD with momentum."""
    optimizer = optim.SGD(lr=1e-3, momentum=0.9)
    flat, gradient = np.random.default_rng().standard_normal((2, 1 << 20), dtype=np.float32)
    state = optimizer.init(flat.size, flat.dtype)
    between = np.ones(1 << 23, np.float32)
    # What comes between evicts the parameters from the caches, as the computation of a gradient does.
    evict = functools.partial(np.add, between, 1, out=between)
    samples = _samples(lambda: optimizer.update(flat, gradient, state, 1), seconds, evict)
    return median_of([sample / flat.size for sample in samples], "s/parameter")
