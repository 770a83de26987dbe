"""The network split by rows of the images: each rank has some rows in every layer, up to the first that needs all.

layers.py       layers of one rank's network: they get the rows that they lack, and compute theirs
norm.py         batch normalisation with the statistics of all rows
network.py      one rank's network, which stands for the whole in training
member.py       what a rank does in a step
"""

from .member import RowMember

__all__ = ["RowMember"]
