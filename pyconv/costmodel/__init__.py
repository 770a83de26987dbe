"""The cost model: measures what computation and communication cost here, and predicts what parallel training gains.

:func:`calibrate` measures this machine's constants. :func:`predict` gives the time of an epoch under an update rule,
or over the ranks of a cluster, and :func:`advise` the number of workers, or the best split. :func:`speedup` is the
paper's equation (8). :func:`simulate` (needs SimPy, the extra ``pip install '.[simulate]'``) and :func:`simulate_split`
simulate clusters that the equations do not cover.
"""

from ..parallel.messages import Messages
from .advice import advise, advised_workers
from .advised import Advice
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
from .prediction import predict
from .prediction_result import Prediction
from .reductions import REDUCTIONS, reduction_time
from .row_split import SplitTime, row_split
from .rules import Cost, cost
from .simulation import Cluster, Simulated, bend, curve, simulate
from .split_simulation import SimulatedSplit, simulate_split
from .splits import SPLITS

__all__ = [
    "REDUCTIONS",
    "SPLITS",
    "Advice",
    "Calibration",
    "Cluster",
    "Cost",
    "Fit",
    "Measured",
    "Messages",
    "Prediction",
    "Simulated",
    "SimulatedSplit",
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
    "reduction_time",
    "row_split",
    "serial_time",
    "shuffle_time",
    "simulate",
    "simulate_split",
    "speedup",
    "workload",
]
