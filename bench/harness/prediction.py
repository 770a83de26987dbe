"""What the cost model predicts for a benchmark, to be drawn over what is measured."""

from __future__ import annotations

from pyconv import threads
from pyconv.costmodel import Calibration
from pyconv.costmodel.network import amdahl
from pyconv.shapes import ConvGeometry


def predicted_seconds(
    calibration: Calibration, column: str, g: ConvGeometry, flops: float, calls: int = 1
) -> float | None:
    """Start-up and operations at t_c, the equation T_1 (and (5) for several threads); None for what is not calibrated.

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
    start = min(fit.value for fit in calibration.start_up[backend].values())
    share = calibration.parallel_share.get(backend, 0.0)
    used = threads.usable_cpus() if backend == "multicore" else 1
    whole = calibration.cpus if backend == "multicore" else 1
    return calls * start + flops * rate.value * amdahl(share, used) / amdahl(share, whole)
