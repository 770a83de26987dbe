"""The page on the kernels shows what was measured: its table is the one that the results make."""

from __future__ import annotations

import importlib.util
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "explanation"


def test_the_table_is_that_of_the_results() -> None:
    spec = importlib.util.spec_from_file_location("draw_kernels", PAGE / "draw_kernels.py")
    draw_kernels = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(draw_kernels)
    made = draw_kernels.table(draw_kernels.load())
    shown = (PAGE / "kernels" / "steps.inc").read_text(encoding="utf-8")
    assert made == shown, "run: python docs/explanation/draw_kernels.py"
    text = (PAGE / "kernels.md").read_text(encoding="utf-8")
    pictures = {path.name for path in (PAGE / "kernels").glob("*.png")}
    assert pictures == {*(f"{name}.png" for name in draw_kernels.PICTURES), "steps.png"}
    assert all(f"kernels/{name}" in text for name in pictures)
