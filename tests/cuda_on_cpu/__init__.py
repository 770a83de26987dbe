"""A CUDA device in software: pyconv's unchanged .cu files, compiled with g++, one fiber per CUDA thread.

:class:`device.EmulatedDevice` has the interface of :mod:`pyconv.cuda.device`, so that the host code above it is the
code that drives a real GPU.
"""
