"""The tables of the page for SciPy's users, from bench/results/scipy.json."""

from __future__ import annotations

from typing import Any

from pyconv.reporting import Table
from pyconv.reporting.page import markdown_table

DIRECT = ("scipy.signal.convolve2d", "scipy.ndimage.convolve")
TRANSFORMS = ("scipy.signal.fftconvolve", "scipy.signal.oaconvolve")

Times = dict[int, dict[int, dict[str, float]]]


def times(content: dict[str, Any]) -> Times:
    """Seconds by size of the image, width of the kernel, and column."""
    found: Times = {}
    for record in content["records"]:
        found.setdefault(record["size"], {}).setdefault(record["x"], {})[record["column"]] = record["median_s"]
    return {size: dict(sorted(by.items())) for size, by in sorted(found.items())}


def crossing(by_width: dict[int, dict[str, float]]) -> tuple[int | None, int | None]:
    """The widest kernel up to which pyconv's one thread is always the faster, and the next one that was measured."""
    last = None
    for width, taken in by_width.items():
        if min(taken[name] for name in TRANSFORMS) < taken["pyconv"]:
            return last, width
        last = width
    return last, None


def tables(content: dict[str, Any]) -> str:
    """Times of one image size, ratios of all, where transforms begin to win, and the machine."""
    found = times(content)
    size = 512 if 512 in found else max(found)
    columns = ("pyconv", "pyconv, 2 threads", *DIRECT, *TRANSFORMS)
    rows = [
        (f"{width}×{width}", *(f"{1e3 * taken[name]:.3g}" if name in taken else "–" for name in columns))
        for width, taken in found[size].items()
    ]
    caption = f"Milliseconds for one image of {size}×{size} pixels in float32, mode “same”"
    # "scipy.signal convolve2d" goes on two lines: six such columns fit the page.
    lines = markdown_table(Table(("kernel", *(" ".join(name.rsplit(".", 1)) for name in columns)), rows, caption))
    widths = sorted({width for by in found.values() for width in by})
    header = ("image", *(f"{width}×{width}" for width in widths))
    direct = [(f"{s}×{s}", *(_ratio(by.get(w, {}), DIRECT[:1]) for w in widths)) for s, by in found.items()]
    lines += markdown_table(Table(header, direct, "`scipy.signal.convolve2d`'s time over pyconv's on one thread"))
    fast = [(f"{s}×{s}", *(_ratio(by.get(w, {}), TRANSFORMS) for w in widths)) for s, by in found.items()]
    caption = "The time of the faster of `fftconvolve` and `oaconvolve` over pyconv's on one thread"
    lines += markdown_table(Table(header, fast, caption))
    lines += markdown_table(
        Table(
            ("image", "pyconv is faster up to", "transforms from"), list(map(_crossing, found.items())), "The crossing"
        )
    )
    machine, versions = content["machine"], content["versions"]
    lines.append(
        f"Medians of turns in one run, `bench/bench_scipy.py`: {machine['cpu']}, {machine['instruction_set']}, "
        f"{machine['usable_cpus']} CPUs, {content['when'][:10]}; SciPy {versions['scipy']}, NumPy {versions['numpy']}, "
        f"pyconv {versions['pyconv']}. A dash: it would take too long to measure."
    )
    return "\n".join([*lines, ""])


def _ratio(taken: dict[str, float], names: tuple[str, ...]) -> str:
    others = [taken[name] for name in names if name in taken]
    return f"{min(others) / taken['pyconv']:.3g}" if others else "–"


def _crossing(one: tuple[int, dict[int, dict[str, float]]]) -> tuple[str, str, str]:
    size, by_width = one
    last, first = crossing(by_width)
    return f"{size}×{size}", _square(last, "none"), _square(first, "none measured")


def _square(width: int | None, none: str) -> str:
    return none if width is None else f"{width}×{width}"
