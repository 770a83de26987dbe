"""The README's table of figures is the one that bench/results gives."""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_table_is_made_from_the_result_files(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "bench")
    import readme_table

    measured = readme_table.contents()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme == readme_table.replaced(readme, measured), "run: python bench/readme_table.py"
    assert readme_table.SUMMARY.read_text(encoding="utf-8") == readme_table.summary(measured)
    rows = [line for line in readme_table.table(measured).splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + 6 and all(line.count(" | ") == 2 for line in rows)
    assert len(measured) >= 2 and all(len(readme_table.rows(content["records"])) >= 10 for content in measured)
    for name in [name for name in sys.modules if name == "readme_table" or name.partition(".")[0] == "harness"]:
        monkeypatch.delitem(sys.modules, name)
