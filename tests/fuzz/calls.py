"""The public functions and classes, each with valid arguments."""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

import pyconv
from pyconv import datasets, nn, optim

Arguments = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Call:
    """A function, valid arguments, and the arguments in which a large number is valid but takes days."""

    function: Callable[..., Any]
    arguments: Callable[[], Arguments]
    long: frozenset[str] = frozenset()


_rng = np.random.default_rng(0)


def _numbers(*shape: int) -> np.ndarray:
    return _rng.standard_normal(shape, np.float32)


def _images(n: int = 6, dtype: str = "uint8") -> np.ndarray:
    return _rng.integers(0, 256, (n, 6, 6, 1)).astype(dtype)


_LABELS = np.array([0, 1, 2, 0, 1, 2])
_NETWORK = nn.Sequential(
    [
        nn.Conv2D(2, 3, padding="same"),
        nn.BatchNorm(),
        nn.ReLU(),
        nn.MaxPool2D(2),
        nn.Flatten(),
        nn.Dropout(),
        nn.Dense(3),
    ],
    (6, 6, 1),
)
_SMALL = nn.Sequential([nn.Flatten(), nn.Dense(3)], (6, 6, 1))


def _network() -> nn.Sequential:
    return copy.deepcopy(_NETWORK)


def _fit(**arguments: Any) -> Any:
    return pyconv.fit(arguments.pop("model"), arguments.pop("x"), arguments.pop("labels"), **arguments)


def _of_network(name: str) -> Callable[..., Any]:
    """A method of a network of its own."""
    return lambda **arguments: getattr(_network(), name)(**arguments)


def _computed(layer: nn.Layer) -> np.ndarray:
    return nn.Sequential([layer], (6, 6, 2)).forward(_numbers(2, 6, 6, 2))


def _set(name: str) -> Callable[..., Any]:
    """Set an attribute of a network, and compute."""

    def function(value: Any) -> None:
        model = _network()
        setattr(model, name, value)
        model.forward(_images())

    return function


def _update(rule: str, flat: Any, gradient: Any, state: Any, step: Any, lr: Any) -> None:
    optim.by_name(rule).update(flat, gradient, state, step, lr)


def _ops() -> dict[str, Call]:
    x, w, b = _numbers(2, 6, 6, 2), _numbers(3, 3, 2, 4), _numbers(4)
    how: Arguments = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "layout": "NHWC", "backend": "serial",
                      "algorithm": "auto", "threads": 1}  # fmt: skip
    pool = {"pool_size": 2, "stride": None, "padding": 0, "layout": "NHWC", "backend": "multicore", "threads": 1}
    where = {"backend": "auto", "threads": 2}
    d, dw, out = _numbers(3, 4), _numbers(4, 5), _numbers(3, 5)
    table: dict[str, tuple[Any, Arguments]] = {
        "conv2d": (pyconv.conv2d, {"x": x, "weight": w, "bias": b, "activation": "relu", **how}),
        "conv2d_input_grad": (
            pyconv.conv2d_input_grad, {"grad_out": _numbers(2, 4, 4, 4), "weight": w, "input_shape": (2, 6, 6, 2),
            **how},
        ),
        "conv2d_weight_grad": (
            pyconv.conv2d_weight_grad, {"x": x, "grad_out": _numbers(2, 4, 4, 4), "kernel_size": 3, **how},
        ),
        "max_pool2d": (pyconv.max_pool2d, {"x": x, **pool}),
        "avg_pool2d": (pyconv.avg_pool2d, {"x": x, **pool}),
        "max_pool2d_input_grad": (pyconv.max_pool2d_input_grad, {"grad_out": _numbers(2, 3, 3, 2), "x": x, **pool}),
        "avg_pool2d_input_grad": (
            pyconv.avg_pool2d_input_grad, {"grad_out": _numbers(2, 3, 3, 2), "input_shape": (2, 6, 6, 2), **pool},
        ),
        "relu": (pyconv.relu, {"x": x, **where}),
        "relu_grad": (pyconv.relu_grad, {"grad_out": x, "y": x, **where}),
        "dense": (pyconv.dense, {"x": d, "weight": dw, "bias": _numbers(5), "activation": None, **where}),
        "dense_input_grad": (pyconv.dense_input_grad, {"grad_out": out, "weight": dw, **where}),
        "dense_weight_grad": (pyconv.dense_weight_grad, {"x": d, "grad_out": out, **where}),
        "softmax_cross_entropy": (pyconv.softmax_cross_entropy, {"logits": d, "labels": np.array([0, 1, 3]), **where}),
        "algorithms": (pyconv.algorithms, {"backend": "auto"}),
    }  # fmt: skip
    return {name: Call(function, lambda given=given: dict(given)) for name, (function, given) in table.items()}


def _networks(folder: Path) -> dict[str, Call]:
    model = folder / "model.safetensors"
    if not model.exists():
        _NETWORK.save(model)
    toml = folder / "model.toml"
    toml.write_text('input_shape = [6, 6, 1]\n[[layers]]\ntype = "Flatten"\n[[layers]]\ntype = "Dense"\nunits = 3\n')
    state = folder / "state.safetensors"
    shapes = {
        "conv.weight": (2, 1, 3, 3), "conv.bias": (2,), "head.weight": (3, 18), "head.bias": (3,),
        **{f"norm.{name}": (2,) for name in ("weight", "bias", "running_mean", "running_var")},
    }  # fmt: skip
    save_file({name: np.ones(shape, np.float32) for name, shape in shapes.items()}, state)
    size, buffers = _NETWORK.flat.size, _NETWORK.flat_buffers.size
    config = _NETWORK.config
    table: dict[str, tuple[Any, Callable[[], Arguments]]] = {
        "Sequential": (
            nn.Sequential,
            lambda: {"layers": [nn.Flatten(), nn.Dense(2)], "input_shape": (4, 4, 1), "seed": 0, "dtype": "float32"},
        ),
        "Architecture": (nn.Architecture, lambda: {"layers": [nn.Flatten(), nn.Dense(2)], "input_shape": (4, 4, 1)}),
        "Conv2D": (
            lambda **a: nn.Sequential([nn.Conv2D(a.pop("filters"), a.pop("kernel_size"), **a)], (6, 6, 2)),
            lambda: {"filters": 2, "kernel_size": 3, "stride": 1, "padding": 0, "dilation": 1, "groups": 1,
                     "activation": None, "bias": True},
        ),
        "MaxPool2D": (
            lambda **a: nn.Sequential([nn.MaxPool2D(a.pop("pool_size"), **a)], (6, 6, 2)),
            lambda: {"pool_size": 2, "stride": None, "padding": 0},
        ),
        "AvgPool2D": (
            lambda **a: nn.Sequential([nn.AvgPool2D(a.pop("pool_size"), **a)], (6, 6, 2)),
            lambda: {"pool_size": 2, "stride": None, "padding": 0},
        ),
        "BatchNorm": (lambda **a: nn.Sequential([nn.BatchNorm(**a)], (6, 6, 2)), lambda: {"eps": 1e-5,
        "momentum": 0.1}),
        "Dropout": (lambda rate: nn.Sequential([nn.Dropout(rate)], (6,)).forward(_numbers(2, 6), True),
        lambda: {"rate": 0.5}),
        "Dense": (
            lambda **a: nn.Sequential([nn.Dense(a.pop("units"), **a)], (6,)),
            lambda: {"units": 2, "activation": None, "bias": True, "scale": 1.0},
        ),
        "SeparableConv2D": (
            lambda **a: nn.Sequential([nn.SeparableConv2D(a.pop("filters"), a.pop("kernel_size"), **a)], (6, 6, 2)),
            lambda: {"filters": 2, "kernel_size": 3, "stride": 1, "padding": 0, "dilation": 1, "depth_multiplier": 1,
                     "activation": None, "bias": True},
        ),
        "ZeroPad2D": (lambda padding: _computed(nn.ZeroPad2D(padding)), lambda: {"padding": ((1, 0), (0, 1))}),
        "LeakyReLU": (lambda slope: _computed(nn.LeakyReLU(slope)), lambda: {"slope": 0.1}),
        "Clip": (lambda low, high: _computed(nn.Clip(low, high)), lambda: {"low": 0.0, "high": 1.0}),
        "Residual": (
            lambda layers, shortcut: _computed(nn.Residual(layers, shortcut=shortcut)),
            lambda: {"layers": [nn.Conv2D(2, 3, padding="same"), nn.ReLU()], "shortcut": [nn.Conv2D(2, 1)]},
        ),
        "Parallel": (
            lambda branches, join: _computed(nn.Parallel(branches, join=join)),
            lambda: {"branches": [[nn.ReLU()], [nn.Conv2D(2, 1), nn.Tanh()]], "join": "concat"},
        ),
        "from_config, layers in layers": (
            lambda **a: nn.from_config({"input_shape": [6, 6, 2], "layers": [{**a}]}),
            lambda: {"type": "Residual", "layers": [{"type": "ReLU"}], "shortcut": []},
        ),
        "Normalization": (nn.Normalization, lambda: {"mean": [0.0], "std": [1.0]}),
        "Normalization.from_config": (nn.Normalization.from_config, lambda: {"config": {"mean": 0.0, "std": 1.0}}),
        "build": (
            nn.build, lambda: {"name": "5-2-3-4", "input_shape": (8, 8, 1), "classes": 4, "seed": 0,
            "dtype": "float32"},
        ),
        "load": (nn.load, lambda: {"path": model}),
        "from_config": (nn.from_config, lambda: {"config": config()}),
        "from_config, a key": (
            lambda **a: nn.from_config(a), lambda: {"input_shape": [6, 6, 1], "layers": config()["layers"], "seed": 0,
            "dtype": "float32"},
        ),
        "from_config, a setting": (
            lambda **a: nn.from_config({"input_shape": [6, 6, 2], "layers": [{**a}]}),
            lambda: {"type": "Conv2D", "filters": 2, "kernel_size": [3, 3], "stride": 1, "padding": "same",
            "bias": True, "groups": 1},
        ),
        "from_toml": (nn.from_toml, lambda: {"path": toml, "seed": 0}),
        "forward": (_of_network("forward"), lambda: {"x": _images(), "training": True, "step": 0, "first": 0}),
        "loss_and_gradient": (
            _of_network("loss_and_gradient"),
            lambda: {"x": _images(), "labels": _LABELS, "out": np.empty(size, np.float32), "step": 0, "first": 0},
        ),
        "loss_and_gradient, weights": (
            _of_network("loss_and_gradient"),
            lambda: {"x": _images(), "labels": _LABELS, "weights": np.ones(6), "class_weights": np.ones(3),
                     "label_smoothing": 0.1, "weight_sum": 6.0},
        ),
        "predict": (_of_network("predict"), lambda: {"x": _images(dtype="float64"), "batch_size": 2}),
        "predict_proba": (_of_network("predict_proba"), lambda: {"x": _images(dtype="float32"), "batch_size": 2}),
        "save": (_of_network("save"), lambda: {"path": folder / "saved.safetensors"}),
        "with_new_head": (_of_network("with_new_head"), lambda: {"classes": 3, "seed": 0}),
        "which": (_of_network("which"), lambda: {"layers": [0, "BatchNorm"]}),
        "load_weights": (
            _of_network("load_weights"), lambda: {"path": state, "names": {"0": "conv", "1": "norm", "6": "head"}},
        ),
        "flops": (_of_network("flops"), lambda: {"batch": 2, "training": True}),
        "attach": (
            _of_network("attach"), lambda: {"flat": np.zeros(size, np.float32), "buffers": np.zeros(buffers,
            np.float32)},
        ),
    }  # fmt: skip
    for name, right in (
        ("backend", "auto"), ("threads", 1), ("algorithm", "auto"), ("classes", ["a", "b", "c"]), ("normalization",
        nn.Normalization()), ("frozen", "body"),
    ):  # fmt: skip
        table[f"model.{name}"] = (_set(name), lambda right=right: {"value": right})
    for kind, shape in (("Conv2D", (6, 6, 1)), ("MaxPool2D", (6, 6, 1)), ("Flatten", (6, 6, 1)), ("Dense", (6,))):
        layer = nn.LAYERS[kind](
            **(
                {"Conv2D": {"filters": 2, "kernel_size": 3}, "MaxPool2D": {"pool_size": 2}, "Dense": {"units": 2}}.get(
                    kind, {}
                )
            )
        )
        for method in ("output_shape", "parameters", "buffers", "flops"):
            table[f"{kind}.{method}"] = (getattr(layer, method), lambda shape=shape: {"input_shape": shape})
    return {name: Call(function, given) for name, (function, given) in table.items()}


def _optimizers() -> dict[str, Call]:
    def vectors() -> Arguments:
        return {"flat": _numbers(5), "gradient": _numbers(5), "step": 1, "lr": 0.1}

    table: dict[str, tuple[Any, Callable[[], Arguments]]] = {
        "SGD": (optim.SGD, lambda: {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.0}),
        "Adagrad": (optim.Adagrad, lambda: {"lr": 0.1}),
        "Adadelta": (optim.Adadelta, lambda: {"lr": 0.1}),
        "Adam": (optim.Adam, lambda: {"lr": 0.1, "beta1": 0.9}),
        "AdamW": (optim.AdamW, lambda: {"lr": 0.1, "weight_decay": 0.9}),
        "AdaMax": (optim.AdaMax, lambda: {"lr": 0.1}),
        "by_name": (optim.by_name, lambda: {"name": "sgd", "lr": 0.1, "momentum": 0.5}),
        "schedule": (optim.schedule, lambda: {"name": "step", "warmup": 0, "drops": (0.5,), "gamma": 0.1}),
        "Schedule": (optim.Schedule, lambda: {"warmup": 0.1}),
        "StepSchedule": (optim.StepSchedule, lambda: {"warmup": 3, "drops": (0.5, 0.6), "gamma": 0.5}),
        "CosineSchedule": (optim.CosineSchedule, lambda: {"warmup": 3, "floor": 0.5}),
        "schedule()": (optim.schedule("cosine", warmup=0.1), lambda: {"step": 3, "total": 10}),
        "warmup_steps": (optim.schedule("cosine", warmup=0.1).warmup_steps, lambda: {"total": 10}),
        "init": (optim.Adam(0.1).init, lambda: {"n": 5, "dtype": "float32"}),
    }
    for rule in optim.OPTIMIZERS:
        table[f"{rule}.update"] = (
            lambda rule=rule, **a: _update(rule, **a),
            lambda rule=rule: {**vectors(), "state": optim.by_name(rule).init(5)},
        )
    return {name: Call(function, given) for name, (function, given) in table.items()}


def _data(folder: Path) -> dict[str, Call]:
    np.savez(folder / "data.npz", x=_images(12), y=np.tile(_LABELS, 2))
    from PIL import Image

    Image.fromarray(_images(1)[0, ..., 0]).save(folder / "image.png")
    csv = folder / "pixels.csv"
    csv.write_text(f"pixels\n{' '.join(['7'] * 2304)}\n")
    labels = _LABELS
    table: dict[str, tuple[Any, Callable[[], Arguments], tuple[str, ...]]] = {
        "datasets.load": (
            lambda source, **a: datasets.load(source, **a),
            lambda: {"source": folder / "data.npz", "limit": 6, "seed": 0, "validation_fraction": 0.3, "size": (4, 4)},
            (),
        ),
        "faces": (datasets.faces, lambda: {"n": 7, "seed": 0}, ("n",)),
        "augment": (
            lambda batch, **a: datasets.augment(batch, **a),
            lambda: {"batch": _images(), "flip": True, "shift": 1, "rotate": 10.0, "crop": 0.8, "brightness": 0.1,
                     "cutout": 2, "seed": 0, "epoch": 0, "indices": np.arange(6)},
            (),
        ),
        "normalization": (datasets.normalization, lambda: {"split": datasets.Split(_images(), labels)}, ()),
        "normalization, its arrays": (
            lambda x, y: datasets.normalization(datasets.Split(x, y)), lambda: {"x": _images(), "y": labels}, (),
        ),
        "read_image": (datasets.read_image, lambda: {"path": folder / "image.png", "shape": (4, 4, 3)}, ()),
        "read_pixels": (datasets.read_pixels, lambda: {"path": csv}, ()),
    }  # fmt: skip
    return {name: Call(function, given, frozenset(slow)) for name, (function, given, slow) in table.items()}


def _training(folder: Path) -> dict[str, Call]:
    def arguments() -> Arguments:
        return {
            "model": copy.deepcopy(_SMALL), "x": _images(), "labels": _LABELS, "validation": (_images(), _LABELS),
            "epochs": 1, "batch_size": 4, "optimizer": optim.SGD(0.01), "workers": 1, "update": "sync",
            "threads_per_worker": 1, "backend": "auto", "seed": 0, "out": None, "resume": False, "progress": "off",
            "on_worker_failure": "restart", "schedule": None, "augment": {"flip": True}, "normalize": "auto",
            "target_accuracy": None, "checkpoint_every": 60.0, "update_options": None, "trace": None,
            "description": None, "early_stopping": 2, "on_step": None, "on_epoch": None,
        }  # fmt: skip

    def augmented(**given: Any) -> Any:
        return _fit(**{**arguments(), "augment": given})

    def optional(**given: Any) -> Any:
        return _fit(
            **{**arguments(), "workers": 2, "batch_size": 4, "update": given.pop("update"), "update_options": given}
        )

    def weighted(**given: Any) -> Any:
        return _fit(**{**arguments(), **given})

    return {
        "fit, weights": Call(
            weighted,
            lambda: {
                "class_weight": [1.0, 2.0, 3.0],
                "label_smoothing": 0.1,
                "sample_weight": np.ones(6),
                "clip_norm": 1.0,
                "freeze": [],
            },
        ),
        "fit": Call(_fit, arguments, frozenset({"epochs", "workers"})),
        "fit, augment": Call(
            augmented, lambda: {"flip": True, "shift": 1, "rotate": 10.0, "crop": 0.8, "brightness": 0.1, "cutout": 2}
        ),
        "fit, update_options": Call(optional, lambda: {"update": "easgd", "sync_every": 2, "elastic_rho": 0.1}),
        "fit, staleness": Call(optional, lambda: {"update": "ssp", "staleness": 2}),
        "fit, staleness_aware": Call(optional, lambda: {"update": "async", "staleness_aware": True}),
    }


def table(folder: Path) -> dict[str, Call]:
    """Every call, by name; files that they read and write are in `folder`."""
    from . import further_calls, more_calls

    more = {
        name: Call(*parts) for source in (more_calls, further_calls) for name, parts in source.table(folder).items()
    }
    return {**_ops(), **_networks(folder), **_optimizers(), **_data(folder), **_training(folder), **more}


def change(call: Call, rng: random.Random) -> tuple[Arguments, list[str]]:
    """Arguments with one or two odd ones, and the names of the odd ones."""
    from . import pool

    given = call.arguments()
    odd = rng.sample(list(given), min(len(given), rng.choice((1, 1, 1, 2))))
    for name in odd:
        given[name] = pool.draw(rng, given[name], large=name not in call.long)
    return given, odd
