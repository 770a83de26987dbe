"""
From the naive loop to the tiled kernel
=======================================

A convolution is seven nested loops, one over the images, around a multiplication and an addition. Written down like
that it uses a per cent or so of a processor core. This page goes from there to most of the core, one idea after the
other, and measures each. It needs a core, not a GPU, and takes half a minute.
"""

# %%
# The sum
# -------
#
# One output number is a sum over a window of the image and all its channels:
#
# .. math:: y_{n r s k} = b_k + \sum_{i, j, c} x_{n,\, r + i - p,\, s + j - p,\, c}\; w_{i j c k}
#
# In Python this is a loop nest (Algorithm 2 of the paper). It is what every faster kernel must agree with.

import time

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

import pyconv


def by_hand(x, weight):
    """The loop nest, without padding."""
    images, height, width, channels = x.shape
    kernel_height, kernel_width, _, filters = weight.shape
    rows, columns = height - kernel_height + 1, width - kernel_width + 1
    y = np.zeros((images, rows, columns, filters), x.dtype)
    for n in range(images):
        for r in range(rows):
            for s in range(columns):
                for k in range(filters):
                    for i in range(kernel_height):
                        for j in range(kernel_width):
                            for c in range(channels):
                                y[n, r, s, k] += (
                                    x[n, r + i, s + j, c] * weight[i, j, c, k]
                                )
    return y


rng = np.random.default_rng(0)
small = rng.standard_normal((1, 10, 10, 8)), rng.standard_normal((3, 3, 8, 16))
print("agrees with pyconv:", np.allclose(by_hand(*small), pyconv.conv2d(*small)))


def seconds(call, least=0.3):
    """The median time of a call, over `least` seconds of calls."""
    times, end = [], time.perf_counter() + least
    while len(times) < 3 or time.perf_counter() < end:
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return float(np.median(times))


def gflops(call, x, weight, output_pixels):
    """Billions of floating-point operations a second: two for every multiply-add."""
    kernel_height, kernel_width, channels, filters = weight.shape
    return (
        2
        * len(x)
        * output_pixels
        * kernel_height
        * kernel_width
        * channels
        * filters
        / seconds(call)
        / 1e9
    )


rate = {"Python loops": gflops(lambda: by_hand(*small), *small, output_pixels=64)}
print(f"Python: {1e3 * rate['Python loops']:.1f} MFLOP/s")

# %%
# Step 1: compile the loops
# -------------------------
#
# ``algorithm="naive"`` is the same nest in Cython, compiled and nothing else. Python's part of every addition, some
# hundred nanoseconds, is gone. From here on the layer is the second convolution of the network ``fer``: 32 channels
# to 64 filters, 3×3, on 24×24 pixels.

x = rng.standard_normal((8, 24, 24, 32), dtype=np.float32)
weight = rng.standard_normal((3, 3, 32, 64), dtype=np.float32)
expected = pyconv.conv2d(x.astype(float), weight.astype(float), padding=1)


def measure(name, algorithm):
    """Verify, then time one algorithm on one thread."""

    def call():
        return pyconv.conv2d(
            x, weight, padding=1, backend="serial", algorithm=algorithm
        )

    assert np.abs(call() - expected).max() < 1e-4 * np.abs(expected).max()
    rate[name] = gflops(call, x, weight, output_pixels=24 * 24)
    print(f"{name}: {rate[name]:.1f} GFLOP/s")


measure("compiled loops", "naive")

# %%
# Why it is still slow: every product needs two numbers from the cache and the sum waits for the one before it. A
# processor core can do far more: with vectors of 16 numbers, two multiply-adds a cycle, and four cycles until a sum
# can be added to again, it wants 2 · 4 vectors of *independent* sums at any time. One scalar sum at a time uses a
# hundredth of that.
#
# Step 2: a tile of sums in registers
# -----------------------------------
#
# Two facts about this loop nest make the difference.
#
# - The sums of neighbouring filters are independent, and in NHWC their weights lie side by side: 16 filters are one
#   vector. Nothing is rearranged for this, the image is only copied with its zeros around it; that is why pyconv keeps
#   channels last.
# - One input number is needed by every filter, and one weight by every pixel. In a *tile* of several pixels by several
#   vectors of filters each number that is loaded is used several times.
#
# The picture shows pyconv's tile where there are 32 vector registers: 14 pixels × 2 vectors of filters, 28 vectors of
# sums that stay in registers from first to last. For each window position and channel a pixel's number is broadcast
# to all lanes of a vector and multiplied with 2 vectors of weights. That is 28 multiply-adds of vectors for 14 + 2
# loads, where the naive loop has one of a number for 2.

fig, (left, middle, right) = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained")
titles = {
    left: "input: 14 pixels, one channel",
    middle: "weights: 2 vectors of filters",
    right: "sums in registers",
}
for axis, title in titles.items():
    axis.set_title(title, fontsize=10)
    axis.set_aspect("equal")
    axis.axis("off")
for row in range(3):
    for column in range(16):
        used = row == 1 and 1 <= column <= 14
        left.add_patch(
            Rectangle(
                (column, 2 - row), 0.9, 0.9, color="tab:blue" if used else "#dddddd"
            )
        )
left.set(xlim=(-0.5, 16.5), ylim=(-6, 9))
for vector in range(2):
    middle.add_patch(Rectangle((4.2 * vector, 1), 4, 0.9, color="tab:orange"))
    for pixel in range(14):
        right.add_patch(
            Rectangle((4.2 * vector, 13 - pixel), 4, 0.9, color="tab:green")
        )
middle.set(xlim=(-4, 12.5), ylim=(-6, 9))
right.set(xlim=(-4, 12.5), ylim=(-0.5, 14.5))
plt.show()

# %%
# ``algorithm="direct"`` is this, in C with the compiler's vector types; the filters are packed once a call so that a
# tile reads them from first to last. The source is ``tile.h`` and ``direct.h`` in ``pyconv/_kernels/direct/``.

measure("register tiles", "direct")

# %%
# Step 3: fewer multiplications
# -----------------------------
#
# Multiply-adds alone have an upper end, two vectors of them a cycle, and the tile comes near it. Beyond that only
# other arithmetic helps. Winograd's minimal filtering computes a tile of 4×4 outputs of a 3×3 convolution with 36
# multiplications a channel instead of 144: the image's tiles and the filters are transformed by small matrices of
# constants, multiplied point by point, and the sum over channels is transformed back.
#
# In one dimension, two outputs of a filter of three, with 4 multiplications instead of 6:

d, g = rng.standard_normal(4), rng.standard_normal(3)
m = (
    (d[0] - d[2]) * g[0],
    (d[1] + d[2]) * (g[0] + g[1] + g[2]) / 2,
    (d[2] - d[1]) * (g[0] - g[1] + g[2]) / 2,
    (d[1] - d[3]) * g[2],
)
print("two outputs:", m[0] + m[1] + m[2], m[1] - m[2] - m[3])
print("as they are:", *np.correlate(d, g, "valid"))

# %%
# The factors with ``g`` are the filters' transform, done once; those with ``d`` are additions only. The price is
# rounding: the transforms subtract numbers of like size. :doc:`/explanation/numerics` has figures.

for name, size in (("winograd_2x2", "2×2"), ("winograd_4x4", "4×4")):
    measure(f"Winograd, tiles of {size}", name)

# %%
# All steps
# ---------
#
# The bars count the operations of direct convolution for every algorithm, so the highest bar is the fastest algorithm.

fig, axis = plt.subplots(figsize=(8, 3), layout="constrained")
bars = axis.barh(list(rate), list(rate.values()), color="tab:blue")
axis.bar_label(bars, [f"{value:.3g}" for value in rate.values()], padding=3)
axis.set(
    xscale="log", xlabel="GFLOP/s on one core", xlim=(None, 3 * max(rate.values()))
)
axis.invert_yaxis()
plt.show()
print(
    f"register tiles are {rate['register tiles'] / rate['compiled loops']:.0f} times "
    "the compiled loops"
)

# %%
# Which is best depends on the layer
# ----------------------------------
#
# ``algorithm="auto"`` estimates the cycles of every algorithm that can do a convolution and takes the least. With few
# channels Winograd's transforms in two dimensions cost more than they save. Along rows only they pay even there, and
# for kernels of any width from 3 on: 5×5 filters and larger ones are done so (``"winograd_1d"``), and first layers
# where the vectors are wide and there are registers enough. The backward pass has all these forms as well: the input's
# gradient is a convolution with turned filters, the filters' gradient a sum of outer products.

layers = {
    "1→32, 5×5": (24, 1, 32, 5),
    "16→32, 3×3": (24, 16, 32, 3),
    "64→64, 3×3": (12, 64, 64, 3),
}
table = {}
for name, (size, channels, filters, kernel) in layers.items():
    images = rng.standard_normal((8, size, size, channels), dtype=np.float32)
    weights = rng.standard_normal((kernel, kernel, channels, filters), dtype=np.float32)
    for algorithm in ("naive", "direct", "winograd", "auto"):

        def call(images=images, weights=weights, algorithm=algorithm):
            return pyconv.conv2d(
                images, weights, padding="same", backend="serial", algorithm=algorithm
            )

        try:
            table[algorithm, name] = gflops(
                call, images, weights, output_pixels=size * size
            )
        except pyconv.PyconvError as refused:
            print(f"{name}: {refused}")

fig, axis = plt.subplots(figsize=(8, 3.4), layout="constrained")
for shift, algorithm in enumerate(("naive", "direct", "winograd", "auto")):
    heights = [table.get((algorithm, name), 0) for name in layers]
    axis.bar(
        np.arange(len(layers)) + 0.2 * (shift - 1.5), heights, 0.18, label=algorithm
    )
axis.set_xticks(range(len(layers)), layers)
axis.set_ylabel("GFLOP/s on one core")
axis.legend(frameon=False)
plt.show()

# %%
# Several cores
# -------------
#
# ``backend="multicore"`` cuts the same work into pieces and gives them to threads. The pieces follow from the shapes
# alone, never from the number of threads, so that the result has the same bits for any of them. On a machine with one
# CPU the line is flat.

cpus = pyconv.threads.usable_cpus()
counts = [count for count in (1, 2, 4, 8, 16, 32, 64) if count <= cpus]
big = rng.standard_normal((32, 24, 24, 32), dtype=np.float32)
times, results = [], []
for count in counts:

    def call(count=count):
        return pyconv.conv2d(big, weight, padding=1, backend="multicore", threads=count)

    results.append(call())
    times.append(seconds(call))
for count, taken in zip(counts, times, strict=True):
    print(
        f"{count} threads: {1e3 * taken:.2f} ms, "
        f"{times[0] / taken:.2f} times one thread"
    )
print("the same bits:", all(np.array_equal(results[0], other) for other in results))

# %%
# The same steps on a GPU are the next tutorial; what the compiled kernels look like inside is in the explanation
# pages. ``pytest --benchmark-only bench/bench_table1_variants.py`` measures them all on the
# five layers of ``fer``.
