"""The network split within its layers: each rank has some filters of each convolution, some units of each dense layer.

backend.py      the backend whose convolutions and dense layers are computed by all ranks together
parts.py        which filters a rank has, and which numbers of the parameters and the optimizer's state with them
leader.py       the engine of rank 0
following.py    the other ranks, which do what rank 0 says
"""

from .following import Member, follow
from .leader import FilterLeader

__all__ = ["FilterLeader", "Member", "follow"]
