#!/usr/bin/env bash
# safetensors 0.8.0: the same tensors with two or more metadata entries give other bytes from save to save.
#
# The entries are written in the order of a hash map, which is another one in every call, also within one process. A
# hash of the file says nothing about whether two models are equal.
#
# Seen 2026-11-28, Python 3.11, Linux x86-64, NumPy 2.4.6:
#   1 entry: always the same bytes
#   8 entries: not always
#
# In pyconv: tests compare what files hold, not their bytes; a model's settings are one entry.
source "$(dirname "$0")/common.sh"
packages numpy==2.4.6 safetensors==0.8.0
seen <<'PYTHON'
import numpy as np
from safetensors.numpy import save

for entries in ("a", "abcdefgh"):
    files = {save({"x": np.zeros(2)}, metadata=dict.fromkeys(entries, "1")) for _ in range(100)}
    count = f"{len(entries)} {'entry' if len(entries) == 1 else 'entries'}"
    print(f"{count}: {'always the same bytes' if len(files) == 1 else 'not always'}")
PYTHON
