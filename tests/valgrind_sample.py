"""A sample of the operations for `make valgrind`. They are slow there: few shapes, but every kind of kernel."""

import numpy as np

from pyconv import _cpu, reference
from pyconv.shapes import conv_geometry, pool_geometry

rng = np.random.default_rng()
_cpu._set_cycles_per_thread(1)  # even the smallest work uses threads
for shape, kernel, k, rest in (
    ((2, 9, 10, 17), 3, 20, {"padding": 1}),
    ((8, 8, 8, 1), 5, 33, {"padding": 2}),
    ((1, 9, 9, 6), 3, 6, {"groups": 6, "stride": 2, "padding": 1}),
    ((1, 11, 12, 3), 7, 8, {"stride": 2, "dilation": 1, "padding": 3}),
):
    for dtype in ("float32", "float64"):
        g = conv_geometry(shape, (kernel, kernel, shape[3] // rest.get("groups", 1), k), **rest)
        x, w, b, dy = (rng.standard_normal(s).astype(dtype) for s in (shape, g.weight_shape, (k,), g.output_shape))
        for algorithm in ("naive", "direct", *(("winograd",) if kernel == 3 and "stride" not in rest else ())):
            for threads in (1, 2):
                how = {"algorithm": algorithm, "threads": threads}
                y = _cpu.conv2d(x, w, b, g, activation="relu", **how)
                np.testing.assert_allclose(y, reference.conv2d(x, w, b, g, activation="relu"), atol=1e-3)
                gx, gw = _cpu.conv2d_input_grad(dy, w, g, **how), _cpu.conv2d_weight_grad(x, dy, g, **how)
                np.testing.assert_allclose(gx, reference.conv2d_input_grad(dy, w, g), atol=1e-3)
                np.testing.assert_allclose(gw, reference.conv2d_weight_grad(x, dy, g), atol=1e-3)
        pg = pool_geometry(g.output_shape, 2)
        where = np.empty(pg.output_shape, np.uint8)
        pooled = _cpu.conv2d_pool(x, w, b, g, pg, activation="relu", threads=2, indices=where)
        np.testing.assert_allclose(pooled, reference.max_pool2d(y, pg), atol=1e-3)
        gx, gb = _cpu.conv2d_pool_grad(pooled, where, pooled, pg, activation="relu", threads=2)
        assert np.isfinite(gx).all() and np.isfinite(gb).all()
        flat = y.reshape(-1, k)
        normal, mean, inv_std = _cpu.batch_norm(flat, b, b, 1e-5, threads=2)
        np.testing.assert_allclose(normal, reference.batch_norm(flat, b, b, 1e-5)[0], atol=1e-3)
        losses, _ = _cpu.softmax_cross_entropy(flat, np.arange(len(flat)) % k, threads=2)
        assert np.isfinite(losses).all()
print(f"every kind of kernel ran on {_cpu.isa()}")
