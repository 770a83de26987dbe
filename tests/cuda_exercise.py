"""Runs every kernel of every .cu file once, on small odd shapes: ``python tests/cuda_exercise.py`` does it on the GPU.

The tests run it on the emulated device under the sanitizers, and ``make test-gpu`` under NVIDIA's compute-sanitizer.
"""

from __future__ import annotations

import numpy as np
from cuda_on_cpu import toolchain

from pyconv import cuda, optim
from pyconv.backends.gpu import Cuda
from pyconv.cuda import layers, updates
from pyconv.cuda.array import empty, to_device, zeros
from pyconv.cuda.source import HERE
from pyconv.shapes import conv_geometry, pool_geometry

_BACKEND = Cuda()

#: Convolutions with every setting, for kernels that read one number at a time; convolutions for kernels that read four;
#: and convolutions with more channels and pixels than shared memory holds at once.
SHAPES = [
    conv_geometry((2, 7, 9, 4), (3, 3, 2, 12), stride=(2, 1), padding=((1, 2), (0, 1)), dilation=(1, 2), groups=2),
    conv_geometry((3, 6, 7, 8), (3, 2, 8, 20), padding=1),
    conv_geometry((1, 9, 10, 40), (3, 3, 40, 8), padding=1),
]


def kernels_of_all_files() -> set[tuple[str, str]]:
    """All kernels, as (file, kernel)."""
    return {(path.stem, kernel) for path in HERE.glob("*.cu") for kernel in toolchain.kernels(path.read_text())}


def exercise() -> None:
    """Run every kernel of every file once."""
    rng = np.random.default_rng(0)

    def numbers(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    for g in SHAPES:
        x, weight, bias, grad = (numbers(*shape) for shape in (g.input_shape, g.weight_shape, (g.k,), g.output_shape))
        for algorithm in cuda.algorithms:
            _BACKEND.conv2d(x, weight, bias, g, activation="relu", algorithm=algorithm)
            _BACKEND.conv2d_input_grad(grad, weight, g, algorithm=algorithm)
            _BACKEND.conv2d_weight_grad(x, grad, g, algorithm=algorithm)
    first = conv_geometry((2, 9, 8, 1), (3, 3, 1, 12), padding=1)
    block = pool_geometry(first.output_shape, 2)
    where = np.empty(block.output_shape, np.int32)
    x, weight, bias, grad = numbers(2, 9, 8, 1), numbers(3, 3, 1, 12), numbers(12), numbers(*block.output_shape)
    y = _BACKEND.conv2d_pool(x, weight, bias, first, block, activation="relu", indices=where)
    _BACKEND.conv2d_pool_weight_grad(x, grad, where, y, first, block, activation="relu")
    _BACKEND.permute(to_device(numbers(2, 3, 4, 5)), (0, 3, 1, 2))
    pg = pool_geometry((2, 5, 7, 3), 3, stride=2, padding=1)
    x, grad, indices = numbers(*pg.input_shape), numbers(*pg.output_shape), np.empty(pg.output_shape, np.int32)
    _BACKEND.max_pool2d(x, pg, indices=indices)
    _BACKEND.max_pool2d_input_grad(grad, indices, pg)
    _BACKEND.avg_pool2d(x, pg)
    _BACKEND.avg_pool2d_input_grad(grad, pg)
    x, grad, per_channel = numbers(300, 33), numbers(300, 33), numbers(33)
    _BACKEND.relu_grad(grad, _BACKEND.relu(x))
    _BACKEND.scale_shift(x, per_channel, per_channel)
    _BACKEND.bias_grad(grad)
    _, mean, inv_std = _BACKEND.batch_norm(x, per_channel, per_channel, 1e-5)
    _BACKEND.batch_norm_grad(x, grad, per_channel, mean, inv_std)
    for kind in ("leaky_relu", "clip", "sigmoid", "tanh"):
        _BACKEND.activate_grad(grad, _BACKEND.activate(x, kind, 0.1, 0.9), kind, 0.1, 0.9)
    around = ((1, 0), (2, 1))
    _BACKEND.crop2d(_BACKEND.pad2d(numbers(2, 5, 7, 3), around), around)
    _BACKEND.add(x, grad)
    beside = np.empty((5, 7), np.float32)
    _BACKEND.concatenate([numbers(5, 3), numbers(5, 4)], out=beside)
    _BACKEND.channels(beside, 3, out=np.empty((5, 4), np.float32))
    _BACKEND.softmax_cross_entropy(numbers(3, 40), np.array([0, 39, 7]))
    there, other, means = to_device(x), empty(x.shape, x.dtype), to_device(per_channel)
    layers.scale(there, 2.0, other)
    layers.multiply(there, there, other)
    layers.normalise(there, means, means, other)
    layers.normalise(to_device(rng.integers(0, 256, (300, 33)).astype(np.uint8)), means, means, other)
    layers.running_statistics(to_device(mean), to_device(inv_std), means, to_device(inv_std), 1e-5, 0.1, 300)
    spread = to_device(inv_std)
    layers.batch_norm_inference(there, spread, to_device(mean), to_device(mean), spread, 1e-5, other)
    factor = empty(x.shape, x.dtype)
    layers.dropout(there, other, factor, seed=1, stream=2, step=3, layer=4, first=5, threshold=9999, scale=1.5)
    for optimizer in (optim.SGD(momentum=0.9), optim.Adagrad(), optim.Adadelta(), optim.Adam(), optim.AdaMax()):
        state = {name: zeros((33,), np.float32) for name in optimizer.state_names}
        updates.update(optimizer, means, to_device(per_channel), state, 1, 0.1)
    cuda.current().hold(0.01)
    cuda.current().synchronise()


if __name__ == "__main__":
    exercise()
    print(f"{len(kernels_of_all_files())} kernels ran on {cuda.current().name}")
