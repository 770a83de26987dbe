#!/usr/bin/env bash
# Pillow 13.0.0: convert("L") of a 16-bit gray image clips at 255 instead of scaling: nearly all of it turns white.
#
# 8-bit modes are converted by what the numbers mean; of I;16 the lowest 256 of 65,536 shades remain.
#
# Seen 2026-11-28, Python 3.11, Linux x86-64, NumPy 2.4.6:
#   16 bits: 0 100 255 256 32768 65535
#   8 bits: 0 100 255 255 255 255
#
# In pyconv: such images become floating-point numbers first (pyconv/datasets/images.py).
source "$(dirname "$0")/common.sh"
packages numpy==2.4.6 pillow==13.0.0
seen <<'PYTHON'
import numpy as np
from PIL import Image

shades = np.array([[0, 100, 255, 256, 32768, 65535]], np.uint16)
print("16 bits:", *shades[0])
print("8 bits:", *np.asarray(Image.fromarray(shades).convert("L"))[0])
PYTHON
