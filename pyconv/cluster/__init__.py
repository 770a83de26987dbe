"""Training on several machines: ranks that MPI has started, each a node with workers of its own.

Rank 0 leads: it has the terminal and the run folder, and runs the loop; the others follow. Update rules see a
communicator (:class:`.lanes.Lanes`), as they do on one machine.

Convolutions of images that are divided among ranks by rows: :func:`conv2d`, its gradients, :class:`RowConvolution`.
"""

from .convolution import conv2d, conv2d_input_grad, conv2d_weight_grad
from .data import SHARD, load, shard
from .launch import launched
from .parts import gather_rows, split_rows
from .row_convolution import RowConvolution
from .session import CHOICES, SPLITS, Session, about, session
from .shards import Shard
from .wire import WIRES

__all__ = [
    "CHOICES",
    "SHARD",
    "SPLITS",
    "WIRES",
    "RowConvolution",
    "Session",
    "Shard",
    "about",
    "conv2d",
    "conv2d_input_grad",
    "conv2d_weight_grad",
    "gather_rows",
    "launched",
    "load",
    "session",
    "shard",
    "split_rows",
]
