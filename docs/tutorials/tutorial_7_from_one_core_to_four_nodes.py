"""
From one core to four nodes
===========================

One network, trained by one command, on more and more: one core, two threads, two processes, two *ranks* of MPI, and
then what to type for four nodes of a cluster. Twice the network itself is divided: its layers into the stages of a
pipeline, and its images by rows. What each of them computes is compared to the last bit.

All of this runs on one machine, so that ranks gain nothing here that processes would not: they are there to show that
the command works, before it is given to a cluster. The parts with ranks need an MPI beside this Python
(``pip install '.[mpi]'`` in pyconv's source folder); without it they say so and are left out.
"""

# %%
# One core
# --------
#
# The command is ``python -m pyconv.train``. Here it trains for ten steps of 64 faces: enough to see that runs agree,
# too few to recognise a face. ``train`` runs a command line in a folder of its own, shows what pyconv said of where it
# runs, and keeps the seconds and a checksum of the parameters.

import dataclasses
import hashlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from pyconv import costmodel, nn

# Where these pages are built, another Python has the MPI.
PYTHON = Path(os.environ.get("PYCONV_DOCS_MPI", sys.executable))
MPIEXEC = PYTHON.parent / "mpiexec"
HAS_MPI = MPIEXEC.exists() and (
    "PYCONV_DOCS_MPI" in os.environ or find_spec("mpi4py") is not None
)
PROGRAMS = {"python": str(PYTHON), "mpiexec": str(MPIEXEC)}

runs, networks = {}, {}


def train(name, command):
    """Run a command in an empty folder, and keep what it leaves under a name."""
    print(f"$ {command}")
    words = command.split()
    if words[0] == "mpiexec" and not HAS_MPI:
        print("left out: no MPI beside this Python; pip install '.[mpi]' brings one")
        return
    how = ["--limit", "640", "--epochs", "1", "--progress", "plain", "--out", "run"]
    with tempfile.TemporaryDirectory() as folder:
        called = [PROGRAMS.get(word, word) for word in words] + how
        done = subprocess.run(called, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{shlex.join(called)}\n{done.stderr}")
        run = Path(folder) / "run"
        runs[name] = json.loads((run / "metrics.jsonl").read_text())
        networks[name] = nn.load(run / "model.safetensors")
    said = (done.stdout + done.stderr).splitlines()
    print(*(line for line in said if line.startswith("runs on")), sep="\n")
    line = runs[name]
    print(f"loss {line['train_loss']:.6f}, {line['images_per_s']:.0f} images a second")


if __name__ == "__main__":
    train("one core", "python -m pyconv.train --threads-per-worker 1")

# %%
# Two threads
# -----------
#
# Without ``--threads-per-worker`` pyconv takes all CPUs that it may use. Threads share out each layer's work, and there
# is one mini-batch as before. Every number is computed by one thread, in the same order: the same bits.

if __name__ == "__main__":
    train("two threads", "python -m pyconv.train --threads-per-worker 2")

# %%
# Two workers
# -----------
#
# A worker is a process with mini-batches of its own. ``sync``, the default rule, averages the workers' gradients in
# memory that they share (:doc:`/auto_tutorials/tutorial_2_parallel` has the other rules). The step's 64 images are
# shared out, 32 for each. The average of two means is the mean of all, but its sum is in another order, so the numbers
# differ from those above in the last digits.

if __name__ == "__main__":
    train("two workers", "python -m pyconv.train --workers 2 --threads-per-worker 1")

# %%
# Two ranks
# ---------
#
# MPI's launcher starts the same command several times, on one machine or on many, and each of these processes is a
# *rank*. pyconv notices, and trains one network on all of them. Each has one worker unless told otherwise; gradients
# now travel as messages, while the layers before them are still being computed. They are added in the order of the
# workers, as in shared memory: the same bits as two workers without MPI.

if __name__ == "__main__":
    train("two ranks", "mpiexec -n 2 python -m pyconv.train --threads-per-worker 1")

# %%
# Four nodes
# ----------
#
# On a cluster with Slurm, ``srun`` takes the place of ``mpiexec``. This is a whole batch script for four nodes, with
# one rank a node that uses all of its cores; ``sbatch train.sh`` submits it::
#
#     #!/bin/bash
#     #SBATCH --nodes=4
#     #SBATCH --ntasks-per-node=1
#     #SBATCH --cpus-per-task=16
#     #SBATCH --time=04:00:00
#     #SBATCH --signal=TERM@120
#     #SBATCH --requeue
#     #SBATCH --output=%x-%j.out
#     #SBATCH --open-mode=append
#
#     set -euo pipefail
#     source "$HOME/venv/bin/activate"
#     srun --mpi=pmi2 --kill-on-bad-exit=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" \
#         python -m pyconv.train --data "$HOME/data/fer2013.csv" --epochs 30 \
#         --out "$HOME/runs/faces" --resume auto
#
# Two minutes before its time is up the job gets a signal, finishes the step and writes a checkpoint. Submitted again,
# it goes on from there, because of ``--resume auto``. :doc:`/how-to/cluster` explains each line, and what to do without
# Slurm.
#
# Four ranks of one worker are a run of four workers. So the numbers of four nodes can be known before they are asked
# for, on this machine: ``--workers 4`` ends with the parameters, to the bit, that the script would end with, as long as
# processors and libraries are alike.
#
# A pipeline of two stages
# ------------------------
#
# So far every rank has had the whole network. ``--pipeline-stages`` cuts its layers into stages, one for each rank. A
# mini-batch is cut into *micro-batches*, which follow each other through the stages, so that all ranks have something
# to do most of the time (:doc:`/explanation/pipelines`); the rest is the *bubble*. Micro-batches alone, in one process,
# compute the same, to the bit.

if __name__ == "__main__":
    train("micro-batches", "python -m pyconv.train --micro-batches 8")
    train(
        "pipeline",
        "mpiexec -n 2 python -m pyconv.train --pipeline-stages 2 --micro-batches 8",
    )
    if "pipeline" in runs:
        line = runs["pipeline"]
        print(
            f"{100 * line['bubble_mean']:.0f} % of the steps is bubble, "
            f"with equal stages {100 * line['bubble_ideal_mean']:.0f} %"
        )

# %%
# Images split by rows
# --------------------
#
# With ``--split rows`` each rank has half the rows of every image, and before a convolution it gets the few rows of its
# neighbour that lie in the windows at the border: the *halo*. All ranks compute each step together, so it is the step
# of one worker, with 64 images. Some sums are in another order, so that the numbers are those of one core up to
# rounding. :doc:`/explanation/communication` has pictures of all that travels.

if __name__ == "__main__":
    train("rows", "mpiexec -n 2 python -m pyconv.train --split rows")

# %%
# The same numbers, whatever the way
# ----------------------------------
#
# Runs with the same checksum have the same parameters, bit for bit. The last column is the largest difference of a
# parameter from the run on one core.

if __name__ == "__main__":
    one = networks["one core"].flat
    print(f"{'':14} {'checksum':10} {'loss':>9} {'difference':>11}")
    for name, network in networks.items():
        checksum = hashlib.sha256(network.flat.tobytes()).hexdigest()[:8]
        difference = np.abs(network.flat - one).max()
        loss = runs[name]["train_loss"]
        print(f"{name:14} {checksum:10} {loss:9.6f} {difference:11.1e}")

# %%
# Ten steps are short, and other programs may use this machine while the page is built; so the seconds below show what
# waiting is rather than which way is best. Only whole steps count, not starting and reading.

if __name__ == "__main__":
    seconds = np.array([line["seconds"] for line in runs.values()])
    waiting = np.array([line.get("wait_s", 0.0) for line in runs.values()])
    fig, axis = plt.subplots(figsize=(7, 3), layout="constrained")
    axis.barh(list(runs), seconds - waiting, label="computing and sending")
    axis.barh(list(runs), waiting, left=seconds - waiting, label="waiting for others")
    axis.set_xlabel("seconds for ten steps of 64 images")
    axis.invert_yaxis()
    axis.legend(frameon=False)
    plt.show()

# %%
# How to choose
# -------------
#
# What pays depends on the network, on the number of ranks and on the links between them. The cost model predicts all of
# it. ``calibrate`` measures this machine; the links are put in here, as nobody has four nodes at hand when this page is
# built. (On a cluster, ``advise(..., cluster=True)``, which all ranks call, measures them.) Steps have 64 images in
# all. ``fer`` has mostly convolutions, ``5-50-2000-7`` a dense layer of 2000 units, whose weights are nearly all of its
# parameters.

LINKS = {  # seconds to start a message, bytes a second
    "1 Gbit/s": (50e-6, 117e6),
    "100 Gbit/s": (2e-6, 11e9),
}
NETWORKS = ("fer", "5-50-2000-7")


def advice_for(machine, network, start, rate):
    """What to do with a network on four such machines, as far as estimates can tell."""
    start_up = costmodel.Fit(start, start, start, "s", 1)
    per_byte = costmodel.Fit(1 / rate, 1 / rate, 1 / rate, "s/byte", 1)
    links = dataclasses.replace(machine, x_s=start_up, x_b=per_byte)
    return costmodel.advise(
        nn.build(network),
        64,
        ranks=4,
        shared=True,
        calibration=links,
        measure=False,
    )


if __name__ == "__main__":
    machine = costmodel.calibrate("multicore", seconds=0.01)
    fig, axes = plt.subplots(2, 1, figsize=(7.5, 6), sharex=True, layout="constrained")
    for axis, network in zip(axes, NETWORKS):
        for place, (link, constants) in enumerate(LINKS.items()):
            advice = advice_for(machine, network, *constants)
            print(f"{network}, {link}: {advice}")
            speedups = {}
            for predicted in advice.considered:
                if predicted.ranks > 1:
                    stages = f", {predicted.stages} stages" * (predicted.stages > 1)
                    speedups[predicted.split + stages] = predicted.speedup
            names = sorted(speedups)
            bars = np.arange(len(names)) + 0.4 * place - 0.2
            axis.barh(bars, [speedups[name] for name in names], 0.38, label=link)
        axis.set_yticks(range(len(names)), names)
        axis.axvline(1, color="black", linewidth=0.8)
        axis.set_title(network, fontsize=10)
        axis.invert_yaxis()
    axes[1].set_xlabel("predicted: times as fast as one rank alone")
    axes[0].legend(frameon=False)
    plt.show()

# %%
# In the picture ``data`` is what ``mpiexec`` does without further flags: each rank has images of its own, and all
# gradients and parameters travel in each step. On a slow link that is too much where a network has many parameters;
# ``filters`` then sends less, because gradients of weights do not travel. On a fast link dividing the images is hard to
# beat, and simple: begin with it, look at the share of ``waiting`` that a run prints, and ask the cost model when it is
# large. :doc:`/explanation/cost-model` holds such predictions to the clock.
