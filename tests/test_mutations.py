"""The planted mistakes of ``make mutations`` can still be planted."""

from __future__ import annotations

from pathlib import Path

import pytest
from mutations.mutation import Mutation
from mutations.table import MUTATIONS

import pyconv

PACKAGE = Path(pyconv.__file__).parent


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: f"{mutation.file}: {mutation.why}")
def test_a_mistake_has_one_place_and_tests_to_find_it(mutation: Mutation) -> None:
    text = (PACKAGE / mutation.file).read_text(encoding="utf-8")
    assert text.count(mutation.old) == 1
    assert mutation.new != mutation.old
    if mutation.file.endswith(".py"):
        compile(text.replace(mutation.old, mutation.new), mutation.file, "exec")
    for name in mutation.tests.split():
        assert (Path(__file__).parent / f"test_{name}.py").is_file(), name


def test_there_are_enough_and_none_is_planted_twice() -> None:
    assert len({(each.file, each.why) for each in MUTATIONS}) == len(MUTATIONS) >= 60
