"""Networks that all ranks compute together, step by step, each with a part of every layer.

member.py       what a rank computes: the engine of one process, with a part of the work
leader.py       the engine of rank 0
following.py    the other ranks, which do what rank 0 says
"""

from .following import follow
from .leader import JointLeader
from .member import Member

__all__ = ["JointLeader", "Member", "follow"]
