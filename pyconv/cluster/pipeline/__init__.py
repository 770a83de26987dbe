"""Pipelines: the layers of a network cut into stages, one rank each; micro-batches go through them one behind another.

schedule.py     the order in which a stage computes its micro-batches, and the messages between: functions alone
stage.py        what one rank computes, and what it sends its neighbours
clipping.py     the norm of a gradient that is spread over the stages
leader.py       the engine of rank 0
following.py    the other ranks, which do what rank 0 says
transfer.py     brings the stages' parameters and state to rank 0, and back
"""

from .following import follow
from .leader import Leader
from .schedule import bubble
from .stage import Stage

__all__ = ["Leader", "Stage", "bubble", "follow"]
