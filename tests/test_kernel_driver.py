"""The kernels outside Python, against the literal twin: on an emulated ARM, under valgrind, with sanitizers.

`make arm`, `make valgrind` and `make sanitize` run these tests, and say what to install if a tool is missing; a plain
run skips the tests whose tools are missing.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from kernel_driver import Driver, Request, build
from test_cpu import BEHIND_RELU, CONVOLUTIONS, POOLS, SPARSE, assert_close, behind_relu
from test_cpu import problem as conv_problem
from test_dense_few import FEW, few_examples
from test_winograd import PROBLEMS, TOLERANCE, relative_error
from test_winograd import problem as winograd_problem
from test_winograd_1d import PROBLEMS as ROW_PROBLEMS
from test_winograd_1d import possible
from test_winograd_1d import problem as row_problem

from pyconv import reference
from pyconv.shapes import conv_geometry, pool_geometry

_cpu = pytest.importorskip("pyconv._cpu", reason="the compiled module is not built")

DTYPES = ("float32", "float64")
CROSS = "aarch64-linux-gnu-gcc"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]  # the kernels are compiled anew, for minutes with sanitizers


def _needs(*programs: str, debian: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"needs {' and '.join(missing)} (Debian: apt install {debian})")


def _only_when_asked(tool: str) -> None:
    if os.environ.get("PYCONV_CHECK") != tool:
        pytest.skip(f"takes a minute: run by `make {tool}`")


def _arm(folder: Path) -> Driver:
    _needs(CROSS, "qemu-aarch64", debian="gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user")
    program = build(folder / "driver", [CROSS, "-O2", "-static"])  # static: no ARM libraries to find
    return Driver(program, ["qemu-aarch64"])


def _valgrind(folder: Path) -> Driver:
    _only_when_asked("valgrind")
    _needs("valgrind", "gcc", debian="valgrind gcc")
    options = ["--error-exitcode=9", "--quiet", "--leak-check=full", "--errors-for-leak-kinds=all"]
    # valgrind knows no AVX-512, and shows the program a processor without it.
    return Driver(build(folder / "driver", ["gcc", "-O1", "-g"]), ["valgrind", *options], poison=False)


def _sanitized(folder: Path) -> Driver:
    _only_when_asked("sanitize")
    _needs("gcc", debian="gcc")
    flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O0", "-g"]  # -O1 compiles much longer
    return Driver(build(folder / "driver", ["gcc", *flags]))


@pytest.fixture(scope="module", params=(_arm, _valgrind, _sanitized), ids=("arm", "valgrind", "sanitize"))
def driver(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Driver:
    return request.param(tmp_path_factory.mktemp("driver"))


def convolutions(problem: tuple, dtype: str, name: str, relu: bool = False) -> list[tuple[Request, np.ndarray]]:
    """The three passes, with the expected results."""
    g, x, w, b, dy = problem
    wide = [array.astype("float64") for array in (x, w, b, dy)]
    forward = {"a": x, "b": w, "bias": b}
    expected = (
        (Request("forward", dtype, [(g.output_shape, dtype)], forward, conv=g, relu=relu, name=name),
         reference.conv2d(wide[0], wide[1], wide[2], g, activation="relu" if relu else None)),
        (Request("input_grad", dtype, [(g.input_shape, dtype)], {"a": dy, "b": w}, conv=g, name=name),
         reference.conv2d_input_grad(wide[3], wide[1], g)),
        (Request("weight_grad", dtype, [(g.weight_shape, dtype)], {"a": x, "b": dy}, conv=g, name=name),
         reference.conv2d_weight_grad(wide[0], wide[3], g)),
    )  # fmt: skip
    return list(expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_direct_convolution(driver: Driver, dtype: str, tmp_path: Path) -> None:
    cases = [case for name in CONVOLUTIONS for case in convolutions(conv_problem(name, dtype), dtype, name, relu=True)]
    requests = [request.with_algorithm("direct") for request, _ in cases]
    for isa in driver.isas():
        for (request, expected), found in zip(cases, driver.run(requests, isa, tmp_path), strict=True):
            assert found is not None, request.name
            assert_close(found[0], expected.astype(dtype), dtype)


@pytest.mark.parametrize("kernel", [line["name"] for line in _cpu.table() if line["algorithm"] == "direct"])
def test_a_kernel_by_its_name(driver: Driver, kernel: str, tmp_path: Path) -> None:
    """Where another one would be chosen too: it keeps within its arrays wherever it says that it can run."""
    names = sorted(CONVOLUTIONS)[:: 1 if "wise" in kernel or kernel == "grouped" else 3]
    cases = [case for name in names for case in convolutions(conv_problem(name, "float32"), "float32", name)]
    for isa in driver.isas():
        found = driver.run([request.with_algorithm(kernel) for request, _ in cases], isa, tmp_path)
        assert any(found) or (kernel == "grouped" and isa == "baseline")
        for (_, expected), one in zip(cases, found, strict=True):
            if one:
                assert_close(one[0], expected.astype("float32"), "float32")


def of_wide_range(array: np.ndarray) -> np.ndarray:
    """Zeros on one side, marks of 1e9 on the other."""
    flat = array.copy()
    flat[:, : flat.shape[1] // 2] = 0
    flat[:, -1, -1] = 1e9
    return flat


@pytest.mark.parametrize("algorithm", ("winograd_2x2", "winograd_3x3", "winograd_4x4", "winograd_1d"))
@pytest.mark.parametrize("dtype", DTYPES)
def test_guarded_convolution(driver: Driver, dtype: str, algorithm: str, tmp_path: Path) -> None:
    cases = []
    for name in PROBLEMS:
        g, x, w, b, dy = winograd_problem(name, dtype)
        problem = g, of_wide_range(x), w, np.zeros_like(b), of_wide_range(dy)
        sums = convolutions((g, *map(np.abs, problem[1:])), dtype, name)
        cases += list(zip(convolutions(problem, dtype, name)[:2], sums[:2], strict=True))
    requests = [dataclasses.replace(request, algorithm=algorithm, guarded=True) for (request, _), _ in cases]
    bound = 84 * np.finfo(dtype).eps
    for isa in driver.isas():
        done = driver.run(requests, isa, tmp_path)
        assert any(done)
        for ((request, expected), (_, sums)), found in zip(cases, done, strict=True):
            if found is not None:
                assert (np.abs(found[0] - expected) <= bound * sums).all(), (isa, request.name, request.operation)


@pytest.mark.parametrize("algorithm", ("winograd_2x2", "winograd_3x3", "winograd_4x4"))
@pytest.mark.parametrize("dtype", DTYPES)
def test_winograd_convolution(driver: Driver, dtype: str, algorithm: str, tmp_path: Path) -> None:
    cases = [case for name in PROBLEMS for case in convolutions(winograd_problem(name, dtype), dtype, name)]
    requests = [request.with_algorithm(algorithm) for request, _ in cases]
    for isa in driver.isas():
        for (request, expected), found in zip(cases, driver.run(requests, isa, tmp_path), strict=True):
            assert found is not None, request.name
            assert relative_error(found[0], expected) < TOLERANCE[dtype], (isa, request.name, request.operation)


@pytest.mark.parametrize("dtype", DTYPES)
def test_winograd_convolution_along_rows(driver: Driver, dtype: str, tmp_path: Path) -> None:
    cases = [case for name in ROW_PROBLEMS for case in convolutions(row_problem(name, dtype), dtype, name, relu=True)]
    requests = [request.with_algorithm("winograd_1d") for request, _ in cases]
    for isa in driver.isas():
        for (request, expected), found in zip(cases, driver.run(requests, isa, tmp_path), strict=True):
            expected_too = possible(request.conv, request.operation, dtype, isa)
            assert (found is not None) == expected_too, (isa, request.name, request.operation)
            if found:
                assert relative_error(found[0], expected) < TOLERANCE[dtype], (isa, request.name, request.operation)


@pytest.mark.parametrize("dtype", DTYPES)
def test_weight_gradient_from_pooled_errors(driver: Driver, dtype: str, tmp_path: Path) -> None:
    requests, expected = [], []
    for name, (shape, filters, padding, size) in SPARSE.items():
        g = conv_geometry(shape, filters, padding=padding)
        pg = pool_geometry(g.output_shape, size)
        rng = np.random.default_rng([13, *name.encode()])
        x, full, dy = (rng.standard_normal(s).astype(dtype) for s in (shape, g.output_shape, pg.output_shape))
        flat, narrow = np.zeros(pg.output_shape, np.int32), np.empty(pg.output_shape, np.uint8)
        y = np.maximum(reference.max_pool2d(full, pg, indices=flat), 0)
        rows, columns = flat // pg.w, flat % pg.w
        first_row, first_column = (pg.sh * np.arange(pg.oh))[:, None, None], (pg.sw * np.arange(pg.ow))[:, None]
        narrow[...] = (rows - first_row) * pg.kw + columns - first_column
        errors = reference.max_pool2d_input_grad(dy * (y > 0), flat, pg)
        outputs = [(filters, dtype), ((g.k,), dtype)]
        inputs = {"a": x, "b": dy, "c": y, "d": narrow}
        requests.append(Request("pooled_weight_grad", dtype, outputs, inputs, conv=g, pool=pg, relu=True, name=name))
        expected.append((reference.conv2d_weight_grad(x, errors, g), errors.sum(axis=(0, 1, 2))))
    done = 0
    for isa in driver.isas():
        for request, wanted, found in zip(requests, expected, driver.run(requests, isa, tmp_path), strict=True):
            if found is None:  # the vectors are too short for its tables
                assert isa != "avx512" or dtype == "float64", request.name
                continue
            done += 1
            for one, other in zip(found, wanted, strict=True):
                assert_close(one, other.astype(dtype), dtype)
    assert done or dtype == "float64" or "avx512" not in driver.isas()


@pytest.mark.parametrize("dtype", DTYPES)
def test_dense_layers_behind_a_relu(driver: Driver, dtype: str, tmp_path: Path) -> None:
    requests, expected = [], []
    for size in BEHIND_RELU:
        n, inputs, units = size
        x, w, b, dy = behind_relu(*size, dtype)
        layer = conv_geometry((n, 1, 1, inputs), (1, 1, inputs, units))
        for operation, operands, wanted in (
            ("sparse_forward", {"a": x, "b": w, "bias": b}, np.maximum(x @ w + b, 0)),
            ("sparse_input_grad", {"a": dy, "b": w}, dy @ w.T),
            ("sparse_weight_grad", {"a": x, "b": dy}, x.T @ dy),
        ):
            outputs = [(wanted.shape, dtype)]
            relu = operation == "sparse_forward"
            requests.append(Request(operation, dtype, outputs, operands, conv=layer, relu=relu, name=str(size)))
            expected.append(wanted)
    for isa in driver.isas():
        for request, wanted, found in zip(requests, expected, driver.run(requests, isa, tmp_path), strict=True):
            short = request.operation == "sparse_forward" and request.conv.c < 32
            assert (found is None) == (isa == "baseline" or short), (isa, request.name)
            if found:
                assert_close(found[0], wanted, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dense_layers_of_few_examples(driver: Driver, dtype: str, tmp_path: Path) -> None:
    requests, expected = [], []
    for n, inputs, units in FEW:
        x, w, b = few_examples(n, inputs, units, dtype)
        layer = conv_geometry((n, 1, 1, inputs), (1, 1, inputs, units))
        operands = {"a": x, "b": w, "bias": b}
        requests.append(Request("few_examples", dtype, [((n, units), dtype)], operands, conv=layer, relu=True))
        expected.append(np.maximum(x @ w + b, 0))
    for isa in driver.isas():
        for wanted, found in zip(expected, driver.run(requests, isa, tmp_path), strict=True):
            assert found is not None
            assert_close(found[0], wanted, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_pooling(driver: Driver, dtype: str, tmp_path: Path) -> None:
    requests, expected = [], []
    for name, (shape, size, rest) in POOLS.items():
        pg = pool_geometry(shape, size, **rest)
        rng = np.random.default_rng([9, *name.encode()])
        x, dy = rng.integers(-4, 4, shape).astype(dtype), rng.standard_normal(pg.output_shape).astype(dtype)
        x[0, 1, 1, 0] = np.nan
        where = np.zeros(pg.output_shape, np.int32)
        out, back = (pg.output_shape, dtype), (shape, dtype)
        requests.append(Request("max_pool", dtype, [out, (pg.output_shape, "int32")], {"a": x}, pool=pg))
        expected.append((reference.max_pool2d(x, pg, indices=where), where))
        requests.append(Request("max_pool_grad", dtype, [back], {"a": dy, "b": where}, pool=pg))
        expected.append((reference.max_pool2d_input_grad(dy, where, pg),))
        x = np.nan_to_num(x)
        requests.append(Request("avg_pool", dtype, [out], {"a": x}, pool=pg))
        expected.append((reference.avg_pool2d(x, pg),))
        requests.append(Request("avg_pool_grad", dtype, [back], {"a": dy}, pool=pg))
        expected.append((reference.avg_pool2d_input_grad(dy, pg),))
    for isa in driver.isas():
        for wanted, found in zip(expected, driver.run(requests, isa, tmp_path), strict=True):
            for one, other in zip(found or (), wanted, strict=True):
                np.testing.assert_allclose(one, other, atol=1e-5 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_elementwise_and_statistics(driver: Driver, dtype: str, tmp_path: Path) -> None:
    requests, expected = [], []
    for shape in ((1, 1), (5, 3), (60, 33), (4000, 7), (70, 127)):
        rng = np.random.default_rng(shape)
        x, dy = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
        gamma, beta = (rng.standard_normal(shape[1]).astype(dtype) for _ in range(2))
        labels = rng.integers(0, shape[1], shape[0])
        size = {"rows": shape[0], "channels": shape[1]}
        whole, column, row = (shape, dtype), ((shape[0],), dtype), ((shape[1],), dtype)
        y, mean, inv_std = reference.batch_norm(x, gamma, beta, 1e-5)
        active = reference.relu(x)
        requests += [
            Request("relu", dtype, [whole], {"a": x}, rows=x.size, channels=1),
            Request("relu_grad", dtype, [whole], {"a": dy, "b": active}, rows=x.size, channels=1),
            Request("scale_shift", dtype, [whole], {"a": x, "b": gamma, "c": beta}, **size),
            Request("bias_grad", dtype, [row], {"a": dy}, **size),
            Request("softmax", dtype, [column, whole], {"a": x, "b": labels}, **size),
            Request("batch_norm", dtype, [whole, row, row], {"a": x, "b": gamma, "c": beta}, eps=1e-5, **size),
            Request("batch_norm_grad", dtype, [whole, row, row],
                    {"a": x, "b": gamma, "c": mean, "d": inv_std, "e": dy}, **size),
            Request("add", dtype, [whole], {"a": x, "b": dy}, rows=x.size, channels=1),
            Request("batch_norm_inference", dtype, [whole],
                    {"a": x, "b": gamma, "c": beta, "d": inv_std, "e": mean}, eps=1e-5, **size),
        ]  # fmt: skip
        expected += [
            (active,),
            (reference.relu_grad(dy, active),),
            (reference.scale_shift(x, gamma, beta),),
            (dy.sum(axis=0, dtype="float64"),),
            reference.softmax_cross_entropy(x, labels),
            (y, mean, inv_std),
            reference.batch_norm_grad(x, dy, gamma, mean, inv_std),
            (x + dy,),
            ((x - mean) * (gamma / np.sqrt(inv_std + 1e-5)) + beta,),
        ]
    for isa in driver.isas():
        for request, wanted, found in zip(requests, expected, driver.run(requests, isa, tmp_path), strict=True):
            for one, other in zip(found or (), wanted, strict=True):
                assert_close(one, np.asarray(other, dtype), dtype), request.operation
