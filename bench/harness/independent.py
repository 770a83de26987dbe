"""Processes that train separately: the speed that workers could reach here if they had nothing to communicate."""

from __future__ import annotations

import multiprocessing
from typing import Any

import numpy as np

from .epochs import Epochs


class IndependentProcesses:
    """Processes of one worker each, that train networks of their own on their part of the data.

    They share no parameters and wait for nobody, but they do share the machine: its memory's bandwidth, its caches
    and its clock. Together they are the most that any update rule can reach with as many workers.

    Parameters
    ----------
    name : str
        Of the network.
    workers : int
        Processes.
    x, labels : ndarray
        Dealt out to the processes.
    """

    def __init__(self, name: str, workers: int, x: np.ndarray, labels: np.ndarray) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes, self._processes = [], []
        for rank in range(workers):
            here, there = context.Pipe()
            mine = (name, x[rank::workers], labels[rank::workers], there)
            process = context.Process(target=_work, args=mine, daemon=True)
            process.start()
            there.close()
            self._pipes.append(here)
            self._processes.append(process)

    def __call__(self) -> float:
        """Train an epoch; gives the mean loss."""
        for pipe in self._pipes:
            pipe.send(True)
        return float(np.mean([pipe.recv() for pipe in self._pipes]))

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.send(False)
        for process in self._processes:
            process.join()


def _work(name: str, x: np.ndarray, labels: np.ndarray, pipe: Any) -> None:
    epochs = Epochs(name, "", 1, x, labels)
    while pipe.recv():
        pipe.send(epochs())
