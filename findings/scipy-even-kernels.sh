#!/usr/bin/env bash
# SciPy 1.17.1: correlate and correlate2d centre an even kernel one pixel apart under mode="same".
#
# Each row of numbers is one image of one column, correlated with [1, 2]. The documentation of both defines "same" as the
# centre of the full result; for even kernels there are two centres, and each function takes another one.
#
# Seen 2026-11-28, Python 3.11, Linux x86-64, NumPy 2.4.6:
#   correlate   [2. 5. 8. 11.]
#   correlate2d [5. 8. 11. 4.]
#
# In pyconv: correlate2d follows SciPy's correlate2d (tests/test_filtering.py).
source "$(dirname "$0")/common.sh"
packages numpy==2.4.6 scipy==1.17.1
seen <<'PYTHON'
import numpy as np
from scipy import signal

column, kernel = np.array([[1.0], [2.0], [3.0], [4.0]]), np.array([[1.0], [2.0]])
for name in ("correlate", "correlate2d"):
    result = getattr(signal, name)(column, kernel, mode="same").ravel()
    print(f"{name:11} [{' '.join(f'{number:g}.' for number in result)}]")
PYTHON
