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
        y = self.chain(y, self.model.layers, "", training)
        return y if y.ndim == 2 else y.permute(0, 2, 3, 1)

    def chain(self, y, layers, way, training):
        for position, layer in enumerate(layers):
            index = f"{way}{position}"
            y = getattr(self, type(layer).__name__)(y, layer, index, training)
            if getattr(layer, "activation", None) == "relu":
                y = self.ReLU(y, layer, index, training)
        return y

    def Residual(self, y, layer, index, training):
        shortcut = self.chain(y, layer.shortcut, f"{index}.shortcut.", training)
        return self.chain(y, layer.layers, f"{index}.", training) + shortcut

    def Parallel(self, y, layer, index, training):
        ends = [self.chain(y, each, f"{index}.{branch}.", training) for branch, each in enumerate(layer.branches)]
        return sum(ends) if layer.join == "add" else torch.cat(ends, 1)

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

    def LeakyReLU(self, y, layer, index, training):
        self.decide(y.abs())
        return F.leaky_relu(y, layer.slope)

    def ReLU6(self, y, layer, index, training):
        self.decide(torch.minimum(y.abs(), (y - 6).abs()))
        return F.relu6(y)

    def Clip(self, y, layer, index, training):
        self.decide(torch.minimum((y - layer.low).abs(), (y - layer.high).abs()))
        return F.hardtanh(y, layer.low, layer.high)

    def Sigmoid(self, y, layer, index, training):
        return torch.sigmoid(y)

    def Tanh(self, y, layer, index, training):
        return torch.tanh(y)

    def ZeroPad2D(self, y, layer, index, training):
        (top, bottom), (left, right) = layer.pads()
        return F.pad(y, (left, right, top, bottom))

    def GlobalAvgPool2D(self, y, layer, index, training):
        return F.adaptive_avg_pool2d(y, 1).flatten(1)

    def SeparableConv2D(self, y, layer, index, training):
        depthwise, pointwise = (self.parameters[f"{index}.{name}"] for name in ("depthwise", "pointwise"))
        y = F.conv2d(y, depthwise.permute(3, 2, 0, 1), None, layer.stride, layer.padding, groups=y.shape[1])
        return F.conv2d(y, pointwise.permute(3, 2, 0, 1), self.parameters.get(f"{index}.bias"))

    def decide(self, distances):
        """Record the least distance of a ReLU's input from 0, or of a maximum from the second largest.

        Values of exactly zero (behind another ReLU, in a dead channel) are decided alike everywhere, and do not count.
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


IMPORTED = [
    nn.ZeroPad2D(((0, 1), (2, 0))),
    nn.SeparableConv2D(6, 3, stride=2, depth_multiplier=2),
    nn.LeakyReLU(0.1),
    nn.SeparableConv2D(8, 3, activation="relu", bias=False),
    nn.Tanh(),
    nn.Conv2D(8, 1),
    nn.Clip(-0.3, 0.4),
    nn.ReLU6(),
    nn.Sigmoid(),
    nn.GlobalAvgPool2D(),
    nn.Dense(5),
]


def network(name, dtype):
    if name in ("zoo", "imported"):
        model = nn.Sequential(ZOO if name == "zoo" else IMPORTED, (13, 14, 3), seed=4, dtype=dtype)
        model.normalization = nn.Normalization([10.0, 20.0, 30.0], [60.0, 70.0, 80.0])
        # Not gamma = 1 and beta = 0: there, a channel without variance lies on the kink of the ReLU.
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
    """A batch in which rounding decides no ReLU and no maximum.

    If rounding decides one, two correct float32 networks may send a gradient along different ways, and all layers
    before differ by far more than rounding. PyTorch in float64 tells how close the decisions are.
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
    """Check equality up to rounding in units of the largest number, as sums of many terms round."""
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual / scale, expected / scale, atol=1e-12 if dtype == "float64" else 2e-5, rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ["fer", "lenet", "5-50-100-10", "zoo", "imported"])
def test_forward_and_gradient(name, dtype, backend):
    model = network(name, dtype)
    model.backend, model.threads = backend, 2
    twin = Twin(model)
    x, labels = clear_batch(name, n=6 if name == "zoo" else 1)  # BatchNorm needs several images
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


@pytest.mark.covering("name", most=1)
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


@pytest.mark.covering("name", most=1)
@pytest.mark.parametrize(
    ("name", "shape"), [("resnet18", (9, 8, 2)), ("mini-xception", (21, 22, 1)), ("squeezenet", (14, 17, 3))]
)
def test_networks_with_branches(name, shape):
    """Loss, gradient and running statistics of a step, then inference, in float64, where rounding decides no ReLU."""
    rng = np.random.default_rng(8)
    model = nn.build(name, input_shape=shape, classes=4, seed=2, dtype="float64")
    layers = [layer for layer in model.layers if not isinstance(layer, nn.Dropout)]  # PyTorch draws other numbers
    model = nn.Sequential(layers, shape, seed=2, dtype="float64")
    model.backend = "serial"
    x, labels = rng.normal(size=(4, *shape)), rng.integers(0, 4, 4)
    twin = Twin(model)
    loss = F.cross_entropy(twin.forward(x, training=True), torch.from_numpy(labels))
    loss.backward()
    found, gradient = model.loss_and_gradient(x, labels)
    assert found == pytest.approx(loss.item(), rel=1e-9)
    expected = np.concatenate([tensor.grad.numpy().ravel() for tensor in twin.parameters.values()])
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-7 * np.abs(expected).max())
    for buffer, view in model.buffers.items():
        np.testing.assert_allclose(view, twin.buffers[buffer].numpy(), rtol=1e-9, atol=1e-12)
    with torch.no_grad():
        np.testing.assert_allclose(model.forward(x), twin.forward(x).numpy(), rtol=1e-7, atol=1e-9)
