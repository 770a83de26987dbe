#!/usr/bin/env bash
# Pillow 13.0.0: a 16-bit gray TIFF in which 0 is white (PhotometricInterpretation 0) is read as if 0 were black.
#
# One row of black, a gray and white, in files whose zero is black and whose zero is white. With 8 bits a pixel the second is
# turned around, as every viewer does; with 16 bits it is not, and the picture is a negative.
#
# Seen 2026-11-29, Python 3.11, Linux x86-64, NumPy 2.4.6:
#   8 bits, zero is black: L 0 100 255
#   8 bits, zero is white: L 255 155 0
#   16 bits, zero is black: I;16 0 25700 65535
#   16 bits, zero is white: I;16 0 25700 65535
#
# In pyconv: such files are turned around (pyconv/datasets/images.py).
source "$(dirname "$0")/common.sh"
packages numpy==2.4.6 pillow==13.0.0
seen <<'PYTHON'
import struct

import numpy as np
from PIL import Image


def tiff(dtype, photometric, values):
    data = np.array(values, dtype).tobytes()
    size, bits = len(data), 8 * np.dtype(dtype).itemsize
    tags = [(256, 4, 1, len(values)), (257, 4, 1, 1), (258, 3, 1, bits), (259, 3, 1, 1), (262, 3, 1, photometric),
            (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, 1), (279, 4, 1, size)]
    data += b"\0" * (size % 2)
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


for dtype, values in (("u1", [0, 100, 255]), ("<u2", [0, 25700, 65535])):
    for photometric, name in ((1, "black"), (0, "white")):
        with open("a.tif", "wb") as file:
            file.write(tiff(dtype, photometric, values))
        image = Image.open("a.tif")
        print(f"{8 * np.dtype(dtype).itemsize} bits, zero is {name}: {image.mode}", *np.asarray(image)[0])
PYTHON
