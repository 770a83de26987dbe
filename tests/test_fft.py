"""Convolution by transforms: every plan against the literal twin, bits, choice, and numbers that must hold."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import scipy.signal
from hypothesis import given
from hypothesis import strategies as st
from quick import examples
from strategies import DTYPES, SEEDS, ConvCase, conv_cases

import pyconv
from pyconv import nn, reference
from pyconv.shapes import ConvGeometry, conv_geometry

pytest.importorskip("pyconv._cpu", reason="pyconv's kernels are not built")

from pyconv import _passes
from pyconv.backends import fft
from pyconv.backends.fft import blocks, bound, prices, sizes, transforms
from pyconv.backends.fft.correlation import Correlation
from pyconv.backends.fft.operands import operands
from pyconv.backends.fft.patches import Patches
from pyconv.backends.fft.sizes import FORWARD, INPUT_GRAD, WEIGHT_GRAD

OPERATIONS = st.sampled_from([FORWARD, INPUT_GRAD, WEIGHT_GRAD])
EVERY = (pyconv.conv2d, pyconv.conv2d_input_grad, pyconv.conv2d_weight_grad)


def plans(what: int, g: ConvGeometry) -> tuple[list[sizes.Axis], list[sizes.Axis]]:
    """All ways to cut an operation, down and across."""
    down = sizes.ways(g.h, g.oh, g.kh, g.sh, g.dh, g.pt, what, False)
    across = sizes.ways(g.w, g.ow, g.kw, g.sw, g.dw, g.pl, what, True)
    return list(down), list(across)


def along(made: sizes.Plan, a: np.ndarray, b: np.ndarray, g: ConvGeometry, threads: int = 1) -> np.ndarray:
    """The operation along a plan."""
    shape = (g.output_shape, g.input_shape, (1, g.kh, g.kw, g.c // g.groups * g.k))[made.what]
    found = np.full(shape, np.nan, a.dtype)

    def finish(values: np.ndarray, images: slice, rows: slice, columns: slice) -> None:
        found[images, rows, columns] = values

    transforms.run(made, *operands(made, a, b, g), g, threads, finish, False)
    return found if made.what != WEIGHT_GRAD else found.reshape(g.weight_shape)


def given_arrays(what: int, case: ConvCase, seed: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """The two operands of an operation."""
    x, weight, _, grad_out = case.arrays(seed, dtype)
    return ((x, weight), (grad_out, weight), (x, grad_out))[what]


def literal(what: int, a: np.ndarray, b: np.ndarray, g: ConvGeometry) -> np.ndarray:
    """The same by the literal twin, in float64."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    if what == FORWARD:
        return reference.conv2d(a, b, None, g)
    return reference.conv2d_input_grad(a, b, g) if what == INPUT_GRAD else reference.conv2d_weight_grad(a, b, g)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many blocks even of small arrays."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 700)
    monkeypatch.setattr(transforms, "IMAGE_BYTES", 500)


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Let "auto" try transforms for every geometry; lists whether they could stand."""
    found: list[bool] = []
    compute = fft.run._compute

    def listed(*arguments: object) -> bool:
        found.append(compute(*arguments))
        return found[-1]

    monkeypatch.setattr(fft, "pays", lambda *_, **__: True)
    monkeypatch.setattr(fft.run, "SMALL_SHARE", 0.6)
    monkeypatch.setattr(fft.run, "_compute", listed)
    yield found


@examples(200)
@given(case=conv_cases(max_channels=5, max_filters=15), what=OPERATIONS, seed=SEEDS, dtype=DTYPES, data=st.data())
def test_every_plan_is_the_literal_twin(case: ConvCase, what: int, seed: int, dtype: str, data: st.DataObject) -> None:
    g = case.geometry
    down, across = plans(what, g)
    made = sizes.Plan(what, data.draw(st.sampled_from(down)), data.draw(st.sampled_from(across)), 0.0)
    a, b = given_arrays(what, case, seed, dtype)
    found, expected = along(made, a, b, g), literal(what, a, b, g)
    assert found.dtype == dtype
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    np.testing.assert_allclose(found, expected, rtol=0, atol=4 * np.finfo(dtype).eps * size)


@examples(40)
@given(case=conv_cases(max_channels=5, max_filters=15), what=OPERATIONS, seed=SEEDS, data=st.data())
@pytest.mark.usefixtures("small_blocks")
def test_threads_and_blocks_leave_the_bits(case: ConvCase, what: int, seed: int, data: st.DataObject) -> None:
    g = case.geometry
    down, across = plans(what, g)
    made = sizes.Plan(what, data.draw(st.sampled_from(down)), data.draw(st.sampled_from(across)), 0.0)
    a, b = given_arrays(what, case, seed, "float32")
    once = along(made, a, b, g)
    np.testing.assert_array_equal(along(made, a, b, g, threads=3), once)
    np.testing.assert_allclose(once, literal(what, a, b, g), rtol=0, atol=1e-6 * np.linalg.norm(a) * np.linalg.norm(b))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("size", "kernel"), [((57, 83), (15, 15)), ((64, 64), (64, 63)), ((130, 41), (31, 8))])
def test_large_kernels_are_scipys(
    size: tuple[int, int], kernel: tuple[int, int], dtype: str, rng: np.random.Generator
) -> None:
    images = rng.standard_normal((2, *size, 3)).astype(dtype)
    weight, bias = rng.standard_normal((*kernel, 3, 4)).astype(dtype), rng.standard_normal(4).astype(dtype)
    padding = tuple(((k - 1) // 2, k // 2) for k in kernel)
    y = pyconv.conv2d(images, weight, bias, padding=padding, activation="relu", algorithm="fft", backend="serial")
    again = pyconv.conv2d(images, weight, bias, padding=padding, activation="relu", algorithm="fft", threads=2)
    np.testing.assert_array_equal(y, again)
    for n, k in np.ndindex(2, 4):
        wide = [
            scipy.signal.fftconvolve(
                np.pad(images[n, ..., c].astype(np.float64), padding), weight[::-1, ::-1, c, k].astype(float), "valid"
            )
            for c in range(3)
        ]
        expected = np.maximum(sum(wide) + bias[k], 0)
        atol = 60 * np.finfo(dtype).eps * float(np.abs(sum(wide)).max())
        np.testing.assert_allclose(y[n, ..., k], expected, rtol=0, atol=atol)


def test_a_kernel_as_large_as_the_images_and_one_row_of_taps(rng: np.random.Generator) -> None:
    for size, kernel in (((37, 53), (37, 53)), ((40, 50), (1, 31)), ((50, 40), (31, 1)), ((1, 90), (1, 45))):
        x, weight = rng.standard_normal((1, *size, 1)), rng.standard_normal((*kernel, 1, 2))
        for padding in ("valid", "same", [[k - 1, k - 1] for k in kernel]):
            g = conv_geometry(x.shape, weight.shape, padding=padding)
            y = pyconv.conv2d(x, weight, padding=padding, algorithm="fft")
            np.testing.assert_allclose(y, reference.conv2d(x, weight, None, g), rtol=0, atol=1e-10)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["a", "b"])
@pytest.mark.parametrize("what", [FORWARD, INPUT_GRAD, WEIGHT_GRAD])
def test_auto_does_not_spread_what_is_not_finite(
    what: int, where: str, bad: float, chosen: list[bool], rng: np.random.Generator
) -> None:
    """On request transforms spread it over the image."""
    g = conv_geometry((2, 150, 131, 1), (25, 27, 1, 1), padding=4)
    shapes = (g.input_shape, g.weight_shape, g.output_shape)
    x, weight, grad_out = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    a, b = ((x, weight), (grad_out, weight), (x, grad_out))[what]
    target = a if where == "a" else b
    target.flat[rng.integers(target.size)] = bad
    last = ((), (g.input_shape,), ((25, 27),))[what]
    found = EVERY[what](a, b, *last, padding=4, backend="serial")
    assert chosen == [where == "a" and what != WEIGHT_GRAD]
    expected = _direct(what, a, b, g)
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
    finite = np.isfinite(expected)  # some direct kernels make NaN of an infinite window: an infinity times padding
    np.testing.assert_allclose(found[finite], expected[finite], rtol=0, atol=1e-3)
    if what != WEIGHT_GRAD:
        assert np.isfinite(EVERY[what](a, b, *last, padding=4, algorithm="fft")).sum() <= np.isfinite(found).sum()


def wide_range(rng: np.random.Generator, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """Images as cameras, masks and counters give them."""
    if kind == "normal":
        return rng.standard_normal(shape)
    if kind == "sensor":  # 12 bits, with dead and hot pixels
        return rng.integers(0, 4096, shape) * (rng.random(shape) > 0.05) + 60000 * (rng.random(shape) < 0.002)
    if kind == "mask":
        return np.where(rng.random(shape) < 0.001, 1e9, rng.random(shape))
    if kind == "sparse":
        return rng.standard_normal(shape) * (rng.random(shape) < 0.02)
    if kind == "half":  # a black half
        image = rng.random(shape)
        image[:, : shape[1] // 2] = 0
        return image
    return 10.0 ** rng.uniform(-12, 12, shape)


KINDS = st.sampled_from(["normal", "sensor", "mask", "sparse", "half", "powers"])


@examples(150)
@given(
    size=st.tuples(st.integers(9, 70), st.integers(9, 70)), kernel=st.tuples(st.integers(1, 31), st.integers(1, 31)),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3)), kinds=st.tuples(KINDS, KINDS), what=OPERATIONS,
    seed=SEEDS,
)  # fmt: skip
def test_autos_error_is_small_beside_each_windows_own_sum(
    size: tuple[int, int],
    kernel: tuple[int, int],
    channels: tuple[int, int],
    kinds: tuple[str, str],
    what: int,
    seed: int,
) -> None:
    """|error| is at most 1e-5 of the sum of |x| |w| of the number's own window; where that is zero, nothing is."""
    rng = np.random.default_rng(seed)
    kernel = tuple(min(k, s) for k, s in zip(kernel, size))  # type: ignore[assignment]
    g = conv_geometry((2, *size, channels[0]), (*kernel, *channels), padding="same")
    shapes = ((g.input_shape, g.weight_shape), (g.output_shape, g.weight_shape), (g.input_shape, g.output_shape))[what]
    a, b = (wide_range(rng, shape, kind).astype(np.float32) for shape, kind in zip(shapes, kinds))
    module = (fft.conv2d, fft.conv2d_input_grad, fft.conv2d_weight_grad)[what]
    found = module(a, b, None, g, checked=True) if what == FORWARD else module(a, b, g, checked=True)
    if found is None:
        return
    exact = _direct(what, a.astype(np.float64), b.astype(np.float64), g)
    sums = _direct(what, np.abs(a).astype(np.float64), np.abs(b).astype(np.float64), g)
    assert (np.abs(found - exact) <= 1e-5 * sums).all()


def _direct(what: int, a: np.ndarray, b: np.ndarray, g: ConvGeometry) -> np.ndarray:
    if what == FORWARD:
        return pyconv._cpu.conv2d(a, b, None, g, algorithm="direct")
    compiled = (pyconv._cpu.conv2d_input_grad, pyconv._cpu.conv2d_weight_grad)[what - 1]
    return compiled(a, b, g, algorithm="direct")


def structured(rng: np.random.Generator, shape: tuple[int, int], kind: str) -> np.ndarray:
    """What makes the rounding of transforms pile up: single pixels, rows, waves, one sign throughout."""
    row, column = np.ogrid[: shape[0], : shape[1]]
    if kind == "pixel":
        return ((row == rng.integers(shape[0])) & (column == rng.integers(shape[1]))).astype(float)
    if kind == "row":
        return (row == rng.integers(shape[0])) * rng.random(shape)
    if kind == "wave":
        return np.sin(rng.uniform(0, 3) * row + rng.uniform(0, 3) * column)
    if kind == "hill":
        return np.exp(-((6 * row / shape[0] - 3) ** 2) / 2 - (6 * column / shape[1] - 3) ** 2 / 2)
    return rng.standard_normal(shape)


SHAPES = st.sampled_from(["normal", "pixel", "row", "wave", "hill"])


@examples(150)
@given(
    size=st.integers(20, 140), kernel=st.integers(3, 63), kinds=st.tuples(SHAPES, SHAPES), what=OPERATIONS, seed=SEEDS,
    data=st.data(),
)  # fmt: skip
def test_the_estimate_of_the_error_holds(
    size: int, kernel: int, kinds: tuple[str, str], what: int, seed: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    kernel = min(kernel, size)
    g = conv_geometry((1, size, size, 1), (kernel, kernel, 1, 1), padding="same")
    x, weight, grad_out = (
        structured(rng, shape, kind).astype(np.float32)
        for shape, kind in (((size, size), kinds[0]), ((kernel, kernel), kinds[1]), ((size, size), kinds[1]))
    )
    a, b = ((x, weight), (x, weight), (x, grad_out))[what]
    a, b = a[None, :, :, None], b[:, :, None, None] if what != WEIGHT_GRAD else b[None, :, :, None]
    down, across = plans(what, g)
    made = sizes.Plan(what, data.draw(st.sampled_from(down)), data.draw(st.sampled_from(across)), 0.0)
    ready, eps = operands(made, a, b, g), float(np.finfo(np.float32).eps)
    energy = transforms.run(made, *ready, g, 1, lambda *_: None, True)
    error = bound.error(made, ready[0], b, g, eps) + bound.error_back(made, energy, eps)
    found = along(made, a, b, g).astype(np.float64) - along(made, a.astype(np.float64), b.astype(np.float64), g)
    assert np.abs(found).max() <= error.max()


@pytest.mark.parametrize("kind", ["normal", "uniform", "photograph"])
@pytest.mark.parametrize(("size", "kernel"), [(256, 15), (256, 31), (256, 63), (300, 151)])
def test_usual_images_stand(size: int, kernel: int, kind: str, rng: np.random.Generator) -> None:
    """Of one precision throughout: no second try in float64, no direct sums."""
    image = rng.standard_normal((1, size, size, 1)) if kind == "normal" else 1 + 254 * rng.random((1, size, size, 1))
    weight = rng.standard_normal((kernel, kernel, 1, 1))
    if kind == "photograph":  # a smooth kernel
        place = np.linspace(-2, 2, kernel)
        weight = np.exp(-(place**2) - place[:, None] ** 2)[:, :, None, None]
    g = conv_geometry(image.shape, weight.shape, padding="same")
    image, weight = image.astype(np.float32), weight.astype(np.float32)
    made = sizes.plan(FORWARD, g, False)
    ready = operands(made, image, weight, g)
    energy = transforms.run(made, *ready, g, 1, lambda *_: None, True)
    of = Correlation.of(FORWARD, image, weight, g)
    windows = bound.Windows(of, 1)
    eps = float(np.finfo(np.float32).eps)
    error = bound.error(made, ready[0], weight, g, eps) + bound.error_back(made, energy, eps)
    assert Patches(of, windows, windows.uncertain(error, bound.TOLERANCE * eps), fft.run.SMALL_SHARE).few


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_least_magnitudes_are_those_of_each_block(dtype: str, rng: np.random.Generator) -> None:
    for shape, by in [((2, 13, 9, 3), (2, 3)), ((1, 7, 16, 1), (1, 1)), ((1, 4, 5, 2), (4, 2)), ((0, 4, 5, 2), (1, 2))]:
        a = rng.standard_normal(shape).astype(dtype)
        found = _passes.least_magnitudes(a, by)
        assert found.dtype == dtype
        assert found.shape == (shape[0], -(-shape[1] // by[0]), -(-shape[2] // by[1]), shape[3])
        for i, j in np.ndindex(found.shape[1:3]):
            part = a[:, i * by[0] : i * by[0] + 2 * by[0] - 1, j * by[1] : j * by[1] + 2 * by[1] - 1]
            whole = part.shape[1:3] == (2 * by[0] - 1, 2 * by[1] - 1)
            expected = np.abs(part).min(axis=(1, 2)) if whole else np.zeros_like(found[:, i, j])
            np.testing.assert_array_equal(found[:, i, j], expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_sums_of_magnitudes_are_those_of_each_block(dtype: str, rng: np.random.Generator) -> None:
    for shape, by in [((2, 13, 9, 3), (2, 3)), ((1, 7, 16, 1), (1, 1)), ((1, 4, 5, 2), (4, 2)), ((0, 4, 5, 2), (1, 2))]:
        a = rng.standard_normal(shape).astype(dtype)
        found = _passes.sums_of_magnitudes(a, by)
        assert found.dtype == dtype
        assert found.shape == (shape[0], -(-shape[1] // by[0]), -(-shape[2] // by[1]), shape[3])
        for i, j in np.ndindex(found.shape[1:3]):
            part = a[:, i * by[0] : (i + 1) * by[0], j * by[1] : (j + 1) * by[1]].astype(np.float64)
            expected = np.abs(part).sum(axis=(1, 2))
            np.testing.assert_allclose(found[:, i, j], expected, rtol=16 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_box_sums_are_those_of_each_place(dtype: str, rng: np.random.Generator) -> None:
    for shape, first, count, taps in [
        ((2, 9, 7, 3), (0, 0), (7, 5), (3, 3)), ((1, 9, 7, 1), (-4, -2), (17, 9), (2, 5)),
        ((1, 5, 6, 2), (3, -9), (4, 20), (4, 1)), ((1, 3, 3, 1), (0, 0), (2, 2), (0, 2)),
    ]:  # fmt: skip
        a = rng.random(shape).astype(dtype)
        around = np.pad(a.astype(np.float64), [(0, 0), (40, 40), (40, 40), (0, 0)])
        found = _passes.box_sums(a, first, count, taps)
        for i, j in np.ndindex(*count):
            begin = first[0] + i + 40, first[1] + j + 40
            box = around[:, begin[0] : begin[0] + taps[0], begin[1] : begin[1] + taps[1]]
            np.testing.assert_allclose(found[:, i, j], box.sum(axis=(1, 2)), rtol=1e-6, atol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_squares_down_are_the_magnitudes_squared(dtype: str, rng: np.random.Generator) -> None:
    for rows, columns in [(17, 5), (1, 1), (64, 33), (0, 3)]:
        numbers = rng.standard_normal((rows, 2 * columns)).astype(dtype)
        expected = np.square(np.abs(numbers.astype(np.float64).view(np.complex128))).sum(axis=0)
        np.testing.assert_allclose(_passes.squares_down(numbers), expected, rtol=64 * np.finfo(dtype).eps)


def test_the_windows_sums_are_not_overestimated(rng: np.random.Generator) -> None:
    for _ in range(30):
        kernel, size = rng.integers(1, 24, 2), rng.integers(24, 60, 2)
        how: dict = {"padding": rng.integers(0, 30, (2, 2)).tolist(), "dilation": int(rng.integers(1, 3))}
        if not (kernel * 2 < size).all():
            how = {"padding": "same"}
        g = conv_geometry((1, *size, 2), (*kernel, 1, 4), groups=2, **how)
        x, weight = rng.standard_normal(g.input_shape), rng.standard_normal(g.weight_shape)
        sums = reference.conv2d(np.abs(x), np.abs(weight), None, g)
        windows = bound.Windows(Correlation.of(FORWARD, x, weight, g), 1)
        enough = 10.0 ** rng.uniform(-1, 3, (1, 4))
        bright = windows._bright(enough)
        for found in (windows.by_pixels, windows.by_filters):
            for row, column in np.ndindex(g.oh, g.ow):
                places = ((row - g.pt) // windows.by[0], (column - g.pl) // windows.by[1])
                block = found[0, places[0] - windows.first[0], places[1] - windows.first[1]]
                assert (block <= sums[0, row, column] * (1 + 1e-9)).all()
                if bright[0, places[0] - windows.first[0], places[1] - windows.first[1]]:
                    assert (sums[0, row, column] > enough[0]).all()


def test_convolve2d_transforms_and_keeps_its_promises(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a large kernel: modes, boundaries, complex numbers and stacks; a NaN stays in place, integers are exact."""
    called = []
    compute = fft.run._compute
    monkeypatch.setattr(fft.run, "_compute", lambda *given: called.append(compute(*given)) or called[-1])
    image, kernel = rng.standard_normal((2, 301, 280)), rng.standard_normal((70, 63))
    for name, mode, boundary in (
        ("convolve2d", "full", "fill"),
        ("correlate2d", "same", "wrap"),
        ("convolve2d", "valid", "fill"),
    ):
        found = getattr(pyconv, name)(image, kernel, mode, boundary)
        for one, each in zip(image, found):
            if boundary == "fill":
                expected = scipy.signal.fftconvolve(one, kernel, mode)
            else:
                wide = np.pad(one, ((34, 35), (31, 31)), "wrap")
                expected = scipy.signal.fftconvolve(wide, kernel[::-1, ::-1], "valid")
            np.testing.assert_allclose(each, expected, rtol=0, atol=1e-10)
    pair = image[0].astype(np.complex64) * (1 + 2j)
    expected = scipy.signal.fftconvolve(image[0] * (1 + 2j), kernel * 1j, "same")
    np.testing.assert_allclose(pyconv.convolve2d(pair, (kernel * 1j).astype(np.complex64), "same"), expected, atol=2e-3)
    assert called == [True] * 4
    spoilt = image[0].astype(np.float32)
    spoilt[150, 140] = np.nan
    found = pyconv.convolve2d(spoilt, kernel.astype(np.float32), "same")
    seen = np.zeros(spoilt.shape, bool)
    seen[150 - 34 : 150 + 36, 140 - 31 : 140 + 32] = True
    assert np.isnan(found[~seen]).sum() == 0 and np.isnan(found[seen]).all()
    assert called == [True] * 5
    pyconv.convolve2d(rng.integers(0, 256, (300, 300)), rng.integers(-9, 9, (63, 63)), "same")
    assert len(called) == 5


def test_auto_takes_transforms_for_large_kernels_only() -> None:
    for size, kernel, expected in (
        (512, 3, False),
        (512, 7, False),
        (512, 63, True),
        (1024, 101, True),
        (12, 11, False),
    ):
        g = conv_geometry((1, size, size, 1), (kernel, kernel, 1, 1), padding="same")
        assert fft.pays(FORWARD, g, np.dtype(np.float32)) is expected, (size, kernel)
    assert not fft.pays(FORWARD, conv_geometry((64, 48, 48, 32), (5, 5, 32, 64)), np.dtype(np.float32))


def test_a_plans_estimate_is_the_lowest(monkeypatch: pytest.MonkeyPatch) -> None:
    g = conv_geometry((3, 200, 311, 2), (31, 17, 2, 5), padding="same")
    monkeypatch.setattr(sizes, "plan", sizes.plan.__wrapped__)
    for what in (FORWARD, INPUT_GRAD, WEIGHT_GRAD):
        down, across = plans(what, g)
        assert len(down) > 3 and len(across) > 3
        least = min(sizes.estimate(what, g, v, w, False) for v in down for w in across)
        assert sizes.plan(what, g, False).cycles == least > prices.CALL


def test_a_network_with_a_large_kernel_trains(
    chosen: list[bool], rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = [nn.Conv2D(4, 15, padding="same", activation="relu"), nn.MaxPool2D(2), nn.Conv2D(3, 11, padding=5)]
    model = nn.Sequential([*layers, nn.GlobalAvgPool2D(), nn.Dense(5)], input_shape=(32, 30, 2), seed=1)
    x, labels = rng.standard_normal((6, 32, 30, 2)).astype(np.float32), rng.integers(0, 5, 6)
    loss, gradient = model.loss_and_gradient(x, labels)
    gradient = gradient.copy()
    assert len(chosen) >= 4 and any(chosen)
    monkeypatch.setattr(fft, "pays", lambda *_, **__: False)
    expected_loss, expected = model.loss_and_gradient(x, labels)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-5 * float(np.abs(expected).max()))
