"""Convolutions of images that are divided among ranks by rows, on ranks that are threads."""

from __future__ import annotations

import numpy as np
import pytest
from cluster_threads import fine, with_sessions
from hypothesis import given
from hypothesis import strategies as st
from quick import examples

import pyconv
from pyconv import cluster
from pyconv.cluster import convolution, halo, parts, row_convolution
from pyconv.cluster.rows import RowSplit, evenly, spans
from pyconv.errors import DtypeError, InputError, PyconvError, ShapeError
from pyconv.shapes import conv_geometry

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def ranks(monkeypatch):
    """``ranks(size, body)``: what `body(session)` gives on each rank, whose session the package finds."""
    return with_sessions(monkeypatch, convolution, parts, row_convolution)


# ---- who has which rows ---------------------------------------------------------------------------


@st.composite
def splits(draw):
    """Convolutions and heights of all kinds: more ranks than rows, halos of several ranks, ranks without rows."""
    whole = st.integers(0, 3)
    kernel, stride, dilation = draw(st.integers(1, 9)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    heights = draw(st.lists(st.integers(0, 9), min_size=1, max_size=5))
    padding = draw(st.one_of(st.just("same"), st.tuples(st.tuples(whole, st.integers(0, 12)), st.just((0, 0)))))
    vertical = (0, 0) if padding == "same" else padding[0]
    span = (kernel - 1) * dilation + 1
    if sum(heights) + sum(vertical) < span or not sum(heights):
        heights.append(span)
    g = conv_geometry(
        (1, sum(heights), 1, 1), (kernel, 1, 1, 1), stride=(stride, 1), dilation=(dilation, 1), padding=padding
    )
    return RowSplit(g, tuple(heights))


@given(splits())
@examples(200)
def test_rows_of_a_split_are_those_of_the_windows(split):
    g = split.g
    windows = [{o * g.sh - g.pt + tap * g.dh for tap in range(g.kh)} for o in range(g.oh)]
    extents = [range(min(window), max(window) + 1) for window in windows]
    assert [o for rows in split.outputs for o in rows] == list(range(g.oh))
    assert [i for rows in split.inputs for i in rows] == list(range(g.h))
    for have, out in zip(split.inputs, split.outputs):
        assert have or not out, "a rank without rows has none of the result"
        for o in out:
            middle = (extents[o].start + extents[o].stop - 1) // 2
            assert min(max(middle, 0), g.h - 1) in have
        hull = range(extents[out[0]].start, extents[out[-1]].stop) if out else range(0)
        assert list(split.read(out)) == [i for i in hull if 0 <= i < g.h]
        inside = [o for o in out if all(i in have for i in extents[o] if 0 <= i < g.h)]
        found = split.read_inside(out, have)
        assert set(found) <= set(inside)
        assert set(inside) - set(found) <= {o for o in out if not any(0 <= i < g.h for i in extents[o])}
        reached = {o for o in range(g.oh) if any(i in have for i in extents[o])}
        assert set(split.reached(have)) == reached
        alone = [i for i in have if all(o in out for o in range(g.oh) if i in extents[o])]
        assert set(split.reached_inside(have, out)) <= set(alone)


def test_same_padding_gives_a_rank_the_rows_that_it_has():
    for kernel in range(1, 12):
        g = conv_geometry((1, 40, 5, 1), (kernel, 3, 1, 1), padding="same")
        split = RowSplit(g, (7, 13, 1, 19))
        assert split.outputs == split.inputs == spans((7, 13, 1, 19))
        below = split.read(split.outputs[0]).stop - 7
        assert below == kernel // 2


def test_rows_are_shared_out_evenly():
    for rows in range(12):
        for ranks in range(1, 6):
            counts = evenly(rows, ranks)
            assert sum(counts) == rows and max(counts) - min(counts) <= 1


# ---- the same numbers as on one machine -----------------------------------------------------------


def _case(rng, dtype, layout="NHWC", most=4):
    """Random arguments of a convolution, on random ranks."""
    while True:
        groups = int(rng.choice([1, 1, 2]))
        n, c, k = int(rng.choice([1, 1, 3])), groups * int(rng.integers(1, 5)), groups * int(rng.integers(1, 9))
        kernel = tuple(rng.integers(1, 8, 2).tolist())
        how = {
            "stride": tuple(rng.integers(1, 4, 2).tolist()),
            "dilation": tuple(rng.integers(1, 3, 2).tolist()),
            "groups": groups,
            "padding": ["same", "valid", ((1, 9), (2, 0)), ((9, 0), 3), int(rng.integers(0, 4))][rng.integers(5)],
        }
        heights = rng.integers(0, 15, rng.integers(1, most + 1)).tolist()
        try:
            g = conv_geometry((n, sum(heights), int(rng.integers(8, 20)), c), (*kernel, c // groups, k), **how)
        except ShapeError:
            continue
        x, w, b, e = (
            rng.standard_normal(shape).astype(dtype) for shape in (g.input_shape, g.weight_shape, (k,), g.output_shape)
        )
        if layout == "NCHW":
            x, e, w = x.transpose(0, 3, 1, 2), e.transpose(0, 3, 1, 2), w.transpose(3, 2, 0, 1)
        return g, heights, how, x, w, b, e


def _rows(array, rows, layout):
    """Some rows; not contiguous, as users have them."""
    return array[:, rows.start : rows.stop] if layout == "NHWC" else array[:, :, rows.start : rows.stop]


def _three(ranks, g, heights, how, x, w, b, e, layout):
    """Convolution, gradient of the images and of the filters over ranks."""
    split, axis = RowSplit(g, tuple(heights)), 1 if layout == "NHWC" else 2

    def body(session):
        mine = _rows(x, split.inputs[session.rank], layout)
        errors = _rows(e, split.outputs[session.rank], layout)
        y = cluster.conv2d(mine, w, b, activation="relu", **how)
        gx = cluster.conv2d_input_grad(errors, w, mine.shape, **how)
        gw = cluster.conv2d_weight_grad(mine, errors, (g.kh, g.kw), **how)
        again = cluster.RowConvolution(mine.shape, w.shape, dtype=x.dtype, **how)
        np.testing.assert_array_equal(again(mine, w, b, activation="relu"), y)
        np.testing.assert_array_equal(again.input_grad(errors, w), gx)
        np.testing.assert_array_equal(again.weight_grad(mine, errors), gw)
        return y, gx, gw

    ys, gxs, gws = zip(*fine(ranks(len(heights), body)))
    for gw in gws:
        np.testing.assert_array_equal(gw, gws[0], err_msg="the same bits on all ranks")
    return np.concatenate(ys, axis), np.concatenate(gxs, axis), gws[0]


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("algorithm", ["direct", "naive", "auto"])
@pytest.mark.covering("algorithm", "dtype", "layout")
def test_ranks_convolve_as_one_process_does(ranks, algorithm, dtype, layout, rng):
    for _ in range(12):
        g, heights, how, *arrays = _case(rng, dtype, layout)
        x, w, b, e = arrays
        how |= {"algorithm": algorithm, "backend": str(rng.choice(["serial", "multicore"])), "layout": layout}
        y, gx, gw = _three(ranks, g, heights, how, *arrays, layout)
        whole = (
            pyconv.conv2d(x, w, b, activation="relu", **how),
            pyconv.conv2d_input_grad(e, w, x.shape, **how),
            pyconv.conv2d_weight_grad(x, e, (g.kh, g.kw), **how),
        )
        if algorithm == "naive":  # the others choose a kernel by the size of a rank's part
            np.testing.assert_array_equal(y, whole[0])
            np.testing.assert_array_equal(gx, whole[1])
        small = 2e-5 if dtype == "float32" else 1e-12
        for found, expected in zip((y, gx, gw), whole):
            assert found.dtype == dtype
            np.testing.assert_allclose(found, expected, rtol=0, atol=small * max(np.abs(expected).max(), 1))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ranks_convolve_as_the_literal_equations_do(ranks, dtype, rng):
    for _ in range(4):
        g, heights, how, x, w, b, e = _case(rng, dtype)
        found = _three(ranks, g, heights, how | {"backend": "reference"}, x, w, b, e, "NHWC")
        small = 1e-4 if dtype == "float32" else 1e-12
        how["backend"] = "reference"
        for mine, expected in zip(
            found,
            (
                pyconv.conv2d(x, w, b, activation="relu", **how),
                pyconv.conv2d_input_grad(e, w, x.shape, **how),
                pyconv.conv2d_weight_grad(x, e, (g.kh, g.kw), **how),
            ),
        ):
            np.testing.assert_allclose(mine, expected, rtol=0, atol=small * max(np.abs(expected).max(), 1))


def test_one_process_needs_no_launcher(rng):
    for layout in ("NHWC", "NCHW"):
        _, _, how, x, w, b, e = _case(rng, "float32", layout)
        how |= {"layout": layout, "algorithm": "naive"}
        np.testing.assert_array_equal(cluster.conv2d(x, w, b, **how), pyconv.conv2d(x, w, b, **how))
        gx = cluster.conv2d_input_grad(e, w, x.shape, **how)
        np.testing.assert_array_equal(gx, pyconv.conv2d_input_grad(e, w, x.shape, **how))
        kernel = w.shape[:2] if layout == "NHWC" else w.shape[2:]
        gw = cluster.conv2d_weight_grad(x, e, kernel, **how)
        np.testing.assert_array_equal(gw, pyconv.conv2d_weight_grad(x, e, kernel, **how))


@pytest.mark.parametrize("height", [64, 65])
def test_a_rank_sends_its_border_rows_and_nothing_else(ranks, height, rng):
    """Equation (6): (m - 1) / 2 rows to each neighbour."""
    x = rng.standard_normal((1, height, 20, 3)).astype(np.float32)
    w, edge = rng.standard_normal((5, 5, 3, 4)).astype(np.float32), 2 * 20 * 3 * 4

    def body(session):
        mine = cluster.split_rows(x if session.leads else None)
        layer = cluster.RowConvolution(mine.shape, w.shape, padding="same")
        sent = session.world.swapped
        y = layer(mine, w)
        assert session.world.swapped - sent == edge * (2 if session.rank in (1, 2) else 1)
        assert y.base is None and mine.base is None
        return y

    np.testing.assert_allclose(
        np.concatenate(fine(ranks(4, body)), 1), pyconv.conv2d(x, w, padding="same"), rtol=0, atol=2e-4
    )


@pytest.mark.parametrize("overlap", [True, False])
def test_the_interior_of_one_image_is_not_copied_and_does_not_wait(ranks, overlap, rng, monkeypatch):
    x = rng.standard_normal((1, 40, 9, 2)).astype(np.float32)
    w = rng.standard_normal((3, 3, 2, 4)).astype(np.float32)
    events: dict[int, list] = {0: [], 1: []}
    take, wait = halo.Rows.take, halo.Coming.wait

    def taken(self, rows):
        found = take(self, rows)
        events[x[0, 0, 0, 0] != self._parts[0][1][0, 0, 0, 0]].append(
            (len(rows), any(np.shares_memory(found, array) for _, array in self._parts))
        )
        return found

    def waited(self):
        if self._requests:
            events[x[0, 0, 0, 0] != self._own._parts[0][1][0, 0, 0, 0]].append("halo")
        wait(self)

    monkeypatch.setattr(halo.Rows, "take", taken)
    monkeypatch.setattr(halo.Coming, "wait", waited)

    def body(session):
        mine = cluster.split_rows(x)
        return cluster.RowConvolution(mine.shape, w.shape, padding="same", overlap=overlap)(mine, w)

    y = np.concatenate(fine(ranks(2, body)), 1)
    np.testing.assert_allclose(y, pyconv.conv2d(x, w, padding="same"), rtol=0, atol=1e-4)
    inside, border = (20, True), (3, False)
    expected = [inside, "halo", border] if overlap else ["halo", inside, border]
    assert list(events.values()) == [expected, expected]


def test_messages_are_over_after_an_error_in_the_kernel(ranks, rng):
    """All ranks refuse alike, and may catch it: then the next convolution gets its own rows."""
    x = rng.standard_normal((1, 40, 9, 2)).astype(np.float32)
    w = rng.standard_normal((3, 3, 2, 4)).astype(np.float32)

    def body(session):
        mine = cluster.split_rows(x if session.leads else None)
        layer = cluster.RowConvolution(mine.shape, w.shape, padding="same", algorithm="winograd_2x2")
        layer._algorithm, named = "nowhere", layer._algorithm
        with pytest.raises(PyconvError):
            layer.forward(2 * mine, w, None, None)
        layer._algorithm = named
        return layer(mine, w)

    y = np.concatenate(fine(ranks(3, body)), 1)
    np.testing.assert_allclose(y, pyconv.conv2d(x, w, padding="same"), rtol=0, atol=1e-4)


# ---- rows of images -------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("how", ["scatter", "read"])
@pytest.mark.parametrize("dtype", ["uint8", ">f4", "float64", "bool"])
@pytest.mark.covering("layout how", "dtype")
def test_images_are_split_and_put_together(ranks, layout, how, dtype, rng, monkeypatch):
    monkeypatch.setattr(halo, "MOST", 100)
    x = rng.integers(0, 2, (2, 11, 10, 3)).astype(dtype)
    axis = 1 if layout == "NHWC" else 2
    for size, counts in ((3, None), (4, (0, x.shape[axis] - 3, 1, 2)), (1, None), (5, (0, 0, 0, 0, x.shape[axis]))):

        def body(session, counts=counts):
            given = x if session.leads or how == "read" else None
            mine = cluster.split_rows(given, counts, how=how, layout=layout)
            assert mine.flags.c_contiguous and mine.dtype == x.dtype and not np.shares_memory(mine, x)
            whole = cluster.gather_rows(mine, layout=layout)
            assert (whole is None) == (not session.leads)
            everywhere = cluster.gather_rows(mine, everywhere=True, layout=layout)
            np.testing.assert_array_equal(everywhere, x)
            assert everywhere.dtype == x.dtype
            if session.leads:
                np.testing.assert_array_equal(whole, x)
            return mine.shape[axis]

        found = fine(ranks(size, body))
        assert found == list(counts or evenly(x.shape[axis], size))


# ---- refusals -------------------------------------------------------------------------------------

IMAGE, FILTERS = np.ones((1, 4, 6, 2), np.float32), np.ones((3, 3, 2, 4), np.float32)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda rank: cluster.conv2d(IMAGE, FILTERS, stride=1 + rank),
            InputError,
            "rank 1 on here was given another stride",
        ),
        (lambda rank: cluster.conv2d(IMAGE, FILTERS + rank), InputError, "another weight or bias"),
        (
            lambda rank: cluster.conv2d(IMAGE, FILTERS, np.zeros(4, np.float32) if rank else None),
            InputError,
            "another bias",
        ),
        (lambda rank: cluster.conv2d(IMAGE[:, :, : 6 - rank], FILTERS), InputError, "another number of images, width"),
        (lambda rank: cluster.conv2d(IMAGE.astype(f"f{4 + 4 * rank}"), FILTERS), DtypeError, "one dtype"),
        (lambda rank: cluster.conv2d(IMAGE, FILTERS, padding=-1), InputError, "padding"),
        (lambda rank: cluster.conv2d(IMAGE, FILTERS, stride=0), InputError, "stride"),
        (lambda rank: cluster.conv2d(IMAGE[:, :1], FILTERS), ShapeError, "the output would have no pixels"),
        (lambda rank: cluster.conv2d(IMAGE[:, :0], FILTERS), ShapeError, "dimension of size 0"),
        (lambda rank: cluster.conv2d(IMAGE[0], FILTERS), ShapeError, "4 dimensions"),
        (lambda rank: cluster.conv2d(IMAGE, FILTERS[..., :1, :]), ShapeError, "input channels"),
        (lambda rank: cluster.conv2d(IMAGE, FILTERS, layout="HWC"), InputError, "layout"),
        (lambda rank: cluster.conv2d(IMAGE, FILTERS, algorithm="odd"), InputError, "algorithm"),
        (lambda rank: cluster.conv2d(IMAGE, FILTERS, np.ones(3, np.float32)), ShapeError, "bias"),
        (
            lambda rank: cluster.conv2d_input_grad(IMAGE[:, :3, :, :1], FILTERS, (1, 4, 6, 2)),
            ShapeError,
            "grad_out has",
        ),
        (
            lambda rank: cluster.conv2d_input_grad(
                np.ones((1, 4 - rank, 6, 4), np.float32), FILTERS, IMAGE.shape, padding=1
            ),
            ShapeError,
            "grad_out has 3 rows at rank 1 on here, where 4 belong to its 4 rows",
        ),
        (
            lambda rank: cluster.conv2d_weight_grad(IMAGE, np.ones((1, 5, 6, 4), np.float32), 3, padding="same"),
            ShapeError,
            "grad_out has 5 rows at rank 0 on here",
        ),
        (lambda rank: cluster.conv2d_weight_grad(IMAGE, IMAGE, 3, groups=3), ShapeError, "groups=3 must divide"),
        (lambda rank: cluster.RowConvolution((1, 4, 6), FILTERS.shape), ShapeError, "four integers"),
        (
            lambda rank: cluster.RowConvolution(IMAGE.shape, FILTERS.shape, dtype="int8"),
            DtypeError,
            "float32 or float64",
        ),
        (lambda rank: cluster.split_rows(None), InputError, "x is None"),
        (lambda rank: cluster.split_rows(IMAGE, (1, 2)), ShapeError, "rows add up to 3, and the images have 4"),
        (lambda rank: cluster.split_rows(IMAGE, (4,)), InputError, "a number for each of 2 ranks"),
        (lambda rank: cluster.split_rows(IMAGE, (rank, 4 - rank)), InputError, "another rows"),
        (lambda rank: cluster.split_rows(IMAGE, how="send"), InputError, "how"),
        (lambda rank: cluster.gather_rows(IMAGE[..., rank:]), InputError, "another shape, but for the rows"),
        (lambda rank: cluster.gather_rows(np.array([[[["a"]]]])), DtypeError, "not one of numbers"),
    ],
)
def test_what_is_refused_is_refused_on_all_ranks_alike(ranks, call, kind, message):
    errors = ranks(2, lambda session: call(session.rank))
    assert all(isinstance(error, InputError) for error in errors), errors
    assert {str(error) for error in errors} == {str(errors[0])}
    assert message in str(errors[0])
    assert isinstance(errors[0], kind) or errors[0].__class__ is InputError


@pytest.mark.parametrize(
    "call",
    [
        lambda layer: layer(IMAGE[:, :3], FILTERS),
        lambda layer: layer(IMAGE.astype(np.float64), FILTERS),
        lambda layer: layer(IMAGE, FILTERS[:2]),
        lambda layer: layer(IMAGE, FILTERS, np.ones(5, np.float32)),
        lambda layer: layer(IMAGE, FILTERS, activation="tanh"),
        lambda layer: layer.input_grad(IMAGE, FILTERS),
        lambda layer: layer.weight_grad(IMAGE, IMAGE),
    ],
)
def test_what_was_not_agreed_is_refused(ranks, call):
    def body(session):
        call(cluster.RowConvolution(IMAGE.shape, FILTERS.shape, padding="same"))

    errors = ranks(2, body)
    assert all(isinstance(error, InputError) for error in errors), errors
    assert len({str(error) for error in errors}) == 1
