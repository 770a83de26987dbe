"""Draws all pictures in one style with matplotlib's Agg, whatever the environment and the user's settings say."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@contextlib.contextmanager
def own_style() -> Iterator[None]:
    """Within it matplotlib has its default settings: make and write figures in it.

    ``MPLBACKEND`` may name a backend that is not installed here, such as Jupyter's own in the child processes of a
    notebook, and a ``matplotlibrc`` may ask for a LaTeX that is missing. Afterwards the user's settings are back.
    """
    _import()
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams["svg.hashsalt"] = "pyconv"  # else the names in an SVG file would be random
        yield


def _import() -> None:
    """Import matplotlib without the backend that the environment names: with an unknown one the import fails.

    The first import of a user's looks at all fonts. Matplotlib says so if that takes long, on the line of a live bar.
    """
    if "matplotlib" in sys.modules:
        return
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    named = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if named is not None:
            os.environ["MPLBACKEND"] = named
    if named:
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = named  # for what the user's program draws


def content(figure: Figure, form: str, *, dots_per_inch: int = 100) -> bytes:
    """A figure as the bytes of a "png" or "svg" file: the same figure gives the same bytes."""
    buffer = io.BytesIO()
    if form == "svg":
        figure.savefig(buffer, format=form, metadata={"Date": None})
    else:
        figure.savefig(buffer, format=form, dpi=dots_per_inch)
    return buffer.getvalue()


def why(error: BaseException) -> str:
    """What went wrong, in one line: LaTeX's errors have hundreds."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
