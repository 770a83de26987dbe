"""The table of kernels: each line is reached by a tested geometry, and none spreads an infinity beyond its window."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from test_cpu import CONVOLUTIONS, DTYPES, assert_close, poisoned
from test_cpu import problem as conv_problem
from test_winograd import PROBLEMS as TILED
from test_winograd import problem as tiled_problem
from test_winograd_1d import PROBLEMS as ROWS
from test_winograd_1d import problem as row_problem

from pyconv import reference
from pyconv.shapes import ConvGeometry, conv_geometry

_cpu = pytest.importorskip("pyconv._cpu", reason="the compiled module is not built")

KERNELS = {line["name"]: line for line in _cpu.table()}
SPREADING = ("winograd_2x2", "winograd_3x3", "winograd_4x4", "winograd_1d")  # transforms mix a tile's numbers
FORWARD, INPUT_GRAD, WEIGHT_GRAD = range(3)
CASES = [(name, what) for name, line in KERNELS.items() for what in line["operations"]]


def possible(name: str, dtype: str, chosen: bool = False) -> bool:
    """Whether the instruction set has this kernel, and lanes enough for it: to run, or to be estimated as cheapest."""
    lanes = _cpu.vector_bytes() // np.dtype(dtype).itemsize
    if not compiled(name):
        return False
    if name == "grouped":
        return lanes > 4 or not chosen
    return lanes > 2 or not name.startswith("depthwise_few")  # fewer channels than lanes, but two or more


def compiled(name: str) -> bool:
    """Whether the instruction set that runs has this kernel at all."""
    return next(line["compiled"] for line in _cpu.table() if line["name"] == name)


def geometries() -> Iterator[ConvGeometry]:
    """The geometries with which every algorithm is tested, in all precisions and on all instruction sets."""
    for name in CONVOLUTIONS:
        yield conv_problem(name, "float32")[0]
    for name in TILED:
        yield tiled_problem(name, "float32")[0]
    for name in ROWS:
        yield row_problem(name, "float32")[0]


def chosen(what: int, g: ConvGeometry, dtype: str, algorithm: str) -> str | None:
    """The kernel that runs, or None if the algorithm cannot do it."""
    try:
        lines = _cpu.candidates(what, g, np.dtype(dtype), algorithm)
    except ValueError:
        return None
    return next(line["kernel"] for line in lines if line["runs"])


def test_names_are_not_those_of_algorithms():
    assert len(KERNELS) == len(_cpu.table()) <= 64  # for so many `_cpu._estimates` has room
    assert not set(KERNELS) & {"auto", "fft", *_cpu.algorithms}
    assert {line["algorithm"] for line in KERNELS.values()} == {
        name for name in _cpu.algorithms if name not in ("naive", "winograd")
    }
    assert all(line["instead"] is None or line["instead"] in KERNELS for line in KERNELS.values())


def test_what_an_instruction_set_does_without(isa):
    """Vectors of 128 bits have no fast permutation; every wider set has every kernel."""
    missing = {line["name"] for line in _cpu.table() if not line["compiled"]}
    assert missing == ({"grouped"} if isa == "baseline" else set())
    for name in missing:
        g = conv_geometry((1, 8, 8, 4), (3, 3, 2, 4), groups=2)
        with pytest.raises(ValueError, match="does not do this convolution"):
            _cpu.candidates(FORWARD, g, np.dtype("float32"), name)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_kernel_is_reached_by_a_tested_geometry(dtype, isa):
    """The geometries are those with which each algorithm is compared with the twin: nobody chooses the kernel."""
    reached = set()
    for g in geometries():
        for what in range(3):
            for algorithm in _cpu.algorithms[1:]:
                reached.add((chosen(what, g, dtype, algorithm), what))
    assert {case for case in CASES if possible(case[0], dtype, chosen=True)} - reached == set()


@pytest.mark.covering("name isa", "dtype")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_is_right_wherever_it_can_run(name, dtype, isa):
    """Kernels by their own names, on geometries for which another one is chosen too."""
    runs = 0
    for case in CONVOLUTIONS:
        g, x, w, b, dy = conv_problem(case, dtype, seed=5)
        wide = [a.astype("float64") for a in (x, w, b, dy)]
        for what in KERNELS[name]["operations"]:
            try:
                value = run(what, g, x, w, b, dy, name)
            except ValueError:
                continue
            runs += 1
            assert_close(value, run_twin(what, g, *wide).astype(dtype), dtype)
    assert bool(runs) == possible(name, dtype) or KERNELS[name]["algorithm"] in SPREADING


def run(what, g, x, w, b, dy, algorithm):
    shape = (g.output_shape, g.input_shape, g.weight_shape)[what]
    out = poisoned(shape, x.dtype)
    if what == FORWARD:
        return _cpu.conv2d(x, w, b, g, algorithm=algorithm, out=out)
    if what == INPUT_GRAD:
        return _cpu.conv2d_input_grad(dy, w, g, algorithm=algorithm, out=out)
    return _cpu.conv2d_weight_grad(x, dy, g, algorithm=algorithm, out=out)


def run_twin(what, g, x, w, b, dy):
    if what == FORWARD:
        return reference.conv2d(x, w, b, g)
    return reference.conv2d_input_grad(dy, w, g) if what == INPUT_GRAD else reference.conv2d_weight_grad(x, dy, g)


def drawn(rng: np.random.Generator, name: str) -> ConvGeometry:
    """A geometry of the kinds that kernels are made for: few channels or many, odd runs, strides, groups."""
    few = lambda: int(rng.integers(1, 6))  # noqa: E731
    kernel = tuple(int(v) for v in rng.integers(1, 12, 2))
    size = tuple(int(v) for v in rng.integers(12, 46, 2))
    c, k = (few() if rng.random() < 0.7 else int(rng.integers(6, 40)) for _ in range(2))
    groups = 1
    if "depthwise" in name:
        groups = c = k = int(rng.integers(2, 9)) if "few" in name else int(rng.integers(16, 40))
    elif name == "grouped" or rng.random() < 0.2:
        groups = int(rng.integers(2, 7))
        c, k = few() * groups, few() * groups
    stride = few() if rng.random() < 0.3 else 1
    dilation = int(rng.integers(1, 3))
    padding = int(rng.integers(0, 3)) if rng.random() < 0.5 else 0
    return conv_geometry(
        (int(rng.integers(1, 3)), *size, c), (*kernel, c // groups, k), stride=stride, dilation=dilation,
        padding=padding, groups=groups,
    )  # fmt: skip


DIRECT = [(name, what) for name, what in CASES if KERNELS[name]["algorithm"] not in SPREADING]


@pytest.mark.filterwarnings("ignore:invalid value encountered")
@pytest.mark.covering("case isa", "dtype isa")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", DIRECT, ids=lambda case: f"{case[0]}-{case[1]}")
def test_an_infinity_reaches_as_far_as_its_windows(case, dtype, isa, rng):
    """One +Inf among positive numbers: every window that holds it is +Inf, and the others are finite and right."""
    name, what = case
    if not possible(name, dtype):
        pytest.skip("too few lanes for this kernel")
    done = 0
    for _ in range(400):
        try:
            g = drawn(rng, name)
        except ValueError:
            continue
        x, w, b, dy = (rng.random(s).astype(dtype) + 0.5 for s in (g.input_shape, g.weight_shape, g.k, g.output_shape))
        padded = g.pt or g.pb or g.pl or g.pr  # whose zeros an infinite error makes NaN of, as the equation does
        sensed = dy if what == INPUT_GRAD or (what == WEIGHT_GRAD and not padded and rng.random() < 0.5) else x
        place = tuple(int(rng.integers(size)) for size in sensed.shape)
        usual = sensed[place]
        sensed[place] = np.inf
        try:
            value = run(what, g, x, w, b, dy, name)
        except ValueError:
            continue
        reached = np.isinf(run_twin(what, g, *(a.astype("float64") for a in (x, w, b, dy))))
        sensed[place] = usual
        finite = run_twin(what, g, *(a.astype("float64") for a in (x, w, b, dy))).astype(dtype)
        assert (value[reached] == np.inf).all(), g
        assert_close(np.where(reached, 0, value), np.where(reached, 0, finite), dtype)
        done += 1
        if done == 12:
            return
    assert done
