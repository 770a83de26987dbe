"""Mistakes in what is split over the ranks of a cluster within layers: convolutions and networks."""

from __future__ import annotations

from .mutation import Mutation

MUTATIONS = [
    Mutation(
        "cluster/rows.py",
        "g, middle = self.g, (self._span - 1) // 2",
        "g, middle = self.g, self._span // 2",
        "a row of the result of an even kernel goes to the rank below",
        "cluster_rows",
    ),
    Mutation(
        "cluster/rows.py",
        "stop = rows.stop if have.stop == g.oh else have.stop * g.sh - g.pt\n",
        "stop = rows.stop if have.stop == g.oh else have.stop * g.sh - g.pt + 1\n",
        "a row of the images' gradient does without a window of the rank below",
        "cluster_rows",
    ),
    Mutation(
        "cluster/convolution.py",
        'facts["weight or bias (checksums)"] = _digest(filters, offsets)',
        "pass",
        "ranks convolve with different filters",
        "cluster_rows",
        "refused",
    ),
    Mutation(
        "cluster/sums.py",
        "    total = terms[0].copy()\n    for term in terms[1:]:",
        "    total = own.copy()\n    for term in terms[: world.rank] + terms[world.rank + 1 :]:",
        "each rank adds to its own term: the bits differ",
        "cluster_row_networks cluster_rows",
    ),
    Mutation(
        "cluster/halo.py",
        "            out[:, part.start - have.start : part.stop - have.start] += term",
        "            out[:, part.start - have.start : part.stop - have.start] = term",
        "the gradient of a border row is the last rank's only",
        "cluster_row_networks",
    ),
    Mutation(
        "cluster/filters/backend.py",
        "        gw[...] = 0  # the other ranks keep the others up to date\n",
        "",
        "other ranks' filters have garbage for a gradient",
        "cluster_filters",
        "convolution",
    ),
    Mutation(
        "cluster/filters/parts.py",
        "    each = filters // groups\n",
        "    each = 1\n",
        "groups of several filters are cut",
        "cluster_filters",
    ),
    Mutation(
        "cluster/filters/member.py",
        "state = list(self._optimizer_state.values()) if everything else []",
        "state: list = []",
        "a checkpoint has the optimizer's state of rank 0's filters only",
        "cluster_filters",
        "goes_on",
    ),
    Mutation(
        "cluster/by_rows/norm.py",
        "        numbers = x.shape[0] * self._rows * x.shape[2]\n        if numbers < 2:",
        "        numbers = x.shape[0] * x.shape[1] * x.shape[2]\n        if numbers < 2:",
        "a mean over all rows is divided by the number of a rank's",
        "cluster_row_networks",
    ),
    Mutation(
        "cluster/by_rows/network.py",
        "        front[...] = sums.in_rank_order(self._world, front)\n",
        "",
        "each rank trains on its own rows' gradient",
        "cluster_row_networks",
    ),
    Mutation(
        "costmodel/row_split.py",
        "max(computes)",
        "min(computes)",
        "the process with the fewest rows is waited for",
        "costmodel_rows",
    ),
]
