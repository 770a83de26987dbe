"""Fixtures that many tests share: fresh random numbers, and the backends that can run here."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

import pyconv

# Hypothesis draws anew in every run; CI prints what it found so that a failure can be repeated.
settings.register_profile("default", deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("default"), print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_configure(config: pytest.Config) -> None:
    """Hear Ctrl-C in a shell's background and SIGHUP under nohup, which ignore them: runs are interrupted by both."""
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Fresh random numbers in every run; the seed is printed when the test fails."""
    seed = int(os.environ.get("PYCONV_TEST_SEED", np.random.SeedSequence().entropy % 2**32))
    print(f"PYCONV_TEST_SEED={seed}")
    return np.random.default_rng(seed)


def _backend_params() -> list:
    params = []
    for name, reason in pyconv.backends().items():
        marks = [] if reason is None else [pytest.mark.skip(reason=f"{name}: {reason}")]
        if name == "cuda":
            marks.append(pytest.mark.gpu)
        params.append(pytest.param(name, marks=marks))
    return params


def _isas() -> list[str]:
    try:
        from pyconv import _cpu
    except ImportError:  # the tests that would ask for one are skipped
        return []
    return list(_cpu.isas())


@pytest.fixture(params=_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set of this processor in turn."""
    from pyconv import _cpu

    before = _cpu.isa()
    _cpu.set_isa(request.param)
    yield request.param
    _cpu.set_isa(before)


@pytest.fixture(params=_backend_params())
def backend(request: pytest.FixtureRequest) -> str:
    """Name of each backend in turn; one that cannot run here is skipped with its reason."""
    return request.param
