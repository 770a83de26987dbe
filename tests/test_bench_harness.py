"""What the benchmarks share: files of results, and the gradient that PyTorch's networks are verified by."""

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
    """Import a module as the benchmarks do; all are forgotten afterwards."""
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "bench")
    yield lambda name: importlib.import_module(f"harness.{name}")
    for name in [name for name in sys.modules if name.partition(".")[0] == "harness"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def records(harness: Any) -> Any:
    """The module that writes the files."""
    return harness("records")


def session(records: Any, folder: Path, *written: dict) -> list[tuple]:
    """Write the records of a session; what the file then has."""
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
    assert "Outliers" not in done.stdout and "OPS" not in done.stdout  # pytest-benchmark's own


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
