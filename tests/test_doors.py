"""Values of the wrong kind at the public doors: each is refused by the argument's name, in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyconv import nn, optim
from pyconv.errors import PyconvError

MASKED = np.ma.array([1.0, 2.0], mask=[False, True], dtype=np.float32)
VECTOR = np.ones(2, np.float32)


def refused(call: Callable[[], Any], words: str) -> None:
    """Check that a call is refused, in one short line that has these words."""
    with pytest.raises(PyconvError) as caught:
        call()
    message = str(caught.value)
    assert words in message
    assert len(message.splitlines()) == 1
    assert len(message) < 400


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
def test_an_optimiser_takes_vectors_and_numbers(arguments: dict[str, Any], words: str) -> None:
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
def test_settings_of_optimisers_and_schedules(call: Callable[[], Any], words: str) -> None:
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
