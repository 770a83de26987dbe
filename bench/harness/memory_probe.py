"""Peak memory of a few training steps in this process; run as a program, by :func:`measure`.

    python memory_probe.py pyconv|torch BATCH
    python memory_probe.py pyconv|torch BATCH MODEL

The first trains the model `fer` and prints three numbers as JSON: the peak resident bytes of the bare interpreter, with
everything imported and ready, and after the steps. The second trains another model, and takes one step on two images
before it is ready, so that the code of the libraries is loaded and only the steps' own memory is above `ready`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def peak_bytes() -> int:
    """Peak resident memory of this process (``VmHWM``: unlike ``ru_maxrss``, not that of the parent before exec)."""
    return _status("VmHWM")


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {name}")


def measure(library: str, batch: int, *model: str) -> dict[str, int]:
    """Run this file in a process of its own."""
    command = [sys.executable, __file__, library, str(batch), *model]
    root = str(Path(__file__).parents[2])
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root)
    return json.loads(done.stdout)


def main(library: str, batch: int, model: str | None = None) -> None:
    """Three training steps on one thread; each library trains `fer` without the other being imported."""
    interpreter = peak_bytes()
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
    if model is None:
        step = pyconv_step(batch) if library == "pyconv" else torch_step(batch)
        ready = peak_bytes()
    else:
        step_of = steps(library, model)
        step_of(2)()
        step = step_of(batch)
        ready = _status("VmRSS")
    for _ in range(3):
        step()
    print(json.dumps({"interpreter": interpreter, "ready": ready, "peak": peak_bytes()}))


def steps(library: str, name: str) -> Callable[[int], Callable[[], object]]:
    """A function of the batch size that makes a training step of the model `name`."""
    import numpy as np

    from harness import torch_network, training
    from pyconv import nn

    model = nn.build(name)
    model.backend = "serial"
    rng = np.random.default_rng(0)
    if library == "pyconv":
        step = training.trainer(model)
        return lambda batch: training.in_turn(step, [training.batch_for(model, batch, rng)])
    import torch

    torch.set_num_threads(1)
    twin = torch_network.Twin(torch, model, "channels_last", inplace=True)

    def step_of(batch: int) -> Callable[[], object]:
        x, labels = training.batch_for(model, batch, rng)
        return training.in_turn(twin.train_step, [(twin.images(x), torch.from_numpy(labels))])

    return step_of


def pyconv_step(batch: int) -> Callable[[], object]:
    """A training step of `fer`."""
    import numpy as np

    from harness import training
    from pyconv import nn

    model = nn.build("fer")
    model.backend = "serial"
    return training.train_step(model, *training.batch_for(model, batch, np.random.default_rng(0)))


def torch_step(batch: int) -> Callable[[], object]:
    """The same in PyTorch, in the layout that is usually the faster."""
    import torch

    torch.set_num_threads(1)
    blocks: list[torch.nn.Module] = []
    channels = 1
    for filters, kernel, pooled in ((32, 5, 1), (64, 3, 1), (128, 3, 0), (128, 3, 1), (256, 3, 1)):
        blocks += [torch.nn.Conv2d(channels, filters, kernel, padding=kernel // 2), torch.nn.ReLU()]
        blocks += [torch.nn.MaxPool2d(2)] * pooled
        channels = filters
    head = [torch.nn.Flatten(), torch.nn.Linear(9 * 256, 256), torch.nn.ReLU(), torch.nn.Linear(256, 7)]
    network = torch.nn.Sequential(*blocks, *head).to(memory_format=torch.channels_last)
    images = torch.randn(batch, 1, 48, 48).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 7, (batch,))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
