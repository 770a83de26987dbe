"""The public functions behind reports and workers, and the paper's equations."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pyconv import costmodel, nn, parallel, reporting

from . import onnx_files

Given = dict[str, Any]
Parts = tuple[Callable[..., Any], Callable[[], Given], frozenset[str]]

_TABLE = reporting.Table(("a", "b"), [("1", "2")], "A table", words=(1,))
_RUN = reporting.Run(
    "run", {"model": {"name": "fer"}, "data": {"source": "faces"}},
    [{"epoch": 1, "step": 2, "images": 10, "seconds": 0.1, "elapsed_s": 0.1, "train_loss": 0.5, "train_accuracy": 0.8,
      "val_loss": 1.6, "val_accuracy": 0.5, "workers": 1, "update": "sync", "compute_s": 0.1,
      "communication_s": 0.0, "staleness_max": 0, "restarts": 0}],
    None, "not asked for",
)  # fmt: skip


def _reports(folder: Path) -> dict[str, tuple[Callable[..., Any], Callable[[], Given]]]:
    picture = reporting.Picture("empty", Figure, "A picture")
    return {
        "Table": (
            reporting.Table,
            lambda: {"header": ["a", "b"], "rows": [["1", "2"]], "caption": "A table", "text": False, "words": (1,)},
        ),
        "Picture": (reporting.Picture, lambda: {"name": "curves", "draw": Figure, "caption": "A picture"}),
        "Section": (reporting.Section, lambda: {"title": "A section", "blocks": ["a paragraph", _TABLE]}),
        "write": (
            reporting.write,
            lambda: {"folder": folder / "report", "title": "A report",
                     "sections": [reporting.Section("A section", ["a paragraph", _TABLE])]},
        ),
        "write, a picture": (
            lambda blocks: reporting.write(folder / "report", "A report", [reporting.Section("A section", blocks)]),
            lambda: {"blocks": [picture]},
        ),
        "summary": (reporting.summary, lambda: {"runs": [_RUN, _RUN]}),
        "run_sections": (reporting.run_sections, lambda: {"runs": [_RUN]}),
        "sweep_table": (reporting.sweep_table, lambda: {"groups": {"sync": [_RUN]}}),
        "sweep_sections": (reporting.sweep_sections, lambda: {"groups": {"sync": [_RUN], "ssp": [_RUN]}}),
        "experiment_sections": (
            reporting.experiment_sections, lambda: {"results": reporting.Results([], {}, {}, {})},
        ),
    }  # fmt: skip


def _equations() -> dict[str, tuple[Callable[..., Any], Callable[[], Given]]]:
    layer = {"p": 4, "n": 28, "m": 5, "k": 3}
    return {
        "computation_time": (costmodel.computation_time, lambda: {**layer, "t_c": 1e-9}),
        "communication_time": (
            costmodel.communication_time, lambda: {"n": 28, "m": 5, "k": 3, "t_s": 1e-5, "t_b": 1e-9, "s": 1.0},
        ),
        "parallel_time": (
            costmodel.parallel_time, lambda: {**layer, "t_c": 1e-9, "t_s": 1e-5, "t_b": 1e-9, "s": 1.0},
        ),
        "averaging_time": (
            costmodel.averaging_time, lambda: {"workers": 3, "parameter_bytes": 1e6, "t_s": 1e-5, "t_b": 1e-9},
        ),
        "shuffle_time": (
            costmodel.shuffle_time, lambda: {"workers": 3, "examples": 100, "t_n": 1e-9, "cpus": 2},
        ),
        "epoch_time": (
            costmodel.epoch_time,
            lambda: {"workers": 3, "compute_s": 0.1, "parameter_bytes": 1e6, "t_s": 1e-5, "t_b": 1e-9,
                     "shuffle_s": 0.0},
        ),
    }  # fmt: skip


def _classifier() -> dict[str, tuple[Callable[..., Any], Callable[[], Given]]]:
    """The classifier for scikit-learn, if that is installed: its parameters, with valid data."""
    if importlib.util.find_spec("sklearn") is None:
        return {}
    from pyconv.sklearn import ConvNetClassifier

    x, y = np.random.default_rng(0).random((8, 4, 4)), np.arange(8) % 2
    right = {
        "model": [nn.Flatten(), nn.Dense(2)], "image_shape": None, "epochs": 1, "batch_size": 4, "optimizer": "adam",
        "lr": 0.1, "schedule": None, "class_weight": None, "label_smoothing": 0.0, "augment": None,
        "early_stopping": False, "validation_fraction": 0.25, "n_iter_no_change": 2, "tol": 1e-4, "warm_start": False,
        "n_jobs": None, "update": "sync", "backend": "serial", "dtype": "auto", "random_state": 0,
    }  # fmt: skip
    return {"ConvNetClassifier": (lambda **given: ConvNetClassifier(**given).fit(x, y), lambda: dict(right))}


def _onnx(folder: Path) -> dict[str, tuple[Callable[..., Any], Callable[[], Given]]]:
    if not onnx_files.THERE:
        return {}
    onnx_files.make_files(folder)
    return {"load, ONNX": (nn.load, lambda: {"path": folder / "plain.onnx", "input_shape": (6, 6, 1)})}


def table(folder: Path) -> dict[str, Parts]:
    """Functions and their valid arguments by name, and those arguments in which a large number takes days."""
    calls = {
        **_reports(folder),
        **_equations(),
        **_classifier(),
        **_onnx(folder),
        "Weighing": (
            parallel.Weighing, lambda: {"images": np.ones(6), "classes": np.ones(3), "smoothing": 0.1},
        ),
    }  # fmt: skip
    return {name: (*parts, frozenset({"epochs", "n_jobs"})) for name, parts in calls.items()}
