#!/usr/bin/env bash
# SciPy 1.17.1: correlate2d conjugates the wrong array where the second of two complex ones is the larger, mode="valid".
#
# Both arrays are exchanged then, and the result is turned around, but not conjugated, as correlate does. Correlation is
# the sum of in1 times the conjugate of in2: here 1 × conj(i) and 1 × conj(2i).
#
# Seen 2026-11-28, Python 3.11, Linux x86-64, NumPy 2.4.6:
#   correlate   -2j, -1j
#   correlate2d +2j, +1j
#
# In pyconv: correlate2d gives what correlate gives (tests/test_filtering.py, docs/how-to/from-scipy.md).
source "$(dirname "$0")/common.sh"
packages numpy==2.4.6 scipy==1.17.1
seen <<'PYTHON'
import numpy as np
from scipy import signal

one, two = np.array([[1 + 0j]]), np.array([[1j, 2j]])
for name in ("correlate", "correlate2d"):
    result = getattr(signal, name)(one, two, mode="valid").ravel()
    assert not result.real.any()
    print(f"{name:11}", ", ".join(f"{number.imag:+g}j" for number in result))
PYTHON
