"""What equations (5) to (8) become for a convolution that is split by rows as :mod:`pyconv.cluster` does it.

The paper sends the border of the image for each of K kernels, in 2 K messages. Here a rank gets the rows that it lacks
of each neighbour in one message, with all channels and for all kernels; how many rows follows from the geometry: with
stride 1 and "same" padding (m - 1) / 2. So a process between two others communicates for as long as equation (6) has it
with one kernel and S = bytes of a pixel:

    T_comm = 2 (t_s + t_b S N (m - 1) / 2)

Of two processes each has one neighbour, and half of that. Of one image a process computes the rows that need no halo,
and then those above and those below, each with a call of its own, which takes a while to start.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..cluster.halo import Halo
from ..cluster.rows import RowSplit, evenly, parts
from ..errors import InputError, shown
from ..shapes import ConvGeometry
from .checks import counts, not_negative, positive


@dataclass(frozen=True)
class SplitTime:
    """The predicted times of a convolution that is split.

    Attributes
    ----------
    serial_s : float
        T_1: seconds of the whole on one process.
    computation_s : float
        T_comp: seconds that the process with the most work computes.
    communication_s : float
        T_comm: seconds that the process with the largest halo waits for it.
    """

    serial_s: float
    computation_s: float
    communication_s: float

    @property
    def speedup(self) -> float:
        """Eq. (8): T_1 over the sum of the other two."""
        return self.serial_s / (self.computation_s + self.communication_s)


def row_split(
    g: ConvGeometry, p: int, *, t_c: float, t_s: float, t_b: float, start_up: float = 0.0, itemsize: int = 4
) -> SplitTime:
    """Predict the times of a convolution whose images are divided by rows among `p` processes.

    Parameters
    ----------
    g : ConvGeometry
        The whole convolution, as :func:`pyconv.shapes.conv_geometry` gives it.
    p : int
        Processes; the rows are divided as evenly as possible.
    t_c : float
        Seconds an operation: ``calibration.rate(backend, algorithm, g).value``.
    t_s, t_b : float
        Seconds to start a message, and a byte, between ranks: ``calibrate(cluster=True)`` measures them.
    start_up : float
        Seconds that a call of a convolution takes whatever its size. Of one image a process makes one for the rows that
        need no halo, and one for those above and below each.
    itemsize : int
        Bytes of a number.

    Returns
    -------
    SplitTime

    Raises
    ------
    InputError
        If an argument is wrong.

    Examples
    --------
    >>> from pyconv import costmodel
    >>> from pyconv.shapes import conv_geometry
    >>> g = conv_geometry((1, 512, 512, 1), (5, 5, 1, 8), padding="same")
    >>> round(costmodel.row_split(g, 2, t_c=2e-11, t_s=1e-4, t_b=1e-8).speedup, 2)
    1.76
    """
    if not isinstance(g, ConvGeometry):
        raise InputError(f"g must be a ConvGeometry, as pyconv.shapes.conv_geometry() gives one, not {shown(g)}")
    counts(p=p, itemsize=itemsize)
    positive(t_c=t_c)
    not_negative(t_s=t_s, t_b=t_b, start_up=start_up)
    split = RowSplit(g, tuple(evenly(g.h, p)))
    halo = Halo(split.inputs, [split.read(rows) for rows in split.outputs])
    row = g.n * g.w * g.c * itemsize
    waits = [[t_s + t_b * row * len(rows) for _, rows in halo.messages(rank)] for rank in range(p)]
    whole = t_c * g.flops
    computes = [
        start_up * len(parts(g.n, rows, split.read_inside(rows, have))) + whole * len(rows) / g.oh
        for rows, have in zip(split.outputs, split.inputs, strict=True)
    ]
    return SplitTime(start_up + whole, max(computes), max(sum(wait) for wait in waits))
