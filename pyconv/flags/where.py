"""The flags that say where a network is trained: the backend, the workers, and how these meet."""

from __future__ import annotations

from typing import Any

from ..cluster import CHOICES as CLUSTERS
from ..cluster import SHARD, SPLITS, WIRES
from ..command import Parser, real, whole
from ..parallel import OPTIONS
from ..parallel.choose import ON_FAILURE, UPDATES
from ..parallel.stages import SCHEDULES
from . import types
from .group import group


def add_where(made: Parser) -> None:
    """Add the flags of the backend and the workers."""
    add = group(made, "where it runs")
    add("--backend", "serial, multicore, cuda, reference or auto", metavar="NAME")
    add("--gpus", "with cuda: numbers of the GPUs to use (default: all that are visible)", metavar="0,1,...")
    add("--workers", "training processes, or auto", type=types.workers, metavar="N|auto")
    add(
        "--threads-per-worker",
        "OpenMP threads of each (default: the usable CPUs, shared out)",
        type=whole(1),
        metavar="N",
    )
    add("--update", f"how workers meet: {', '.join(UPDATES)}", metavar="RULE")
    for name, option in OPTIONS.items():
        kinds: dict[type, dict[str, Any]] = {
            bool: {"action": "store_true", "default": None},
            int: {"type": whole(0), "metavar": "N"},
            float: {"type": real(), "metavar": "F"},
        }
        add(f"--{name.replace('_', '-')}", option.help, **kinds[option.type])
    add("--on-worker-failure", f"{', '.join(ON_FAILURE)}", metavar="WHAT")
    add(
        "--cluster",
        "auto: one network on all ranks, each with --workers workers, where mpiexec or srun has started several; mpi: "
        "insist on it; off: each process by itself",
        choices=CLUSTERS,
        metavar="|".join(CLUSTERS),
    )
    add(
        "--shard",
        "each of several ranks holds a part of the training images. read: each reads all and keeps its part; scatter: "
        "rank 0 reads and sends; off: each keeps all, as with --split",
        choices=SHARD,
        metavar="|".join(SHARD),
    )
    add(
        "--split",
        "on several ranks: all compute each step together. filters: each has some filters of every convolution and "
        "some units of every dense layer; rows: each has some rows of the images",
        choices=SPLITS,
        metavar="|".join(SPLITS),
    )
    add(
        "--no-overlap",
        "on several ranks: send gradients and parameters between the steps, not during them",
        action="store_true",
        default=None,
    )
    add(
        "--pipeline-stages",
        "on several ranks: cut the network's layers into so many stages, one rank each (default: 1)",
        type=whole(1),
        metavar="S",
    )
    add(
        "--micro-batches",
        "parts of a mini-batch that are computed one after the other, and whose gradients are added; a pipeline has "
        "several under way; it must divide the batch size, under sync only (default: 1)",
        type=whole(1),
        metavar="M",
    )
    add(
        "--cut",
        "the first layer of each stage but the first, counted from 0, as 4,9 (default: what the cost model finds)",
        type=types.cut,
        metavar="LAYER,LAYER,...",
    )
    add(
        "--pipeline-schedule",
        "1f1b: one micro-batch forward, one back; gpipe: all forward, then all back (default: 1f1b)",
        choices=SCHEDULES,
        metavar="|".join(SCHEDULES),
    )
    add(
        "--wire",
        "on several ranks: float16 halves what is sent while steps are computed; its rounding errors are sent later",
        choices=WIRES,
        metavar="|".join(WIRES),
    )
    add("--trace", "write a timeline of the workers for Perfetto or chrome://tracing", metavar="FILE")
