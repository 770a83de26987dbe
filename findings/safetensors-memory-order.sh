#!/usr/bin/env bash
# safetensors 0.8.0: NumPy arrays that are not contiguous are saved in the order of their memory, without a word.
#
# A transposed array comes back with its shape and with its numbers in other places. A selection of columns comes back
# with numbers that were not selected.
#
# Seen 2026-11-28, Python 3.11, Linux x86-64, NumPy 2.4.6:
#   transposed: saved [[0, 3], [1, 4], [2, 5]], loaded [[0, 1], [2, 3], [4, 5]]
#   every second column: saved [[0, 2], [3, 5]], loaded [[0, 1], [2, 3]]
#
# In pyconv: parameters are views into one vector; models and checkpoints copy them to C order before they are written.
source "$(dirname "$0")/common.sh"
packages numpy==2.4.6 safetensors==0.8.0
seen <<'PYTHON'
import numpy as np
from safetensors.numpy import load, save

table = np.arange(6, dtype=np.int32).reshape(2, 3)
for what, array in (("transposed", table.T), ("every second column", table[:, ::2])):
    print(f"{what}: saved {array.tolist()}, loaded {load(save({'a': array}))['a'].tolist()}")
PYTHON
