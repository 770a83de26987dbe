"""Decodes many image files in threads; Pillow's decoders release Python's lock."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from .. import runlog
from .at_once import in_threads
from .images import Picture, decode, quiet

_log = runlog.logger("pyconv.datasets")

#: Seconds between two log lines about the progress; shorter reading logs nothing.
INTERVAL_S = 5.0


def decode_all(paths: Sequence[Path], shape: tuple[int, ...] | None) -> Iterator[tuple[Path, Picture]]:
    """Decode files, on as many threads as the process may use.

    If it takes long, lines in the log of ``pyconv.datasets`` (level INFO) tell the progress.

    Parameters
    ----------
    paths : sequence of Path
    shape : (H, W), (H, W, C) or None
        As :func:`pyconv.datasets.images.decode` takes it.

    Yields
    ------
    path, picture
        In the order of `paths`.

    Raises
    ------
    DataError
        For the first file that cannot be read, when its turn comes.
    """
    began = shown = time.monotonic()
    with quiet():
        for done, found in enumerate(in_threads(lambda path: decode(path, shape), paths), 1):
            yield found
            now = time.monotonic()
            if now - shown >= INTERVAL_S and done < len(paths):
                shown = now
                _log.info(f"read {done:,} of {len(paths):,} images, {done / (now - began):,.0f} images/s")
