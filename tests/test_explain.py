"""pyconv.explain: the estimates that are compared when a convolution runs."""

import re

import numpy as np
import pytest

import pyconv
from pyconv import _cpu
from pyconv.backends.compiled import FURTHER
from pyconv.errors import DtypeError, InputError, ShapeError
from pyconv.ops.explain import OPERATIONS
from pyconv.shapes import conv_geometry

LAYER = {"input_shape": (8, 24, 24, 32), "weight_shape": (3, 3, 32, 48), "padding": 1}


def run(what, g, algorithm):
    rng = np.random.default_rng(4)
    x, w, dy = (rng.standard_normal(shape, "float32") for shape in (g.input_shape, g.weight_shape, g.output_shape))
    if what == 0:
        return _cpu.conv2d(x, w, None, g, algorithm=algorithm)
    return (
        _cpu.conv2d_input_grad(dy, w, g, algorithm=algorithm)
        if what == 1
        else _cpu.conv2d_weight_grad(x, dy, g, algorithm=algorithm)
    )


@pytest.mark.parametrize("filters", (48, 8))
@pytest.mark.parametrize("algorithm", ("auto", "direct", "winograd"))
@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_is_said_to_run_runs(operation, algorithm, filters, isa):
    """The bits of the kernel that is named are those of the operation; 8 filters may take vectors half as wide."""
    layer = {**LAYER, "weight_shape": (3, 3, 32, filters)}
    found = pyconv.explain(**layer, operation=operation, algorithm=algorithm, backend="serial")
    assert [each.runs for each in found.candidates] == [True] + [False] * (len(found.candidates) - 1)
    g = conv_geometry(layer["input_shape"], layer["weight_shape"], padding=1)
    what = OPERATIONS.index(operation)
    assert found.runs.cycles == _cpu.estimate(what, g, np.float32, algorithm)
    expected = run(what, g, algorithm)
    before = _cpu.isa()
    try:
        _cpu.set_isa(found.runs.isa)
        _cpu._set_guarded(algorithm == "auto")
        assert run(what, g, found.runs.kernel).tobytes() == expected.tobytes()
    finally:
        _cpu.set_isa(before)
        _cpu._set_guarded(None)


def test_layouts_and_dtypes():
    one = pyconv.explain((2, 20, 22, 3), (5, 3, 3, 16), dtype="float64")
    other = pyconv.explain((2, 3, 20, 22), (16, 3, 5, 3), dtype=np.float64, layout="NCHW")
    assert one.geometry == other.geometry
    assert one.candidates == other.candidates
    assert one.runs.share <= 2.5
    assert pyconv.explain((2, 20, 22, 3), (5, 3, 3, 16)).runs.cycles < one.runs.cycles


def test_transforms_are_compared_too():
    """With a kernel as large as the image, transforms run, and the compiled kernels are listed behind."""
    found = pyconv.explain((1, 512, 512, 1), (255, 255, 1, 1), padding="same")
    assert found.runs.kernel == "fft"
    assert {each.kernel for each in found.candidates} > {"fft", "plane", "tile"}
    only = pyconv.explain((1, 512, 512, 1), (255, 255, 1, 1), padding="same", algorithm="fft")
    assert [each.kernel for each in only.candidates] == list(FURTHER)


def test_the_table_is_printed():
    text = str(pyconv.explain(**LAYER, algorithm="direct"))
    lines = text.splitlines()
    assert lines[0] == "forward, float32, images (8, 24, 24, 32), filters (3, 3, 32, 48)"
    assert [line[0] for line in lines[2:]].count("*") == 1
    assert re.search(r"\d+ x [12] \(pixels x vectors of filters\)", text)


def test_measured(isa):
    found = pyconv.explain((1, 12, 12, 4), (3, 3, 4, 8), measure=True, threads=2, backend="serial")
    assert all(each.seconds > 0 for each in found.candidates)
    assert "GFLOP/s" in str(found)


@pytest.mark.parametrize(
    ("changed", "error", "says"),
    [
        ({"operation": "backward"}, ValueError, "operation"),
        ({"dtype": "float16"}, DtypeError, "float32 or float64"),
        ({"weight_shape": (3, 3, 31, 48)}, ShapeError, "channels"),
        ({"algorithm": "naive"}, InputError, "no estimates"),
        ({"algorithm": "tile"}, ValueError, "tile"),
        ({"backend": "reference"}, InputError, "no estimates"),
        ({"measure": 1}, InputError, "measure"),
        ({"stride": 2, "algorithm": "winograd"}, InputError, "does not do this convolution"),
    ],
)
def test_mistakes_are_named(changed, error, says):
    with pytest.raises(error, match=says):
        pyconv.explain(**{**LAYER, **changed})
