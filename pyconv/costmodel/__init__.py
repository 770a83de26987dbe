"""The cost model: what computation and communication cost here, and what parallel training will gain.

:func:`calibrate` measures this machine's constants, :func:`predict` an epoch under each update rule, :func:`advise`
says how many workers to use, :func:`speedup` is the paper's equation (8), and :func:`simulate` (needs SimPy, the extra
``pip install '.[simulate]'``) plays clusters that the closed form does not cover.
"""

from .advice import Advice, advise
from .calibration import Calibration, calibrate
from .equations import (
    averaging_time,
    communication_time,
    computation_time,
    epoch_time,
    operations,
    parallel_time,
    serial_time,
    shuffle_time,
    speedup,
)
from .fits import Fit
from .link import Messages
from .network import Measured, Workload, measure, workload
from .prediction import Prediction, predict
from .rules import Cost, cost
from .simulation import Cluster, Simulated, bend, curve, simulate

__all__ = [
    "Advice",
    "Calibration",
    "Cluster",
    "Cost",
    "Fit",
    "Measured",
    "Messages",
    "Prediction",
    "Simulated",
    "Workload",
    "advise",
    "averaging_time",
    "bend",
    "calibrate",
    "communication_time",
    "computation_time",
    "cost",
    "curve",
    "epoch_time",
    "measure",
    "operations",
    "parallel_time",
    "predict",
    "serial_time",
    "shuffle_time",
    "simulate",
    "speedup",
    "workload",
]
