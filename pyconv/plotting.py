"""Pictures look alike everywhere: drawn with Agg and in one style, whatever environment and user's settings say."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@contextlib.contextmanager
def own_style() -> Iterator[None]:
    """Within it matplotlib is there and has its settings as it comes: figures are to be made and written in it.

    ``MPLBACKEND`` may name a backend that is not installed here, as Jupyter's own for the children of a notebook, and
    a ``matplotlibrc`` may ask for a LaTeX that is not there. Afterwards all is as the user set it.
    """
    _import()
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams["svg.hashsalt"] = "pyconv"  # names in a file that do not depend on chance
        yield


def _import() -> None:
    """Import matplotlib without the backend that the environment names, which it refuses to be imported with."""
    if "matplotlib" in sys.modules:
        return
    named = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if named is not None:
            os.environ["MPLBACKEND"] = named
    if named:
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = named  # for what the user's program draws itself


def content(figure: Figure, form: str, *, dots_per_inch: int = 100) -> bytes:
    """A figure as the bytes of a "png" or "svg" file: the same figure gives the same bytes."""
    buffer = io.BytesIO()
    if form == "svg":
        figure.savefig(buffer, format=form, metadata={"Date": None})
    else:
        figure.savefig(buffer, format=form, dpi=dots_per_inch)
    return buffer.getvalue()


def why(error: BaseException) -> str:
    """What went wrong, in a line: LaTeX's errors have hundreds."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
