"""The table of the GPU's peers: times, ratios to cuDNN in strict float32 and with TF32, and targets, as Markdown."""

from __future__ import annotations

from typing import Any

HEAD = (
    "# pyconv on the GPU against cuDNN, through PyTorch",
    "",
    "Layers: kernels alone, by events. Training steps: by the clock, with the copies of batch and loss. The better of",
    "cuDNN's two memory layouts counts. Targets are for strict float32; TF32 rounds the factors to 11 bits.",
    "",
)


def _fastest(records: list[dict[str, Any]], *words: str) -> float | None:
    """Seconds of the fastest column whose name has all `words`."""
    return min(
        (r["median_s"] for r in records if r["median_s"] is not None and all(w in r["column"] for w in words)),
        default=None,
    )


def _row(records: list[dict[str, Any]]) -> str:
    first = records[0]
    target = next((r["target"] for r in records if r.get("target")), None)
    mine = _fastest(records, "pyconv")
    goal = "–" if target is None else f"≥ {target}"
    if mine is None:
        return f"| {first['case']} | {first['operation']} | {first['unavailable']} | – | – | {goal} |"
    strict = _fastest(records, "float32") or _fastest(records, "peer")
    tf32 = _fastest(records, "TF32")
    cells = [f"{1e3 * mine:.4g} ms"]
    cells += ["–" if peer is None else f"{1e3 * peer:.4g} ms = **{peer / mine:.2f}**" for peer in (strict, tf32)]
    if target is not None and strict is not None:
        goal += ": met" if strict / mine >= target else ": **missed**"
    return f"| {first['case']} | {first['operation']} | {' | '.join(cells)} | {goal} |"


def markdown(records: list[dict[str, Any]], machine: dict[str, Any], versions: dict[str, str], _peak: Any) -> str:
    """The whole table; a line that could not run says why.

    Parameters
    ----------
    records : list of dict
        Those of ``bench_cuda_peers.py``.
    machine, versions : dict
        What they were measured on.
    """
    lines = [*HEAD, f"GPU: {machine['gpu']}. " + ", ".join(f"{k} {v}" for k, v in versions.items()) + ".", ""]
    lines += ["| case | operation | pyconv | strict float32, and ratio | TF32, and ratio | target |"]
    lines += ["|---|---|---|---|---|---|"]
    for key in dict.fromkeys((r["case"], r["operation"]) for r in records):
        lines.append(_row([r for r in records if (r["case"], r["operation"]) == key]))
    return "\n".join(lines) + "\n"
