"""pyconv: parallel training of convolutional networks from NumPy arrays."""

__version__ = "0.1.0"
