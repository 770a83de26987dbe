"""Draw the picture of the front page and of the README, from ``bench/results``.

``python docs/draw_front.py`` writes ``docs/_static/front.png``. The figures that it shows are in the file's metadata
too, where a test compares them with the results.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE.parent / "bench" / "results"
PICTURE = HERE / "_static" / "front.png"
OURS, OTHERS, GREY = "#4477aa", "#ee8866", "#777777"

#: The networks whose training is shown, each with the beginning of its operation's name.
TRAINED = {
    "fer": "training step, batch 64, synthetic faces",
    "5-50-100-10": "training step, batch 64, Fashion-MNIST",
}
STEPS = {
    "1 naive loop": "the loop, as it is read",
    "2 filters innermost": "filters innermost",
    "3 wide vectors": "wide vectors",
    "4 sums in registers": "sums in registers",
    "6 pyconv direct": "packed filters: direct",
    "8 pyconv Winograd 3×3": "Winograd",
}


def figures() -> dict[str, Any]:
    """The figures of the picture: GFLOP/s of the steps and the peak, images a second by network, and the machine."""
    steps, peers = (json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")) for name in ("steps", "peers"))
    rates = {record["column"]: round(record["gflops"], 1) for record in steps["records"]}
    shown: dict[str, Any] = {
        "steps": {words: rates[name] for name, words in STEPS.items()},
        "peak": round(steps["peak"]["gflops"], 1),
        "layer": steps["records"][0]["case"],
        "where": "{cpu}, {instruction_set}".format(**peers["machine"])
        + f", {peers['peak']['gflops']:.0f} GFLOP/s a thread, one core, float32",
        "torch": peers["versions"]["torch"],
    }
    for network, operation in TRAINED.items():
        rows = [r for r in peers["records"] if r["case"] == network and r["operation"].startswith(operation)]
        speeds = {r["column"]: r["images"] / r["median_s"] for r in rows}
        best = max(speed for column, speed in speeds.items() if column.startswith("torch"))
        shown[network] = {"pyconv": round(speeds["pyconv"]), "PyTorch": round(best)}
    return shown


def draw(shown: dict[str, Any]) -> None:
    """Write the picture."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    fig, axes = plt.subplots(1, 3, figsize=(9.6, 2.9), layout="constrained", width_ratios=(2.3, 1, 1))
    steps = axes[0]
    colours = [GREY] * (len(shown["steps"]) - 2) + [OURS] * 2
    bars = steps.barh(list(shown["steps"]), list(shown["steps"].values()), color=colours)
    steps.bar_label(bars, [f"{rate:.3g}" for rate in shown["steps"].values()], padding=3)
    steps.axvline(shown["peak"], color=OTHERS, linestyle="--", linewidth=1.2)
    steps.text(shown["peak"], -0.75, " the core's peak", color=OTHERS, va="center", ha="left")
    steps.set(xlabel="GFLOP/s", xlim=(0, 1.15 * max(shown["steps"].values())))
    steps.set_title(f"From the loop to the kernel ({shown['layer']})", loc="left", fontsize=10, pad=14)
    steps.invert_yaxis()
    for axis, network in zip(axes[1:], TRAINED):
        speeds = shown[network]
        bars = axis.bar(list(speeds), list(speeds.values()), color=[OURS, OTHERS], width=0.6)
        axis.bar_label(bars, [f"{speed:,}" for speed in speeds.values()], padding=2)
        axis.set(ylim=(0, 1.15 * max(speeds.values())), yticks=[], xlabel="images a second")
        axis.spines["left"].set_visible(False)
        axis.set_title(f"Training {network}", loc="left", fontsize=10, pad=14)
    fig.supxlabel(f"{shown['where']}; PyTorch {shown['torch']} in its better memory layout", fontsize=8, color=GREY)
    PICTURE.parent.mkdir(exist_ok=True)
    fig.savefig(PICTURE, dpi=125, metadata={"Description": json.dumps(shown), "Software": None})


if __name__ == "__main__":
    draw(figures())
