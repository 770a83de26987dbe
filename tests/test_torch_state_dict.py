"""A PyTorch state_dict saved as safetensors, in a network here: the same results, or one line that says why not."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refusals import refused

from pyconv import nn
from pyconv.errors import CheckpointError, InputError

torch = pytest.importorskip("torch")
save_file = pytest.importorskip("safetensors.torch").save_file
T = torch.nn


class Block(T.Module):
    """A block of ResNet, with a convolution in its shortcut."""

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.conv1 = T.Conv2d(channels, filters, 3, stride, 1, bias=False)
        self.bn1 = T.BatchNorm2d(filters)
        self.conv2 = T.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.bn2 = T.BatchNorm2d(filters)
        self.downsample = None
        if stride > 1:
            self.downsample = T.Sequential(T.Conv2d(channels, filters, 1, stride, bias=False), T.BatchNorm2d(filters))

    def forward(self, x: Any) -> Any:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


class ResNet18(T.Module):
    """As torchvision writes it, with the stem for small images."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = T.Conv2d(3, 64, 3, 1, 1, bias=False), T.BatchNorm2d(64)
        sizes = [64, 64, 128, 256, 512]
        for number, (before, after) in enumerate(itertools.pairwise(sizes), 1):
            blocks = [Block(before, after, 1 if number == 1 else 2), Block(after, after, 1)]
            setattr(self, f"layer{number}", T.Sequential(*blocks))
        self.fc = T.Linear(512, classes)

    def forward(self, x: Any) -> Any:
        x = self.bn1(self.conv1(x)).relu()
        for number in range(1, 5):
            x = getattr(self, f"layer{number}")(x)
        return self.fc(x.mean((2, 3)))


def randomised(module: Any, seed: int) -> Any:
    """The network with statistics as after training."""
    generator = torch.Generator().manual_seed(seed)
    for name, array in module.state_dict().items():
        if name.endswith(("running_mean", "running_var", "bias")) or array.ndim == 1:
            array.copy_(torch.rand(array.shape, generator=generator) + 0.5)
    return module.eval()


def assert_same(module: Any, model: nn.Sequential, rng: np.random.Generator) -> None:
    x = rng.normal(size=(3, *model.input_shape)).astype(np.float32)
    with torch.no_grad():
        expected = module(torch.tensor(x).permute(0, 3, 1, 2).contiguous()).numpy()
    if expected.ndim == 4:
        expected = expected.transpose(0, 2, 3, 1)
    np.testing.assert_allclose(model.forward(x), expected, rtol=0, atol=1e-5 * max(1, abs(expected).max()))


def pair() -> tuple[Any, nn.Sequential]:
    """Every kind of layer with weights, in both libraries."""
    theirs = T.Sequential(
        T.Conv2d(4, 6, (3, 2), bias=False), T.BatchNorm2d(6), T.ReLU(),
        T.Conv2d(6, 12, 3, groups=2, padding=1), T.ReLU(),
        T.Conv2d(12, 24, 3, groups=12, padding=1, bias=False), T.Conv2d(24, 5, 1), T.ReLU(), T.MaxPool2d(2),
        T.Flatten(), T.BatchNorm1d(60), T.Dropout(0.3), T.Linear(60, 7), T.ReLU(), T.Linear(7, 7), T.ReLU(),
        T.Linear(7, 3),
    )  # fmt: skip
    ours = [
        nn.Conv2D(6, (3, 2), bias=False), nn.BatchNorm(), nn.ReLU(),
        nn.Conv2D(12, 3, groups=2, padding=1), nn.ReLU(),
        nn.SeparableConv2D(5, 3, padding=1, depth_multiplier=2), nn.ReLU(), nn.MaxPool2D(2),
        nn.Flatten(), nn.BatchNorm(), nn.Dropout(0.3), nn.Dense(7), nn.ReLU(), nn.Dense(7), nn.ReLU(), nn.Dense(3),
    ]  # fmt: skip
    return randomised(theirs, 0), nn.Sequential(ours, (9, 9, 4))


def test_by_order_and_shape(rng: np.random.Generator, tmp_path: Path) -> None:
    theirs, ours = pair()
    save_file(theirs.state_dict(), tmp_path / "m.safetensors")
    ours.load_weights(tmp_path / "m.safetensors")
    assert_same(theirs, ours, rng)
    wide = nn.Sequential(ours.layers, ours.input_shape, dtype="float64")
    wide.load_weights(tmp_path / "m.safetensors")
    assert_same(theirs, wide, rng)


def test_resnet18_as_torchvision_names_it(rng: np.random.Generator, tmp_path: Path) -> None:
    theirs = randomised(ResNet18(10), 1)
    ours = nn.build("resnet18", input_shape=(16, 16, 3), classes=10)
    path = tmp_path / "m.safetensors"
    save_file(theirs.state_dict(), path)
    refused(lambda: ours.load_weights(path), "names=list(state_dict)")
    ours.load_weights(path, names=list(theirs.state_dict()))
    assert_same(theirs, ours, rng)


def test_branches_that_were_flattened(rng: np.random.Generator, tmp_path: Path) -> None:
    class Net(T.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = T.Conv2d(2, 3, 3), T.Conv2d(2, 4, 1)
            self.head = T.Linear(3 * 9 + 4 * 25, 2)

        def forward(self, x: Any) -> Any:
            return self.head(torch.cat([self.left(x).flatten(1), self.right(x).flatten(1)], 1))

    theirs = randomised(Net(), 2)
    save_file(theirs.state_dict(), tmp_path / "m.safetensors")
    branches = [[nn.Conv2D(3, 3), nn.Flatten()], [nn.Conv2D(4, 1), nn.Flatten()]]
    ours = nn.Sequential([nn.Parallel(branches), nn.Dense(2)], (5, 5, 2))
    ours.load_weights(tmp_path / "m.safetensors")
    assert_same(theirs, ours, rng)


def test_names(rng: np.random.Generator, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    stem, body = (T.Conv2d(3, 3, 3, padding=1) for _ in range(2))
    theirs = T.Sequential(body, T.ReLU(), stem)
    arrays = {
        f"net.{name}.{key}": value
        for name, module in {"stem": stem, "body": body}.items()
        for key, value in module.state_dict().items()
    }
    save_file(arrays, path)
    ours = nn.Sequential([nn.Conv2D(3, 3, padding=1), nn.ReLU(), nn.Conv2D(3, 3, padding=1)], (5, 5, 3))
    refused(lambda: ours.load_weights(path), "names={'0': 'net.body', ...}")
    for names in ({"0": "net.body"}, {0: "net.body", 2: "net.stem"}, ["net.body", "net.stem"]):
        ours.load_weights(path, names=names)
        assert_same(theirs, ours, rng)
    for wrong, words in {
        "net": "names must be a mapping", 3: "names must be a mapping", None: "tell no order",
    }.items():  # fmt: skip
        refused(lambda wrong=wrong: ours.load_weights(path, names=wrong), words)
    for mapping, words in (
        ({"1": "net.body"}, "unknown layer in names '1'"),
        ({"0": "net.boddy"}, "did you mean 'net.body'"),
        ({"0": "net.body", "2": "net.body"}, "to two layers"),
        (["net.body", "net.head"], "unknown module in names 'net.head'"),
        (["net.body"], "needs weight"),
    ):
        refused(lambda mapping=mapping: ours.load_weights(path, names=mapping), words)


def without(state: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in state.items() if name not in names}


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    theirs, ours = pair()
    path, state = tmp_path / "m.safetensors", dict(theirs.state_dict())
    before = ours.flat.copy()
    for changed, words in (
        (without(state, "16.weight", "16.bias"), "layer 15 (Dense) needs weight (3, 7), bias (3,), and nothing of"),
        (without(state, "0.weight"), "layer 0 (Conv2D) needs weight (6, 4, 3, 2)"),
        (without(state, "3.bias"), "layer 3 (Conv2D) needs weight (12, 3, 3, 3), bias (12,), and the file's '3' has"),
        (without(state, "1.running_mean"), "layer 1 (BatchNorm) needs weight (6,), bias (6,), running_mean (6,)"),
        ({**state, "extra.weight": torch.ones(4)}, "holds extra.weight, for which the network has no layer"),
        ({**state, "16.weight": torch.ones(9, 7), "16.bias": torch.ones(9)}, "'16' has weight (9, 7), bias (9,)"),
        ({**state, "16.weight": torch.ones(3, 7, dtype=torch.bfloat16)}, "'16.weight' is of BF16; save it in float32"),
        ({**state, "16.weight": torch.ones(3, 7, dtype=torch.int32)}, "save it in float32"),
    ):  # fmt: skip
        save_file(changed, path)
        with pytest.raises(CheckpointError) as caught:
            ours.load_weights(path)
        message = str(caught.value)
        assert words in message and message.startswith(str(path)) and "\n" not in message and len(message) < 500
        np.testing.assert_array_equal(ours.flat, before)
    path.write_bytes(path.read_bytes()[:-10])
    refused(lambda: ours.load_weights(path), "truncated")
    refused(lambda: ours.load_weights(tmp_path / "none"), "cannot be read")
    refused(lambda: ours.load_weights(tmp_path), "irectory")
    ours.save(path)
    refused(lambda: ours.load_weights(path), "is a pyconv model")
    save_file({name: value.half() for name, value in state.items()}, path)
    ours.load_weights(path)
    np.testing.assert_allclose(ours.parameters["15.bias"], state["16.bias"].numpy(), rtol=1e-3)


def test_layers_without_a_counterpart() -> None:
    class Mine(nn.Dense):
        pass

    model = nn.Sequential([nn.Flatten(), Mine(3)], (2, 2, 1))
    with pytest.raises(InputError, match=r"layer 1 \(Mine\) has parameters that PyTorch has no name for"):
        model.load_weights("any")
