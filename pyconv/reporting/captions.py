"""Parts of captions that depend on the records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def range_of_estimates(records: list[dict[str, Any]]) -> str:
    """The range of the cost model's estimates relative to the measured times; ends the sentence that names them."""
    ratios = {r["predicted_s"] / r["median_s"]: r["case"] for r in records if r.get("predicted_s") and r["median_s"]}
    if not ratios:
        return "."
    low, high = min(ratios), max(ratios)
    return f": {low:.2f} ({ratios[low]}) to {high:.2f} ({ratios[high]}) of the measured time."


def estimates_by(key: str) -> Callable[[list[dict[str, Any]]], str]:
    """A function of records that says how far predicted times are from measured ones, for each value of `key`."""

    def ending(records: list[dict[str, Any]]) -> str:
        shares: dict[str, list[float]] = {}
        for record in records:
            if record["median_s"] and record.get("predicted_s") is not None:
                name = record[key].partition(",")[0].rstrip("0123456789→× ")
                shares.setdefault(name, []).append(record["predicted_s"] / record["median_s"])
        ranges = [f"{name} {min(own):.2f} to {max(own):.2f}" for name, own in shares.items()]
        if not ranges:
            return ""
        return f" Predicted over measured time, below 1 where the prediction is too low: {'; '.join(ranges)}."

    return ending


def rare_meetings(records: list[dict[str, Any]]) -> str:
    """The steps of a worker between two meetings, for the rules that do not meet in every step."""
    words = []
    for column in dict.fromkeys(record["column"] for record in records):
        own = [r for r in records if r["column"] == column and r["x"] > 1 and r.get("every") is not None]
        most, least = (choose((r["every"] for r in own), default=1) for choose in (max, min))
        if most == least > 1:
            words.append(f"{most} under {column}")
        elif most > 1:
            shared = f"once in an epoch of {own[0]['epoch']} steps that the workers share"
            words.append(f"{most} to {least} under {column}, {shared}")
    return f" H, the steps of a worker between two meetings: {'; '.join(words)}." if words else ""
