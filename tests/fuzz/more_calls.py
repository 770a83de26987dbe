"""The rest of the public functions: filters of SciPy's signature, ONNX files, update rules, the cost model, reports."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import pyconv
from pyconv import checkpoint, costmodel, nn, parallel, reporting
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
    }  # fmt: skip


def table(folder: Path) -> dict[str, tuple[Callable[..., Any], Callable[[], Given], frozenset[str]]]:
    """Functions and their right arguments by name, and those in which a large number is right and takes days."""
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
    long = {"simulate": frozenset({"workers", "steps"}), "Cluster": frozenset()}
    return {name: (function, given, long.get(name, frozenset())) for name, (function, given) in calls.items()}
