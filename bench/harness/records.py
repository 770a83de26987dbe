"""Records: one per measured figure, in ``extra_info`` of pytest-benchmark's JSON and in ``bench/results/``.

``python -m pyconv.report`` reads either. A record is a flat dict; these keys are always there:

experiment   "peers", "table1", "fig1" …: the table or figure that it belongs to
case         the row: a layer's, image's or network's name
operation    "forward", "input_grad", "weight_grad", "backward", "step", "epoch" …
column       what computed it: "serial naive", "cuda block_tuned", "torch channels_last" …
median_s     seconds per call, with q1_s, q3_s, rounds; None where it could not run
unavailable  why it could not run, or None

and, where they mean something: x (the figure's abscissa), flops, gflops, share_of_peak, threads, batch,
relative_error (of the verification before timing), geometry. `processor` is in the records of an experiment whose
figures do not depend on how fast the machine is: its file holds the records of several machines together.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from . import machine

FORMAT = 1


class Records:
    """The records of a session, and where they are written at its end."""

    def __init__(self) -> None:
        self.all: list[dict[str, Any]] = []

    def add(self, record: dict[str, Any]) -> dict[str, Any]:
        """Keep `record`, with the time of day."""
        record["when"] = now()
        self.all.append(record)
        return record

    def of(self, experiment: str) -> list[dict[str, Any]]:
        """The records of one experiment, in the order of measurement."""
        return [record for record in self.all if record["experiment"] == experiment]

    @property
    def experiments(self) -> list[str]:
        """Names of the experiments with records, in the order of measurement."""
        return list(dict.fromkeys(record["experiment"] for record in self.all))

    def write(self, folder: Path, peak: dict[str, Any]) -> list[Path]:
        """Write one JSON file for each experiment into `folder`; each whole or not at all.

        Records of an earlier session on the same machine, or with a `processor` of their own, stay until the same
        figure is measured again, so that one part of an experiment can be repeated.
        """
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for experiment in self.experiments:
            path = folder / f"{experiment}.json"
            self.all = [*_earlier(path, self.of(experiment)), *self.all]
            content = {
                "format": FORMAT,
                "experiment": experiment,
                "when": now(),
                "machine": machine.describe(),
                "versions": machine.versions(),
                "peak": peak,
                "records": self.of(experiment),
            }
            write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
            written.append(path)
        return written


def now() -> str:
    """The time of day, UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _figure(record: dict[str, Any]) -> tuple[Any, ...]:
    """What two records of the same figure have in common, whatever the number of threads."""
    return tuple(record.get(key) for key in ("experiment", "case", "operation", "column", "x"))


def _replaces(new: dict[str, Any], earlier: dict[str, Any]) -> bool:
    """Whether `new` replaces `earlier`, a record of the same figure; a column that could not run has no threads."""
    either = new.get("unavailable") or earlier.get("unavailable")
    return bool(either) or new.get("threads") == earlier.get("threads")


def _earlier(path: Path, new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records in `path` that are of this machine or name their own, without those that `new` replaces."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    if content.get("format") != FORMAT:
        return []
    here = _same_machine(content.get("machine") or {})
    by_figure: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for record in new:
        by_figure.setdefault(_figure(record), []).append(record)
    return [
        record
        for record in content["records"]
        if (here or "processor" in record)
        and not any(_replaces(other, record) for other in by_figure.get(_figure(record), []))
    ]


def _same_machine(other: dict[str, Any]) -> bool:
    """Whether `other` is this machine, whatever number of its CPUs that session could use."""
    mine = machine.describe()
    return all(mine[key] == other.get(key) for key in mine if key != "usable_cpus")


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    beside = path.with_suffix(path.suffix + ".new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)
