"""The least that messages beside a step cost: a node trains by itself, while plain sockets pass as many bytes.

    python -m harness.plain_sockets DATA RESULT PEER

Two nodes run it at once; PEER is the other's address. Each step waits until as many bytes as the network's parameters
have have left, and as many have come: what two ranks send each other. Two threads pass them with calls that block, so
that the kernel alone moves them. Nobody adds, and nobody meets.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
import time
from pathlib import Path

import numpy as np

import pyconv
from pyconv import nn

from .node_program import BATCH, EPOCHS, NAME

PORT, PATIENCE_S = 29400, 60.0


class Wire:
    """A connection in each direction, on which vectors pass while others compute.

    Parameters
    ----------
    peer : str
        The other node's address.
    nbytes : int
        Of a vector.
    """

    def __init__(self, peer: str, nbytes: int) -> None:
        with socket.create_server(("", PORT)) as server:
            server.settimeout(PATIENCE_S)
            self._out = _connected(peer)
            self._in, _ = server.accept()
        self._vector, self._came = bytes(nbytes), memoryview(bytearray(nbytes))
        self._begun, self._over = threading.Semaphore(0), threading.Semaphore(0)
        for work in (self._send, self._receive):
            threading.Thread(target=work, daemon=True).start()

    def begin(self) -> None:
        """A vector leaves from now on."""
        self._begun.release()

    def finish(self) -> None:
        """Wait until it has left, and the other's has come."""
        for _ in range(2):
            if not self._over.acquire(timeout=PATIENCE_S):
                raise TimeoutError("the other node sends nothing")

    def _send(self) -> None:
        while True:
            self._begun.acquire()
            self._out.sendall(self._vector)
            self._over.release()

    def _receive(self) -> None:
        while True:
            got = 0
            while got < len(self._came):
                count = self._in.recv_into(self._came[got:])
                if not count:
                    return
                got += count
            self._over.release()


def _connected(peer: str) -> socket.socket:
    end = time.monotonic() + PATIENCE_S
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection((peer, PORT), PATIENCE_S)
        if time.monotonic() > end:
            raise TimeoutError(f"nobody listens at {peer}")
        time.sleep(0.05)


def main(data: str, result: str, peer: str) -> None:
    """Train, and write the seconds of each step."""
    with np.load(data) as arrays:
        x, labels = arrays["x"], arrays["labels"]
    model, ends = nn.build(NAME, seed=0), [time.perf_counter()]
    wire = Wire(peer, model.flat.nbytes)

    def passed(_: object) -> None:
        wire.finish()
        ends.append(time.perf_counter())
        wire.begin()

    wire.begin()
    pyconv.fit(
        model, x, labels, epochs=EPOCHS, batch_size=BATCH, threads_per_worker=1, backend="serial",
        optimizer={"name": "sgd", "lr": 1e-3}, progress="off", checkpoint_every=1e9, on_step=passed,
    )  # fmt: skip
    wire.finish()
    Path(result).write_text(json.dumps({"seconds": np.reshape(np.diff(ends), (EPOCHS, -1)).tolist()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
