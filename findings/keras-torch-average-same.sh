#!/usr/bin/env bash
# keras 3.15.1 on PyTorch 2.13.0: AveragePooling2D with padding="same" counts repeated pixels at the edge.
#
# Where the padding is an odd number of pixels, the backend pads the last row and column with copies of the edge, which then
# count in the mean. The layer's mean is that of the pixels inside where the padding is even.
#
# Seen 2026-11-29, Python 3.11, Linux x86-64, NumPy 2.4.6:
#   kernel 3, stride 2 on 5 pixels: 2 pixels of padding, differs from the mean of the pixels inside by 0.00
#   kernel 3, stride 2 on 4 pixels: 1 pixels of padding, differs from the mean of the pixels inside by 21.06
#   kernel 4, stride 1 on 4 pixels: 3 pixels of padding, differs from the mean of the pixels inside by 31.75
#
# In pyconv: padding never counts in AvgPool2D; a network read from such a file differs from Keras on PyTorch at the edge.
source "$(dirname "$0")/common.sh"
packages numpy==2.4.6 keras==3.15.1 torch==2.13.0
export KERAS_BACKEND=torch
seen <<'PYTHON'
import keras
import numpy as np

for kernel, stride, size in [(3, 2, 5), (3, 2, 4), (4, 1, 4)]:
    x = np.square(np.arange(size * size, dtype=np.float32)).reshape(1, size, size, 1)
    found = keras.ops.convert_to_numpy(keras.layers.AveragePooling2D(kernel, strides=stride, padding="same")(x))
    count = -(-size // stride)
    total = max((count - 1) * stride + kernel - size, 0)
    parts = [slice(max(i * stride - total // 2, 0), i * stride - total // 2 + kernel) for i in range(count)]
    inside = np.array([[x[0, rows, columns, 0].mean() for columns in parts] for rows in parts])
    print(
        f"kernel {kernel}, stride {stride} on {size} pixels: {total} pixels of padding, differs from the mean of the pixels "
        f"inside by {np.abs(found[0, ..., 0] - inside).max():.2f}"
    )
PYTHON
