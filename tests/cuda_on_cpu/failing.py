"""Devices that fail as GPUs do."""

from __future__ import annotations

from typing import Any

from pyconv.cuda.errors import DeviceLostError

from .device import EmulatedDevice, EmulatedProgram


class OutOfMemory(EmulatedDevice):
    """A device with 100 kB of memory."""

    def __init__(self) -> None:
        super().__init__(memory=100_000)


class LostInMidRun(EmulatedDevice):
    """A device that stops working after some hundred launches."""

    def compile(self, name: str, macros: Any) -> Any:
        return _Lost(self, super().compile(name, macros))


class _Lost:
    def __init__(self, device: EmulatedDevice, program: EmulatedProgram) -> None:
        self._device, self._program = device, program

    def launch(self, *args: Any, **kwargs: Any) -> None:
        if len(self._device.launches) > 15:
            raise DeviceLostError("the GPU failed: an illegal memory access was encountered")
        self._program.launch(*args, **kwargs)
