"""Loads the weights of a PyTorch network, saved as safetensors, into a pyconv network.

expected.py  what PyTorch calls the arrays of each layer, their shapes there, and how they are turned
matching.py  which module of the file belongs to which layer
reading.py   reads the file and does it all
"""

from .reading import load_weights

__all__ = ["load_weights"]
