"""
Write an update rule
====================

You have an idea how workers should combine their gradients. In pyconv that is one class of about twenty lines; pyconv
already starts the processes, shares memory, waits, restarts workers that die, and writes metrics and checkpoints.

A rule is a *script* and its *kernels*. The script, ``step``, yields what a worker does for one mini-batch. (More
exactly it is what a *lane* does: a worker's place, which a new worker takes over if the worker dies.) A kernel is a
method that changes numbers. It is called with one chunk of the vectors at a time, so the numbers stay in the cache,
and each chunk is changed exactly once, whatever happens to the worker.

In this rule the workers vote: for each parameter, the sign on which most of them agree is the direction of the step.
"""

# %%
# The rule
# --------

import inspect

import matplotlib.pyplot as plt
from my_rules import SignMajority

import pyconv
from pyconv import datasets, nn, optim

if __name__ == "__main__":
    print(inspect.getsource(SignMajority))

# %%
# - ``lockstep = True``: all workers take the same step together. Such a rule gives the same bits in every run.
# - ``lane.everyone()`` waits until all workers are here. ``lane.gradient("centre")`` computes this worker's gradient at
#   the shared parameters, the *centre*. ``lane.sweep(self.vote, share=True)`` runs the kernel over this worker's share
#   of the parameters, so that the workers do the update together.
# - In the kernel, ``c.gradients`` are all workers' gradients for this chunk, and ``c.weights`` the workers' shares of
#   the step's images; a worker whose share is 0 has no gradient. ``c.centre`` are the parameters, ``c.state`` the
#   optimizer's state for them; ``c.optimise`` takes a step with the optimizer that the user chose. ``writes`` names
#   what is changed in place: if the worker dies in the middle, those numbers are put back and the chunk is done again.
#
# The class is in a module of its own, :download:`my_rules.py <../tutorials/my_rules.py>`: workers are new interpreters
# and import it from there. (The notebook of this page writes that file first; with cloudpickle the class could be in a
# cell.)
#
# Using it
# --------
#
# Give an instance as ``update``. Here the rule is compared with ``sync``, on the same images in the same order.
# ``workers="auto"``, ``trace=`` and :mod:`pyconv.costmodel` (``predict``, ``simulate``) take it too: all read its
# script.


def accuracy(data, update, optimizer):
    """Validation accuracy after each epoch."""
    layers = [
        nn.Conv2D(8, 5, padding="same", activation="relu"),
        nn.MaxPool2D(2),
        nn.Conv2D(16, 3, padding="same", activation="relu"),
        nn.MaxPool2D(2),
        nn.Flatten(),
        nn.Dense(7),
    ]
    model = nn.Sequential(layers, input_shape=(48, 48, 1), seed=0)
    history = pyconv.fit(
        model,
        data.train.x,
        data.train.y,
        validation=(data.validation.x, data.validation.y),
        epochs=5,
        batch_size=16,
        workers=3,
        threads_per_worker=1,
        update=update,
        optimizer=optimizer,
        progress="off",
    )
    return [100 * line["val_accuracy"] for line in history]


if __name__ == "__main__":
    faces = datasets.load("faces", limit=1500, seed=0)
    curves = {
        "sync": accuracy(faces, "sync", optim.SGD(0.02, momentum=0.9)),
        "majority of signs": accuracy(faces, SignMajority(), optim.SGD(5e-4)),
    }
    fig, axis = plt.subplots(figsize=(6, 3.4), layout="constrained")
    for name, curve in curves.items():
        print(name, [f"{share:.1f} %" for share in curve])
        axis.plot(range(1, 6), curve, "o-", label=name)
    axis.set(xlabel="epoch", ylabel="validation accuracy (%)", xticks=range(1, 6))
    axis.legend()
    plt.show()

# %%
# Rules that wait for nobody
# --------------------------
#
# Without ``lockstep`` each worker takes the next free mini-batch whenever it is ready, and its script may be as short
# as that of ``hogwild``: compute a gradient at the centre, add a step to it. A rule whose workers train parameters of
# their own sets ``replicas = True`` and computes ``lane.gradient("replica")``. The built-in rules, each in a file of
# its own under ``pyconv/parallel/rules/``, are the best examples.
