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
# mini-batches of 64, and end with the same parameters to rounding.

import matplotlib.pyplot as plt
import numpy as np

import pyconv
from pyconv import datasets, nn, optim
from pyconv.threads import usable_cpus


def network():
    """A small network, the same in every run."""
    layers = [
        nn.Conv2D(8, 5, padding="same", activation="relu"),
        nn.MaxPool2D(2),
        nn.Conv2D(16, 3, padding="same", activation="relu"),
        nn.MaxPool2D(2),
        nn.Flatten(),
        nn.Dense(32, activation="relu"),
        nn.Dense(7),
    ]
    return nn.Sequential(layers, input_shape=(48, 48, 1), seed=0)


def train(data, **how):
    """Train a fresh network and give it back with the history of its run."""
    model = network()
    validation = (data.validation.x, data.validation.y)
    history = pyconv.fit(
        model,
        data.train.x,
        data.train.y,
        validation=validation,
        seed=0,
        progress="off",
        **how,
    )
    return model, history


if __name__ == "__main__":
    faces = datasets.load("faces", limit=1500, seed=0)
    print(f"{len(faces.train.y)} images; this machine lets us use {usable_cpus()} CPUs")
    one, _ = train(faces, workers=1, batch_size=64, epochs=1, optimizer=optim.SGD(0.01))
    two, _ = train(faces, workers=2, batch_size=32, epochs=1, optimizer=optim.SGD(0.01))
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
# Each line of the history tells computation from communication, and how stale the gradients were.

if __name__ == "__main__":
    histories = {}
    for rule in ("sync", "async", "ssp", "hogwild", "local", "easgd"):
        sgd = optim.SGD(0.02, momentum=0.9)
        _, histories[rule] = train(
            faces, workers=2, batch_size=32, epochs=8, update=rule, optimizer=sgd
        )
        last = histories[rule][-1]
        print(
            f"{rule:8} accuracy {last['val_accuracy']:.1%}  "
            f"compute {last['compute_s']:.2f} s  "
            f"communication {last['communication_s']:.3f} s  "
            f"staleness {last['staleness_mean']:.2f}"
        )

    fig, axis = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for rule, history in histories.items():
        accuracy = [100 * line["val_accuracy"] for line in history]
        axis.plot([line["epoch"] for line in history], accuracy, "o-", label=rule)
    axis.set(xlabel="epoch", ylabel="validation accuracy (%)", xticks=range(1, 9))
    axis.legend(ncols=2)
    plt.show()

# %%
# A run this short says more about time than about accuracy. Mind how differently the rules step: in an epoch ``sync``
# takes half as many steps as ``async`` or ``hogwild``, and ``local`` averages once an epoch unless told to meet more
# often (``update_options={"sync_every": 10}``), so that it profits last.
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
