"""What the readers of other libraries' files share: from items to a network.

item.py       what makes a value in the file: a layer, or something that becomes part of one
structure.py  the chain from input to output, forks and joins in it
tidy.py       makes one layer of what exporters write as several nodes
assembly.py   makes the network of a chain
"""

from .assembly import assembled
from .item import Item
from .structure import Chain, Fork, chain_to
from .tidy import take_normalization, tidy

__all__ = ["Chain", "Fork", "Item", "assembled", "chain_to", "take_normalization", "tidy"]
