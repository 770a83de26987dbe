"""PyTorch's two ways to train with several processes, one thread each: DistributedDataParallel and Hogwild.

The processes live on between calls, as pyconv's do, so that only steps are timed.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pyconv import nn

from . import torch_peer
from .epochs import LEARNING_RATE
from .images import normalised
from .torch_network import Twin


class TorchWorkers:
    """Processes that train the PyTorch twin of a pyconv network; a call trains an epoch and returns its mean loss.

    Parameters
    ----------
    how : "ddp" or "hogwild"
        "ddp" averages gradients through gloo in every step. With "hogwild" the parameters are in shared memory, and all
        processes change them in place, each with its own optimizer, as in PyTorch's example.
    name : str
        Of the pyconv network.
    layout : "contiguous" or "channels_last"
    workers, batch : int
        Processes, and images of a step of each.
    x, labels : numpy.ndarray
        Images of an epoch, uint8; each process makes normalised tensors of its share before the timing.
    parameters : numpy.ndarray
        The first parameters, in the order of the pyconv network's ``flat``.
    """

    def __init__(
        self, how: str, name: str, layout: str, workers: int, batch: int, x: np.ndarray, labels: np.ndarray,
        parameters: np.ndarray,
    ) -> None:  # fmt: skip
        assert len(x) % (workers * batch) == 0, "whole steps of every worker"
        x = normalised(x)
        torch = torch_peer.import_torch()
        context = torch.multiprocessing.get_context("spawn")
        self._folder = tempfile.TemporaryDirectory(prefix="bench-gloo-")
        network = _twin(torch, name, layout, parameters).network
        if how == "hogwild":
            network.share_memory()
        self._pipes, self._processes = [], []
        for rank in range(workers):
            here, there = context.Pipe()
            meeting = str(Path(self._folder.name) / "meeting")
            share = x[rank::workers], labels[rank::workers], parameters
            shared = network if how == "hogwild" else None
            arguments = (how, name, layout, workers, rank, batch, meeting, shared, share, there)
            process = context.Process(target=_work, args=arguments, daemon=True)
            process.start()
            there.close()
            self._pipes.append(here)
            self._processes.append(process)
        for pipe in self._pipes:
            pipe.recv()

    def __call__(self) -> float:
        for pipe in self._pipes:
            pipe.send(True)
        return float(np.mean([pipe.recv() for pipe in self._pipes]))

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.send(False)
        for process in self._processes:
            process.join()
        self._folder.cleanup()


def _twin(torch: Any, name: str, layout: str, parameters: np.ndarray) -> Twin:
    model = nn.build(name)
    model.backend = "serial"
    model.flat[...] = parameters
    return Twin(torch, model, layout)


def _work(
    how: str, name: str, layout: str, workers: int, rank: int, batch: int, meeting: str, shared: Any, share: tuple,
    pipe: Any,
) -> None:  # fmt: skip
    torch = torch_peer.import_torch()
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    x, labels, parameters = share
    twin = _twin(torch, name, layout, parameters)
    steps = [slice(begin, begin + batch) for begin in range(0, len(x), batch)]
    batches = [(twin.images(x[step]), torch.from_numpy(labels[step])) for step in steps]
    if how == "ddp":
        torch.distributed.init_process_group("gloo", f"file://{meeting}", world_size=workers, rank=rank)
        twin.network = torch.nn.parallel.DistributedDataParallel(twin.network)
    else:
        twin.network = shared
    pipe.send(0.0)
    while pipe.recv():
        pipe.send(float(np.mean([twin.train_step(*each, lr=LEARNING_RATE) for each in batches])))
    if how == "ddp":
        torch.distributed.destroy_process_group()
