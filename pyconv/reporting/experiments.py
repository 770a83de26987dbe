"""The report on the paper's experiments from measured records: Tables I and II, Figs. 1 to 4, and more."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..errors import InputError, shown
from . import figures, paper
from .captions import estimates_by, range_of_estimates, rare_meetings
from .clusters import cluster_predictions
from .page import Picture, Section, Table
from .results import Results

EPOCH_IMAGES = 60_000  # as MNIST has


def experiment_sections(results: Results) -> list[Section]:
    """All sections of a report on benchmarks.

    Parameters
    ----------
    results : Results

    Returns
    -------
    list of Section
        Tables I and II, Figs. 1 to 4, simulations and predictions, and where the paper's tables disagree. If something
        was not measured, its section says which benchmark measures it.
    """
    if not isinstance(results, Results):
        raise InputError(f"results must be Results, as read_results gives them, not {shown(results)}")
    return [
        _about(results),
        _table_1(results.of("table1")),
        _table_2(results.of("table1")),
        *(figure.section(name, results) for name, figure in _FIGURES.items()),
        *_update_rules(results.of("update_rules")),
        *_simulated(results.of("simulation")),
        *_predictions(results.of("prediction")),
        *cluster_predictions(results.of("cluster_prediction")),
        *_constants(results.of("constants")),
        Section("Where the paper's tables disagree", list(paper.SLIPS)),
    ]


#: Keys of a machine's description, with the words for a reader.
_NAMES = {"cpu": "CPU", "usable_cpus": "usable CPUs", "memory_gib": "memory, GiB", "gpu": "GPU"}


#: Titles of the experiments.
LABELS = {"table1": "Tables I and II"} | {f"fig{number}": f"Fig. {number}" for number in range(1, 5)}
LABELS |= {
    name: name.replace("_", " ")
    for name in ("update_rules", "simulation", "prediction", "cluster_prediction", "constants")
}


def _about(results: Results) -> Section:
    machine = results.machine
    rows = [(_NAMES.get(name, name.replace("_", " ")), _plain(value)) for name, value in machine.items()]
    if results.peak:
        rows.append(("peak, measured", f"{results.peak['gflops']:.0f} GFLOP/s a thread ({results.peak['source']})"))
    rows.append(("versions", ", ".join(f"{name} {version}" for name, version in results.versions.items())))
    text = (
        "Points are medians of turns that the candidates took in one run, each after its result had been verified; "
        "error bars and brackets are the quartiles. Dotted curves are what the cost model (the paper's section 4) "
        "predicts: for layers from constants that were calibrated on others, for workers from the gradient of one. "
        "Only where predicted epochs are held against the clock does the least of each count."
    )
    blocks: list[str | Table] = [text, Table(("machine", ""), rows, text=True)]
    if results.elsewhere:
        blocks.append(
            f"On another machine, whose processor has this name but other caches: {', '.join(results.elsewhere)}. Do "
            "not compare its times with the others'."
        )
    when = [row for name, label in LABELS.items() if (row := _when(results, name, label))]
    if when:
        header = ("experiment", "measured, UTC", "usable CPUs", "machine")
        blocks.append(Table(header, when, "When and where", text=True))
    return Section("What was measured, and where", blocks)


def _when(results: Results, experiment: str, label: str) -> tuple[str, ...] | None:
    """A line about an experiment: its dates, and how its machine differs from the first file's."""
    times = sorted(record["when"] for record in results.of(experiment) if record.get("when"))
    if not times:
        return None
    machine, first = results.machines[experiment], results.machine
    differs = [key for key in machine if key != "usable_cpus" and machine[key] != first.get(key)]
    words = "; ".join(f"{_NAMES.get(key, key.replace('_', ' '))} {_plain(machine[key])}" for key in differs)
    start, end = (time[:16].replace("T", " ") for time in (times[0], times[-1]))
    if start[:10] == end[:10]:
        end = end[11:]
    span = start if start.endswith(end) else f"{start} to {end}"
    span = span.replace(" ", "\N{NO-BREAK SPACE}")
    return label, span, str(machine.get("usable_cpus", "–")), f"another: {words}" if words else "as above"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return str(value)


def _missing(title: str, file: str) -> Section:
    return Section(title, [f"Not measured yet: pytest --benchmark-only bench/{file}"])


def _cannot(records: list[dict[str, Any]]) -> list[str]:
    """A sentence for each reason why columns could not run, or not in all rows."""
    ran = {record["column"] for record in records if record["median_s"] is not None}
    by_reason: dict[tuple[str, bool], dict[str, list[str]]] = {}
    for record in records:
        if record["unavailable"]:
            missing = by_reason.setdefault((record["unavailable"], record["column"] in ran), {})
            missing.setdefault(record["column"], []).append(record["case"])
    sentences = []
    for (reason, elsewhere), columns in by_reason.items():
        rows = dict.fromkeys(case for cases in columns.values() for case in cases)
        where = f"on {', '.join(rows)}" if elsewhere else "here"
        sentences.append(f"Could not run {where}: {', '.join(columns)} ({reason}).")
    return sentences


def milliseconds(seconds: float | None) -> str:
    """Three significant digits, in ms."""
    if seconds is None:
        return "–"
    value = 1e3 * seconds
    return f"{value:.0f}" if value >= 99.95 else f"{value:#.3g}"


def _by_layer(records: list[dict[str, Any]]) -> tuple[list[str], dict[str, dict[str, dict[str, Any]]]]:
    """The layers; and for each column, its records by layer."""
    cases = sorted(dict.fromkeys(record["case"] for record in records))
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for record in sorted(records, key=_rank):
        table.setdefault(record["column"], {})[record["case"]] = record
    return cases, table


#: Rows of Table I: the paper's order, each kind from the loop to the fastest, then other libraries.
_ROWS = ("serial naive", "serial direct", "serial winograd", "serial best", "multicore naive", "multicore best",
         "cuda naive", "cuda shared_input", "cuda shared_input_filter", "cuda block_tuned", "cuda implicit_gemm",
         "torch contiguous", "torch channels_last")  # fmt: skip


def _rank(record: dict[str, Any]) -> tuple[int, bool]:
    """A row's position in Table I, whatever was measured first; times with copies follow times without."""
    name = record["column"].partition(",")[0]  # without the number of threads
    kernel = name.removesuffix(" with copies")
    return _ROWS.index(kernel) if kernel in _ROWS else len(_ROWS), name != kernel


def _totals(records: list[dict[str, Any]]) -> dict[str, float]:
    """Seconds of all layers together, for the columns that ran on all of them."""
    cases, table = _by_layer(records)
    times = {column: [by.get(case, {}).get("median_s") for case in cases] for column, by in table.items()}
    return {column: sum(t for t in values if t) for column, values in times.items() if all(values)}


def _table_1(records: list[dict[str, Any]]) -> Section:
    title = "Table I: five convolutional layers"
    if not records:
        return _missing(title, "bench_table1_variants.py")
    cases, table = _by_layer(records)
    totals = _totals(records)
    rows = []
    for column, by in table.items():
        cells = [_with_quartiles(by.get(case)) for case in cases]
        rows.append((column, *cells, milliseconds(totals.get(column))))
    printed = [
        (
            name,
            *(f"{value:.2f}" if value < 100 else f"{value:g}" for value in values),
            f"{paper.TABLE_1_TOTALS[name]:.5g}" if name in paper.TABLE_1_TOTALS else "–",
            f"{sum(values):.5g}",
        )
        for name, values in paper.TABLE_1.items()
    ]
    layers = [f"layer {number + 1}" for number in range(5)]
    return Section(
        title,
        [
            Table(("ms", *cases, "total"), rows, "Measured here, forward pass of the batch"),
            *_cannot(records),
            Table(
                ("ms", *layers, "printed total", "sum"),
                printed,
                "The paper's Table I (GTX 520 beside a 4-core AMD CPU, other layers)",
            ),
        ],
    )


def _as_printed(value: float) -> str:
    """Milliseconds in the paper's format."""
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def _with_quartiles(record: dict[str, Any] | None) -> str:
    if record is None or record["median_s"] is None:
        return "–"
    return f"{milliseconds(record['median_s'])} [{milliseconds(record['q1_s'])}, {milliseconds(record['q3_s'])}]"


def _table_2(records: list[dict[str, Any]]) -> Section:
    title = "Table II: Table I as ratios"
    if not records:
        return _missing(title, "bench_table1_variants.py")
    totals = _totals(records)
    serial, naive = totals.get("serial naive"), totals.get("cuda naive")
    rows = []
    for column, own in totals.items():
        if column == "serial naive":
            continue
        rows.append((column, *(f"{base / own:.3g}" if base else "–" for base in (serial, naive))))
    beside = [
        (name, f"{printed:g}", f"{paper.ratio(name):.0f}", _ours(totals, paper.OURS[name]))
        for name, printed in paper.TABLE_2.items()
    ]
    ratios = {
        "measured here": {name: serial / own for name, own in totals.items() if serial and name != "serial naive"},
        "from the paper's Table I": {name: paper.ratio(name) for name in paper.TABLE_2},
    }
    caption = (
        "How many times faster than its own serial loop each variant does all five layers: here, and as the paper's "
        "Table I has it. The paper's layers, machine and base line are others: only the orders of magnitude compare."
    )
    picture = [Picture("table2", partial(figures.ratios, ratios), caption)] if ratios["measured here"] else []
    return Section(
        title,
        [
            *picture,
            Table(("times faster, all five layers", "than the serial loop", "than the naive GPU kernel"), rows,
                  "Measured here"),
            Table(("serial over", "printed in Table II", "from the printed Table I", "measured here"), beside,
                  "The paper's figures beside"),
        ],
    )  # fmt: skip


def _ours(totals: dict[str, float], column: str) -> str:
    if column not in totals or "serial naive" not in totals:
        return "could not run here"
    return f"{totals['serial naive'] / totals[column]:.3g}"


@dataclass(frozen=True)
class _Figure:
    """One of the paper's figures: how to draw it from the records, and what the paper says about it."""

    title: str
    file: str
    draw: Callable[..., Any]
    caption: str
    paper: str
    ending: Callable[[list[dict[str, Any]]], str] = lambda records: ""
    beside: str | None = None  # another experiment, which is drawn in the same picture

    def section(self, name: str, results: Results) -> Section:
        """Its section of the page."""
        records = results.of(name)
        if not any(record["median_s"] for record in records):
            return _missing(self.title, self.file)
        more = [results.of(self.beside)] if self.beside else []
        picture = Picture(name, partial(self.draw, records, *more), self.caption + self.ending(records))
        return Section(self.title, [picture, *_cannot(records), self.paper])


_NO_VALUES = "The values of its curves are not available, so none are drawn beside."

_FIGURES = {
    "fig1": _Figure(
        "Fig. 1: forward and backward time against image size",
        "bench_fig1_layers.py",
        figures.layers,
        "Time of a convolutional and of a fully connected layer against the image's side; error bars are quartiles, "
        "dotted curves the cost model: operations at the t_c that was fitted on other layers, and for a fully "
        "connected layer weights at the speed of a copy in the cache, which is too fast where they come from main "
        "memory.",
        f"The paper plots the same against image size. {_NO_VALUES}",
        estimates_by("case"),
    ),
    "fig2": _Figure(
        "Fig. 2: speed-up against image size",
        "bench_fig2_image_sizes.py",
        figures.speedups,
        "How many times faster than the serial loop (Algorithm 2), against the image's side; dotted curves are the "
        "cost model: operations at t_c and the least start-up of a call that was fitted. On small images a call takes "
        "longer, most of all on several threads.",
        f"The paper's curve is that of its GPU. {_NO_VALUES} Its text says 600 times, where its Table I gives 494.",
        estimates_by("column"),
    ),
    "fig3": _Figure(
        "Fig. 3: training time by architecture",
        "bench_fig3_architectures.py",
        functools.partial(figures.architectures, images=EPOCH_IMAGES),
        f"Seconds of an epoch of {EPOCH_IMAGES:,} images of 28×28 pixels, by architecture "
        "(kernel-filters-hidden-classes); white diamonds are the cost model's estimate from FLOPs and bytes alone",
        f"The paper's headline is that training is six times faster on its GPU than on its CPU. {_NO_VALUES}",
        range_of_estimates,
    ),
    "fig4": _Figure(
        "Fig. 4: training time against workers",
        "bench_fig4_workers.py",
        figures.workers,
        "Seconds of an epoch, and speed-up over one worker, against the number of workers under each update rule; "
        "error bars are quartiles, dotted curves the cost model, dashed ones its simulation, the grey line is ideal. "
        "Beyond the usable CPUs workers take turns, and their curve is flat. Where ranks of a cluster were measured, a "
        "panel for each link has the images a second of each split; the simulation gives each rank a CPU of its own, "
        "where ranks that were measured may share some.",
        f"The paper measures 2 to 16 cores of a cloud node. {_NO_VALUES}",
        beside="cluster_prediction",
    ),
}


def _update_rules(records: list[dict[str, Any]]) -> list[Section]:
    """Accuracy and time under each update rule; nothing if none was measured."""
    rows = []
    for record in sorted(_ran(records), key=lambda record: record["x"]):
        reached = "–" if record["to_target_s"] is None else f"{record['to_target_s']:.1f} s"
        rows.append(
            (
                record["column"],
                str(record["x"]),
                f"{100 * record['best_accuracy']:.2f} %",
                reached,
                f"{record['images_per_s']:.0f}",
                f"{record['staleness_mean']:.2f}",
            )
        )
    if not rows:
        return []
    target = f"time to {100 * records[0]['target_accuracy']:g} %"
    header = ("update rule", "workers", "best accuracy", target, "images/s", "mean staleness")
    text = (
        "Faster by the clock is not sooner at the accuracy: compare the times to it. Under rules that do not wait in "
        "every step each run is different."
    )
    caption = records[0]["case"].rsplit(", ", 1)[0] + f", {records[0]['operation']}"
    return [Section("Update rules: accuracy and time", [Table(header, rows, caption), text])]


def _ran(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record for record in records if record["median_s"] is not None]


def _simulated(records: list[dict[str, Any]]) -> list[Section]:
    """Simulated clusters; nothing if there are none."""
    if not records:
        return []
    by_count: dict[int | None, list[str]] = {}
    for column, bends_at in {record["column"]: record["bends_at"] for record in records}.items():
        by_count.setdefault(bends_at, []).append(column)
    most = max(record["x"] for record in records)
    words = [f"{_and(by_count[count])} at {count} workers" for count in sorted(filter(None, by_count))]
    text = f"Half of the ideal speed-up is lost by {', then by '.join(words)}" if words else "No curve bends"
    if None in by_count:
        text += f"; not by {_and(by_count[None])} up to {most} workers"
    caption = (
        f"Simulated speed-up against workers on a cluster ({records[0]['case']}), under each update rule; the grey "
        f"line is ideal. Where only the server's link counts, curves coincide.{rare_meetings(records)}"
    )
    picture = Picture("simulation", partial(figures.simulated, records), caption)
    return [Section("Beyond this machine: a simulated cluster", [picture, f"{text}."])]


def _and(names: list[str]) -> str:
    """ "a, b and c"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _predictions(records: list[dict[str, Any]]) -> list[Section]:
    """Predicted and measured epochs; nothing if none was measured."""
    rows = []
    cases = list(dict.fromkeys(record["case"] for record in records))
    for record in sorted(records, key=lambda record: (cases.index(record["case"]), record["x"])):
        if record.get("predicted_s") is None or not record["median_s"]:
            continue
        least = record.get("least_s") or record["median_s"]
        ratio = record["predicted_s"] / least
        seconds = (f"{value:.3g} s" for value in (least, record["median_s"], record["predicted_s"]))
        rows.append((record["case"], record["operation"], str(record["x"]), *seconds, f"{100 * (ratio - 1):+.0f} %"))
    if not rows:
        return []
    header = ("network", "what", "workers", "least measured epoch", "median", "predicted", "error")
    worst = max(rows, key=lambda row: abs(float(row[-1].split()[0])))
    text = (
        "The error is against the least of the short epochs that were measured: what else runs on the machine only "
        "ever adds time, to the prediction's own steps too, of which the least counts as well. "
        f"The largest error: {worst[-1]}, for {worst[0]} with {worst[2]} worker{'s' * (worst[2] != '1')}."
    )
    return [
        Section(
            "The cost model against the clock", [Table(header, rows, "Predicted and measured epochs", words=(1,)), text]
        )
    ]


def _constants(records: list[dict[str, Any]]) -> list[Section]:
    """The calibrated constants with their confidence intervals; nothing if there are none."""
    rows = []
    for record in records:
        interval = f"{record['low']:.3g} to {record['high']:.3g}" if "low" in record else "–"
        rows.append((record["case"], f"{record['value']:.3g}", record["unit"], interval, str(record["points"])))
    if not rows:
        return []
    header = ("constant", "value", "unit", "95 % interval", "points")
    return [Section("The machine's constants", [Table(header, rows, "Constants of the cost model")])]
