"""Whole networks against the same networks in PyTorch: results, losses, gradients, running statistics, training."""

import numpy as np
import pytest

from pyconv import backends, nn, optim
from pyconv.shapes import conv_geometry, pair, pool_geometry

torch = pytest.importorskip("torch")
F = torch.nn.functional

BACKENDS = [
    pytest.param(name, marks=[] if reason is None else pytest.mark.skip(reason=reason))
    for name, reason in backends().items()
    if name != "cuda"
]


class Twin:
    """The network of a `Sequential` in PyTorch's operations, NCHW, with its parameters copied."""

    def __init__(self, model):
        self.model = model
        self.parameters = {name: torch.from_numpy(view.copy()) for name, view in model.parameters.items()}
        self.buffers = {name: torch.from_numpy(view.copy()) for name, view in model.buffers.items()}
        for tensor in self.parameters.values():
            tensor.requires_grad_(True)

    def forward(self, x, training=False):
        self.margin = np.inf
        norm = self.model.normalization
        x = ((x - norm.mean) / norm.std).astype(self.model.dtype)
        y = torch.from_numpy(x).permute(0, 3, 1, 2)
        for index, layer in enumerate(self.model.layers):
            y = getattr(self, type(layer).__name__)(y, layer, index, training)
            if getattr(layer, "activation", None) == "relu":
                y = self.ReLU(y, layer, index, training)
        return y if y.ndim == 2 else y.permute(0, 2, 3, 1)

    def Conv2D(self, y, layer, index, training):
        n, c, h, w = y.shape
        weight = self.parameters[f"{index}.weight"]
        settings = {"stride": layer.stride, "dilation": layer.dilation, "groups": layer.groups}
        g = conv_geometry((n, h, w, c), weight.shape, padding=layer.padding, **settings)
        y = F.pad(y, (g.pl, g.pr, g.pt, g.pb))
        return F.conv2d(y, weight.permute(3, 2, 0, 1), self.parameters.get(f"{index}.bias"), **settings)

    def MaxPool2D(self, y, layer, index, training):
        n, c, h, w = y.shape
        g = pool_geometry((n, h, w, c), layer.pool_size, stride=layer.stride, padding=layer.padding)
        y = F.pad(y, (g.pl, g.pr, g.pt, g.pb), value=-torch.inf)
        windows = y.unfold(2, g.kh, g.sh).unfold(3, g.kw, g.sw).flatten(4)
        first, second = windows.topk(2).values.unbind(-1)
        self.decide(first - second)
        return F.max_pool2d(y, (g.kh, g.kw), (g.sh, g.sw))

    def AvgPool2D(self, y, layer, index, training):
        return F.avg_pool2d(y, pair(layer.pool_size, ""), layer.stride, layer.padding, count_include_pad=False)

    def BatchNorm(self, y, layer, index, training):
        mean, var = self.buffers[f"{index}.running_mean"], self.buffers[f"{index}.running_var"]
        gamma, beta = self.parameters[f"{index}.gamma"], self.parameters[f"{index}.beta"]
        return F.batch_norm(y, mean, var, gamma, beta, training, layer.momentum, layer.eps)

    def ReLU(self, y, layer, index, training):
        self.decide(y.abs())
        return F.relu(y)

    def decide(self, distances):
        """Keep the least distance of a ReLU from its kink, or of a maximum from the runner-up.

        Those at exactly zero (a ReLU before it, a dead channel) are decided alike everywhere.
        """
        self.margin = min(self.margin, distances[distances > 0].min().item())

    def Flatten(self, y, layer, index, training):
        return y.permute(0, 2, 3, 1).flatten(1) if y.ndim == 4 else y

    def Dense(self, y, layer, index, training):
        y = y @ self.parameters[f"{index}.weight"]
        return y + self.parameters[f"{index}.bias"] if layer.bias else y

    def loss_and_gradient(self, x, labels):
        loss = F.cross_entropy(self.forward(x, training=True), torch.from_numpy(labels))
        for tensor in self.parameters.values():
            tensor.grad = None
        loss.backward()
        return loss.item(), np.concatenate([tensor.grad.numpy().ravel() for tensor in self.parameters.values()])


ZOO = [
    nn.Conv2D(6, (3, 2), stride=(1, 2), padding="same", activation="relu"),
    nn.BatchNorm(eps=1e-3, momentum=0.2),
    nn.MaxPool2D(3, stride=2, padding="same"),
    nn.Conv2D(8, 3, groups=2, dilation=(1, 2), padding=((1, 2), (2, 0)), bias=False),
    nn.BatchNorm(),
    nn.ReLU(),
    nn.AvgPool2D(2, stride=1, padding=1),
    nn.Conv2D(8, 3, groups=8, padding=1),
    nn.ReLU(),
    nn.MaxPool2D(2),
    nn.Flatten(),
    nn.Dense(16, bias=False),
    nn.BatchNorm(),
    nn.ReLU(),
    nn.Dense(5, bias=False),
]


def network(name, dtype):
    if name == "zoo":
        model = nn.Sequential(ZOO, (13, 14, 3), seed=4, dtype=dtype)
        model.normalization = nn.Normalization([10.0, 20.0, 30.0], [60.0, 70.0, 80.0])
        # Away from gamma = 1 and beta = 0, where a channel without variance sits on the ReLU's kink.
        model.flat[:] += np.random.default_rng(5).normal(scale=0.1, size=model.flat.size)
    else:
        model = nn.build(name, seed=4, dtype=dtype)
        model.normalization = nn.Normalization(120.0, 64.0)
    return model


def batch(model, n=6, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, size=(n, *model.input_shape), dtype=np.uint8)
    return x, rng.integers(0, model.output_shape[0], size=n)


def clear_batch(name, n):
    """A batch in which no ReLU and no maximum is decided by rounding.

    Where one is, two correct float32 networks may send a gradient two ways, and all layers before it differ by far
    more than rounding. The margin is taken in float64, from PyTorch.
    """
    model = network(name, "float64")
    twin = Twin(model)
    for seed in range(100):
        x, labels = batch(model, n, seed)
        twin.forward(x, training=True)
        if twin.margin > 5e-6:
            return x, labels
    raise AssertionError("no batch of a hundred is decided clearly")


def assert_close(actual, expected, dtype):
    """Equal to rounding, in units of the largest: sums of many terms round in units of their largest."""
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual / scale, expected / scale, atol=1e-12 if dtype == "float64" else 2e-5, rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ["fer", "lenet", "5-50-100-10", "zoo"])
def test_forward_and_gradient(name, dtype, backend):
    model = network(name, dtype)
    model.backend, model.threads = backend, 2
    twin = Twin(model)
    x, labels = clear_batch(name, n=6 if name == "zoo" else 1)  # BatchNorm needs several
    assert_close(model.forward(x), twin.forward(x).detach().numpy(), dtype)
    loss, gradient = model.loss_and_gradient(x, labels)
    expected_loss, _ = twin.loss_and_gradient(x, labels)
    assert loss == pytest.approx(expected_loss, rel=1e-12 if dtype == "float64" else 1e-5)
    for parameter, view in nn.vectors.views_of(gradient, model._architecture.parameters).items():
        expected = twin.parameters[parameter].grad.numpy()
        scale = np.abs(expected).max()
        tolerance = 1e-11 if dtype == "float64" else 2e-5
        np.testing.assert_allclose(view / scale, expected / scale, atol=tolerance, rtol=0, err_msg=parameter)
    for buffer, view in model.buffers.items():
        assert_close(view, twin.buffers[buffer].numpy(), dtype)
    assert_close(model.forward(x), twin.forward(x).detach().numpy(), dtype)  # with the running statistics
    expected = twin.forward(x).softmax(1).detach().numpy()
    np.testing.assert_allclose(model.predict_proba(x), expected, atol=1e-12 if dtype == "float64" else 2e-5)
    np.testing.assert_array_equal(model.predict(x), expected.argmax(1))


@pytest.mark.parametrize("name", ["lenet", "zoo"])
def test_training_follows_pytorch(name):
    """Twenty steps of SGD with momentum: forward, backward, running statistics and update together."""
    model = network(name, "float64")
    model.backend = "reference"
    twin = Twin(model)
    optimizer = optim.SGD(0.01, momentum=0.9, weight_decay=1e-3)
    state = optimizer.init(model.flat.size, model.flat.dtype)
    other = torch.optim.SGD(twin.parameters.values(), lr=0.01, momentum=0.9, weight_decay=1e-3)
    gradient = np.empty_like(model.flat)
    for step in range(1, 21):
        x, labels = batch(model, n=4 + step % 3, seed=step)
        loss, _ = model.loss_and_gradient(x, labels, out=gradient, step=step)
        optimizer.update(model.flat, gradient, state, step)
        assert loss == pytest.approx(twin.loss_and_gradient(x, labels)[0], rel=1e-8)
        other.step()
    for name, view in model.parameters.items():
        assert_close(view, twin.parameters[name].detach().numpy(), "float32")
