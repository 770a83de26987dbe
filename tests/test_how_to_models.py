"""docs/how-to/bring-your-model.md, block by block, against the real libraries that are installed."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

import pytest

pytest.importorskip("onnx")

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "how-to" / "bring-your-model.md").read_text(encoding="utf-8")
#: What a block needs: a word of it, and a module. None: exporters, whose results lie in the samples.
NEEDS = {
    "torch.onnx.export": None,
    "import keras": None,
    "model.keras": "h5py",
    "import torch": "torch",
    "weights.safetensors": "torch",
}


def test_its_programs_and_torchs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert all(any(word in block for block in blocks) for word in NEEDS)
    shutil.copy(TESTS / "onnx_samples" / "torch_view.onnx", tmp_path / "model.onnx")
    shutil.copy(TESTS / "keras_samples" / "chain.keras", tmp_path / "model.keras")
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    for block in blocks:
        needs = next((module for word, module in NEEDS.items() if word in block), "numpy")
        if needs is not None and importlib.util.find_spec(needs) is not None:
            exec(block, scope)
    assert "loss" in capsys.readouterr().out
    assert scope["model"].output_shape == (7,)
