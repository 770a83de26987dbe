"""The GPU backend, through PyCUDA: the paper's convolution variants and everything else that training needs.

Importing it needs neither PyCUDA nor a GPU: the device is made at the first operation.
"""

from .array import DeviceArray
from .device import Device, current, join, unavailable, use
from .errors import CompileError, DeviceLostError, DeviceMemoryError
from .tuning import tune

#: The convolution variants, in the order in which the documentation teaches them.
algorithms = ("naive", "shared_input", "shared_input_filter", "block_tuned", "implicit_gemm", "first_layer")

__all__ = [
    "CompileError",
    "Device",
    "DeviceArray",
    "DeviceLostError",
    "DeviceMemoryError",
    "algorithms",
    "current",
    "join",
    "tune",
    "unavailable",
    "use",
]
