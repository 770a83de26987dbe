"""Training on several machines: ranks that MPI has started, each a node with workers of its own.

Rank 0 leads: it has the terminal and the run folder, and runs the loop; the others follow. Update rules see a
communicator (:class:`.lanes.Lanes`), as they do on one machine.
"""

from .data import SHARD, load, shard
from .launch import launched
from .session import CHOICES, Session, about, session
from .shards import Shard

__all__ = ["CHOICES", "SHARD", "Session", "Shard", "about", "launched", "load", "session", "shard"]
