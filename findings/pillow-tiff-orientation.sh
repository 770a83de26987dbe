#!/usr/bin/env bash
# Pillow 13.0.0: an uncompressed TIFF with a camera's tag (orientation 5 to 8), opened by its path, is read in the wrong width.
#
# A picture of 2 rows and 3 columns, [[0 1 2] [3 4 5]], is to be turned by the tag. Opened by a stream, or compressed, it comes out
# right. By the path Pillow maps the pixels from the file, and takes the width of the turned picture for that of the stored one.
#
# Seen 2026-11-29, Python 3.11, Linux x86-64, NumPy 2.4.6:
#   orientation 3: path [[5, 4, 3], [2, 1, 0]] stream [[5, 4, 3], [2, 1, 0]]
#   orientation 6: path [[4, 2, 0], [5, 3, 1]] stream [[3, 0], [4, 1], [5, 2]]
#   orientation 8: path [[1, 3, 5], [0, 2, 4]] stream [[2, 5], [1, 4], [0, 3]]
#
# In pyconv: files are opened as streams (pyconv/datasets/images.py).
source "$(dirname "$0")/common.sh"
packages numpy==2.4.6 pillow==13.0.0
seen <<'PYTHON'
import numpy as np
from PIL import Image

for orientation in (3, 6, 8):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3)).save("a.tif", exif=exif)
    by_path = np.asarray(Image.open("a.tif")).tolist()
    with open("a.tif", "rb") as stream:
        print(f"orientation {orientation}: path {by_path} stream {np.asarray(Image.open(stream)).tolist()}")
PYTHON
