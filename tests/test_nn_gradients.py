"""Gradients of every layer and of whole networks against finite differences, in float64."""

import numpy as np
import pytest

from pyconv import backends, nn

BACKENDS = [
    pytest.param(name, marks=[] if reason is None else pytest.mark.skip(reason=reason))
    for name, reason in backends().items()
    if name != "cuda"
]

IMAGE = (7, 6, 4)

#: Each layer between a trained convolution before it and a classifier after it, so that its input gradient counts too.
LAYERS = {
    "conv": [nn.Conv2D(5, 3)],
    "conv-same": [nn.Conv2D(5, (3, 2), padding="same")],
    "conv-relu": [nn.Conv2D(5, 3, activation="relu")],
    "conv-and-relu": [nn.Conv2D(5, 3, padding=1), nn.ReLU()],
    "conv-strided": [nn.Conv2D(6, 3, stride=(2, 1), padding=((1, 0), (0, 2)))],
    "conv-dilated": [nn.Conv2D(3, 2, dilation=(3, 2), padding=1)],
    "conv-groups": [nn.Conv2D(6, 3, groups=2, padding="same", activation="relu")],
    "conv-depthwise": [nn.Conv2D(4, 3, groups=4, padding="same")],
    "conv-no-bias": [nn.Conv2D(5, 3, bias=False, activation="relu")],
    "conv-pool": [nn.Conv2D(5, 3), nn.MaxPool2D(2)],
    "conv-relu-pool": [nn.Conv2D(5, 3, padding="same", activation="relu"), nn.MaxPool2D(2)],
    "conv-and-relu-overlapping-pool": [
        nn.Conv2D(5, 3, padding="same"),
        nn.ReLU(),
        nn.MaxPool2D(3, stride=2, padding=1),
    ],
    "max-pool": [nn.MaxPool2D((2, 3))],
    "max-pool-overlapping": [nn.MaxPool2D(3, stride=1, padding="same")],
    "avg-pool": [nn.AvgPool2D(2)],
    "avg-pool-padded": [nn.AvgPool2D(3, stride=2, padding=1)],
    "relu": [nn.AvgPool2D(2), nn.ReLU()],
    "relu-pool": [nn.AvgPool2D(2), nn.ReLU(), nn.MaxPool2D(2)],
    "batch-norm": [nn.BatchNorm()],
    "batch-norm-relu-pool": [nn.BatchNorm(eps=1e-3), nn.ReLU(), nn.MaxPool2D(2)],
    "relu-batch-norm-relu": [nn.BatchNorm(), nn.ReLU(), nn.BatchNorm(), nn.ReLU()],
    "leaky-relu": [nn.LeakyReLU(0.2)],
    "relu6": [nn.ReLU6()],
    "clip": [nn.Clip(-0.5, 0.8), nn.Clip(high=0.5)],
    "relu-sigmoid-dropout": [nn.ReLU(), nn.Sigmoid(), nn.Dropout(0.4)],  # no branch may overwrite what another needs
    "conv-relu-tanh-relu": [nn.Conv2D(5, 3, activation="relu"), nn.Tanh(), nn.ReLU()],
    "separable": [nn.SeparableConv2D(5, 3, padding="same", depth_multiplier=2)],
    "separable-relu-no-bias": [nn.SeparableConv2D(6, (3, 2), stride=(1, 2), bias=False), nn.ReLU()],
    "zero-pad": [nn.ZeroPad2D(((1, 0), (2, 1))), nn.MaxPool2D(2)],
    "global-average": [nn.GlobalAvgPool2D()],
    "dropout": [nn.Dropout(0.4)],
    "dropout-after-relu": [nn.Conv2D(5, 3, activation="relu"), nn.Dropout(0.4), nn.ReLU()],
    "dense": [nn.Flatten(), nn.Dense(9)],
    "dense-relu": [nn.Flatten(), nn.Dense(9, activation="relu")],
    "dense-and-relu-no-bias": [nn.Flatten(), nn.Dense(9, bias=False), nn.ReLU()],
    "dense-batch-norm-dropout": [nn.Flatten(), nn.Dense(9), nn.BatchNorm(), nn.ReLU(), nn.Dropout(0.3)],
}


def assert_gradient(model, x, labels, directions=None, **position):
    """Central differences of the loss along each parameter, or along a few random directions of them all."""
    _, gradient = model.loss_and_gradient(x, labels, **position)
    assert gradient.dtype == np.float64
    rng = np.random.default_rng(5)
    moves = np.eye(model.flat.size) if directions is None else rng.normal(size=(directions, model.flat.size))
    start, h = model.flat.copy(), 1e-6
    for move in moves:
        move /= np.linalg.norm(move)
        losses = []
        for sign in (1, -1):
            model.flat[:] = start + sign * h * move
            losses.append(model.loss_and_gradient(x, labels, **position)[0])
        model.flat[:] = start
        assert (losses[0] - losses[1]) / (2 * h) == pytest.approx(gradient @ move, rel=2e-6, abs=2e-9)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", LAYERS)
def test_layer(name, backend, thorough):
    """Along each parameter; in a quick run along a few random directions of them all."""
    rng = np.random.default_rng(11)
    flat = isinstance(LAYERS[name][0], (nn.Flatten, nn.GlobalAvgPool2D))
    tail = [] if flat else [nn.Flatten()]
    model = nn.Sequential([nn.Conv2D(4, 2), *LAYERS[name], *tail, nn.Dense(3)], IMAGE, seed=3, dtype="float64")
    model.backend, model.threads = backend, 2
    model.flat[:] += 0.1 * rng.normal(size=model.flat.size)  # biases, gammas and betas of every size
    x = rng.normal(size=(3, *IMAGE))
    assert_gradient(model, x, np.array([0, 2, 1]), None if thorough else 6, step=4, first=2)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", LAYERS)
def test_layer_that_comes_first(name, backend):
    """The first layer reads the caller's array, must not write to it, and computes no input gradient."""
    rng = np.random.default_rng(12)
    tail = [] if isinstance(LAYERS[name][0], nn.Flatten) else [nn.Flatten()]
    model = nn.Sequential([*LAYERS[name], *tail, nn.Dense(3)], IMAGE, seed=3, dtype="float64")
    model.backend, model.threads = backend, 2
    x = rng.normal(size=(3, *IMAGE))
    kept = x.copy()
    assert_gradient(model, x, np.array([0, 2, 1]), directions=6)
    model.predict_proba(x)
    np.testing.assert_array_equal(x, kept)


SAME_IN_INFERENCE = [
    name for name, layers in LAYERS.items() if not any(isinstance(each, (nn.BatchNorm, nn.Dropout)) for each in layers)
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", SAME_IN_INFERENCE)
def test_inference_computes_what_training_does(name, backend):
    flat = isinstance(LAYERS[name][0], (nn.Flatten, nn.GlobalAvgPool2D))
    tail = [] if flat else [nn.Flatten()]
    model = nn.Sequential([*LAYERS[name], *tail, nn.Dense(3)], IMAGE, seed=3, dtype="float64")
    model.backend, model.threads = backend, 2
    x, labels = np.random.default_rng(13).normal(-1, 1, (3, *IMAGE)), np.array([0, 2, 1])
    probabilities = model.predict_proba(x)[np.arange(3), labels]
    assert model.loss_and_gradient(x, labels)[0] == pytest.approx(-np.log(probabilities).mean(), rel=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["fer", "fer-bn", "lenet", "5-50-100-4"])
def test_named_model(name, backend):
    model = nn.build(name, input_shape=(16, 17, 2), classes=4, seed=1, dtype="float64")
    model.backend, model.threads = backend, 2
    model.normalization = nn.Normalization([0.2, -0.3], [0.7, 2.0])
    x = np.random.default_rng(2).normal(size=(3, 16, 17, 2))
    assert_gradient(model, x, np.array([3, 0, 1]), directions=5, step=1)
