"""Branches: gradients by finite differences, the same numbers as PyTorch's, files, memory, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from test_nn_gradients import assert_gradient

from pyconv import nn
from pyconv.errors import InputError, ShapeError

INNER = [nn.Conv2D(4, 3, padding="same"), nn.BatchNorm(), nn.ReLU(), nn.Conv2D(4, 3, padding="same"), nn.BatchNorm()]

#: Layers between a trained convolution before them and a classifier after them.
BRANCHES = {
    "residual": [nn.Residual(INNER)],
    "residual-relu": [nn.Residual(INNER), nn.ReLU()],
    "residual-of-relu": [nn.Residual([nn.ReLU(), nn.Conv2D(4, 1)]), nn.ReLU(), nn.MaxPool2D(2)],
    "residual-ends-in-relu": [nn.ReLU(), nn.Residual([nn.Conv2D(4, 3, padding=1, activation="relu")])],
    "shortcut": [
        nn.Residual(
            [nn.Conv2D(6, 3, stride=2, padding=1, activation="relu"), nn.MaxPool2D(2, stride=1, padding="same")],
            shortcut=[nn.Conv2D(6, 1, stride=2), nn.BatchNorm()],
        ),
        nn.ReLU(),
    ],
    "two-blocks": [nn.Residual(INNER), nn.ReLU(), nn.Residual(INNER), nn.ReLU()],
    "concat": [
        nn.Parallel([[nn.Conv2D(3, 1, activation="relu")], [nn.Conv2D(2, 3, padding=1)], []], join="concat"),
        nn.ReLU(),
    ],
    "add-three": [nn.Parallel([[nn.Conv2D(4, 1)], [], [nn.AvgPool2D(3, stride=1, padding=1)]], join="add"), nn.ReLU()],
    "all-the-input": [nn.Parallel([[], []], join="add"), nn.Parallel([[], []], join="concat")],
    "one-branch": [nn.Parallel([[nn.ReLU()]], join="add")],
    "nested": [
        nn.Residual(
            [
                nn.Parallel(
                    [[nn.Conv2D(2, 3, padding=1)], [nn.Residual([nn.Conv2D(4, 1), nn.ReLU()]), nn.Conv2D(2, 1)]]
                ),
                nn.Dropout(0.3),
            ]
        ),
        nn.ReLU(),
    ],
    "dropout": [nn.Residual([nn.Dropout(0.4), nn.Conv2D(4, 1), nn.Dropout(0.4)])],
    "dense": [nn.Flatten(), nn.Residual([nn.Dense(72, activation="relu"), nn.Dropout(0.2)]), nn.ReLU()],
    "vectors": [nn.Parallel([[nn.Flatten(), nn.Dense(3)], [nn.MaxPool2D(2), nn.Flatten()]])],
}


def network(name: str, shape: tuple[int, int, int] = (7, 4, 4), dtype: str = "float64") -> nn.Sequential:
    middle = BRANCHES[name]
    flat = [] if name in ("dense", "vectors") else [nn.Flatten()]
    return nn.Sequential([nn.Conv2D(4, 2), *middle, *flat, nn.Dense(3)], shape, seed=3, dtype=dtype)


@pytest.mark.parametrize("name", BRANCHES)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    rng = np.random.default_rng(11)
    model = network(name)
    model.backend = "serial"
    model.flat[:] += 0.1 * rng.normal(size=model.flat.size)
    x = rng.normal(size=(3, 7, 4, 4))
    assert_gradient(model, x, np.array([0, 2, 1]), directions=12, step=4, first=2)


@pytest.mark.parametrize("name", ["shortcut", "nested", "concat", "add-three", "two-blocks"])
def test_backends_agree(name: str, rng: np.random.Generator) -> None:
    x, labels = rng.normal(size=(5, 7, 4, 4)), rng.integers(0, 3, 5)
    found = []
    for backend in ("reference", "serial", "multicore"):
        model = network(name)
        model.backend, model.threads = backend, 2
        loss, gradient = model.loss_and_gradient(x, labels, step=1)
        found.append((loss, gradient, model.flat_buffers.copy(), model.forward(x)))
    for other in found[1:]:
        for mine, theirs in zip(found[0], other):
            np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-11)


def test_parameters_are_named_by_the_way_to_them() -> None:
    assert list(network("shortcut").parameters)[2:8] == [
        "1.0.weight", "1.0.bias", "1.shortcut.0.weight", "1.shortcut.0.bias", "1.shortcut.1.gamma", "1.shortcut.1.beta",
    ]  # fmt: skip
    assert "1.0.1.0.0.weight" in network("nested").parameters
    model = network("two-blocks")
    first, second = (model.parameters[f"{place}.0.weight"] for place in (1, 3))
    assert not np.array_equal(first, second)
    shares = [int(np.prod(p.shape)) for _, layer, shape, _ in model.leaves() for p in layer.parameters(shape).values()
              if not layer.chains()]  # fmt: skip
    assert sum(shares) == model.flat.size


def test_dropout_inside_draws_numbers_of_its_own(rng: np.random.Generator) -> None:
    model = nn.Sequential([nn.Parallel([[nn.Dropout(0.5)], [nn.Dropout(0.5)], []])], (4, 4, 3))
    model.backend = "serial"
    x = np.ones((6, 4, 4, 3), np.float32)
    y = model.forward(x, training=True)
    assert not np.array_equal(y[..., :3], y[..., 3:6])
    np.testing.assert_array_equal(y[..., 6:], x)
    split = [model.forward(x[i : i + 2], training=True, first=i) for i in (0, 2, 4)]
    np.testing.assert_array_equal(np.concatenate(split), y)


@pytest.mark.parametrize("name", ["nested", "shortcut", "vectors"])
def test_files_keep_them(name: str, tmp_path: Path, rng: np.random.Generator) -> None:
    model = network(name)
    model.backend = "serial"
    x = rng.normal(size=(3, 7, 4, 4))
    model.save(tmp_path / "m.safetensors")
    again = nn.load(tmp_path / "m.safetensors")
    again.backend = "serial"
    assert again.layers == model.layers
    np.testing.assert_array_equal(again.forward(x), model.forward(x))
    assert nn.from_config(model.config()).config() == model.config()


def test_toml(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(
        """
        input_shape = [8, 8, 3]
        [[layers]]
        type = "Residual"
        shortcut = [{ type = "Conv2D", filters = 4, kernel_size = 1 }]
        [[layers.layers]]
        type = "Conv2D"
        filters = 4
        kernel_size = 3
        padding = "same"
        [[layers.layers]]
        type = "BatchNorm"
        [[layers]]
        type = "Parallel"
        join = "concat"
        branches = [[{ type = "ReLU" }], []]
        [[layers]]
        type = "Flatten"
        """
    )
    model = nn.from_toml(tmp_path / "m.toml")
    assert model.layers == (
        nn.Residual([nn.Conv2D(4, 3, padding="same"), nn.BatchNorm()], shortcut=[nn.Conv2D(4, 1)]),
        nn.Parallel([[nn.ReLU()], []]),
        nn.Flatten(),
    )
    assert model.output_shape == (512,)


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        (lambda: [nn.Residual([])], InputError, "layers must be a list of layers"),
        (lambda: [nn.Residual(nn.ReLU())], InputError, "layers must be a list of layers"),
        (lambda: [nn.Parallel([])], InputError, "branches must be a list of lists of layers"),
        (lambda: [nn.Parallel([[nn.ReLU()], nn.ReLU()])], InputError, "branch 1 must be a list of layers"),
        (lambda: [nn.Parallel([[3]])], InputError, "branch 0 holds 3 at position 0"),
        (lambda: [nn.Parallel([[]], join="mul")], InputError, "join"),
        (lambda: [nn.Residual([nn.Conv2D(5, 1)])], ShapeError, "(Residual): branches give (8, 8, 5), (8, 8, 3)"),
        (lambda: [nn.Residual([nn.Conv2D(5, 9)])], ShapeError, "layer 0 (Residual): layer 0 (Conv2D): the output"),
        (lambda: [nn.Residual([nn.ReLU()], shortcut=[nn.Dense(2)])], ShapeError, "layer shortcut.0 (Dense)"),
        (lambda: [nn.Parallel([[nn.MaxPool2D(2)], []])], ShapeError, "only the last size may differ"),
    ],
)  # fmt: skip
def test_what_is_refused(layers, error, message) -> None:
    with pytest.raises(error, match=re.escape(message)):
        nn.Sequential(layers(), (8, 8, 3))


def test_a_deep_file_is_refused() -> None:
    table: dict = {"type": "ReLU"}
    for _ in range(60):
        table = {"type": "Residual", "layers": [table]}
    with pytest.raises(InputError, match="more than 50 deep"):
        nn.from_config({"input_shape": [4, 4, 1], "layers": [table]})


def test_the_summary_is_a_tree() -> None:
    text = network("nested").summary()
    assert "1.0.1.0.0" in text and "├─ " in text and "└─ " in text
    assert text.count("Conv2D(") == 4 and "Residual(" in text


def test_a_network_with_branches_cannot_be_cut_inside() -> None:
    graph = network("residual")._graph
    with pytest.raises(InputError, match="branches cross there"):
        graph.slice(0, 3)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", ["shortcut", "nested", "concat", "add-three", "vectors", "dense", "all-the-input"])
def test_onnx(name: str, layout: str, tmp_path: Path, rng: np.random.Generator) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    model = network(name, dtype="float32")
    model.backend = "serial"
    model.flat[:] += 0.1 * rng.normal(size=model.flat.size).astype("f")
    model.to_onnx(tmp_path / "m.onnx", layout=layout)
    x = rng.normal(size=(3, 7, 4, 4)).astype("f")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    given = x.transpose(0, 3, 1, 2) if layout == "NCHW" else x
    (found,) = session.run(None, {"images": np.ascontiguousarray(given)})
    np.testing.assert_allclose(found, model.forward(x), rtol=1e-4, atol=1e-5)
