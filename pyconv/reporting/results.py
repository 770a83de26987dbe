"""Reads the results of ``pytest --benchmark-only``: our own files in ``bench/results/``, or pytest-benchmark's JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..documents import read_json
from ..errors import DataError, shown
from ..records import Kind, check, duration, finite, measure, optional, share, size, table, text
from ..values import items
from ..values import path as as_path

FORMAT = 1
_NEEDED = ("experiment", "case", "operation", "column")

_SECONDS = optional(duration)
_KINDS: dict[str, Kind] = {
    **dict.fromkeys(_NEEDED, text),
    **dict.fromkeys(
        (
            "median_s",
            "q1_s",
            "q3_s",
            "least_s",
            "predicted_s",
            "to_target_s",
            "images_per_s",
            "simulated_s",
            "simulated_images_per_s",
        ),
        _SECONDS,
    ),
    **dict.fromkeys(("unavailable", "when", "unit"), optional(text)),
    **dict.fromkeys(("threads", "every", "epoch", "bends_at", "points"), optional(size)),
    **dict.fromkeys(("best_accuracy", "target_accuracy"), optional(share)),
    **dict.fromkeys(("low", "high", "value"), finite),
    "staleness_mean": measure,
    "images": optional(size),
    "x": size,
}
_MEASURED = ("median_s", "unavailable")
_NEEDED_BY = {
    "table1": _MEASURED,
    **dict.fromkeys(("fig1", "fig2", "fig4"), (*_MEASURED, "x")),
    "fig3": _MEASURED,
    "update_rules": ("median_s", "x", "to_target_s", "best_accuracy", "images_per_s", "staleness_mean",
                     "target_accuracy"),
    "simulation": ("median_s", "x", "bends_at"),
    "prediction": ("median_s", "x", "predicted_s"),
    "cluster_prediction": ("median_s", "x"),
    "constants": ("value", "unit", "points"),
}  # fmt: skip
"""The fields that a report reads, by experiment."""

_NEEDED_OF_MEASURED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("table1", "fig1", "fig2", "fig4"), ("q1_s", "q3_s")),
    "fig3": ("q1_s", "q3_s", "images"),
    "cluster_prediction": ("q1_s", "q3_s", "images"),
}
"""The fields of records that could run."""

_ABOUT: dict[str, Kind] = {"machine": optional(table), "versions": optional(table), "peak": optional(table)}
_PEAK: dict[str, Kind] = {"gflops": measure, "source": text}


@dataclass(frozen=True)
class Results:
    """Measured records, and the machine on which they were measured.

    Attributes
    ----------
    records : list of dict
        ``experiment, case, operation, column, median_s, q1_s, q3_s, unavailable`` and more; seconds.
    machine, versions, peak : dict
        As in the benchmarks' files; empty if a file does not say.
    elsewhere : tuple of str
        Experiments measured on a machine whose processor has the same name but other caches, as virtual machines have.
    machines : dict of str to dict
        The machine of each experiment, from the file with its latest records.
    """

    records: list[dict[str, Any]]
    machine: dict[str, Any]
    versions: dict[str, str]
    peak: dict[str, Any]
    elsewhere: tuple[str, ...] = ()
    machines: dict[str, dict[str, Any]] = field(default_factory=dict)

    def of(self, experiment: str) -> list[dict[str, Any]]:
        """Records of one experiment.

        Parameters
        ----------
        experiment : str
            Its name, such as ``"table1"``.

        Returns
        -------
        list of dict
            Those of :attr:`records` with this experiment; empty if it was not measured.
        """
        return [record for record in self.records if record["experiment"] == experiment]


def read_results(paths: Iterable[str | Path]) -> Results:
    """Read one or more files; if several have the same record, the last one counts.

    Parameters
    ----------
    paths : iterable of path
        Files of ``bench/results/``, or of pytest-benchmark's ``--benchmark-json``.

    Returns
    -------
    Results

    Raises
    ------
    DataError
        If a file cannot be read, is not a benchmark's, or was measured on another machine than the first.
    """
    found: dict[tuple, dict[int | None, dict[str, Any]]] = {}
    about: dict[str, dict[str, Any]] = {"machine": {}, "versions": {}, "peak": {}}
    elsewhere: dict[str, None] = {}
    machines: dict[str, dict[str, Any]] = {}
    for path in [as_path(path, "every one of paths") for path in items(paths, "paths", "files")]:
        content = _read(path)
        for key in ("machine", "versions"):
            about[key] = about[key] or content.get(key) or {}
        # Other work on the machine can only lower a measured peak.
        about["peak"] = max(about["peak"], content.get("peak") or {}, key=lambda peak: peak.get("gflops", 0.0))
        other = content.get("machine") or {}
        if other and (other.get("cpu"), other.get("gpu")) != (about["machine"].get("cpu"), about["machine"].get("gpu")):
            raise DataError(f"{path}: was measured on another machine ({other.get('cpu')}); report on each apart")
        if other and other.get("caches") != about["machine"].get("caches"):
            elsewhere |= dict.fromkeys(record["experiment"] for record in content["records"])
        for record in content["records"]:
            by_threads = found.setdefault(tuple(record.get(name) for name in (*_NEEDED, "x")), {})
            measured = any(not known.get("unavailable") for known in by_threads.values())
            if record.get("unavailable") and measured:
                continue  # it did run in another session
            if not measured:
                by_threads.clear()  # the reason why it could not run does not depend on threads
            by_threads[record.get("threads")] = record
            machines[record["experiment"]] = other
    abouts = about["machine"], about["versions"], about["peak"]
    records = [record for by_threads in found.values() for record in by_threads.values()]
    return Results(records, *abouts, tuple(elsewhere), machines)


def _read(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if isinstance(content, dict) and isinstance(content.get("benchmarks"), list):
        content = _from_pytest(content)
    if not isinstance(content, dict) or not isinstance(content.get("records"), list):
        raise DataError(f"{path}: holds no results of pyconv's benchmarks; make some with pytest --benchmark-only")
    if content.get("format", FORMAT) != FORMAT:
        raise DataError(f"{path}: results of format {shown(content['format'])}, this pyconv reads {FORMAT}")
    check(content, str(path), _ABOUT)
    check(content.get("peak") or {}, str(path), _PEAK, prefix="peak.", needed=_PEAK if content.get("peak") else ())
    for number, record in enumerate(content["records"]):
        where = f"{path}, record {number}"
        check(record, where, _KINDS, needed=_NEEDED)
        measured = {} if record.get("median_s") is None else _NEEDED_OF_MEASURED
        needed = [name for names in (_NEEDED_BY, measured) for name in names.get(record["experiment"], ())]
        check(record, where, {}, needed=needed)
    return content


def _from_pytest(content: dict[str, Any]) -> dict[str, Any]:
    """pytest-benchmark's JSON in the format of our own files."""
    made: dict[str, Any] = {"records": []}
    for benchmark in content["benchmarks"]:
        info = (benchmark.get("extra_info") if isinstance(benchmark, dict) else None) or {}
        records = info.get("records", []) if isinstance(info, dict) else None
        if not isinstance(records, list):
            return {}
        made["records"] += records
        for key in ("machine", "versions", "peak"):
            made[key] = made.get(key) or info.get(key)
    return made
