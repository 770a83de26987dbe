"""Two thousand odd calls, command lines and damaged files; a quick run takes a tenth, ``make fuzz`` tries a million."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from fuzz import cases, children


@pytest.mark.parametrize("kind", children.SHARES)
def test_odd_input_ends_well_or_in_one_short_line(kind: str, thorough: bool) -> None:
    count = children.shared_out(2000)[kind]
    numbers, processes = range(count), 2
    if not thorough:
        part = count // 10
        first = part * (int(os.environ["PYCONV_TEST_SEED"]) % 10)
        numbers, processes = range(first, first + part), 1
    block = -(-len(numbers) // processes)
    findings = [finding for *_, found in children.run({kind: numbers}, block=block, seconds=100) for finding in found]
    assert not findings, "\n".join(map(str, findings))


def test_the_judge_complains_of_what_is_not_pyconvs() -> None:
    from pyconv.errors import InputError

    def fail(error: BaseException) -> cases.Case:
        def run() -> None:
            raise error

        return cases.Case(str, run)

    assert cases.judge(cases.Case(str, lambda: None)) is None
    assert cases.judge(fail(InputError("x must be an integer, not 3.5"))) is None
    for error in (TypeError("x"), InputError("x" * 1000), InputError(""), MemoryError(), SystemExit(3)):
        assert cases.judge(fail(error)) is not None
    with pytest.raises(cases.Complaint, match="not one line"):
        cases.check_message("two\nlines")


def test_a_child_that_dies_or_hangs_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fuzz").mkdir()
    for name in ("__init__", "child", "cases"):
        (tmp_path / "fuzz" / f"{name}.py").write_text((children.TESTS / "fuzz" / f"{name}.py").read_text())
    (tmp_path / "fuzz" / "planted.py").write_text(
        "import os, signal, time\n"
        "from .cases import Case\n"
        "def maker(folder):\n"
        "    def make(number):\n"
        "        act = {2: lambda: os.kill(os.getpid(), signal.SIGSEGV), 4: lambda: time.sleep(60), 5: lambda: 1 / 0}\n"
        "        return Case(lambda: str(number), act.get(number, lambda: None))\n"
        "    return make\n"
    )
    monkeypatch.setattr(children, "TESTS", tmp_path)
    ((*_, findings),) = children.run({"planted": range(7)}, processes=1, seconds=1)
    assert [finding.number for finding in findings] == [2, 4, 5], json.dumps([finding.wrong for finding in findings])
    assert "status -11" in findings[0].wrong
    assert "Timeout" in findings[1].wrong
    assert "ZeroDivisionError" in findings[2].wrong
