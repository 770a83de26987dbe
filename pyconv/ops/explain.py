"""Which kernel a convolution runs, and why: the estimates that are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from pyconv.errors import InputError
from pyconv.shapes import ConvGeometry, Padding, Pair, conv_geometry
from pyconv.values import choice, flag, float_dtype

from .door import Door

OPERATIONS = ("forward", "input gradient", "weight gradient")


@dataclass(frozen=True)
class Candidate:
    """A kernel that can do an operation.

    Attributes
    ----------
    kernel : str
        Its name in the table of kernels, or "fft".
    algorithm : str
        The `algorithm` that it belongs to.
    isa : str
        The instruction set that it is compiled for.
    cycles : float
        The estimate of the work on one thread.
    share : float
        Of the peak, two vector multiply-adds a cycle, if the estimate is right; above 1 where it takes fewer
        multiplications than direct convolution.
    tile : (int, int) or None
        What its registers hold at a time, at most.
    unit, lanes, file : str
        What a tile counts, what the lanes of a vector hold, and the file in ``pyconv/_kernels``.
    items : int or None
        Pieces of work that threads share.
    runs : bool
        Whether it is the one that runs.
    seconds : float or None
        Measured, the median of some calls.
    """

    kernel: str
    algorithm: str
    isa: str
    cycles: float
    share: float
    tile: tuple[int, int] | None
    unit: str
    lanes: str
    file: str
    items: int | None
    runs: bool
    seconds: float | None = None


@dataclass(frozen=True)
class Explanation:
    """The kernels that can do an operation, the one that runs first; printed, it is a table.

    Attributes
    ----------
    operation : str
        "forward", "input gradient" or "weight gradient".
    geometry : ConvGeometry
    dtype : dtype
    threads : int
        On so many it may run.
    candidates : tuple of Candidate
        Those that can do it, in the order of their estimates after the one that runs.
    """

    operation: str
    geometry: ConvGeometry
    dtype: np.dtype
    threads: int
    candidates: tuple[Candidate, ...]

    @property
    def runs(self) -> Candidate:
        """The kernel that runs."""
        return self.candidates[0]

    def __str__(self) -> str:
        g, measured = self.geometry, any(each.seconds for each in self.candidates)
        titles = ["", "kernel", "algorithm", "instructions", "cycles", "of the peak", "ms", "GFLOP/s", "tile"]
        table = [titles, *(_cells(each, g) for each in self.candidates)]
        shown = [i for i in range(len(titles)) if measured or titles[i] not in ("ms", "GFLOP/s")]
        widths = [max(len(row[i]) for row in table) for i in range(len(titles))]
        lines = [f"{self.operation}, {self.dtype}, images {g.input_shape}, filters {g.weight_shape}"]
        for row in table:
            cells = [row[i].rjust(widths[i]) if i in _NUMBERS else row[i].ljust(widths[i]) for i in shown]
            lines.append("  ".join(cells).rstrip())
        return "\n".join(lines)

    __repr__ = __str__


_NUMBERS = (4, 5, 6, 7)  # columns that are adjusted to the right


def _cells(each: Candidate, g: ConvGeometry) -> list[str]:
    """One line of the table."""
    cells = ["*" if each.runs else "", each.kernel, each.algorithm, each.isa]
    cells += [f"{each.cycles:,.0f}", f"{100 * each.share:.0f} %"]
    cells += [f"{1e3 * each.seconds:.3g}", f"{g.flops / each.seconds / 1e9:.1f}"] if each.seconds else ["", ""]
    return [*cells, f"{each.tile[0]} x {each.tile[1]} ({each.unit})" if each.tile else ""]


def explain(
    input_shape: tuple[int, int, int, int],
    weight_shape: tuple[int, int, int, int],
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    layout: str = "NHWC",
    dtype: DTypeLike = "float32",
    operation: str = "forward",
    backend: str = "auto",
    algorithm: str = "auto",
    threads: int | None = 1,
    measure: bool = False,
) -> Explanation:
    """Say which kernel a convolution runs, and what the others were estimated to cost.

    The estimates are those that are compared when the operation runs: there is one table of kernels, and one loop
    that chooses from it.

    Parameters
    ----------
    input_shape : (int, int, int, int)
        Of the images, in `layout`'s order.
    weight_shape : (int, int, int, int)
        Of the filters, in `layout`'s order.
    stride, padding, dilation, groups, layout : see :func:`conv2d`
    dtype : "float32" or "float64"
    operation : "forward", "input gradient" or "weight gradient"
    backend : str
        One with a table of kernels: "auto", "serial" or "multicore".
    algorithm : str
        "auto" or one of ``pyconv.algorithms(backend)``, except "naive": loops without an estimate.
    threads : int, optional
        Threads of the measurements; every CPU that the process may use if it is None.
    measure : bool
        Run each kernel on random numbers too, and report the time of a call.

    Returns
    -------
    Explanation
        Printed, it is a table of the kernels that can do the operation: the one that runs, marked with ``*``, and the
        others by their estimates. "of the peak" is the share of two vector multiply-adds a cycle that the estimate
        means, in work of direct convolution. A kernel that is only a little cheaper is not always preferred to the
        usual one: the reference's table of the kernels shows by how much it must be.

    Raises
    ------
    ShapeError, DtypeError, InputError, BackendUnavailable
        As :func:`conv2d`; InputError too if the backend or the algorithm has no estimates.

    Examples
    --------
    >>> import pyconv
    >>> found = pyconv.explain((64, 48, 48, 1), (5, 5, 1, 32), padding=2)
    >>> found.runs.runs, found.runs.cycles == min(each.cycles for each in found.candidates)
    (True, True)
    """
    door = Door(backend, layout, threads)
    what = OPERATIONS.index(choice(operation, "operation", OPERATIONS))
    number = float_dtype(dtype)
    g = conv_geometry(
        door.image_shape(input_shape), door.filter_shape(weight_shape), stride=stride, padding=padding,
        dilation=dilation, groups=groups,
    )  # fmt: skip
    door.backend.check_algorithm(algorithm)
    operands = _operands(what, g, number) if flag(measure, "measure") else None
    lines = None
    if algorithm != "naive":
        lines = door.backend.candidates(what, g, number, algorithm, operands=operands, threads=door.threads)
    if lines is None:
        raise InputError(
            f"algorithm {algorithm!r} of backend {door.backend.name!r} has no estimates to compare: explain 'auto' or "
            "'direct' of 'serial' or 'multicore'"
        )
    found = [_candidate(line, g) for line in lines]
    found.sort(key=lambda each: (not each.runs, each.cycles))
    return Explanation(operation, g, number, door.threads, tuple(found))


def _operands(what: int, g: ConvGeometry, dtype: np.dtype) -> tuple[np.ndarray, ...]:
    """Random numbers for an operation, and a place for its result."""
    rng = np.random.default_rng(0)
    shapes = [g.input_shape, g.weight_shape, g.output_shape]
    order = ((0, 1, 2), (2, 1, 0), (0, 2, 1))[what]
    return tuple(rng.standard_normal(shapes[i]).astype(dtype) for i in order)


def _candidate(line: dict[str, Any], g: ConvGeometry) -> Candidate:
    """One of a backend's candidates, with its share of the peak."""
    lanes = line.pop("lanes")
    peak = g.flops / (4 * lanes)  # cycles at two vector multiply-adds each
    return Candidate(lanes=line.pop("holds"), share=peak / line["cycles"] if line["cycles"] else 0.0, **line)
