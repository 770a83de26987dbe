"""The cost model: measures what computation and communication cost here, and predicts what parallel training gains.

:func:`calibrate` measures this machine's constants. :func:`predict` gives the time of an epoch under an update rule,
and :func:`advise` the number of workers. :func:`speedup` is the paper's equation (8). :func:`simulate` (needs SimPy,
the extra ``pip install '.[simulate]'``) simulates clusters that the equations do not cover.
"""

from ..parallel.messages import Messages
from .advice import Advice, advise, advised_workers
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
from .layers import cut
from .network import Measured, Workload, measure, workload
from .prediction import Prediction, predict
from .row_split import SplitTime, row_split
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
    "SplitTime",
    "Workload",
    "advise",
    "advised_workers",
    "averaging_time",
    "bend",
    "calibrate",
    "communication_time",
    "computation_time",
    "cost",
    "curve",
    "cut",
    "epoch_time",
    "measure",
    "operations",
    "parallel_time",
    "predict",
    "row_split",
    "serial_time",
    "shuffle_time",
    "simulate",
    "speedup",
    "workload",
]
