"""The benchmarks' harness: files of results, and the gradient with which PyTorch's networks are verified."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pyconv
from pyconv import nn


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Import modules of the harness as the benchmarks do; afterwards remove them from sys.modules."""
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "bench")
    yield lambda name: importlib.import_module(f"harness.{name}")
    for name in [name for name in sys.modules if name.partition(".")[0] == "harness"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def records(harness: Any) -> Any:
    """The module that writes the files."""
    return harness("records")


def session(records: Any, folder: Path, *written: dict) -> list[tuple]:
    """Write the records of a session; returns the file's content."""
    kept = records.Records()
    for one in written:
        kept.add({"experiment": "table1", "case": "1: x", "operation": "forward", "unavailable": None, **one})
    (path,) = kept.write(folder, {})
    content = json.loads(path.read_text(encoding="utf-8"))
    return [(r["column"], r.get("threads"), r["median_s"]) for r in content["records"]]


def test_the_last_session_counts_whether_it_could_run_or_not(records: Any, tmp_path: Path) -> None:
    reason = {"column": "serial winograd", "median_s": None, "unavailable": "not this layer"}
    taken = {"column": "serial winograd", "median_s": 0.5, "threads": 1}
    assert session(records, tmp_path, reason) == [("serial winograd", None, None)]
    assert session(records, tmp_path, taken) == [("serial winograd", 1, 0.5)]
    assert session(records, tmp_path, reason) == [("serial winograd", None, None)]


def test_other_threads_and_other_columns_stay(records: Any, tmp_path: Path) -> None:
    session(records, tmp_path, {"column": "pyconv", "median_s": 0.5, "threads": 1})
    both = session(records, tmp_path, {"column": "pyconv", "median_s": 0.3, "threads": 2})
    assert both == [("pyconv", 1, 0.5), ("pyconv", 2, 0.3)]
    last = session(records, tmp_path, {"column": "torch", "median_s": None, "unavailable": "not installed"})
    assert last == [*both, ("torch", None, None)]


def test_figures_that_name_their_processor_stay_on_another_machine(
    records: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracy = {"column": "sync", "median_s": 9.0, "processor": "one"}
    session(records, tmp_path, {"column": "torch", "median_s": 0.5}, accuracy, {**accuracy, "column": "local"})
    monkeypatch.setattr(records, "_same_machine", lambda other: False)
    assert session(records, tmp_path, {**accuracy, "median_s": 7.0}) == [("local", None, 9.0), ("sync", None, 7.0)]


def test_a_session_is_shown_case_by_case(harness: Any) -> None:
    base = {"experiment": "table1", "operation": "forward", "unavailable": None}
    figures = {"gflops": 50.0, "share_of_peak": 0.5}
    records = [
        {**base, "case": "1: x", "column": "cuda", "median_s": None, "unavailable": "no GPU"},
        {**base, "case": "1: x", "column": "serial naive", "median_s": 0.5, "gflops": 1.0, "share_of_peak": 0.01},
        {**base, "case": "1: x", "column": "serial best", "median_s": 0.01, **figures},
        {**base, "case": "2: y", "column": "cuda", "median_s": None, "unavailable": "no GPU"},
        {**base, "case": "2: y", "column": "serial naive", "median_s": 0.3, "gflops": 1.0, "share_of_peak": 0.01},
        {**base, "case": "2: y", "column": "winograd", "median_s": None, "unavailable": "kernels of 1"},
    ]
    text = "\n".join(harness("session_table").lines(records))
    assert re.search(
        r"1: x, forward\n +serial naive +500 +1\.00 .* 1\.0 %\n +serial best +10\.0 +50\.00 +50\.0 +50 %", text
    )
    assert "not run: cuda: no GPU" in text and "not run on 2: y: winograd: kernels of 1" in text
    assert "serial naive's time over the variant's" in text


@pytest.mark.slow
def test_benchmarks_end_with_every_variant_and_the_next_command(tmp_path: Path) -> None:
    if pyconv.backends()["serial"] is not None:
        pytest.skip("the compiled module is missing")
    root = Path(__file__).parent.parent
    call = ["-m", "pytest", "--benchmark-only", "--quick", "--results", str(tmp_path), "-p", "no:cacheprovider"]
    file = root / "bench" / "bench_table1_variants.py"
    done = subprocess.run(
        [sys.executable, *call, f"{file}::test_layer[0]"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "next: python -m pyconv.report table1.json -o report" in done.stdout
    for variant in ("serial naive", "serial direct", "serial best"):
        assert re.search(rf"^  {variant} .* \d+\.\d\d .* %$", done.stdout, re.MULTILINE), done.stdout
    assert "Outliers" not in done.stdout and "OPS" not in done.stdout  # pytest-benchmark's own file


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_the_gradient_of_a_pytorch_twin_has_our_order(harness: Any, rng: np.random.Generator, layout: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if pyconv.backends()["serial"] is not None:
        pytest.skip("the compiled module is missing")
    model = nn.build("3-6-20-10")
    model.backend = "serial"
    x, labels = rng.standard_normal((4, *model.input_shape), dtype=np.float32), rng.integers(0, 10, 4)
    twin = harness("torch_network").Twin(torch, model, layout)
    loss, gradient = harness("torch_gradient").loss_and_gradient(twin, model, twin.images(x), torch.from_numpy(labels))
    ours, expected = model.loss_and_gradient(x, labels)
    assert loss == pytest.approx(ours, rel=1e-5)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize(
    ("name", "shape"), [("resnet18", (12, 12, 3)), ("mini-xception", (40, 42, 1)), ("squeezenet", (24, 26, 3))]
)
def test_a_pytorch_twin_has_our_branches(
    harness: Any, rng: np.random.Generator, name: str, shape: tuple[int, int, int], layout: str
) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if pyconv.backends()["serial"] is not None:
        pytest.skip("the compiled module is missing")
    built = nn.build(name, input_shape=shape, classes=5)
    model = nn.Sequential([each for each in built.layers if not isinstance(each, nn.Dropout)], shape, seed=3)
    model.backend = "serial"
    x, labels = rng.standard_normal((4, *shape), dtype=np.float32), rng.integers(0, 5, 4)
    for inplace in (False, True):
        twin = harness("torch_network").Twin(torch, model, layout, inplace=inplace)
        theirs = twin.loss(twin.images(x), torch.from_numpy(labels)).item()
        loss, gradient = model.loss_and_gradient(x, labels)
        assert loss == pytest.approx(theirs, rel=1e-4)
        norm = twin.gradient_norm(twin.images(x), torch.from_numpy(labels))
        assert np.linalg.norm(gradient.astype(np.float64)) == pytest.approx(norm, rel=0.02)  # a ReLU near 0
