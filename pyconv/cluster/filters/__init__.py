"""The network split within its layers: each rank has some filters of each convolution, some units of each dense layer.

backend.py      the backend whose convolutions and dense layers are computed by all ranks together
parts.py        which filters a rank has, and which numbers of the parameters and the optimizer's state with them
member.py       what a rank does in a step
"""

from .member import FilterMember

__all__ = ["FilterMember"]
