"""Draw the pictures of ``kernels.md``, and make its table of steps from what ``bench/bench_steps.py`` measured.

``python docs/explanation/draw_kernels.py`` writes them beside the page, into ``kernels/``.
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

HERE = Path(__file__).parent
RESULTS = HERE.parent.parent / "bench" / "results" / "steps.json"
BLUE, ORANGE, GREY, GREEN = "#4477aa", "#ee8866", "#dddddd", "#44aa77"
WHY = {
    "1 naive loop": "the equation as it is read",
    "2 filters innermost": "neighbours in memory, independent sums: the compiler makes vectors",
    "3 wide vectors": "the widest vectors of the processor instead of SSE2's",
    "4 sums in registers": "results stay in registers until they are done; no test for borders",
    "5 packed filters": "filters are read from first to last",
    "6 pyconv direct": "any geometry; rows in blocks, filters in panels, bias and ReLU on the way out",
    "7 pyconv Winograd 2×2": "2.25 times fewer multiplications",
    "8 pyconv Winograd 3×3": "3.24 times fewer",
    "9 pyconv Winograd 4×4": "4 times fewer",
}


def load() -> dict:
    """The results of the steps."""
    return json.loads(RESULTS.read_text(encoding="utf-8"))


def table(results: dict) -> str:
    """The steps as a Markdown table, with the machine under it."""
    lines = [
        "| step | what it adds | ms | GFLOP/s | share of the FMA peak | gain |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    before = None
    for record in results["records"]:
        seconds, name = record["median_s"], record["column"]
        gain = "" if before is None else f"{before / seconds:.2f} ×"
        lines.append(
            f"| {name} | {WHY[name]} | {1e3 * seconds:.{1 if seconds > 0.1 else 2}f} | {record['gflops']:.1f} "
            f"| {100 * record['share_of_peak']:.0f} % | {gain} |"
        )
        before = seconds
    first, last = results["records"][0]["median_s"], min(record["median_s"] for record in results["records"])
    machine, versions = results["machine"], results["versions"]
    about = ", ".join(f"{key} {value}" for key, value in versions.items() if key in ("pyconv", "numpy", "python"))
    lines += [
        "",
        f"From the first to the fastest: {first / last:.0f} times. Layer {results['records'][0]['case']}, float32, one "
        f"thread, medians; kernels for {results['records'][0]['isa']}; the measured FMA peak is "
        f"{results['peak']['gflops']:.0f} GFLOP/s. {_machine(machine)}; {about}; {results['when'][:10]}.",
    ]
    return "\n".join(lines) + "\n"


def _machine(machine: dict) -> str:
    return ", ".join(str(machine[key]) for key in ("cpu", "system") if machine.get(key))


def bars(results: dict, axes: Axes) -> None:
    """GFLOP/s of each step beside the machine's peak."""
    records = results["records"][::-1]
    colours = [GREEN if "Winograd" in r["column"] else ORANGE if "pyconv" in r["column"] else BLUE for r in records]
    rates = [record["gflops"] for record in records]
    axes.barh([record["column"] for record in records], rates, color=colours)
    for place, rate in enumerate(rates):
        clear = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        axes.text(rate + 2, place, f"{rate:.1f}", va="center", fontsize=9, bbox=clear)
    peak = results["peak"]["gflops"]
    axes.axvline(peak, color="black", linestyle="--", linewidth=1, zorder=0)
    axes.text(peak, len(records) - 0.4, " FMA peak", va="bottom", ha="center", fontsize=9)
    axes.set_xlim(0, 1.12 * max(rates))
    axes.set_xlabel("GFLOP/s of direct convolution's operations")
    axes.spines[["top", "right"]].set_visible(False)


def _cells(axes: Axes, left: float, top: float, rows: int, columns: int, colour: str, size: float = 1.0) -> None:
    for row in range(rows):
        for column in range(columns):
            corner = (left + column * size, top - (row + 1) * size)
            axes.add_patch(Rectangle(corner, size, size, facecolor=colour, edgecolor="white", linewidth=1))


def _plain(axes: Axes, width: float, height: float) -> None:
    axes.set_xlim(-0.5, width)
    axes.set_ylim(-0.5, height)
    axes.set_aspect("equal")
    axes.axis("off")


def order(axes: Axes) -> None:
    """Filters in memory: which numbers the two loop orders read one after the other."""
    _plain(axes, 27, 8.4)
    for left, title, reads in (
        (0, "steps 1: sum innermost", [(row, 2) for row in range(5)]),
        (14, "step 2: filters innermost", [(2, column) for column in range(10)]),
    ):
        _cells(axes, left, 6, 5, 10, GREY)
        for row, column in reads:
            _cells(axes, left + column, 6 - row, 1, 1, ORANGE)
        start, end = reads[0], reads[-1]
        axes.annotate(
            "", (left + end[1] + 0.5, 6 - end[0] - 0.5), (left + start[1] + 0.5, 6 - start[0] - 0.5),
            arrowprops={"arrowstyle": "->", "color": "black", "linewidth": 1.5},
        )  # fmt: skip
        axes.text(left + 5, 7.2, title.replace("steps", "step"), ha="center", fontsize=11)
        axes.text(left + 5, 6.2, "K filters, side by side in memory", ha="center", fontsize=8.5)
        axes.text(left - 0.25, 3.5, "i, j, c", rotation=90, ha="right", va="center", fontsize=8.5)
    axes.text(12, -0.1, "the filters' array w[i, j, c, k]; an arrow is the innermost loop", ha="center", fontsize=9)


def register_tile(axes: Axes) -> None:
    """The register tile: pixels down, vectors of filters across."""
    _plain(axes, 27, 11.5)
    pixels = 7
    _cells(axes, 0, 8, pixels, 1, BLUE)
    axes.text(0.5, 8.3, "pixels", ha="center", fontsize=9)
    axes.text(0.5, 0.2, "x[…, s + p, c]\none number each,\nbroadcast", ha="center", va="top", fontsize=8.5)
    for vector in range(2):
        left = 5 + 9 * vector
        _cells(axes, left, 10, 1, 8, ORANGE)
        _cells(axes, left, 8, pixels, 8, GREEN)
    axes.text(13.5, 10.3, "2 vectors of filters, w[i, j, c, k …]", ha="center", fontsize=9)
    axes.text(13.5, 0.5, "14 × 2 sums, y[r, s + p, k …]: one register a row and vector (7 rows drawn)", ha="center",
              va="center", fontsize=9)  # fmt: skip
    axes.text(2.9, 4.5, "×", fontsize=18, ha="center", va="center")
    axes.text(23, 6.6, "for every i, j, c:\n  2 loads of filters\n  14 broadcasts\n  28 multiply-adds", fontsize=9,
              va="center", family="monospace")  # fmt: skip


def packing(axes: Axes) -> None:
    """Filters as they come, and packed: the path of one block's reading."""
    _plain(axes, 28, 9.2)
    block = 3
    colours = (BLUE, ORANGE, GREEN, GREY)
    for row in range(6):
        for part in range(4):
            _cells(axes, part * block, 7 - row, 1, block, colours[part])
    axes.annotate("", (1.5, 1.4), (1.5, 6.6), arrowprops={"arrowstyle": "->", "linewidth": 1.5})
    axes.text(6, 8.3, "w[i, j, c, k]", ha="center", fontsize=11)
    axes.text(6, 7.3, "a block of filters is a strip: one step down is K numbers on", ha="center", fontsize=8.5)
    for part in range(4):
        _cells(axes, 15, 7 - 1.5 * part, 1, 12, colours[part])
    axes.annotate("", (26.8, 6.5), (15.2, 6.5), arrowprops={"arrowstyle": "->", "linewidth": 1.5})
    axes.text(21, 8.3, "packed[block][i][j][c][2 vectors]", ha="center", fontsize=11)
    axes.text(21, 7.3, "a block is one run, read from first to last", ha="center", fontsize=8.5)
    axes.text(14, 0.1, "the arrow: what the register tile reads for one block of filters", ha="center", fontsize=9)


def winograd(axes: Axes) -> None:
    """A tile of 4 × 4 outputs on its way through the three transforms."""
    _plain(axes, 37, 11.8)
    axes.set_ylim(-1.5, 11.8)
    _cells(axes, 0, 10, 6, 6, BLUE)
    axes.text(3, 10.4, "6 × 6 pixels d", ha="center", fontsize=9)
    _cells(axes, 1.5, 2.6, 3, 3, ORANGE, 0.8)
    axes.text(2.7, -0.35, "3 × 3 filter g", ha="center", fontsize=9)
    _cells(axes, 11, 10, 6, 6, BLUE, 0.8)
    axes.text(13.4, 10.4, "V = B′ d B", ha="center", fontsize=9)
    _cells(axes, 11, 4.6, 6, 6, ORANGE, 0.8)
    axes.text(13.4, -1.1, "U = G g G′", ha="center", fontsize=9)
    _cells(axes, 22, 8, 6, 6, GREEN, 0.8)
    axes.text(24.4, 8.4, "M: 36 points", ha="center", fontsize=9)
    text = "M[p] = sum over c V[p] U[p]:\n36 products of matrices,\ntiles × channels by\nchannels × filters"
    axes.text(24.4, 2.7, text, ha="center", va="top", fontsize=8.5)
    _cells(axes, 32, 7.6, 4, 4, GREEN)
    axes.text(34, 8, "4 × 4 results\nY = A′ M A", ha="center", fontsize=9)
    for start, end in (((6.4, 7), (10.6, 7.6)), ((4.4, 1.4), (10.6, 2.2)), ((16.2, 7.6), (21.6, 6.2)),
                       ((16.2, 2.2), (21.6, 4.6)), ((27.2, 5.6), (31.6, 5.6))):  # fmt: skip
        axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "linewidth": 1.5})


PICTURES = {
    "order": (order, (9, 2.9)),
    "register_tile": (register_tile, (9.5, 4.1)),
    "packing": (packing, (9, 3.1)),
    "winograd": (winograd, (10, 3.4)),
}


def main() -> None:
    """Write the pictures and the table."""
    to = HERE / "kernels"
    to.mkdir(exist_ok=True)
    for name, (draw, size) in PICTURES.items():
        figure, axes = plt.subplots(figsize=size)
        draw(axes)
        figure.savefig(to / f"{name}.png", dpi=110, bbox_inches="tight")
        plt.close(figure)
    results = load()
    figure, axes = plt.subplots(figsize=(8, 3.8))
    bars(results, axes)
    figure.savefig(to / "steps.png", dpi=110, bbox_inches="tight")
    (to / "steps.inc").write_text(table(results), encoding="utf-8")


if __name__ == "__main__":
    main()
