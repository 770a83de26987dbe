"""Every tile that the fast variants may take, at sizes off its multiples; and shapes that CUDA's grids cannot hold."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_devices import BACKEND, DEVICES, PRECISIONS, running_on

import pyconv.reference as twin
from pyconv.cuda import block_tuned, implicit_gemm, problem
from pyconv.cuda.array import DeviceArray, empty, to_device
from pyconv.cuda.choice import TABLE
from pyconv.cuda.problem import Problem
from pyconv.errors import InputError
from pyconv.shapes import ConvGeometry, conv_geometry

on_every_device = pytest.mark.parametrize("device", DEVICES)
TILES = [*implicit_gemm._LARGE, *implicit_gemm._SMALL]


@pytest.fixture(autouse=True)
def _one_compilation_for_all_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYCONV_CUDA_SPECIALISE", "0")


def check(g: ConvGeometry, rng: np.random.Generator, algorithm: str, dtype: str = "float32") -> None:
    """All three passes of a variant against the twin."""
    x, weight, grad = (rng.standard_normal(s).astype(dtype) for s in (g.input_shape, g.weight_shape, g.output_shape))
    bias = rng.standard_normal(g.k).astype(dtype)
    for actual, expected in (
        (BACKEND.conv2d(x, weight, bias, g, activation="relu", algorithm=algorithm),
         twin.conv2d(x, weight, bias, g, activation="relu")),
        (BACKEND.conv2d_input_grad(grad, weight, g, algorithm=algorithm), twin.conv2d_input_grad(grad, weight, g)),
        (BACKEND.conv2d_weight_grad(x, grad, g, algorithm=algorithm), twin.conv2d_weight_grad(x, grad, g)),
    ):  # fmt: skip
        scale = 60 * np.finfo(dtype).eps * max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(actual, expected, rtol=0, atol=scale)


@pytest.mark.covering("tile", "shares", most=2)
@on_every_device
@pytest.mark.parametrize("shares", [1, 3])
@pytest.mark.parametrize("tile", TILES, ids=lambda tile: f"{tile.m}x{tile.n}")
def test_a_tile_of_implicit_gemm(
    rng: np.random.Generator, device: str, tile: implicit_gemm.GemmTile, shares: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than one tile in each direction, all incomplete; the sum in one piece, and divided among blocks."""
    monkeypatch.setattr(implicit_gemm, "choose", lambda *_: (tile, shares))
    g = conv_geometry((2, 9, 9, 8), (3, 3, 8, tile.n + 4 if shares == 1 else 12), padding=1)
    with running_on(device, order="shuffled"):
        problem.forget()
        check(g, rng, "implicit_gemm")
        problem.forget()


@pytest.mark.slow
@pytest.mark.parametrize("sanitize", ["address", "thread"])
def test_the_largest_tile_passes_the_sanitizers(
    rng: np.random.Generator, sanitize: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from test_cuda_harness import works

    if not works(sanitize):
        pytest.skip(f"programs with -fsanitize={sanitize} cannot be built or run here")
    monkeypatch.setattr(implicit_gemm, "choose", lambda *_: (TILES[0], 1))
    with running_on("emulated", sanitize=sanitize, order="shuffled"):
        check(conv_geometry((2, 9, 9, 4), (2, 2, 4, 132)), rng, "implicit_gemm")


@on_every_device
@pytest.mark.parametrize(("channels", "filters"), [(8, 12), (6, 10), (5, 7)], ids=["by 4", "by 2", "one by one"])
@pytest.mark.parametrize("dtype", PRECISIONS)
def test_how_many_numbers_are_read_at_once(
    rng: np.random.Generator, device: str, channels: int, filters: int, dtype: str
) -> None:
    with running_on(device):
        check(conv_geometry((2, 6, 5, channels), (3, 2, channels, filters), stride=2, padding=1), rng, "implicit_gemm",
              dtype)  # fmt: skip


@on_every_device
def test_an_array_that_begins_off_16_bytes_is_read_one_by_one(rng: np.random.Generator, device: str) -> None:
    g = conv_geometry((1, 5, 5, 8), (3, 3, 8, 8))
    x, weight = rng.standard_normal(g.input_shape).astype("f"), rng.standard_normal(g.weight_shape).astype("f")

    def moved(array: np.ndarray) -> DeviceArray:
        vector = empty((array.size + 1,), array.dtype)
        vector[1:].set(array.ravel())
        return vector[1:].reshape(array.shape)

    with running_on(device):
        for images, filters in (
            (moved(x), to_device(weight)),
            (to_device(x), moved(weight)),
            (moved(x), moved(weight)),
        ):
            y = BACKEND.conv2d(images, filters, None, g, algorithm="implicit_gemm").get()
            np.testing.assert_allclose(y, twin.conv2d(x, weight, None, g), atol=1e-4)


G = conv_geometry((2, 9, 11, 5), (3, 3, 5, 20), padding=1)


def block_tiles() -> list[block_tuned.Tile]:
    """The likeliest tile of each kind: outputs a thread, and channels at once."""
    with running_on("emulated"):
        first: dict[tuple, block_tuned.Tile] = {}
        for tile in block_tuned.candidates(Problem.forward(G), np.float32):
            first.setdefault((tile.out_p, tile.out_k), tile)
    return list(first.values())


@pytest.mark.covering("tile", most=2)
@on_every_device
@pytest.mark.parametrize("tile", block_tiles(), ids=lambda tile: f"{tile.out_p}x{tile.out_k}")
def test_a_tile_of_block_tuned(rng: np.random.Generator, device: str, tile: block_tuned.Tile) -> None:
    x, weight = rng.standard_normal(G.input_shape).astype("f"), rng.standard_normal(G.weight_shape).astype("f")
    with running_on(device, order="reversed"):
        y = empty(G.output_shape, np.float32)
        TABLE["block_tuned"].convolve_with(
            tile, Problem.forward(G), to_device(x), to_device(weight), None, y, False
        )  # fmt: skip
        np.testing.assert_allclose(y.get(), twin.conv2d(x, weight, None, G), atol=1e-4)


def test_a_grid_beyond_cudas_limits_is_refused_by_name(rng: np.random.Generator) -> None:
    assert problem.grid("naive", 2**31 - 1, 65535, 65535) == (2**31 - 1, 65535, 65535)
    with pytest.raises(InputError, match=r"'shared_input'.* grid of 1×65536 blocks.*use 'naive' or 'implicit_gemm'"):
        problem.grid("shared_input", 1, 65536)
    with pytest.raises(InputError, match=r"use 'naive'$"):
        problem.grid("implicit_gemm", 1, 1, 65536)
    g = conv_geometry((1, 1, 1, 4096), (1, 1, 4096, 4128))
    x, grad = rng.standard_normal(g.input_shape).astype("f"), rng.standard_normal(g.output_shape).astype("f")
    with running_on("emulated"), pytest.raises(InputError, match="'shared_input' of backend cuda needs a grid"):
        BACKEND.conv2d_weight_grad(x, grad, g, algorithm="shared_input")
