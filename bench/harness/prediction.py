"""The cost model's predictions for the benchmarks, which are drawn over the measurements."""

from __future__ import annotations

from pyconv import threads
from pyconv.costmodel import Calibration
from pyconv.costmodel.network import amdahl
from pyconv.shapes import ConvGeometry


def predicted_seconds(
    calibration: Calibration, column: str, g: ConvGeometry, flops: float, calls: int = 1
) -> float | None:
    """Seconds by the equation T_1 ((5) for several threads): start-up, and operations at t_c; None without calibration.

    `flops` are those of all `calls` passes over a layer of geometry `g`.
    `column` begins with the backend's name and may go on with the algorithm's: "serial naive", "multicore, 2 threads".
    """
    backend, _, rest = column.partition(" ")
    backend = backend.rstrip(",")
    algorithm = rest.split(",")[0] or "auto"
    if backend not in calibration.t_c:
        return None
    if algorithm not in calibration.t_c[backend]:
        algorithm = "auto"
    rate = calibration.rate(backend, algorithm, g)
    return calls * _start(calibration, backend) + flops * rate.value * _scale(calibration, backend)


def predicted_dense_seconds(
    calibration: Calibration, column: str, flops: float, weight_bytes: float, calls: int = 1
) -> float | None:
    """The same for a fully connected layer: operations at the t_c of direct convolution, and in each of `calls` passes
    all weights once at the speed of a copy, which takes one thread's time for any number of threads."""
    backend = column.partition(",")[0]
    if "direct" not in calibration.t_c.get(backend, {}):
        return None
    seconds = flops * calibration.rate(backend, "direct").value * _scale(calibration, backend)
    return calls * (_start(calibration, backend) + weight_bytes * calibration.t_copy.value) + seconds


def _start(calibration: Calibration, backend: str) -> float:
    """Seconds that each call takes whatever its size."""
    return min(fit.value for fit in calibration.start_up[backend].values())


def _scale(calibration: Calibration, backend: str) -> float:
    """Factor from the number of threads of the calibration to the number that runs here."""
    if backend != "multicore":
        return 1.0
    share = calibration.parallel_share.get(backend, 0.0)
    return amdahl(share, threads.usable_cpus()) / amdahl(share, calibration.cpus)
