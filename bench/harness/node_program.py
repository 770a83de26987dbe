"""What runs on a node: trains the network `fer`, with pyconv or PyTorch, and writes the seconds of its steps.

    python -m harness.node_program HOW DATA RESULT [SETTING=VALUE ...]

HOW is ``alone``, ``ranks`` (all ranks that a launcher has started), ``ddp`` (PyTorch's DistributedDataParallel over
gloo, with its variables RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT), or ``accuracy``, which ranks reach in a few
epochs. Settings are arguments of :func:`pyconv.fit`, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

NAME, BATCH, EPOCHS = "fer", 64, 3
PIPELINES = ("bubble_mean", "bubble_ideal_mean", "stage_bytes_max", "micro_batches_alive_max")
LEFT_OUT = 2  # the first steps of an epoch are not counted, nor is the first epoch


def pyconv_steps(how: str, x: np.ndarray, labels: np.ndarray, settings: dict[str, Any]) -> dict[str, Any] | None:
    """Seconds of each epoch's steps, and its losses; None on other ranks than 0."""
    import pyconv
    from pyconv import cluster, nn

    choice = "off" if how == "alone" else "mpi"
    ranks = cluster.session(choice)
    seconds: list[float] = []
    history = pyconv.fit(
        nn.build(NAME, seed=0), x, labels, epochs=EPOCHS, batch_size=BATCH, threads_per_worker=1, backend="serial",
        optimizer={"name": "sgd", "lr": 1e-3}, progress="off", checkpoint_every=1e9, cluster=choice,
        on_step=lambda step: seconds.append(step["seconds"]), **settings,
    )  # fmt: skip
    if ranks is not None and not ranks.leads:
        return None
    steps = len(seconds) // EPOCHS
    return {
        "seconds": np.reshape(seconds, (EPOCHS, steps)).tolist(),
        "losses": [line["train_loss"] for line in history],
        "mpi": None if ranks is None else ranks.library,
        "wait_s": [line.get("wait_s", 0.0) / steps for line in history],
        **{name: [line[name] for line in history] for name in PIPELINES if name in history[0]},
    }


def ddp_steps(x: np.ndarray, labels: np.ndarray, fp16: bool) -> dict[str, Any] | None:
    """The same with PyTorch; with `fp16`, its hook that sends gradients as float16."""
    import torch

    from pyconv import nn

    from .images import normalised
    from .torch_network import Twin

    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "eth0"
    torch.distributed.init_process_group("gloo")
    rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    twin = Twin(torch, nn.build(NAME, seed=0), "channels_last")
    network = torch.nn.parallel.DistributedDataParallel(twin.network)
    if fp16:
        from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook

        network.register_comm_hook(None, fp16_compress_hook)
    twin.network = network
    x, labels = normalised(x)[rank::size], labels[rank::size]
    parts = [slice(begin, begin + BATCH) for begin in range(0, len(x), BATCH)]
    batches = [(twin.images(x[part]), torch.from_numpy(labels[part])) for part in parts]
    seconds, losses = [], []
    for _ in range(EPOCHS):
        found = []
        for each in batches:
            began = time.perf_counter()
            found.append(twin.train_step(*each, lr=1e-3))
            seconds.append(time.perf_counter() - began)
        losses.append(float(np.mean(found)))
    torch.distributed.destroy_process_group()
    if rank:
        return None
    return {"seconds": np.reshape(seconds, (EPOCHS, len(batches))).tolist(), "losses": losses}


def accuracy(data: str, settings: dict[str, Any]) -> dict[str, Any] | None:
    """Accuracy after each epoch on held-out images, with the paper's network and pyconv's defaults."""
    import pyconv
    from pyconv import cluster, datasets, nn

    loaded = datasets.load(data, limit=settings.pop("images"))
    ranks = cluster.session("mpi")
    history = pyconv.fit(
        nn.build("5-50-100-10", seed=settings["seed"]), loaded.train.x, loaded.train.y,
        validation=(loaded.validation.x, loaded.validation.y), epochs=EPOCHS, threads_per_worker=1, progress="off",
        cluster="mpi", **settings,
    )  # fmt: skip
    assert ranks is not None
    return {"accuracy": [line["val_accuracy"] for line in history]} if ranks.leads else None


def main(how: str, data: str, result: str, *settings: str) -> None:
    """Train, and write the result."""
    given = {name: json.loads(value) for name, _, value in (each.partition("=") for each in settings)}
    if how == "accuracy":
        found = accuracy(data, given)
    else:
        with np.load(data) as arrays:
            x, labels = arrays["x"], arrays["labels"]
        found = ddp_steps(x, labels, **given) if how == "ddp" else pyconv_steps(how, x, labels, given)
    if found is not None:
        Path(result).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
