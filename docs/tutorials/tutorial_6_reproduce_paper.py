"""
Reproduce the paper
===================

*Parallelization of Deep Convolutional Neural Network* by U. Chavan and D. Kulkarni measures convolutions and training
on a 4-core CPU, a 48-core GPU and 2 to 16 cores of a cloud node, and models the time with three constants. This page
does the same on the machine at hand, in small, and shows how to read the two side by side.

In the source folder, everything is two commands and a quarter of an hour::

    pytest --benchmark-only
    python -m pyconv.report bench/results/*.json -o report

The first measures, the second makes tables and pictures: ``report/report.html`` needs no other file, and
:doc:`/explanation/paper-results` shows a whole run. Below, Table I and Fig. 2 are measured with ``--quick``, and the
cost model is drawn by itself and for Fig. 4. Figs. 1 and 3 go the same way: ``bench/bench_fig1_layers.py`` and
``bench/bench_fig3_architectures.py``.
"""

# %%
# Table I: five convolutional layers
# ----------------------------------
#
# The paper times five layers, from the serial loop to a tuned GPU kernel. It does not give their shapes; pyconv takes
# the five convolutions of its network ``fer``, so only the ratios between columns can be compared, not the
# milliseconds. Every benchmark verifies its result before it times it, and lets all candidates take turns.
#
# ``quick`` runs one file of ``bench/`` on small sizes and reads what it left, ``as_text`` makes a table of that and
# ``seconds_in_all`` adds up the layers; they are in :download:`my_benchmarks.py <../tutorials/my_benchmarks.py>`.

import textwrap

import matplotlib.pyplot as plt
import numpy as np
from my_benchmarks import as_text, quick, seconds_in_all

from pyconv import costmodel, nn
from pyconv.reporting import paper

if __name__ == "__main__":
    table_1 = quick("table1_variants")
    print(as_text(table_1, "table1"))

# %%
# Columns that cannot run here say why: nothing is ever replaced by another backend, and no number is made up. The
# same as a picture, all five layers together, as multiples of the serial loop:

if __name__ == "__main__":
    totals = seconds_in_all(table_1, "table1")
    times_faster = {
        column: totals["serial naive"] / own for column, own in totals.items()
    }
    fig, axis = plt.subplots(figsize=(8, 3.6), layout="constrained")
    bars = axis.barh(list(times_faster), list(times_faster.values()))
    axis.bar_label(bars, [f"{ratio:.3g}" for ratio in times_faster.values()], padding=3)
    axis.set(
        xscale="log",
        xlabel="times faster than the serial loop",
        xlim=(0.8, 4 * max(times_faster.values())),
    )
    axis.invert_yaxis()
    plt.show()

# %%
# Table II, and what does not add up
# ----------------------------------
#
# The paper's Table II gives Table I as ratios, but does not follow from it:

if __name__ == "__main__":
    print(f"{'serial over':24} {'printed':>8} {'from Table I':>13}")
    for variant, printed in paper.TABLE_2.items():
        print(f"{variant:24} {printed:8g} {paper.ratio(variant):13.0f}")

    fig, axis = plt.subplots(figsize=(8, 3), layout="constrained")
    places = np.arange(len(paper.TABLE_2))
    axis.bar(
        places - 0.2, list(paper.TABLE_2.values()), 0.38, label="printed in Table II"
    )
    axis.bar(
        places + 0.2,
        [paper.ratio(variant) for variant in paper.TABLE_2],
        0.38,
        label="from the printed Table I",
    )
    axis.set_xticks(places, list(paper.TABLE_2))
    axis.set_ylabel("serial over variant")
    axis.legend(frameon=False)
    plt.show()

# %%
# Two more things to keep in mind before you compare such ratios with yours. The serial loop is the base line, and a
# slow base line makes a fast kernel look faster: pyconv's best on *one* core is about a hundred times its own serial
# loop, before any parallelism. And on the paper's GPU sharing the input was no faster than the naive kernel, because
# the kernel is small beside the image; on a GPU with caches it may turn out either way.

if __name__ == "__main__":
    for slip in paper.SLIPS:
        print(textwrap.fill(slip, 90, initial_indent="- ", subsequent_indent="  "))

# %%
# Fig. 2: speed-up against image size
# -----------------------------------
#
# Points are measured, with the quartiles as bars; dotted lines are what the cost model predicts, from constants that it
# calibrated on other layers before. A small image is over before a second thread has begun, which the model does not
# know.

if __name__ == "__main__":
    fig_2 = [
        record
        for record in quick("fig2_image_sizes").of("fig2")
        if record["median_s"] is not None
    ]
    serial = {
        record["x"]: record for record in fig_2 if record["column"] == "serial naive"
    }
    fig, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for column in dict.fromkeys(
        record["column"] for record in fig_2 if record["column"] != "serial naive"
    ):
        own = [record for record in fig_2 if record["column"] == column]
        sides = [record["x"] for record in own]
        middle, low, high = (
            np.array([serial[record["x"]]["median_s"] / record[key] for record in own])
            for key in ("median_s", "q3_s", "q1_s")
        )
        bars = axis.errorbar(
            sides,
            middle,
            [middle - low, high - middle],
            fmt="o-",
            capsize=3,
            label=column,
        )
        known = [record for record in own if record.get("predicted_s")]
        predicted = [
            serial[record["x"]]["predicted_s"] / record["predicted_s"]
            for record in known
        ]
        axis.plot(
            [record["x"] for record in known], predicted, ":", color=bars[0].get_color()
        )
    axis.plot([], [], ":", color="#444", label="cost model")
    axis.set(
        xscale="log",
        ylim=(0, None),
        xlabel="image side, pixels",
        ylabel="times faster than the serial loop",
    )
    axis.set_xticks(sorted(serial), sorted(serial))
    axis.set_xticks([], minor=True)
    axis.legend(frameon=False)
    plt.show()

# %%
# The cost model: equations 5 to 8
# --------------------------------
#
# ``calibrate`` measures on this machine what an operation, the start of a message and a byte cost; the equations say
# what p processes would then take for one layer whose image is cut into p parts. Communication does not shrink with
# p.

if __name__ == "__main__":
    machine = costmodel.calibrate("serial", seconds=0.01)
    print(machine)
    constants = {
        "t_c": machine.rate("serial", "naive").value,
        "t_s": machine.t_s.value,
        "t_b": machine.t_b.value,
    }
    processes = np.unique(np.geomspace(1, 1024, 60).astype(int))
    fig, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for size in (28, 48, 128, 512):
        speedups = [costmodel.speedup(int(p), size, 5, **constants) for p in processes]
        axis.plot(processes, speedups, label=f"{size}×{size} pixels, 5×5 kernel")
    axis.plot(processes, processes, color="#999", linewidth=0.8, label="ideal")
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="processes",
        ylabel="speed-up by equation (8)",
        ylim=(0.5, 1100),
    )
    axis.legend(frameon=False)
    plt.show()

# %%
# Small images do not pay: a message costs as much as thousands of operations. That is why data-parallel training,
# where a worker has whole mini-batches to itself, is what pyconv does with processes, and threads are what it cuts
# layers for.
#
# Fig. 4: training time against workers
# -------------------------------------
#
# For an epoch of training the prediction takes the network's own gradient, timed for a second, and adds what the
# update rule communicates. Here it is for more workers than this machine has CPUs; the workers then take turns, and
# the curve stays flat from there.

if __name__ == "__main__":
    model = nn.build("fer")
    steps = costmodel.measure(model, 64, backend="serial", seconds=1.0)
    counts = [1, 2, 4, 8, 16]
    fig, (time_axis, speed_axis) = plt.subplots(
        1, 2, figsize=(9, 3.6), layout="constrained"
    )
    for update in ("sync", "async", "hogwild", "local"):
        epochs = [
            costmodel.predict(
                model, 64, workers, update, backend="serial", threads=1,
                calibration=machine, gradient_s=steps.gradient_s,
                update_s=steps.update_s, spread=steps.spread,
            )
            for workers in counts
        ]  # fmt: skip
        time_axis.plot(counts, [epoch.epoch_s for epoch in epochs], "o-", label=update)
        speed_axis.plot(counts, [epoch.speedup for epoch in epochs], "o-", label=update)
    time_axis.set(xlabel="workers", ylabel="predicted seconds an epoch", ylim=(0, None))
    speed_axis.set(xlabel="workers", ylabel="predicted speed-up", ylim=(0, None))
    speed_axis.legend(frameon=False)
    plt.show()

# %%
# Measured epochs belong beside it: ``pytest --benchmark-only bench/bench_fig4_workers.py`` trains with real workers
# and records the prediction for each point, and ``bench/bench_prediction.py`` holds the prediction against the clock.
# :doc:`/explanation/cost-model` has such a comparison, and goes on to clusters of 1024 workers.
