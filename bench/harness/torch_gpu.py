"""PyTorch on the GPU as the peer: cuDNN in strict float32 and with TF32, timed by events as pyconv is."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

#: TF32 keeps 10 bits of each factor, float32 keeps 23: TF32 is another precision and has separate columns.
PRECISIONS = ("float32", "TF32")


@contextlib.contextmanager
def precision(torch: Any, name: str) -> Iterator[None]:
    """Within it, convolutions and products are in float32 or TF32, and cuDNN tries which algorithm is fastest."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark
    cudnn.allow_tf32 = matmul.allow_tf32 = name == "TF32"
    cudnn.benchmark = True
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark = before


class TorchClocked:
    """A candidate on the GPU that is timed by PyTorch's events.

    Parameters
    ----------
    torch : module
    run : callable
        Starts the work of a call, and does not wait for it.
    how : {"float32", "TF32"}
    """

    most_calls = 64

    def __init__(self, torch: Any, run: Callable[[], Any], how: str) -> None:
        self._torch, self._run, self._how = torch, run, how

    def __call__(self) -> Any:
        with precision(self._torch, self._how):
            return self._run()

    def seconds(self, calls: int) -> float:
        """Mean seconds of a call on the device, which is kept busy until all calls are queued."""
        cuda = self._torch.cuda
        with precision(self._torch, self._how):
            cuda.synchronize()
            began = time.perf_counter()
            self._run()
            host_s = time.perf_counter() - began
            start, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
            cuda._sleep(int((1.5 * host_s * calls + 1e-4) * 2e9))  # cycles of some 2 GHz
            start.record()
            for _ in range(calls):
                self._run()
            end.record()
            end.synchronize()
        return start.elapsed_time(end) / 1e3 / calls


class Stepper:
    """A candidate that is timed by the wall clock: a whole step, with the host's work.

    Parameters
    ----------
    step : callable
        A training step that returns its loss to the host, and so has ended when it returns.
    """

    def __init__(self, torch: Any, step: Callable[[], float], how: str) -> None:
        self._torch, self._step, self._how = torch, step, how

    def __call__(self) -> float:
        with precision(self._torch, self._how):
            return self._step()
