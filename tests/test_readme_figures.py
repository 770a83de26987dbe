"""The README's table of figures is the one that bench/results/peers.json gives."""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_table_is_made_from_the_result_file(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "bench")
    import readme_table

    content = json.loads((ROOT / "bench" / "results" / "peers.json").read_text(encoding="utf-8"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme == readme_table.replaced(readme, content), "run: python bench/readme_table.py"
    assert len(readme_table.rows(content["records"])) >= 10
    for name in [name for name in sys.modules if name == "readme_table" or name.partition(".")[0] == "harness"]:
        monkeypatch.delitem(sys.modules, name)
