"""Arrays of CuPy and PyTorch go in and results come out without a copy, through ``__cuda_array_interface__``."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from cuda_devices import DEVICES, NO_GPU, fresh_backend, running_on  # noqa: F401 - a fixture

import pyconv
from pyconv import cuda
from pyconv.cuda.array import DeviceArray, to_device
from pyconv.errors import DtypeError, InputError, ShapeError

pytestmark = pytest.mark.usefixtures("fresh_backend")
on_every_device = pytest.mark.parametrize("device", DEVICES)


class Foreign:
    """Another library's array, with nothing but the interface."""

    def __init__(self, array: np.ndarray, **changes: object) -> None:
        self._memory = to_device(array)
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (self._memory.address, False),
            "version": 3,
            "strides": None,
            **changes,
        }


def arrays(rng: np.random.Generator, dtype: str = "float32") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    shapes = (2, 6, 7, 3), (3, 3, 3, 5), (5,)
    x, weight, bias = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    return x, weight, bias


@on_every_device
@pytest.mark.parametrize("stream", [None, 1, 2])
def test_arrays_go_in_and_come_out_without_a_copy(rng: np.random.Generator, device: str, stream: int | None) -> None:
    x, weight, bias = arrays(rng)
    expected = pyconv.conv2d(x, weight, bias, padding=1, activation="relu", backend="reference")
    with running_on(device) as running:
        foreign = [Foreign(array, stream=stream) for array in (x, weight, bias)]
        pyconv.conv2d(*foreign, padding=1, activation="relu", backend="cuda")  # constant tables are copied once
        if device == "emulated":
            running.copied_in = running.copied_out = 0
        y = pyconv.conv2d(*foreign, padding=1, activation="relu", backend="cuda")
        if device == "emulated":
            assert running.copied_in == running.copied_out == 0
        assert isinstance(y, DeviceArray)
        again = Foreign(x)
        again.__cuda_array_interface__ = y.__cuda_array_interface__  # as another library would read it
        z = pyconv.max_pool2d(again, 2, backend="cuda")
        np.testing.assert_allclose(y.get(), expected, atol=1e-5)
        np.testing.assert_array_equal(z.get(), pyconv.max_pool2d(y.get(), 2, backend="reference"))
        interface = y.__cuda_array_interface__
        assert (interface["shape"], interface["typestr"], interface["stream"]) == (y.shape, "<f4", 1)


@on_every_device
def test_gradients_and_nchw(rng: np.random.Generator, device: str) -> None:
    x, weight, _ = arrays(rng, "float64")
    nchw, filters = np.ascontiguousarray(x.transpose(0, 3, 1, 2)), np.ascontiguousarray(weight.transpose(3, 2, 0, 1))
    grad = rng.standard_normal((2, 5, 4, 5))
    how = {"layout": "NCHW", "backend": "cuda"}
    host = {"layout": "NCHW", "backend": "reference"}
    with running_on(device):
        gx = pyconv.conv2d_input_grad(Foreign(grad), Foreign(filters), nchw.shape, **how)
        gw = pyconv.conv2d_weight_grad(Foreign(nchw), Foreign(grad), 3, **how)
        np.testing.assert_allclose(gx.get(), pyconv.conv2d_input_grad(grad, filters, nchw.shape, **host), atol=1e-12)
        np.testing.assert_allclose(gw.get(), pyconv.conv2d_weight_grad(nchw, grad, 3, **host), atol=1e-12)


@on_every_device
def test_what_cannot_be_taken_is_refused_by_name(rng: np.random.Generator, device: str) -> None:
    x, weight, _ = arrays(rng)
    with running_on(device):
        there = to_device(weight)
        turned = Foreign(x, strides=x.transpose(0, 2, 1, 3).strides)
        for wrong, error, words in (
            (turned, InputError, r"x is on the GPU and not C-contiguous.*\.contiguous\(\)"),
            (Foreign(x.astype(np.float16)), DtypeError, "x has dtype float16"),
            (Foreign(x, mask=Foreign(x)), InputError, "x has a mask"),
            (Foreign(x[0]), ShapeError, "x must have 4 dimensions"),
        ):
            with pytest.raises(error, match=words) as raised:
                pyconv.conv2d(wrong, there, backend="cuda")
            assert "\n" not in str(raised.value)
        with pytest.raises(TypeError, match=r"call its get\(\)"):
            np.asarray(there)


def test_an_array_on_another_gpu_is_refused_by_name(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, _ = arrays(rng)
    with running_on("emulated") as device:
        foreign, there = Foreign(x), to_device(weight)
        address = foreign.__cuda_array_interface__["data"][0]
        monkeypatch.setattr(device, "owner", lambda asked: 3 if asked == address else 0)
        with pytest.raises(
            InputError, match=r"^x is on GPU 3, but this process computes on GPU 0; move .*PYCONV_GPUS=3"
        ):
            pyconv.conv2d(foreign, there, backend="cuda")


def test_an_empty_array_has_no_address(rng: np.random.Generator) -> None:
    weight = arrays(rng)[1]
    with running_on("emulated"), pytest.raises(ShapeError):
        pyconv.conv2d(Foreign(np.empty((0, 6, 7, 3), "f"), data=(0, False)), weight, backend="cuda")


def test_an_array_that_records_its_gradient_is_refused_in_one_line(rng: np.random.Generator) -> None:
    class Recording:
        @property
        def __cuda_array_interface__(self) -> dict:
            raise RuntimeError("Can't get __cuda_array_interface__ on Variable that requires grad.\nUse detach().")

    weight = arrays(rng)[1]
    with running_on("emulated"), pytest.raises(InputError, match=r"requires grad\. Use detach"):
        pyconv.conv2d(Recording(), weight, backend="cuda")


@pytest.mark.gpu
@pytest.mark.skipif(NO_GPU is not None, reason=f"cuda: {NO_GPU}")
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
def test_pytorch_and_pyconv_live_in_one_process(rng: np.random.Generator) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("this build of PyTorch has no CUDA")
    x, weight, _ = arrays(rng)
    tx, tw = (torch.from_numpy(array).cuda() for array in (x, weight))
    y = pyconv.conv2d(tx + 1, tw, backend="cuda")
    assert isinstance(y, cuda.DeviceArray)
    shared = torch.as_tensor(y, device="cuda")
    assert shared.data_ptr() == y.address
    expected = torch.nn.functional.conv2d((tx + 1).permute(0, 3, 1, 2), tw.permute(3, 2, 0, 1)).permute(0, 2, 3, 1)
    torch.testing.assert_close(shared, expected, atol=1e-2, rtol=1e-2)  # PyTorch may compute with TF32
