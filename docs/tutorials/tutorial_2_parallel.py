"""
Parallel training, step by step
===============================

Several workers train one network. Each is a process with its own mini-batches; they meet in shared memory, under an
*update rule*. This page runs all six rules on the same data, and shows what each costs and what it brings.

In a script of your own, start training below ``if __name__ == "__main__":``. Workers are new interpreters that import
the script; without that line each would begin the training again. pyconv says so if the line is missing. A notebook
needs no such line.
"""

# %%
# One worker, two workers
# -----------------------
#
# A *step* is one mini-batch of one worker. Two workers with mini-batches of 32 images make one step of 64 images under
# ``sync``: the *effective batch*. With the same seed they see the same images in the same order as one worker with
# mini-batches of 64, and end with the same parameters to rounding: in float64 here, where rounding is small. In float32
# a sum's last digit may decide which of two pixels is the larger, and then the runs differ a little more.

import matplotlib.pyplot as plt
import numpy as np

import pyconv
from pyconv import datasets, nn, optim
from pyconv.threads import usable_cpus


def network(seed, dtype):
    """A small network; the seed draws its first parameters."""
    layers = [
        nn.Conv2D(8, 5, padding="same", activation="relu"),
        nn.MaxPool2D(2),
        nn.Conv2D(16, 3, padding="same", activation="relu"),
        nn.MaxPool2D(2),
        nn.Flatten(),
        nn.Dense(32, activation="relu"),
        nn.Dense(7),
    ]
    return nn.Sequential(layers, input_shape=(48, 48, 1), seed=seed, dtype=dtype)


def train(data, seed=0, dtype="float32", **how):
    """Train a fresh network and give it back with the history of its run."""
    model = network(seed, dtype)
    validation = (data.validation.x, data.validation.y)
    history = pyconv.fit(
        model,
        data.train.x,
        data.train.y,
        validation=validation,
        seed=seed,
        progress="off",
        **how,
    )
    return model, history


if __name__ == "__main__":
    faces = datasets.load("faces", limit=5000, seed=0)
    print(f"{len(faces.train.y)} images; this machine lets us use {usable_cpus()} CPUs")
    how = {"dtype": "float64", "epochs": 1, "optimizer": optim.SGD(0.01)}
    one, _ = train(faces, workers=1, batch_size=64, **how)
    two, _ = train(faces, workers=2, batch_size=32, **how)
    print("largest difference of a parameter:", np.abs(one.flat - two.flat).max())

# %%
# The six rules
# -------------
#
# =========== ================================================================ =======================================
# rule        how the workers meet                                             what it costs
# =========== ================================================================ =======================================
# ``sync``    average all gradients, then one step, in every step              everyone waits for the slowest
# ``async``   push a gradient and pull the parameters whenever ready           gradients are stale
# ``ssp``     as ``async``, but nobody runs further ahead than a bound         a little waiting, a little staleness
# ``hogwild`` change the shared parameters in place, without a lock            a rare addition is lost
# ``local``   train apart, average now and then (the paper's Algorithm 4)      the replicas drift apart in between
# ``easgd``   train apart, drawn to a common centre by a spring                one more setting
# =========== ================================================================ =======================================
#
# One run of each would say little: with another seed, that is with other first parameters and another order of the
# images, the same rule ends elsewhere, and which rule looks best is partly luck. So each rule runs with three seeds, on
# the same images. Without an optimizer, ``fit`` takes the learning rate that it chooses for the rule and the number of
# workers; with one rate for all, the comparison would be of how well that rate suits each rule.

EPOCHS, SEEDS = 6, 3

if __name__ == "__main__":
    accuracy, last = {}, {}
    for rule in ("sync", "async", "ssp", "hogwild", "local", "easgd"):
        how = {"workers": 2, "batch_size": 32, "epochs": EPOCHS, "update": rule}
        runs = [train(faces, seed, **how)[1] for seed in range(SEEDS)]
        accuracy[rule] = np.array(
            [[100 * line["val_accuracy"] for line in run] for run in runs]
        )
        ends, last[rule] = accuracy[rule][:, -1], [run[-1] for run in runs]
        print(
            f"{rule:8} after {EPOCHS} epochs {ends.mean():.1f} %, "
            f"from {ends.min():.1f} to {ends.max():.1f} %"
        )

# %%
# Points are means over the seeds, bars reach from the worst seed to the best. Where the bars of two rules overlap,
# three seeds do not tell them apart.

if __name__ == "__main__":
    fig, axis = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for place, (rule, percent) in enumerate(accuracy.items()):
        mean = percent.mean(axis=0)
        bars = [mean - percent.min(axis=0), percent.max(axis=0) - mean]
        epochs = np.arange(1, EPOCHS + 1) + 0.06 * (place - 2.5)
        axis.errorbar(epochs, mean, yerr=bars, fmt="o-", ms=3, capsize=2, label=rule)
    axis.set(xlabel="epoch", ylabel="validation accuracy (%)")
    axis.legend(ncols=2)
    plt.show()

# %%
# What the rules differ in by construction shows in every run: the time that workers wait for each other, and how stale
# their gradients are, that is how many updates of others came between reading the parameters and changing them. Means
# over the seeds, in the last epoch:

if __name__ == "__main__":
    for rule, lines in last.items():
        compute, communication, staleness = (
            np.mean([line[name] for line in lines])
            for name in ("compute_s", "communication_s", "staleness_mean")
        )
        print(
            f"{rule:8} compute {compute:.2f} s  communication {communication:.3f} s  "
            f"staleness {staleness:.2f}"
        )

# %%
# Mind how differently the rules step: in an epoch ``sync`` takes half as many steps as ``async`` or ``hogwild``, and
# ``local`` averages after each step unless told to meet less often (``update_options={"sync_every": 10}``; 0 is once an
# epoch, as in the paper). Longer
# training, more workers or another network can turn the order around: sweep over what you will use. From the command
# line that is one command, which goes on where it was stopped, and ends with a table and a picture like the above::
#
#     python -m pyconv.sweep --updates sync,ssp,hogwild --seeds 5 --workers 4 --epochs 20
#
# How many workers?
# -----------------
#
# Workers times threads should not exceed the CPUs; without ``threads_per_worker`` pyconv shares the CPUs out. On one
# machine the choice is between threads inside each layer (``workers=1``) and workers with a batch each: workers need no
# meeting inside a layer, threads need no larger effective batch. ``--workers auto`` lets the cost model choose.
#
# From the command line::
#
#     python -m pyconv.train --workers 2 --update ssp --staleness 4 --trace timeline.json
#
# ``timeline.json`` opens in Perfetto (ui.perfetto.dev) or chrome://tracing: one row a worker, with data, forward,
# backward, push, pull and wait.
