"""Reports: results and runs in, Markdown, pictures and one self-contained page out; damaged input in one line."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_files import write_image

import pyconv
from pyconv import datasets, nn, optim, report
from pyconv.errors import DataError, ShapeError
from pyconv.loop.scores import scores
from pyconv.reporting import figures, paper, read_results, run_pictures
from pyconv.reporting.page import Section, markdown_table, page
from pyconv.reporting.runs import Run, summary

needs_kernels = pytest.mark.skipif(pyconv.backends()["serial"] is not None, reason="the compiled module is missing")


def record(experiment: str, column: str, case: str = "a layer", seconds: float | None = 1e-3, **more: Any) -> dict:
    made = {"experiment": experiment, "case": case, "operation": "forward", "column": column, "unavailable": None}
    made |= {"median_s": seconds, "threads": 1, **more}
    if seconds is not None:
        made |= {"q1_s": 0.9 * seconds, "q3_s": 1.2 * seconds, "rounds": 5}
    return made


def measured(*records: dict, cpu: str = "A CPU") -> dict:
    machine = {"cpu": cpu, "gpu": "none: no driver", "caches": {"L2": "1M"}}
    peak = {"gflops": 200.0, "threads": 1, "source": "FMA loop"}
    return {"format": 1, "machine": machine, "versions": {"pyconv": "0"}, "peak": peak, "records": list(records)}


def everything() -> dict:
    """A small result of every experiment."""
    rows = []
    for number in range(1, 6):
        case = f"{number}: 1→32 | 5×5"
        rows += [record("table1", "serial naive", case, 0.1 * number), record("table1", "serial best", case, 1e-3)]
        rows.append(record("table1", "cuda naive", case, None, unavailable="no driver"))
        cannot = {"seconds": None, "unavailable": "3×3 only"} if number == 1 else {}
        rows.append(record("table1", "serial winograd", case, **cannot))
    for size in (16, 32, 64):
        for column, factor in (("serial naive", 1), ("serial best", 40)):
            seconds = size * size * 1e-5 / factor
            rows.append(record("fig2", column, seconds=seconds, x=size, predicted_s=1.1 * seconds))
            rows.append(record("fig1", column, "convolution", seconds, x=size, predicted_s=0.9 * seconds))
        rows.append(record("fig1", "serial best", "fully connected", 1e-4 * size, x=size))
    for name in ("3-10-50-10", "5-50-100-10"):
        rows.append(record("fig3", "serial", name, 0.02, images=64, predicted_s=0.018))
        rows.append(record("fig3", "torch contiguous", name, 0.05, images=64))
    for workers in (1, 2, 4):
        rows.append(record("fig4", "sync", "fer", 10 / workers, x=workers, predicted_s=9 / workers))
        rows.append(record("simulation", "sync", "fer", None, x=workers, speedup=workers**0.5, bends_at=4))
        rows.append(record("simulation", "local", "fer", None, x=workers, speedup=workers, bends_at=None))
        rows.append(
            record("prediction", "pyconv", "fer", 10 / workers, x=workers, predicted_s=9 / workers, least_s=8 / workers)
        )
    for update, workers, to_target in (("one worker", 1, 30.5), ("local", 2, None)):
        more = {"best_accuracy": 0.9123, "to_target_s": to_target, "target_accuracy": 0.9, "images_per_s": 2000.4}
        case = f"Fashion-MNIST, 5-50-100-10, {workers} workers"
        rows.append(record("update_rules", update, case, 60.0, x=workers, staleness_mean=0.5, **more))
    constant = {"value": 1e-11, "low": 9e-12, "high": 1.2e-11, "unit": "s/operation", "points": 15}
    rows.append(record("constants", "pyconv", "t_c serial direct", None, **constant))
    return measured(*rows)


def run_report(*arguments: str | Path) -> int:
    return report.main([str(argument) for argument in arguments])


def test_every_table_and_figure_comes_from_results(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    results.write_text(json.dumps(everything()), encoding="utf-8")
    assert run_report(results, "-o", tmp_path / "out") == 0
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    for title in ("Table I:", "Table II:", "Fig. 1:", "Fig. 2:", "Fig. 3:", "Fig. 4:", "disagree"):
        assert f"## {title}" in text or title == "disagree"
    assert "Could not run here: cuda naive (no driver)." in text
    assert "Could not run on 1: 1→32 | 5×5: serial winograd (3×3 only)." in text
    assert "| serial naive | 100 [90.0, 120] | 200 [180, 240] |" in text
    assert "| 1500 |" in text, "the total of the five layers in ms"
    assert "14549" in text and "826" in text and "494" in text, "the paper's figures stand beside"
    assert "speed-up is lost by sync at 4 workers; not by local up to 4 workers." in text
    assert "| fer | forward | 2 | 4 s | 5 s | 4.5 s | +12 % |" in text
    assert "| one worker | 1 | 91.23 % | 30.5 s | 2000 | 0.50 |" in text and "| time to 90 % |" in text
    assert "| local | 2 | 91.23 % | – | 2000 | 0.50 |" in text and "**Fashion-MNIST, 5-50-100-10, forward**" in text
    assert "| t_c serial direct | 1e-11 | s/operation | 9e-12 to 1.2e-11 | 15 |" in text
    assert "1→32 \\| 5×5" in text, "a bar in a name does not break the table"
    for name in ("fig1", "fig2", "fig3", "fig4"):
        assert f"pictures/{name}.png" in text
        header = (tmp_path / "out" / "pictures" / f"{name}.png").read_bytes()[:24]
        width, height = struct.unpack(">II", header[16:])
        assert width > 800 and height > 400


def test_every_figure_draws_its_predictions_over_bars_of_quartiles() -> None:
    records = everything()["records"]
    by = {name: [r for r in records if r["experiment"] == name] for name in ("fig1", "fig2", "fig4")}
    for name, draw in (("fig1", figures.layers), ("fig2", figures.speedups), ("fig4", figures.workers)):
        axes = draw(by[name]).axes[0]
        assert axes.get_legend().get_texts()[-1].get_text() == "cost model"
        assert any(line.get_linestyle() == ":" and len(line.get_xdata()) == 3 for line in axes.get_lines())
        assert axes.containers, "points have error bars"
        bare = [{key: value for key, value in r.items() if key != "predicted_s"} for r in by[name]]
        texts = [text.get_text() for text in draw(bare).axes[0].get_legend().get_texts()]
        assert "cost model" not in texts
    speed = figures.workers(by["fig4"]).axes[-1]
    predicted = next(line for line in speed.get_lines() if line.get_linestyle() == ":")
    assert list(predicted.get_ydata()) == [1, 2, 4]
    bars = figures.architectures([r for r in records if r["experiment"] == "fig3"], 60_000).axes[0]
    assert [text.get_text() for text in bars.get_legend().get_texts()].count("cost model") == 1


def test_figure_4_draws_measured_predicted_and_simulated_curves_in_one_picture(tmp_path: Path) -> None:
    rows = everything()["records"]
    for one in rows:
        if one["experiment"] == "fig4":
            one["simulated_s"] = 8 / one["x"]
    for rate in ("1 Gbit/s", "100 Mbit/s"):
        for ranks in (2, 4):
            images = {"images": 640, "predicted_s": 1.1 * ranks, "least_s": 0.9 * ranks}
            rows.append(record("cluster_prediction", "rows", f"fer, {rate}", 1.0 * ranks, x=ranks, **images))
        for ranks in (1, 32, 1024):
            more = {"simulated_images_per_s": 100.0 * ranks}
            rows.append(record("cluster_prediction", "rows", f"fer, {rate}", None, x=ranks, **more))
    nodes = [row for row in rows if row["experiment"] == "cluster_prediction"]
    figure = figures.workers([row for row in rows if row["experiment"] == "fig4"], nodes)
    time, _, fast, slow = figure.axes
    assert (fast.get_title(), slow.get_title()) == ("fer, 1 Gbit/s", "fer, 100 Mbit/s")
    styles = {line.get_linestyle(): list(line.get_ydata()) for line in time.get_lines()}
    assert styles["--"] == [8, 4, 2] and styles[":"] == [9, 4.5, 2.25]
    drawn = {line.get_linestyle(): list(line.get_ydata()) for line in slow.get_lines() if len(line.get_xdata()) > 1}
    assert drawn["--"] == [100, 3200, 102400] and drawn[":"] == pytest.approx([640 / 2.2, 640 / 4.4])
    assert [text.get_text() for text in slow.get_legend().get_texts()] == ["rows", "cost model", "simulation"]
    results = tmp_path / "results.json"
    results.write_text(json.dumps(measured(*rows)), encoding="utf-8")
    assert run_report(results, "-o", tmp_path / "out") == 0
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "| fer, 1 Gbit/s | rows | 4 | 3.6 s | 4 s | 4.4 s | +22 % |" in text
    assert "Within 15 %: 0 of 4. The largest error: +22 %." in text


@pytest.mark.slow
def test_captions_say_how_far_off_the_cost_model_is(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    rows = everything()["records"]
    rows.append(record("fig2", "multicore best, 2 threads", seconds=1e-3, x=16, predicted_s=1e-4))
    results.write_text(json.dumps(measured(*rows)), encoding="utf-8")
    run_report(results, "-o", tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "below 1 where the prediction is too low: convolution 0.90 to 0.90.*" in text
    assert "serial naive 1.10 to 1.10; serial best 1.10 to 1.10; multicore best 0.10 to 0.10.*" in text


@pytest.mark.slow
def test_the_page_needs_no_other_file(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    results.write_text(json.dumps(everything()), encoding="utf-8")
    run_report(results, "-o", tmp_path / "out")
    shown = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    sources = re.findall(r'(?:src|href)="([^"]{0,40})', shown)
    assert len(sources) == 6 and all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert "<script" not in shown and "@media print" in shown
    assert all(re.search(r'<img alt="[^"]{20,}', figure) for figure in shown.split("<figure>")[1:])
    first = shown
    run_report(results, "-o", tmp_path / "again")
    assert (tmp_path / "again" / "report.html").read_text(encoding="utf-8") == first


def test_results_of_pytest_benchmark_are_read_too(tmp_path: Path) -> None:
    one = measured(record("table1", "serial naive", "1: x", 0.5))
    info = {key: one[key] for key in ("machine", "versions", "peak", "records")}
    path = tmp_path / "benchmark.json"
    path.write_text(json.dumps({"benchmarks": [{"name": "test_layer", "extra_info": info}], "machine_info": {}}))
    found = read_results([path])
    assert found.machine["cpu"] == "A CPU" and len(found.of("table1")) == 1


def test_later_files_replace_figures_and_reasons_do_not_replace_measurements(tmp_path: Path) -> None:
    first, second = tmp_path / "1.json", tmp_path / "2.json"
    first.write_text(json.dumps(measured(record("table1", "multicore", "1: x", 0.5))))
    reason = record("table1", "multicore", "1: x", None, unavailable="one CPU")
    second.write_text(json.dumps(measured(reason, record("table1", "serial", "1: x", 0.7))))
    found = read_results([first, second])
    assert {r["column"]: r["median_s"] for r in found.records} == {"multicore": 0.5, "serial": 0.7}
    second.write_text(json.dumps(measured(record("table1", "multicore", "1: x", 0.4), cpu="Another")))
    with pytest.raises(DataError, match="another machine"):
        read_results([first, second])


def test_a_measurement_replaces_why_it_could_not_run_before(tmp_path: Path) -> None:
    reason = record("table1", "serial winograd", "1: x", None, unavailable="3×3 only", threads=None)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(measured(reason, record("table1", "serial winograd", "1: x", 0.5))))
    assert [r["median_s"] for r in read_results([path]).records] == [0.5]
    on_two = record("table1", "serial winograd", "1: x", 0.3, threads=2)
    path.write_text(json.dumps(measured(record("table1", "serial winograd", "1: x", 0.5), on_two)))
    assert [r["median_s"] for r in read_results([path]).records] == [0.5, 0.3], "threads make two figures"


def test_rows_of_table_1_have_the_papers_order_whatever_was_measured_first(tmp_path: Path) -> None:
    order = ["serial naive", "serial direct", "serial winograd", "serial best", "multicore naive, 2 threads",
             "multicore best, 2 threads", "cuda naive", "cuda naive with copies", "cuda shared_input",
             "cuda block_tuned", "torch contiguous", "torch channels_last", "a column of tomorrow"]  # fmt: skip
    path = tmp_path / "results.json"
    shuffled = np.random.default_rng().permutation(order)
    path.write_text(json.dumps(measured(*(record("table1", str(column), "1: x", 0.5) for column in shuffled))))
    run_report(path, "-o", tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    for section in (text.split("## Table I:")[1].split("## ")[0], text.split("## Table II:")[1].split("## ")[0]):
        found = re.findall(r"^\| ([^|]+) \| (?:500|1 )", section, re.MULTILINE)
        assert found in (order, order[1:])


def test_another_machine_of_the_same_name_is_told(tmp_path: Path) -> None:
    first, second = (
        measured(*(record(name, "serial", x=size, images=64, when=when) for size, when in zip((16, 32), times)))
        for name, times in (
            ("fig1", ("2026-11-24T10:05:01Z", "2026-11-24T09:59:59Z")),
            ("fig3", ("2026-11-23T23:59:59Z", "2026-11-24T00:01:01Z")),
        )
    )
    second["machine"] = {**second["machine"], "caches": {"L2": "2M"}}
    paths = [tmp_path / "1.json", tmp_path / "2.json"]
    for path, content in zip(paths, (first, second)):
        path.write_text(json.dumps(content))
    assert read_results(paths).elsewhere == ("fig3",) and read_results(paths[:1]).elsewhere == ()
    run_report(*paths, "-o", tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    assert "other caches: fig3." in text
    assert "| Fig. 1 | 2026-11-24 09:59 to 10:05 | – | as above |" in text
    assert "| Fig. 3 | 2026-11-23 23:59 to 2026-11-24 00:01 | – | another: caches L2 2M |" in text


def test_the_highest_measured_peak_is_the_machines(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.json" for number in range(3)]
    for path, gflops in zip(paths, (150.0, 200.0, 120.0)):
        path.write_text(json.dumps({**measured(), "peak": {"gflops": gflops, "source": "FMA loop"}}))
    assert read_results(paths).peak["gflops"] == 200


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not valid JSON"),
        ("[]", "holds no results"),
        ('{"records": 3}', "holds no results"),
        ('{"records": [], "format": 9}', "format 9"),
        ('{"records": [{"experiment": "fig1"}]}', "record 0: lacks"),
    ],
)
def test_damaged_results_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture, text: str, message: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    assert run_report(path, "-o", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and str(path) in error
    assert not (tmp_path / "out").exists()


def test_missing_sources_and_unwritable_folders(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run_report(tmp_path / "nothing.json") == 2
    assert "no such file or folder" in capsys.readouterr().err
    results = tmp_path / "results.json"
    results.write_text(json.dumps(measured()))
    assert run_report(results, "-o", results) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_the_paper_slips_where_we_say(tmp_path: Path) -> None:
    assert paper.total("serial") == 14549
    assert paper.total("naive") == pytest.approx(28.95)
    assert paper.total("advanced block setting") == pytest.approx(23.13)
    for variant, printed in paper.TABLE_1_TOTALS.items():
        if printed != pytest.approx(paper.total(variant)):
            assert any(f"{printed}" in slip and f"{paper.total(variant):.2f}" in slip for slip in paper.SLIPS), variant
    ratios = {name: round(paper.ratio(name)) for name in paper.TABLE_2}
    assert ratios == {"naive": 494, "input shared": 477, "input and filter shared": 387, "advanced block setting": 630}
    assert all(abs(ratios[name] - printed) > 70 for name, printed in paper.TABLE_2.items())


def test_scores_are_scikit_learns(rng: np.random.Generator) -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    labels, answers = rng.integers(0, 5, (2, 200))
    labels[labels == 1], answers[answers == 3] = 2, 4  # class 3 is never an answer; class 1 has no example
    found = scores(labels, answers, list("abcde"))
    np.testing.assert_array_equal(found.confusion, metrics.confusion_matrix(labels, answers))
    theirs = metrics.precision_recall_fscore_support(labels, answers, zero_division=0)
    for mine, expected in zip((found.precision, found.recall, found.f1, found.support), theirs):
        np.testing.assert_allclose(mine, expected, rtol=1e-12)
    means = metrics.precision_recall_fscore_support(labels, answers, average="macro", zero_division=0)[:3]
    np.testing.assert_allclose((found.macro_precision, found.macro_recall, found.macro_f1), means, rtol=1e-12)


def test_scores_by_hand() -> None:
    found = scores(np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 0]), ["a", "b", "never"])
    assert found.confusion.tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert found.accuracy == pytest.approx(0.6)
    np.testing.assert_allclose(found.precision, [2 / 3, 1 / 2, 0])
    np.testing.assert_allclose(found.f1, [2 / 3, 1 / 2, 0])
    assert found.macro_f1 == pytest.approx((2 / 3 + 1 / 2) / 2), "a class that never occurs does not count"
    with pytest.raises(ShapeError):
        scores(np.array([0]), np.array([0, 1]), ["a", "b"])


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A short run on a few images from disk."""
    rng = np.random.default_rng(3)
    y = np.arange(60) % 3
    x = rng.integers(0, 60, (60, 8, 8, 1)).astype(np.uint8) + (60 * y).astype(np.uint8)[:, None, None, None]
    source = tmp_path / "data.npz"
    np.savez(source, x=x, y=y)
    from pyconv import train

    architecture = tmp_path / "small.toml"
    architecture.write_text(
        'input_shape = [8, 8, 1]\n[[layers]]\ntype = "Flatten"\n[[layers]]\ntype = "Dense"\nunits = 3\n'
    )
    out = tmp_path / "first"
    arguments = ["--data", source, "--model", architecture, "--epochs", "3", "--batch-size", "8", "--out", out]
    assert train.main([*map(str, arguments), "--progress", "off"]) == 0
    return out


@needs_kernels
def test_runs_are_compared(tmp_path: Path, run_folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert run_report(run_folder, run_folder, "-o", tmp_path / "out") == 0
    shown = capsys.readouterr().out
    assert "first (1)" in shown and "first (2)" in shown and "| 1.00 |" in shown
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "macro-F1" in text and "mean over classes" in text and "Where a worker's time went" in text
    for name in ("curves", "confusion-1", "confusion-2"):
        assert (tmp_path / "out" / "pictures" / f"{name}.svg").stat().st_size > 1000


def history(epochs: int) -> list[dict[str, Any]]:
    """Lines of metrics of a run whose accuracy rises."""
    lines: dict[str, Any] = {"images": 10, "seconds": 1.0, "workers": 1, "update": "sync"}
    return [
        {**lines, "epoch": n, "train_loss": 2 / n, "val_accuracy": 1 - 1 / (n + 1), "elapsed_s": 1.0 * n}
        for n in range(1, epochs + 1)
    ]


def test_only_runs_of_the_same_work_have_a_speedup() -> None:
    def made(name: str, units: int = 8, seed: int = 0, data: str = "ab12", seconds: float = 1.0) -> Run:
        network = json.dumps({"layers": [{"type": "Dense", "units": units}], "seed": seed})
        config = {"model": {"name": "small", "config": network}, "data": {"fingerprint": data}}
        lines = [{**line, "seconds": seconds, "elapsed_s": seconds * line["epoch"]} for line in history(3)]
        return Run(name, config, lines, None)

    runs = [made("a"), made("b", seconds=0.5, seed=3), made("c", units=9), made("d", data="ff00", seconds=2.0)]
    table = summary(runs)
    faster, to_accuracy = table.header.index("speed-up"), table.header.index("speed-up of that")
    assert [(row[faster], row[to_accuracy]) for row in table.rows] == [
        ("1.00", "1.00"), ("2.00", "2.00"), ("–", "–"), ("–", "–"),
    ]  # fmt: skip
    assert table.caption.endswith("there is none for a run of another network or of other data")
    assert "there is none" not in summary(runs[:2]).caption


@pytest.mark.parametrize(("epochs", "ticks"), [(1, [1]), (4, [1, 2, 3, 4]), (25, [1, 4, 7, 10, 13, 16, 19, 22, 25])])
def test_curves_have_whole_epochs_and_equal_runs_show_beneath_each_other(epochs: int, ticks: list[int]) -> None:
    runs = [Run(name, {}, history(epochs), None) for name in ("a", "b", "c")]
    figure = run_pictures.curves(runs)
    figure.canvas.draw()
    for axes in figure.axes[:2]:
        low, high = axes.get_xlim()
        assert low < 1 and high > epochs
        assert [label.get_text() for label in axes.get_xticklabels()] == [str(tick) for tick in ticks]
        sizes = [line.get_markersize() for line in axes.get_lines()]
        assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 3


def test_columns_of_words_begin_at_the_left() -> None:
    table = summary([Run("a", {}, history(1), None)])
    rule = markdown_table(table)[3].split("|")[1:-1]
    assert rule[:2] == ["---", "---"] and set(rule[2:]) == {"---:"}
    shown = page("runs", [Section("one", [table])], {})
    assert shown.count('<td class="left words">') == 1 and shown.count('<td class="left">') == 1


@needs_kernels
def test_runs_without_their_data_say_so(tmp_path: Path, run_folder: Path) -> None:
    (tmp_path / "data.npz").unlink()
    assert run_report(run_folder, "-o", tmp_path / "out") == 0
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "mean over classes" in text, "the run has kept its scores"
    (run_folder / "classes.json").unlink()
    assert run_report(run_folder, "-o", tmp_path / "out") == 0
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "No scores by class" in text and "data.npz" in text


@needs_kernels
@pytest.mark.parametrize("form", ["images of several sizes", "labels from 1"])
def test_data_are_read_again_as_they_were_for_the_run(tmp_path: Path, rng: np.random.Generator, form: str) -> None:
    from pyconv import train

    if form == "labels from 1":
        source, options = tmp_path / "data.npz", ["--first-label", "1"]
        np.savez(source, x=rng.integers(0, 256, (40, 8, 8, 1)).astype(np.uint8), y=1 + np.arange(40) % 2)
    else:
        source, options = tmp_path / "photos", ["--size", "8x8"]
        for number in range(40):
            image = rng.integers(0, 256, (8 + number % 3, 9, 3)).astype(np.uint8)
            write_image(source / "ab"[number % 2] / f"{number}.png", image)
    out = tmp_path / "run"
    flags = ["--model", "3-4-8-2", "--epochs", "1", "--progress", "off"]
    assert train.main(["--data", str(source), *options, *flags, "--out", str(out)]) == 0
    assert run_report(out, "-o", tmp_path / "out") == 0
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "mean over classes" in text, text


@needs_kernels
def test_damaged_runs_are_one_line(tmp_path: Path, run_folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert run_report(tmp_path, "-o", tmp_path / "out") == 2
    assert capsys.readouterr().err.count("\n") == 1
    metrics = run_folder / "metrics.jsonl"
    metrics.write_text(metrics.read_text() + "{half a li")
    assert run_report(run_folder, "-o", tmp_path / "out") == 2
    assert "row 4: is not JSON" in capsys.readouterr().err
    metrics.write_text("")
    assert run_report(run_folder, "-o", tmp_path / "out") == 2
    assert "no epoch of this run was finished" in capsys.readouterr().err


@needs_kernels
def test_a_run_of_arrays_has_no_scores(tmp_path: Path) -> None:
    data = datasets.faces(40, seed=1)
    x, y = data.x, data.y
    model = nn.Sequential([nn.Flatten(), nn.Dense(7)], input_shape=x.shape[1:])
    pyconv.fit(model, x, y, epochs=1, batch_size=8, optimizer=optim.SGD(0.01), out=tmp_path / "arrays", progress="off")
    assert run_report(tmp_path / "arrays", "-o", tmp_path / "out") == 0
    assert "arrays of a program" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
