"""refused(): checks that a call is refused as a user's mistake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pyconv.errors import PyconvError


def refused(call: Callable[[], Any], words: str) -> None:
    """Check that a call is refused, in one short line that has these words."""
    with pytest.raises(PyconvError) as caught:
        call()
    message = str(caught.value)
    assert words in message
    assert len(message.splitlines()) == 1
    assert len(message) < 400
