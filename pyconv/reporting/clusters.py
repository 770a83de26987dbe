"""The report's section on the cost model against the clock on the ranks of a cluster."""

from __future__ import annotations

from typing import Any

from .page import Section, Table

WITHIN = 0.15  # of the measured time, in which a prediction is to be


def cluster_predictions(records: list[dict[str, Any]]) -> list[Section]:
    """Predicted and measured epochs by split and number of ranks; nothing if none was measured.

    Parameters
    ----------
    records : list of dict
        Of the experiment cluster_prediction.

    Returns
    -------
    list of Section
    """
    rows, ratios = [], []
    measured = [record for record in records if record["median_s"] and record.get("predicted_s") is not None]
    cases = list(dict.fromkeys(record["case"] for record in measured))
    for record in sorted(measured, key=lambda record: (cases.index(record["case"]), record["x"])):
        least = record.get("least_s") or record["median_s"]
        ratios.append(record["predicted_s"] / least)
        seconds = (f"{value:.3g} s" for value in (least, record["median_s"], record["predicted_s"]))
        error = f"{100 * (ratios[-1] - 1):+.0f} %"
        rows.append((record["case"], record["column"], str(record["x"]), *seconds, error))
    if not rows:
        return []
    header = ("network, links", "split", "ranks", "least measured epoch", "median", "predicted", "error")
    good = sum(abs(ratio - 1) <= WITHIN for ratio in ratios)
    worst = max(ratios, key=lambda ratio: abs(ratio - 1))
    text = (
        f"Within {100 * WITHIN:.0f} %: {good} of {len(ratios)}. The largest error: {100 * (worst - 1):+.0f} %. "
        "The error is against the least of the epochs that were measured."
    )
    table = Table(header, rows, "Predicted and measured epochs on the ranks of a cluster", words=(1,))
    return [Section("The cost model against the clock, on ranks", [table, text])]
