"""The table of peers: rates, shares of the peak, ratios, geometric means and targets, as Markdown."""

from __future__ import annotations

from typing import Any

import numpy as np

from .layers import GROUPS, PASSES, Group

NAMES = {"forward": "forward", "input_grad": "input gradient", "weight_grad": "weight gradient"}


def peer_name(record: dict[str, Any]) -> str:
    """ "torch channels_last" as "torch"."""
    return record["column"].split(" ")[0]


def best_peer(records: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The fastest of the records that are not pyconv's: the better of a peer's layouts."""
    others = [r for r in records if peer_name(r) != "pyconv" and r["median_s"] is not None]
    return min(others, key=lambda r: r["median_s"], default=None)


def ratio(records: list[dict[str, Any]]) -> float | None:
    """The best peer's time over pyconv's: above 1, pyconv is faster."""
    mine = next((r for r in records if peer_name(r) == "pyconv" and r["median_s"] is not None), None)
    peer = best_peer(records)
    return peer["median_s"] / mine["median_s"] if mine and peer else None


def geometric_mean(values: list[float]) -> float:
    """Of at least one value."""
    return float(np.exp(np.mean(np.log(values))))


def _select(records: list[dict[str, Any]], **fields: Any) -> list[dict[str, Any]]:
    return [r for r in records if all(r.get(key) == value for key, value in fields.items())]


def _cell(records: list[dict[str, Any]]) -> str:
    """ "96 / 48 (0.40) = 2.0": pyconv's and the best peer's GFLOP/s, share of the peak, ratio."""
    mine, peer, times = next((r for r in records if peer_name(r) == "pyconv"), None), best_peer(records), ratio(records)
    if mine is None or mine["median_s"] is None:
        return "–"
    share = f"{mine['gflops']:.0f} ({100 * mine['share_of_peak']:.0f} %)"
    if peer is None or times is None:
        return share
    return f"{share} / {peer['gflops']:.0f} = **{times:.2f}**"


def _verdict(group: Group, operation: str, mean: float, least: float) -> str:
    """ "1.93 (least 1.1); target 1.5, none below 0.9: met"."""
    text = f"{mean:.2f} (least {least:.2f})"
    target, floor = group.geometric_mean.get(operation), group.floor.get(operation)
    goals = ([f"≥ {target}"] if target else []) + ([f"none < {floor}"] if floor else [])
    if not goals:
        return text
    met = mean >= (target or 0) and least >= (floor or 0)
    return f"{text}; target {', '.join(goals)}: {'met' if met else '**missed**'}"


def means(records: list[dict[str, Any]]) -> list[tuple[str, str, float, float]]:
    """(group, operation, geometric mean of the ratios, least ratio) for every group that has been measured."""
    found = []
    for group in GROUPS:
        for operation in PASSES:
            mine = _select(records, group=group.name, operation=operation)
            cases = dict.fromkeys(r["case"] for r in mine)
            ratios = [value for case in cases if (value := ratio(_select(mine, case=case))) is not None]
            if ratios:
                found.append((group.name, operation, geometric_mean(ratios), min(ratios)))
    return found


def layers(records: list[dict[str, Any]]) -> list[str]:
    """The convolutions, group by group."""
    lines = []
    found = {(name, operation): rest for name, operation, *rest in means(records)}
    for group in GROUPS:
        mine = _select(records, group=group.name)
        if not mine:
            continue
        lines += [f"### {group.name}", "", f"| layer | {' | '.join(NAMES.values())} |", "|---|---|---|---|"]
        for case in dict.fromkeys(r["case"] for r in mine):
            cells = [_cell(_select(mine, case=case, operation=operation)) for operation in PASSES]
            lines.append(f"| {case} | {' | '.join(cells)} |")
        verdicts = [_verdict(group, p, *found[group.name, p]) if (group.name, p) in found else "–" for p in PASSES]
        lines += [f"| geometric mean | {' | '.join(verdicts)} |", ""]
    return lines


def limited(records: list[dict[str, Any]]) -> list[str]:
    """The geometric means with both libraries limited to AVX2, beside those without a limit."""
    rows = [r for r in records if r.get("isa") == "avx2" and r.get("ratio") is not None]
    if not rows:
        return []
    free = {(name, operation): mean for name, operation, mean, _ in means(records)}
    lines = [
        f"### both limited to AVX2 ({rows[0].get('batches', 'small')} batches)",
        "",
        "| layers, pass | ratio | least | without the limit |",
    ]
    lines.append("|---|---|---|---|")
    for row in rows:
        group = row["case"].removeprefix("limited to AVX2: ")
        other = free.get((group, row["operation"]))
        beside = "–" if other is None else f"{other:.2f}"
        lines.append(
            f"| {group}, {NAMES[row['operation']]} | {row['ratio']:.2f} | {row['least_ratio']:.2f} | {beside} |"
        )
    return [*lines, ""]


def others(records: list[dict[str, Any]], title: str = "whole steps, latency, threads, SciPy, memory") -> list[str]:
    """What is no single layer: one row each."""
    rows = [r for r in records if "group" not in r and r.get("ratio") is None]
    if not rows:
        return []
    lines = [f"### {title}", "", "| what | figures | pyconv better by | target |", "|---|---|---|---|"]
    for key in dict.fromkeys((r["case"], r["operation"]) for r in rows):
        same = _select(rows, case=key[0], operation=key[1])
        figures = "; ".join(figure(r) for r in same)
        target = next((r["target"] for r in same if r.get("target")), None)
        times = other_ratio(same)
        verdict = "" if target is None else f"≥ {target}"
        if target is not None and times is not None:
            verdict += ": met" if times >= target else ": **missed**"
        lines.append(f"| {key[0]}, {key[1]} | {figures} | {'–' if times is None else f'{times:.2f}'} | {verdict} |")
    return [*lines, ""]


def figure(record: dict[str, Any]) -> str:
    """One column's figure: milliseconds and images a second, or MiB, or why there is none."""
    if record["unavailable"]:
        return f"{record['column']}: {record['unavailable']}"
    if record.get("bytes") is not None:
        return f"{record['column']} {record['bytes'] / 2**20:.0f} MiB"
    text = f"{record['column']} {1e3 * record['median_s']:.3g} ms"
    if record.get("images"):
        text += f" ({record['images'] / record['median_s']:.0f} images/s)"
    return text


def other_ratio(records: list[dict[str, Any]]) -> float | None:
    """The others' best figure over the first column's: seconds, or bytes if bytes are measured."""
    value = "bytes" if any(r.get("bytes") is not None for r in records) else "median_s"
    known = [r for r in records if r.get(value) is not None]
    if len(known) < 2 or known[0] is not records[0]:
        return None
    return min(r[value] for r in known[1:]) / known[0][value]


def where(machine: dict, versions: dict, peak: dict) -> str:
    """The machine, its peak and the versions, as a sentence."""
    return (
        f"{machine['cpu']}, {machine['instruction_set']}, one thread unless a row says otherwise; measured FMA peak "
        f"{peak['gflops']:.0f} GFLOP/s a thread ({peak['source']}); "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + "."
    )


def markdown(records: list[dict[str, Any]], machine: dict, versions: dict, peak: dict) -> str:
    """The whole table."""
    head = [
        "# pyconv against its peers",
        "",
        where(machine, versions, peak),
        "",
        "A cell reads: pyconv's GFLOP/s (share of the peak) / PyTorch's GFLOP/s in the better of its two memory "
        "layouts = **ratio**. Operations are those of direct convolution, so that Winograd can exceed the peak. "
        "Medians of interleaved turns; results verified first.",
        "",
    ]
    return "\n".join([*head, *layers(records), *others(records), *limited(records)])
