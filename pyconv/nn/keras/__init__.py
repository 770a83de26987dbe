"""Reads Keras's files as networks: ``.keras`` of Keras 3, and ``.h5`` of older versions.

archive.py   opens the file safely: the configuration, and the place of the weights
config.py    Keras's nested configuration as a list of layers that take each other's results
entry.py     one layer of the file: its settings, its weights, how it is refused
layers.py    what each layer becomes: a table, one function a layer
network.py   the whole network
"""

from .network import read

__all__ = ["read"]
