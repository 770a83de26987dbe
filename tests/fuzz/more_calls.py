"""The rest of the public functions: filters of SciPy's signature, ONNX files, update rules, the cost model, reports."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import pyconv
from pyconv import checkpoint, costmodel, nn, optim, parallel, reporting
from pyconv.parallel import rules

Given = dict[str, Any]

_MODEL = nn.Sequential([nn.Conv2D(2, 3), nn.ReLU(), nn.Flatten(), nn.Dense(3)], (6, 6, 1))
_FIT = costmodel.Fit(1e-9, 1e-9, 2e-9, "s/operation", 5)
_MACHINE = costmodel.Calibration(
    {"serial": {"direct": _FIT, "auto": _FIT}},
    {"serial": {"direct": _FIT, "auto": _FIT}},
    *[_FIT] * 4,
    2,
    {"serial": 0.0},
)


def _range(value: Any) -> None:
    model = copy.deepcopy(_MODEL)
    model.input_range = value


def _with_machine(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with a given calibration; without one it would measure the machine for seconds."""
    return lambda **given: function(
        **{**given, "calibration": _MACHINE if given["calibration"] is None else given["calibration"]}
    )


def _equations() -> dict[str, tuple[Callable[..., Any], Callable[[], Given]]]:
    constants = {"t_c": 1e-9, "t_s": 1e-5, "t_b": 1e-9}
    return {
        "operations": (costmodel.operations, lambda: {"n": 28, "m": 5, "k": 3}),
        "serial_time": (costmodel.serial_time, lambda: {"n": 28, "m": 5, "k": 3, "t_c": 1e-9}),
        "speedup": (costmodel.speedup, lambda: {"p": 4, "n": 28, "m": 5, **constants, "s": 1}),
        "cost": (
            costmodel.cost,
            lambda: {"update": "local", "workers": 3, "parameters": 100, "itemsize": 4, "t_s": 1e-5, "t_b": 1e-9,
                     "t_u": 1e-9, "every": 3},
        ),
        "Cluster": (
            costmodel.Cluster,
            lambda: {"gradient_s": 0.01, "parameter_bytes": 1e6, "update_s": 0.0, "t_s": 1e-5, "t_b": 1e-9,
                     "workers_per_node": 2, "spread": 0.1, "straggler_share": 0.1, "straggler_factor": 2.0,
                     "tree": True},
        ),
        "simulate": (
            costmodel.simulate,
            lambda: {"cluster": costmodel.Cluster(0.01, 1e6), "workers": 2, "update": "easgd", "steps": 3, "every": 2,
                     "epoch": 4, "staleness": 1, "seed": 0},
        ),
        "Fit": (costmodel.Fit, lambda: {"value": 1.0, "low": 0.5, "high": 2.0, "unit": "s", "points": 3}),
        "Calibration.load": (costmodel.Calibration.load, lambda: {"path": Path("calibration.json")}),
        "Calibration.save": (_MACHINE.save, lambda: {"path": Path("saved.json")}),
        "Calibration.rate": (_MACHINE.rate, lambda: {"backend": "serial", "algorithm": "auto"}),
        "workload": (costmodel.workload, lambda: {"model": _MODEL}),
        "predict": (
            _with_machine(costmodel.predict),
            lambda: {"model": _MODEL, "batch": 4, "workers": 2, "update": "local", "images": 100, "threads": 1,
                     "backend": "serial", "calibration": _MACHINE, "measure": False, "gradient_s": 0.01,
                     "update_s": 1e-4, "spread": 0.1, "every": 3},
        ),
        "predict, estimated": (
            _with_machine(costmodel.predict),
            lambda: {"model": _MODEL, "batch": 4, "update": "sync", "images": 100, "threads": 1, "backend": "serial",
                     "calibration": _MACHINE, "measure": False},
        ),
        "advise": (
            _with_machine(lambda **given: costmodel.advise(seconds=0.0, **given)),
            lambda: {"model": _MODEL, "batch": 4, "update": "sync", "images": 100, "backend": "serial", "cpus": 2,
                     "threads": 1, "shared": True, "calibration": _MACHINE},
        ),
        "measure": (
            lambda **given: costmodel.measure(seconds=0.0, **given),
            lambda: {"model": _MODEL, "batch": 2, "backend": "serial", "threads": 1, "data": 8},
        ),
        "calibrate": (
            lambda **given: costmodel.calibrate("nowhere", **given), lambda: {"seconds": 0.01, "messages": True},
        ),
        "curve": (
            costmodel.curve,
            lambda: {"cluster": costmodel.Cluster(0.01, 1e6), "update": "sync", "workers": [1, 2]},
        ),
        "bend": (
            costmodel.bend,
            lambda: {"points": costmodel.curve(costmodel.Cluster(0.01, 1e6), "sync", [1, 2], steps=2), "share": 0.5},
        ),
    }  # fmt: skip


def _job() -> Given:
    return {
        "optimizer": optim.SGD(0.01), "batch_size": 4, "epochs": 1, "seed": 0, "schedule": optim.schedule("cosine"),
        "augment": {"shift": 1}, "backend": "serial", "threads_per_worker": 1, "workers": 1, "update": "sync",
        "options": {}, "on_worker_failure": "restart", "trace": None,
    }  # fmt: skip


def _engine(**given: Any) -> None:
    x, labels = np.zeros((6, 6, 6, 1), np.uint8), np.arange(6) % 3
    engine = parallel.engine_for(copy.deepcopy(_MODEL), x, labels, parallel.Job(**given))
    try:
        list(engine.epoch(0))
    finally:
        engine.close()


def table(folder: Path) -> dict[str, tuple[Callable[..., Any], Callable[[], Given], frozenset[str]]]:
    """Functions and their valid arguments by name, and those arguments in which a large number takes days."""
    image, kernel = np.arange(48.0).reshape(6, 8), np.arange(9, dtype=np.float64).reshape(3, 3)
    _MACHINE.save(folder / "calibration.json")
    how = {"mode": "same", "boundary": "fill", "fillvalue": 0, "origin": 0, "backend": "serial", "threads": 1}
    saved = folder / "model.safetensors"
    calls: dict[str, tuple[Callable[..., Any], Callable[[], Given]]] = {
        "convolve2d": (pyconv.convolve2d, lambda: {"in1": image, "in2": kernel, **how}),
        "correlate2d": (pyconv.correlate2d, lambda: {"in1": image.astype("i4"), "in2": kernel.astype("i4"), **how}),
        "to_onnx": (
            lambda path, **a: _MODEL.to_onnx(path, **a),
            lambda: {"path": folder / "model.onnx", "layout": "NCHW", "opset": 17, "softmax": False},
        ),
        "InputRange": (nn.InputRange, lambda: {"dtype": "uint8", "low": 0.0, "high": 255.0}),
        "InputRange.from_config": (
            nn.InputRange.from_config, lambda: {"config": {"dtype": "uint8", "low": 0.0, "high": 255.0}},
        ),
        "model.input_range": (_range, lambda: {"value": nn.InputRange("uint8", 0.0, 255.0)}),
        "rule_for": (rules.rule_for, lambda: {"update": "ssp", "options": {"staleness": 2}}),
        "SSP": (rules.SSP, lambda: {"staleness": 3}),
        "Async": (rules.Async, lambda: {"staleness_aware": True}),
        "EASGD": (rules.EASGD, lambda: {"sync_every": 3, "elastic_rho": 0.5}),
        "Local": (rules.Local, lambda: {"sync_every": 3}),
        "Job": (parallel.Job, _job),
        "Job.learning_rate": (parallel.Job(**_job()).learning_rate, lambda: {"step": 1, "steps_per_epoch": 3}),
        "engine_for": (
            _engine,
            _job,
        ),
        "share": (parallel.share, lambda: {"array": np.zeros(3), "purpose": "a test"}),
        "smallest_batch": (
            lambda **given: parallel.smallest_batch(7, least=2, **given), lambda: {"batch_size": 3, "workers": 1},
        ),
        "check_shares": (
            lambda **given: parallel.check_shares(7, least=2, **given), lambda: {"batch_size": 3, "workers": 1},
        ),
        "worker_count": (parallel.worker_count, lambda: {"workers": 3}),
        "EpochOrder": (
            parallel.EpochOrder,
            lambda: {"labels": np.arange(6) % 2, "seed": 0, "epoch": 0, "workers": 2, "batch_size": 2},
        ),
        "read_results": (reporting.read_results, lambda: {"paths": [folder / "nothing.json"]}),
        "read_run": (reporting.read_run, lambda: {"folder": folder / "nothing", "evaluate": False}),
        "Checkpoint.load": (checkpoint.Checkpoint.load, lambda: {"path": saved}),
        **_equations(),
    }  # fmt: skip
    long = {
        name: frozenset({"workers", "steps", "batch", "data"}) for name in ("simulate", "measure", "advise", "curve")
    }
    return {name: (function, given, long.get(name, frozenset())) for name, (function, given) in calls.items()}
