"""
A convolution on a GPU, variant by variant
==========================================

The paper convolves on a GPU in four ways: a thread for each output point, and three refinements that fetch less from
memory. pyconv has these four, and two more. Here they are drawn one by one, and what each asks of memory is counted.
You need no GPU to follow: the tiles are those that pyconv's own code chooses, and the counts are held by a test to
every single access of the running kernels.

What one has to know of a GPU: a kernel is started as a *grid* of *blocks* of *threads*. The threads of a block run on
one multiprocessor. They can wait for each other and exchange numbers through some 48 KiB of *shared memory*, which
answers many times as fast as *global memory*, where the arrays are. Threads of different blocks know nothing of each
other. Fastest of all are a thread's own *registers*. 32 threads in a row, a *warp*, execute each instruction together;
if they read neighbouring numbers, one transaction brings them all.
"""

# %%
# The layer
# ---------
#
# The second convolution of the model ``fer``: 32 channels in, 64 filters of 3×3, images of 24×24, a batch of 128.

from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

import pyconv
from pyconv import cuda
from pyconv.cuda import block_tuned, choice, first_layer, implicit_gemm, variants
from pyconv.cuda.problem import Problem
from pyconv.shapes import conv_geometry

layer = conv_geometry((128, 24, 24, 32), (3, 3, 32, 64), padding=1)
problem = Problem.forward(layer)
print(
    f"{problem.pixels} output pixels × {layer.k} filters, "
    f"{problem.multiply_adds / 1e9:.2f} billion multiply-adds"
)

# %%
# Tiles depend on the GPU. This one is an A100 in the two figures that matter; a description is enough to ask.

gpu = SimpleNamespace(
    name="described only",
    capability=(8, 0),
    multiprocessors=108,
    shared_bytes=48 * 1024,
)


def kernel(file, start, end):
    """The lines of a .cu file from the one that begins with `start` up to `end`."""
    lines = (Path(cuda.__file__).parent / file).read_text(encoding="utf-8").splitlines()
    first = next(i for i, line in enumerate(lines) if line.strip().startswith(start))
    last = next(
        i for i, line in enumerate(lines) if i > first and line.strip().startswith(end)
    )
    return "\n".join(lines[first:last])


def grid(axis, title, height, width):
    """An image of height × width pixels."""
    axis.set(
        title=title, xlim=(-1.5, width + 0.5), ylim=(height + 0.5, -1.5), aspect="equal"
    )
    axis.set(xticks=[], yticks=[])
    axis.add_patch(
        Rectangle((0, 0), width, height, facecolor="#f4f4f4", edgecolor="none")
    )
    axis.hlines(range(height + 1), 0, width, colors="#dddddd", linewidth=0.5)
    axis.vlines(range(width + 1), 0, height, colors="#dddddd", linewidth=0.5)


def fill(axis, row, column, height, width, color, label=None):
    """Colour some pixels."""
    axis.add_patch(
        Rectangle(
            (column, row),
            width,
            height,
            facecolor=color,
            edgecolor="black",
            label=label,
            alpha=0.75,
        )
    )


BLOCK, SHARED, THREAD = "#9ecae1", "#a1d99b", "#fd8d3c"


def picture(name, tile_h, tile_w, in_shared, per_thread=((0, 0),), at=(8, 8)):
    """One block on the output and the input that it needs; orange is a thread's."""
    row, column = at
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 4.2), layout="constrained")
    figure.suptitle(name)
    grid(left, "input, one of 32 channels", layer.h, layer.w)
    grid(right, "output, one of 64 filters", layer.oh, layer.ow)
    if in_shared:
        fill(
            left,
            row - 1,
            column - 1,
            tile_h + 2,
            tile_w + 2,
            SHARED,
            "in shared memory",
        )
    fill(right, row, column, tile_h, tile_w, BLOCK, "one block")
    for i, (down, across) in enumerate(per_thread):
        fill(
            right,
            row + down,
            column + across,
            1,
            1,
            THREAD,
            None if i else "one thread",
        )
    down, across = np.max(per_thread, axis=0)
    low_down, low_across = np.min(per_thread, axis=0)
    left.add_patch(
        Rectangle((column + low_across - 1, row + low_down - 1),
                  across - low_across + 3, down - low_down + 3, fill=False,
                  edgecolor=THREAD, linewidth=2, label="what the thread reads")
    )  # fmt: skip
    for axis in (left, right):
        axis.legend(loc="lower right", fontsize="small")
    plt.show()


# %%
# 1. naive: a thread for each output point
# ----------------------------------------
#
# Algorithm 3 of the paper. Thread number :math:`t` computes output number :math:`t`: the filters are the last axis, so
# the threads of a warp have neighbouring filters of one pixel. They all read the same input (one transaction serves
# the warp) and 32 neighbouring weights (one transaction again).

print(kernel("naive.cu", "for (int i", "if (bias)"))
picture("naive", 1, 4, in_shared=False)

# %%
# Two numbers come from global memory for each multiply-add. The picture shows four pixels of a block of 256 threads:
# 64 filters each.
#
# 2. shared_input: the input tile in shared memory
# ------------------------------------------------
#
# Neighbouring pixels need nearly the same inputs, and all filters need the same ones. So a block of threads first
# copies the inputs that it needs into shared memory, some channels at a time, waits until all are there
# (``__syncthreads()``), and computes from there. Padding is stored as zeros, and the inner loop loses its conditions.

with cuda.use(gpu):
    tile, shared = variants.SharedInput().tile(problem, "float32")
print(f"tile {tile}, {shared} bytes of shared memory")
print(kernel("shared_input.cu", "for (int c0", "if (!inside) return"))
picture("shared_input", tile["TILE_H"], tile["TILE_W"], in_shared=True)

# %%
# The first ``__syncthreads()`` is as needed as the second: without it a fast thread would overwrite the tile of the
# round before, which a slow one still reads. The inputs are now read from global memory once for the whole block. The
# weights still come from there, one for each multiply-add.
#
# 3. shared_input_filter: the filters too
# ---------------------------------------
#
# The pixels of a block use the same weights, so these go to shared memory as well. It costs room: the more shared
# memory a block takes, the fewer blocks a multiprocessor holds, and the fewer threads hide the waiting of the others.
# This is why the paper finds it slower than ``naive`` on some layers.

with cuda.use(gpu):
    tile, shared = variants.SharedInputFilter().tile(problem, "float32")
print(f"tile {tile}, {shared} bytes of shared memory")
print(kernel("shared_input_filter.cu", "for (int i = 0; i < KERNEL_H", "if (!inside)"))
picture("shared_input_filter", tile["TILE_H"], tile["TILE_W"], in_shared=True)

# %%
# 4. block_tuned: several outputs a thread
# ----------------------------------------
#
# Global memory is relieved, and now shared memory is what limits: two numbers are read from it for each multiply-add,
# and a multiprocessor reads 32 numbers a cycle from it but can do 64 to 128 multiply-adds. The way out is registers. A
# thread that computes :math:`p` pixels for :math:`k` filters reads :math:`p + k` numbers for :math:`p \cdot k`
# multiply-adds: with 8 × 8 a quarter of a number each. The paper's "advanced block setting" chooses the shapes of
# block and tile for each layer; pyconv's static choice takes the best in an estimate of clock cycles, and
# :func:`pyconv.cuda.tune` times the likely ones on your GPU and remembers the fastest.

with cuda.use(gpu):
    tiles = [
        best for best, _ in zip(block_tuned.candidates(problem, "float32"), range(5))
    ]
    for one in tiles:
        print(
            f"{one.cost(problem, 4, gpu.multiprocessors):10.0f} cycles estimated: {one}"
        )
best = tiles[0]
print(kernel("block_tuned.cu", "for (int c = 0; c < TILE_C", "int n = n0 + tn"))
across = (
    best.tile_w // best.out_p
)  # a thread's pixels lie so far apart, so that neighbours read neighbours
row, column = (0, 0) if best.tile_h + best.tile_w > 24 else (8, 0)
own = [(0, p * across) for p in range(best.out_p)]
picture(
    "block_tuned",
    best.tile_h,
    best.tile_w,
    in_shared=True,
    per_thread=own,
    at=(row, column),
)

# %%
# 5. implicit_gemm: the convolution as a product of matrices
# ----------------------------------------------------------
#
# Write the inputs that one output pixel needs as a row of 3 · 3 · 32 = 288 numbers. All rows make a matrix of 73 728 ×
# 288, and the convolution is its product with the 288 × 64 matrix of the weights. The large matrix is never written
# down: a small table says where each of the 288 numbers lies from the pixel's first one. What remains is the best
# understood kernel there is. Blocks compute tiles of the result; eight rows of the sum at a time are in shared memory,
# *twice*, so that the next ones arrive while these are being used; and each thread keeps its outputs in registers.

with cuda.use(gpu):
    gemm, shares = implicit_gemm.choose(
        problem.pixels,
        layer.k,
        problem.taps * layer.c,
        layer.groups,
        4,
        gpu.multiprocessors,
        True,
    )
print(
    f"tile {gemm.m} pixels × {gemm.n} filters, {gemm.per_m} × {gemm.per_n} a thread, "
    f"the sum in {shares} share(s)"
)
figure, axis = plt.subplots(figsize=(8, 3.6), layout="constrained")
axis.set(
    xlim=(-20, 430),
    ylim=(330, -120),
    aspect="equal",
    title="implicit_gemm: y = A w, the first 256 rows of A",
)
axis.axis("off")
for x, y, width, height, words in (
    (0, 0, 288, 256, "A: pixels × 288, never in memory"),
    (320, 0, 64, 256, "y"),
    (320, -100, 64, 72, "w (drawn shorter)"),
):
    axis.add_patch(
        Rectangle((x, y), width, height, facecolor="#f4f4f4", edgecolor="black")
    )
    axis.text(
        x + width / 2, y + height + 4, words, ha="center", va="top", fontsize="small"
    )
axis.add_patch(Rectangle((96, 0), 8, gemm.m, facecolor=SHARED, edgecolor="black"))
axis.add_patch(
    Rectangle((104, 0), 8, gemm.m, facecolor=SHARED, edgecolor="black", alpha=0.4)
)
axis.add_patch(Rectangle((320, -76), gemm.n, 2, facecolor=SHARED, edgecolor="black"))
axis.add_patch(Rectangle((320, 0), gemm.n, gemm.m, facecolor=BLOCK, edgecolor="black"))
axis.add_patch(
    Rectangle((320, 0), gemm.per_n, gemm.per_m, facecolor=THREAD, edgecolor="none")
)
plt.show()

# %%
# A layer with few pixels or filters has too few tiles to fill 108 multiprocessors. Then the sum is shared out too
# (*split-K*): each share writes a result of its own and a second kernel adds them, in order, so that every run gives
# the same bits.
#
# 6. first_layer: do not write what nobody reads
# ----------------------------------------------
#
# The first convolution has one channel: 25 multiply-adds for each number that it writes. Its time is that of writing.
# But pooling, which follows, keeps one number in four. So a thread computes the four points of a pooling window in
# registers, adds the bias, applies ReLU, and writes the largest: the convolution's result is never in memory.

first = conv_geometry((128, 48, 48, 1), (5, 5, 1, 32), padding=2)
with cuda.use(gpu):
    fused = first_layer._tile(Problem.forward(first), (2, 2), 4)
print(fused)
written = first.n * first.oh * first.ow * first.k
print(
    f"numbers written: {written / 1e6:.1f} million without pooling in the kernel, "
    f"{written / 4e6:.1f} million with it"
)
print("and, without it, read again by ReLU and by pooling, which write again")

# %%
# The counts
# ----------
#
# What all threads ask of memory in one forward pass, for each multiply-add, before any cache.

names = [name for name in pyconv.algorithms("cuda") if name != "first_layer"]
with cuda.use(gpu):
    counts = {name: choice.forward_traffic(name, layer) for name in names}
print(
    "numbers a multiply-add   from global   from shared   to shared   global memory, MB"
)
for name, count in counts.items():
    each = [
        n / count.multiply_adds
        for n in (count.global_reads, count.shared_reads, count.shared_writes)
    ]
    print(
        f"{name:22} {each[0]:13.4f} {each[1]:13.4f} {each[2]:11.4f} "
        f"{4 * count.global_reads / 1e6:19.0f}"
    )

figure, axis = plt.subplots(figsize=(8, 3.4), layout="constrained")
at = np.arange(len(names))
axis.bar(
    at - 0.2,
    [c.global_reads / c.multiply_adds for c in counts.values()],
    0.4,
    label="global memory",
)
axis.bar(
    at + 0.2,
    [c.shared_reads / c.multiply_adds for c in counts.values()],
    0.4,
    label="shared memory",
)
axis.set(xticks=at, xticklabels=names, ylabel="numbers read a multiply-add")
axis.legend()
plt.show()

# %%
# Read the table against a data sheet. An A100 does 19.5 TFLOP/s in float32, that is 9.7 · 10¹² multiply-adds a second,
# and its global memory gives 1.6 · 10¹² bytes a second: one byte for six multiply-adds. ``naive`` asks for nearly
# eight bytes for *one*. That it runs at a bearable speed is the work of the caches, which the GPU of the paper (a GTX
# 520) had less of; so its order of the variants need not be that of your GPU. ``block_tuned`` asks for so little of
# global memory that caches hardly matter, and for a quarter of a number of shared memory, which a multiprocessor can
# give.
#
# On your GPU
# -----------
#
# Where there is a GPU, this times the kernels alone, by events on the device, and with the copies, as the paper does.

if (why_not := pyconv.backends()["cuda"]) is None:
    from pyconv.cuda import timing
    from pyconv.cuda.array import to_device

    rng = np.random.default_rng(0)
    x = rng.standard_normal(layer.input_shape, dtype=np.float32)
    w = rng.standard_normal(layer.weight_shape, dtype=np.float32)
    there = to_device(x), to_device(w)
    for name in names:
        how = {"padding": 1, "backend": "cuda", "algorithm": name}
        pyconv.conv2d(*there, **how)  # compiles
        alone = timing.kernels(lambda how=how: pyconv.conv2d(*there, **how), calls=10)
        whole = timing.whole(lambda how=how: pyconv.conv2d(x, w, **how), calls=3)
        print(
            f"{name:22} {1e3 * alone:8.3f} ms alone, {1e3 * whole:8.3f} ms with copies"
        )
else:
    print(f"not run: {why_not}")

# %%
# ``make bench-gpu`` measures all of this and cuDNN beside it, and records it in ``bench/results``.
#
# To try
# ------
#
# - Take a ``__syncthreads()`` out of ``shared_input.cu`` and run ``pytest tests/test_cuda_convolution.py``: the
#   emulated device fills shared memory with NaN and runs the threads in any order, so that the mistake shows without a
#   GPU.
# - Count a 1×1 convolution. Which refinements are left with nothing to do, and why?
# - Write a variant: a .cu file, a class with ``convolve``, and a line in ``pyconv/cuda/choice.py``. The tests find it
#   there.
