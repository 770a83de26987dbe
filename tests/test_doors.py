"""Values of the wrong kind in public functions: each is refused in one line that names the argument."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refusals import refused

import pyconv
from pyconv import costmodel, datasets, nn, optim

MASKED = np.ma.array([1.0, 2.0], mask=[False, True], dtype=np.float32)
VECTOR = np.ones(2, np.float32)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"gradient": [1.0, 2.0]}, "gradient must be a vector of NumPy's"),
        ({"gradient": MASKED}, "gradient must be a vector of NumPy's without a mask"),
        ({"flat": VECTOR.astype(">f4"), "gradient": VECTOR.astype(">f4")}, "must all be float32 or all float64"),
        ({"state": None}, "state must be what init() gave, not None"),
        ({"state": {"momentum": None}}, "state['momentum'] must be a vector"),
        ({"state": {"momentum": np.broadcast_to(np.float32(0), 2)}}, "state['momentum'] is read-only"),
        ({"step": "1"}, "step must be an integer, not '1'"),
        ({"step": True}, "step must be an integer, not True"),
        ({"step": 10**400}, "step must be at most"),
        ({"lr": "0.1"}, "lr must be a finite number of at least 0, not '0.1'"),
        ({"lr": 10**400}, "lr must be a finite number of at least 0, not an integer of 1329 bits"),
    ],
)
def test_an_optimizer_takes_vectors_and_numbers(arguments: dict[str, Any], words: str) -> None:
    rule = optim.SGD(0.1, momentum=0.5)
    right: dict[str, Any] = {"flat": VECTOR.copy(), "gradient": VECTOR, "state": rule.init(2), "step": 1, "lr": None}
    rule.update(**right)
    refused(lambda: rule.update(**{**right, **arguments}), words)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: optim.SGD(10**400), "lr must be a finite number of at least 0, not an integer of"),
        (lambda: optim.SGD("0.1"), "lr must be a finite number"),
        (lambda: optim.SGD(True), "lr must be a finite number"),
        (lambda: optim.SGD(0.1, momentum=1j), "momentum must be a finite number"),
        (lambda: optim.SGD(0.1, momentum=0.5, nesterov=1), "nesterov must be True or False, not 1"),
        (lambda: optim.by_name([]), "unknown optimizer []"),
        (lambda: optim.schedule({}), "unknown schedule {}"),
        (lambda: optim.schedule("cosine", warmup=2**64), "warmup must be a finite number of at least 0 and at most"),
        (lambda: optim.schedule("step", drops="0.5"), "drops must be a finite number"),
        (lambda: optim.schedule("cosine")(None, 3), "step must be an integer, not None"),
        (lambda: optim.schedule("cosine", warmup=0.5).warmup_steps([1, 2]), "total must be an integer, not [1, 2]"),
        (lambda: optim.Adam(0.1).init(2, "032"), "dtype must be float32 or float64, not '032'"),
        (lambda: optim.Adam(0.1).init(2**62), "n must be at most"),
    ],
)
def test_settings_of_optimizers_and_schedules(call: Callable[[], Any], words: str) -> None:
    refused(call, words)


def test_a_large_gamma_gives_infinity_and_no_error() -> None:
    assert optim.schedule("step", drops=(0, 0), gamma=1e308)(1, 2) == np.inf


def network() -> nn.Sequential:
    return nn.Sequential([nn.Flatten(), nn.Dense(2)], (2, 2, 1))


IMAGES = np.zeros((2, 2, 2, 1), np.uint8)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: nn.Sequential(np.array(1), (2,)), "layers must be a list of layers"),
        (lambda: nn.Sequential([nn.Dense(2)], np.array(3)), "input_shape must be (height, width, channels) or"),
        (lambda: nn.Sequential([nn.Dense(2)], (2,), dtype="032"), "dtype must be float32 or float64, not '032'"),
        (lambda: nn.Sequential([nn.Dense(2)], (2,), dtype=None), "dtype must be float32 or float64, not None"),
        (lambda: nn.Sequential([nn.Dense(2)], (2,), seed=2**64), "seed must be at most"),
        (lambda: nn.Conv2D(True, 3), "filters must be an integer, not True"),
        (lambda: nn.Conv2D(2, 3, stride=True), "stride must be an integer, not True"),
        (lambda: nn.Conv2D(2, 3, stride=np.ma.array([1, 1], mask=[0, 1])), "stride must be"),
        (lambda: nn.Conv2D(2, 3, activation=[]), "unknown activation ()"),
        (lambda: nn.Conv2D(2, 3, bias=1), "bias must be True or False, not 1"),
        (lambda: nn.MaxPool2D(10**400), "pool_size must be at most"),
        (lambda: nn.Dense(2, scale="1"), "scale must be a finite number of at least 0, not '1'"),
        (lambda: nn.Dropout(np.array([0.5])), "rate must be a finite number of at least 0 and below 1"),
        (lambda: nn.BatchNorm(eps=0), "eps must be a finite number above 0"),
        (lambda: nn.build(["fer"]), "unknown model ['fer']"),
        (lambda: nn.build("1-2-3-" + "9" * 5000), "unknown model '1-2-3-9"),
        (lambda: nn.Normalization("1"), "mean must be one finite number"),
        (lambda: nn.Normalization(MASKED), "is a masked array"),
        (lambda: nn.from_config([1]), "must be a table, not [1]"),
        (lambda: network().forward(np.ma.array(IMAGES, mask=True)), "x is a masked array"),
        (lambda: network().forward(IMAGES, 1), "training must be True or False, not 1"),
        (lambda: network().forward(IMAGES, step=2**63), "step must be at most"),
        (lambda: network().loss_and_gradient(IMAGES, np.ma.array([0, 1], mask=[0, 1])), "labels is a masked array"),
        (lambda: network().loss_and_gradient(IMAGES, [0, 1], out=np.ma.zeros(10, np.float32)), "out is a masked array"),
        (lambda: network().save("a\0b"), "a name cannot hold the character NUL"),
        (lambda: network().save("x" * 300), "a name in it is longer than 255 bytes"),
        (lambda: network().save("."), "is a folder"),
        (lambda: nn.load(3), "path must be the name of a file or folder, not 3"),
        (lambda: nn.from_toml(b"x"), "path must be the name of a file or folder"),
        (lambda: setattr(network(), "classes", 3), "classes must be a list of names"),
        (lambda: setattr(network(), "classes", ["a", "\udcff"]), "classes must be a list of names that are text"),
        (lambda: setattr(network(), "normalization", MASKED), "normalization must be a Normalization"),
        (
            lambda: nn.Dense(2).output_shape(None),
            "input_shape must be (height, width, channels) or (features,), not None",
        ),
    ],
)
def test_networks(call: Callable[[], Any], words: str) -> None:
    refused(call, words)


def test_settings_of_layers_may_be_numpys() -> None:
    layer = nn.Conv2D(np.int8(2), np.array([3, 3]), stride=np.array(1), bias=np.True_)
    assert layer == nn.Conv2D(2, (3, 3), stride=1)
    assert nn.Sequential([layer], np.array([4, 4, 1])).output_shape == (2, 2, 2)


def test_a_scale_of_minus_zero_is_zero() -> None:
    model = nn.Sequential([nn.Dense(3, scale=-0.0)], (2,))
    assert not model.flat.any()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        ("a = " + "[" * 60 + "]" * 60, "nested too deeply"),
        ("seed = " + "9" * 5000, "a number that is too large"),
        ("seed = 99999999999999999999999", "a number that is too large"),
        ("seed = 2.5", "seed must be an integer, not 2.5"),
        ("dtype = '032'", "dtype must be float32 or float64, not '032'"),
        ("dtype = 3", "dtype must be float32 or float64, not 3"),
        ("dtype = 1979-05-27", "dtype must be float32 or float64, not datetime.date"),
        ("= 3", "is not valid TOML"),
    ],
)
def test_a_model_file_of_odd_values(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "model.toml"
    path.write_text(f"input_shape = [2]\n{text}\n[[layers]]\ntype = 'Dense'\nunits = 2\n")
    refused(lambda: nn.from_toml(path), words)


X = np.arange(32, dtype=np.uint8).reshape(8, 2, 2, 1)
Y = np.array([0, 1] * 4)


def fit(**given: Any) -> Any:
    right: dict[str, Any] = {"model": network(), "x": X, "labels": Y, "epochs": 1, "batch_size": 4, "progress": "off"}
    right |= given
    return pyconv.fit(right.pop("model"), right.pop("x"), right.pop("labels"), **right)


def in_vain(step: int, total: int) -> Any:
    raise KeyError("no\nrate")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"model": None}, "model must be a network, such as nn.build('fer'), not None"),
        ({"x": np.ma.array(X, mask=X > 3)}, "x is a masked array; fill what is masked first"),
        ({"x": X > 3}, "x has dtype bool; convert the images to uint8, float32 or float64 first"),
        ({"labels": np.ma.array(Y, mask=Y > 0)}, "labels is a masked array"),
        ({"labels": Y > 0}, "labels has dtype bool; labels are integers"),
        ({"validation": (np.ma.array(X), Y)}, "validation images is a masked array"),
        ({"validation": {1, 2}}, "must be a pair of arrays"),
        ({"out": 3}, "out must be the name of a file or folder, not 3"),
        ({"out": "a\0b"}, "a name cannot hold the character NUL"),
        ({"out": "x" * 256}, "a name in it is longer than 255 bytes"),
        ({"out": ""}, "out '': the name is empty"),
        ({"trace": []}, "trace must be the name of a file or folder, not []"),
        ({"backend": []}, "unknown backend []"),
        ({"update": np.array([1])}, "unknown update rule an array of int64"),
        ({"progress": {}}, "unknown progress {}"),
        ({"on_worker_failure": None}, "unknown reaction to a worker's failure None"),
        ({"epochs": True}, "epochs must be an integer, not True"),
        ({"epochs": np.True_}, "epochs must be an integer, not np.True_"),
        ({"batch_size": 2**63}, "batch_size must be at most"),
        ({"seed": 2**63, "augment": {"flip": True}}, "seed must be at most"),
        ({"workers": np.zeros(2)}, "workers must be an integer, not an array"),
        ({"threads_per_worker": 2.0}, "threads_per_worker must be an integer, not 2.0"),
        ({"resume": 1}, "resume must be True or False, not 1"),
        ({"normalize": np.zeros(2)}, "normalize must be True or False"),
        ({"augment": {"flip": "no"}}, "augment's flip must be True or False, not 'no'"),
        ({"augment": {"shift": 10**30}}, "augment's shift must be at most"),
        ({"augment": {"turn": 1}}, "unknown augmentation 'turn'"),
        ({"augment": {3: 1}}, "augment must have text for keys"),
        ({"update_options": [1]}, "update_options must be a mapping, such as {'staleness': 4}, not [1]"),
        ({"update": "ssp", "update_options": {"staleness": 2**70}}, "staleness of update 'ssp' must be at most"),
        ({"update": "ssp", "update_options": {"staleness": True}}, "staleness of update 'ssp' must be an integer"),
        ({"update": "easgd", "update_options": {"elastic_rho": "1"}}, "elastic_rho must be a finite number above 0"),
        ({"update": "async", "update_options": {"staleness_aware": 1}}, "staleness_aware must be True or False"),
        ({"schedule": lambda step, total: None}, "what the schedule gives for step 1 must be a finite number"),
        ({"schedule": lambda: 1}, "the schedule fails when it is called as schedule(step, total): TypeError"),
        ({"schedule": in_vain}, "the schedule fails when it is called as schedule(step, total): KeyError"),
        ({"schedule": optim.CosineSchedule}, "schedule must be made"),
        ({"optimizer": optim.SGD(1e308), "schedule": lambda step, total: 10}, "the learning rate of step 1 must be"),
        ({"checkpoint_every": np.inf}, "checkpoint_every must be a finite number above 0, not inf"),
        ({"target_accuracy": "0.5", "validation": (X, Y)}, "target_accuracy must be a finite number above 0"),
        ({"description": {"data": 3}}, "description must be a mapping of mappings"),
        ({"description": {"data": {"x": object()}}}, "description's 'data' holds <object"),
        ({"description": {"data": {"x": "\ud800"}}}, "is not UTF-8 text, which config.toml is"),
        ({"description": {"format": {}}}, "'format' is an entry of config.toml's own"),
    ],
)  # fmt: skip
def test_fit(arguments: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused(lambda: fit(**arguments), words)
    assert not list(tmp_path.iterdir())


def test_a_schedule_that_fails_later_ends_the_run_by_name() -> None:
    refused(lambda: fit(schedule=lambda step, total: 1 if step == 1 else None), "what the schedule gives for step 2")


@pytest.mark.slow
def test_numbers_of_numpy_are_taken_everywhere(tmp_path: Path) -> None:
    history = fit(
        epochs=np.int8(1), batch_size=np.array(4), seed=np.uint64(3), threads_per_worker=np.int64(1), resume=np.False_,
        augment={"flip": np.True_, "shift": np.int16(1)}, checkpoint_every=np.float32(60), normalize=np.array(True),
        schedule=lambda step, total: np.float32(1), out=tmp_path / "run",
        description={"data": {"rows": np.int64(3), "scale": np.float32(0.5), "sizes": np.arange(2), "none": None}},
    )  # fmt: skip
    assert history[0]["epoch"] == 1
    again = fit(
        epochs=2, batch_size=4, seed=3, augment={"flip": True, "shift": 1}, normalize=True, out=tmp_path / "run",
        schedule=lambda step, total: 1, resume=True,
    )  # fmt: skip
    assert len(again) == 2
    with_options = fit(
        workers=2, batch_size=2, update="ssp", update_options={"staleness": np.int64(2)}, out=tmp_path / "ssp"
    )
    assert with_options[0]["update"] == "ssp"
    assert "staleness = 2" in (tmp_path / "ssp" / "config.toml").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"batch": np.ma.array(X)}, "batch is a masked array"),
        ({"batch": "images"}, "augment needs images (N, H, W, C), not shape ()"),
        ({"indices": np.zeros(8)}, "indices must be integers, not float64"),
        ({"flip": 1}, "flip must be True or False, not 1"),
        ({"shift": 10**30}, "shift must be at most"),
        ({"shift": np.array([1])}, "shift must be an integer"),
        ({"seed": 2**63}, "seed must be at most"),
        ({"epoch": "1"}, "epoch must be an integer, not '1'"),
    ],
)
def test_augmentation(arguments: dict[str, Any], words: str) -> None:
    right: dict[str, Any] = {"batch": X, "flip": True, "shift": 1, "seed": 0, "epoch": 0, "indices": np.arange(8)}
    right |= arguments
    refused(lambda: datasets.augment(right.pop("batch"), **right), words)


def test_augmentation_takes_numpys_numbers_and_no_pixels() -> None:
    given = {"flip": np.True_, "shift": np.uint8(1), "seed": np.int64(3), "epoch": np.array(2), "indices": np.arange(8)}
    plain = datasets.augment(X, flip=True, shift=1, seed=3, epoch=2, indices=np.arange(8))
    assert np.array_equal(datasets.augment(X, **given), plain)
    assert datasets.augment(X[:, :0], flip=True, shift=3, indices=np.arange(8)).shape == (8, 0, 2, 1)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: datasets.load("faces", validation_fraction=None),
            "validation_fraction must be a finite number above 0",
        ),
        (lambda: datasets.load("faces", seed=2**63), "seed must be at most"),
        (lambda: datasets.load("faces", limit=True), "limit must be an integer, not True"),
        (
            lambda: datasets.load(np.zeros(3)),
            "source must be the name of a data set or a path, not an array of float64",
        ),
        (lambda: datasets.load("x" * 256 + ".npz"), "a name in it is longer than 255 bytes"),
        (lambda: datasets.load("a\ud800.npz"), "the name holds characters that no file system takes"),
        (lambda: datasets.faces(2**62), "the number of faces must be at most"),
        (lambda: datasets.read_image("x.png", shape=4), "shape must be (height, width, channels), not 4"),
        (lambda: datasets.read_image("x.png", (2**31, 4, 1)), "pixels of the largest image"),
        (lambda: datasets.read_image(3), "path must be the name of a file or folder, not 3"),
        (lambda: datasets.read_pixels([]), "path must be the name of a file or folder, not []"),
        (lambda: datasets.normalization(None), "normalization needs a split, (images, labels), not None"),
        (lambda: datasets.normalization(datasets.Split(np.ma.array(X), Y)), "x is a masked array"),
        (lambda: datasets.normalization(datasets.Split(X > 3, Y)), "x has dtype bool"),
    ],
)
def test_data(call: Callable[[], Any], words: str) -> None:
    refused(call, words)


def test_the_equations_take_numpys_numbers() -> None:
    small, python = (costmodel.operations(kind(28), kind(5), kind(3)) for kind in (np.int8, int))
    assert small == python
    assert costmodel.simulate(costmodel.Cluster(0.01, 1e6), np.int16(1), seed=np.array(1, np.uint64)).workers == 1
