"""What a user's type checker sees; mypy reads this file in `make lint`, and the ignored errors have to be errors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_type

import numpy as np
import pytest
from numpy.typing import NDArray

import pyconv
from pyconv import datasets, nn, optim
from pyconv.errors import DtypeError

if TYPE_CHECKING:
    from pyconv.arrays import GPUArray
    from pyconv.cuda import DeviceArray


def test_operations_give_the_kind_of_array_that_they_take() -> None:
    x, weight = np.ones((2, 6, 6, 1), np.float32), np.ones((3, 3, 1, 4), np.float32)
    y = assert_type(pyconv.conv2d(x, weight, np.zeros(4, np.float32), stride=(1, 1)), NDArray[np.floating])
    assert_type(pyconv.conv2d_weight_grad(x, y, 3), NDArray[np.floating])
    assert_type(pyconv.conv2d_input_grad(y, weight, (2, 6, 6, 1)), NDArray[np.floating])
    assert_type(pyconv.max_pool2d(x, 2), NDArray[np.floating])
    wide = np.ones((2, 3))
    assert_type(pyconv.relu(wide), NDArray[np.float64])
    loss, gradient = pyconv.softmax_cross_entropy(wide, [0, 1])
    assert_type(loss, float)
    assert_type(gradient, NDArray[np.float64])
    assert float(gradient.sum()) == pytest.approx(0)


def test_scipys_functions_take_what_numpy_reads() -> None:
    assert_type(pyconv.convolve2d([[1, 2], [3, 4]], np.ones((2, 2))), NDArray[np.number])
    same = pyconv.correlate2d(np.ones((3, 3), np.uint8), [[1]], "same", "mirror", 0, origin=0, threads=1)
    assert_type(same, NDArray[np.number])
    assert same.sum() == 9


def test_integers_are_refused_by_both() -> None:
    x, weight = np.ones((1, 4, 4, 1), np.int64), np.ones((3, 3, 1, 1))
    with pytest.raises(DtypeError):
        pyconv.conv2d(x, weight)  # type: ignore[type-var]
    with pytest.raises(DtypeError):
        pyconv.conv2d(weight, x)  # type: ignore[arg-type]


def test_a_training_script(tmp_path: Path) -> None:
    some = datasets.faces(40, seed=1)
    assert_type(some.x, np.ndarray)
    model = nn.Sequential([nn.Flatten(), nn.Dense(7)], input_shape=(48, 48, 1), dtype=np.float32)
    history = pyconv.fit(
        model, some.x, some.y.tolist(), validation=some, epochs=1, batch_size=8,
        optimizer=optim.by_name("sgd", lr=0.01, nesterov=True, momentum=0.9),
        schedule=optim.schedule("step", drops=(0.5,)), progress="off", out=tmp_path / "run",
    )  # fmt: skip
    assert_type(history, list[dict[str, Any]])
    assert_type(model.predict(some.x), np.ndarray)
    assert_type(model.parameters["1.weight"], np.ndarray)
    assert nn.load(tmp_path / "run" / "model.safetensors").predict_proba(some.x[:1]).shape == (1, 7)


def _on_a_gpu(ours: DeviceArray, theirs: GPUArray) -> None:
    """Read by mypy, not run: arrays on a GPU of any library go in."""
    y = assert_type(pyconv.conv2d(ours, theirs, backend="cuda"), "DeviceArray")
    assert_type(y.get(), np.ndarray)
    assert_type(pyconv.conv2d_weight_grad(theirs, y, 3, backend="cuda"), "GPUArray")
