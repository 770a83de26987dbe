#!/usr/bin/env bash
# safetensors 0.8.0: tensors do not keep the order in which they were given.
#
# They lie in the file by dtype and name, and are read in yet another order. A state_dict of PyTorch is in the order of
# the modules; saved and read again it is in none.
#
# Seen 2026-11-29, Python 3.11, Linux x86-64, NumPy 2.4.6:
#   16 tensors in the file: 1, 10, 11, 12, 13, 14, 15, 16, 2, 3, 4, 5, 6, 7, 8, 9
#   read in the order in which they were saved: no
#
# In pyconv: load_weights() orders modules by the numbers in their names, and asks for names= where those tell nothing.
source "$(dirname "$0")/common.sh"
packages numpy==2.4.6 safetensors==0.8.0
seen <<'PYTHON'
import json
import struct

import numpy as np
from safetensors.numpy import load, save

names = [str(number) for number in range(1, 17)]
content = save({name: np.zeros(2, np.float32) for name in names})
(length,) = struct.unpack("<Q", content[:8])
header = json.loads(content[8 : 8 + length])
there = sorted(header, key=lambda name: header[name]["data_offsets"])
print(f"{len(names)} tensors in the file: {', '.join(there)}")
print(f"read in the order in which they were saved: {'yes' if list(load(content)) == names else 'no'}")
PYTHON
