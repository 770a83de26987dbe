"""Plans: what each seed says of a run and its fault."""

from __future__ import annotations

import dataclasses

import numpy as np

MPIS = ("mpich", "openmpi")

#: Nodes, and ranks on each.
LAYOUTS = ((2, 1), (3, 1), (4, 1), (2, 2))

#: A network without branches, with a convolution in each of four stages.
NETWORK = """
input_shape = [12, 12, 1]
layers = [
  {type = "Conv2D", filters = 8, kernel_size = 3, padding = 1, bias = false},
  {type = "BatchNorm"},
  {type = "ReLU"},
  {type = "MaxPool2D", pool_size = 2},
  {type = "Conv2D", filters = 8, kernel_size = 3, padding = 1, activation = "relu"},
  {type = "Flatten"},
  {type = "Dropout", rate = 0.3},
  {type = "Dense", units = 32, activation = "relu"},
  {type = "Dense", units = 7},
]
"""
CUTS = {2: "4", 3: "4,7", 4: "4,5,8"}


@dataclasses.dataclass(frozen=True)
class Split:
    """How a network's work is divided.

    Attributes
    ----------
    epochs : int
        So many that a run lasts some seconds.
    bits : bool
        Whether a run that goes on ends with the bits of an undisturbed one.
    lanes : bool
        Whether these are the bits of one machine with as many workers as ranks.
    """

    epochs: int
    bits: bool = True
    lanes: bool = False

    def flags(self, name: str, ranks: int) -> list[str]:
        """The flags of the training."""
        batch = ["--batch-size", "8"]
        if name in ("rows", "filters"):
            return [*batch, "--split", name]
        if name in ("gpipe", "1f1b"):
            pipeline = ["--pipeline-schedule", name, "--cut", CUTS[ranks]]
            return ["--batch-size", "32", "--micro-batches", "4", *pipeline]
        return [*batch, "--update", name]

    def alone(self, name: str, ranks: int) -> list[str]:
        """The flags of one process that comes to the same bits."""
        if name in ("gpipe", "1f1b"):
            return ["--batch-size", "32", "--micro-batches", "4"]
        return [*self.flags(name, ranks), "--workers", str(ranks)]


SPLITS = {
    "sync": Split(12, lanes=True),
    "local": Split(12, lanes=True),
    "async": Split(12, bits=False),
    "ssp": Split(12, bits=False),
    "hogwild": Split(12, bits=False),
    "easgd": Split(12, bits=False),
    "gpipe": Split(25, lanes=True),
    "1f1b": Split(25, lanes=True),
    "rows": Split(6),
    "filters": Split(6),
}


@dataclasses.dataclass(frozen=True)
class Plan:
    """One run of the campaign.

    Attributes
    ----------
    seed : int
    split, mpi, fault : str
    nodes, each : int
        Nodes, and ranks on each.
    victim : int
        The rank that has the fault.
    seconds : float
        From the end of the first epoch to the fault.
    """

    seed: int
    split: str
    mpi: str
    fault: str
    nodes: int
    each: int
    victim: int
    seconds: float

    @property
    def ranks(self) -> int:
        """How many there are."""
        return self.nodes * self.each

    @property
    def node(self) -> int:
        """The victim's node."""
        return self.victim // self.each

    def __str__(self) -> str:
        where = f"{self.nodes} nodes of {self.each}"
        return f"seed {self.seed}: {self.split}, {self.mpi}, {where}; {self.fault} of rank {self.victim}"


def draw(seed: int, faults: tuple[str, ...]) -> Plan:
    """The plan of a seed. Seeds in a row go through the splits; with each round the fault and the MPI change."""
    rng = np.random.default_rng(seed)
    turn, split = divmod(seed, len(SPLITS))
    nodes, each = LAYOUTS[int(rng.integers(len(LAYOUTS)))]
    return Plan(
        seed,
        list(SPLITS)[split],
        MPIS[(seed + turn) % 2],
        faults[(turn + 3 * split) % len(faults)],
        nodes,
        each,
        int(rng.integers(nodes * each)),
        float(rng.uniform(0.0, 1.0)),
    )
