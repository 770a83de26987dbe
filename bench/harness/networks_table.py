"""The table of networks, as Markdown: a training step and its memory beside PyTorch's."""

from __future__ import annotations

from typing import Any

from . import peers_table


def markdown(records: list[dict[str, Any]], machine: dict, versions: dict, peak: dict) -> str:
    """The whole table.

    Parameters
    ----------
    records : list of dict
        Those of ``bench_networks.py``.
    machine, versions, peak : dict
        Where they were measured.

    Returns
    -------
    str
    """
    head = [
        "# Networks with branches, and deep ones, beside PyTorch",
        "",
        peers_table.where(machine, versions, peak),
        "",
        "Medians of interleaved turns, loss and gradient verified first; the better of PyTorch's two memory layouts "
        "counts. Memory is what three steps need beyond what is resident after a step on two images.",
        "",
    ]
    return "\n".join([*head, *peers_table.others(records, "training steps and their memory")])
