"""PyTorch's two ways to train with several processes, one thread each: DistributedDataParallel and Hogwild.

The processes stay there between calls, as pyconv's do, so that only steps are timed.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pyconv import nn

from . import torch_peer
from .torch_network import Twin


class TorchWorkers:
    """Processes that train the PyTorch twin of a pyconv network.

    Parameters
    ----------
    how : "ddp" or "hogwild"
        Gradients averaged through gloo in every step, or parameters in shared memory that all change in place, with an
        optimiser in each process, as in PyTorch's example.
    name : str
        Of the pyconv network.
    layout : "contiguous" or "channels_last"
    workers, batch : int
        Processes, and images of a step of each.
    """

    def __init__(self, how: str, name: str, layout: str, workers: int, batch: int) -> None:
        torch = torch_peer.import_torch()
        context = torch.multiprocessing.get_context("spawn")
        self._folder = tempfile.TemporaryDirectory(prefix="bench-gloo-")
        network = _twin(torch, name, layout).network
        if how == "hogwild":
            network.share_memory()
        self._pipes, self._processes = [], []
        for rank in range(workers):
            here, there = context.Pipe()
            meeting = str(Path(self._folder.name) / "meeting")
            arguments = (how, name, layout, workers, rank, batch, meeting, network if how == "hogwild" else None, there)
            process = context.Process(target=_work, args=arguments, daemon=True)
            process.start()
            there.close()
            self._pipes.append(here)
            self._processes.append(process)
        for pipe in self._pipes:
            pipe.recv()

    def steps(self, count: int) -> float:
        """Let every process do so many steps; gives the mean of the last losses."""
        for pipe in self._pipes:
            pipe.send(count)
        return float(np.mean([pipe.recv() for pipe in self._pipes]))

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.send(0)
        for process in self._processes:
            process.join()
        self._folder.cleanup()


def _twin(torch: Any, name: str, layout: str) -> Twin:
    model = nn.build(name)
    model.backend = "serial"
    return Twin(torch, model, layout)


def _work(how: str, name: str, layout: str, workers: int, rank: int, batch: int, meeting: str, shared: Any, pipe: Any):
    torch = torch_peer.import_torch()
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    twin = _twin(torch, name, layout)
    model = nn.build(name)
    rng = np.random.default_rng(rank)
    images = twin.images(rng.standard_normal((batch, *model.input_shape), dtype=np.float32))
    labels = torch.from_numpy(rng.integers(0, model.output_shape[0], batch))
    if how == "ddp":
        torch.distributed.init_process_group("gloo", f"file://{meeting}", world_size=workers, rank=rank)
        twin.network = torch.nn.parallel.DistributedDataParallel(twin.network)
    else:
        twin.network = shared
    pipe.send(0.0)
    while count := pipe.recv():
        for _ in range(count):
            loss = twin.train_step(images, labels, lr=1e-3)
        pipe.send(loss)
    if how == "ddp":
        torch.distributed.destroy_process_group()
