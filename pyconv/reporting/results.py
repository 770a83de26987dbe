"""Reading what ``pytest --benchmark-only`` left: our own files in ``bench/results/``, or pytest-benchmark's JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DataError

FORMAT = 1
_NEEDED = ("experiment", "case", "operation", "column")


@dataclass(frozen=True)
class Results:
    """Measured figures, and the machine that they are of.

    Attributes
    ----------
    records : list of dict
        ``experiment, case, operation, column, median_s, q1_s, q3_s, unavailable`` and more; seconds.
    machine, versions, peak : dict
        As the benchmarks describe them; empty where the file does not say.
    elsewhere : tuple of str
        Experiments measured on a machine whose processor has the same name but other caches, as virtual machines have.
    machines : dict of str to dict
        The machine of each experiment, as the file with its latest records describes it.
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
            Those of :attr:`records` that are of it; empty if it was not measured.
        """
        return [record for record in self.records if record["experiment"] == experiment]


def read_results(paths: Iterable[str | Path]) -> Results:
    """Read one file or several; of the same figure the last one read counts.

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
    for path in map(Path, paths):
        content = _read(path)
        for key in ("machine", "versions"):
            about[key] = about[key] or content.get(key) or {}
        # What runs beside only lowers a measured peak.
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
                continue  # it could run in another session
            if not measured:
                by_threads.clear()  # why it could not run, without a number of threads
            by_threads[record.get("threads")] = record
            machines[record["experiment"]] = other
    abouts = about["machine"], about["versions"], about["peak"]
    records = [record for by_threads in found.values() for record in by_threads.values()]
    return Results(records, *abouts, tuple(elsewhere), machines)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise DataError(f"{path}: is not JSON; give a file of bench/results/ or of --benchmark-json") from None
    if isinstance(content, dict) and isinstance(content.get("benchmarks"), list):
        content = _from_pytest(content)
    if not isinstance(content, dict) or not isinstance(content.get("records"), list):
        raise DataError(f"{path}: holds no results of pyconv's benchmarks; make some with pytest --benchmark-only")
    if content.get("format", FORMAT) != FORMAT:
        raise DataError(f"{path}: results of format {content['format']!r}, this pyconv reads {FORMAT}")
    for number, record in enumerate(content["records"]):
        if not isinstance(record, dict) or any(name not in record for name in _NEEDED):
            raise DataError(f"{path}, record {number}: lacks one of {', '.join(_NEEDED)}; measure again")
    return content


def _from_pytest(content: dict[str, Any]) -> dict[str, Any]:
    """pytest-benchmark's JSON in the form of our own."""
    made: dict[str, Any] = {"records": []}
    for benchmark in content["benchmarks"]:
        info = benchmark.get("extra_info") or {}
        made["records"] += info.get("records", [])
        for key in ("machine", "versions", "peak"):
            made[key] = made.get(key) or info.get(key)
    return made
