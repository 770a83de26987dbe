"""The version of pyconv."""

__version__ = "0.1.0"
