"""ONNX files that hold long or unknown things are refused in one short line; `make fuzz` tries the rest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyconv import nn
from pyconv.errors import CheckpointError

onnx = pytest.importorskip("onnx")


def _operator(model: Any) -> None:
    model.graph.node[1].op_type = "x" * 5000


def _pads(model: Any) -> None:
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    del conv.attribute[:]
    conv.attribute.append(onnx.helper.make_attribute("pads", [2**62] * 3000))


def _kind(model: Any) -> None:
    model.graph.input[0].type.tensor_type.elem_type = 99


@pytest.mark.parametrize(
    ("change", "words"),
    [(_operator, "xxx… has no layer here|xxx…\\): has no layer here"), (_pads, "its pads are "), (_kind, "of type 99")],
)
def test_long_and_unknown_things_are_named_shortly(tmp_path: Path, change: Callable[[Any], None], words: str) -> None:
    path = tmp_path / "model.onnx"
    nn.Sequential([nn.Conv2D(2, 3), nn.Flatten(), nn.Dense(2)], (6, 6, 1)).to_onnx(path)
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    with pytest.raises(CheckpointError, match=words) as refused:
        nn.load(path)
    assert len(str(refused.value)) < 600
