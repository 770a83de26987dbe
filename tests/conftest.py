"""Fixtures that many tests share: fresh random numbers, and the backends that can run here."""

from __future__ import annotations

import os
import signal
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cuda_on_cpu import toolchain
from hypothesis import HealthCheck, settings
from quick import EXAMPLES, left_out

import pyconv

HERE = Path(__file__).parent
SEED = "PYCONV_TEST_SEED"
"""The variable with the seed of a run: all that is drawn in it follows from that. Fresh in every run."""

# Hypothesis draws anew in every run; CI prints what it found so that a failure can be repeated.
for name, count in EXAMPLES.items():
    how = {"max_examples": count, "deadline": None, "print_blob": bool(os.environ.get("CI"))}
    settings.register_profile(name, suppress_health_check=[HealthCheck.too_slow], **how)


def pytest_configure(config: pytest.Config) -> None:
    """Choose how much is tested, and the seed; xdist's processes inherit that.

    Ctrl-C is heard in a shell's background and SIGHUP under nohup, which ignore them: runs are interrupted by both.
    The width of a terminal is the terminal's own: xdist's processes begin with COLUMNS=80, which would go before it.
    """
    os.environ.pop("COLUMNS", None)
    os.environ.pop("LINES", None)
    _share_bytecode(config)
    settings.load_profile("thorough" if config.getoption("thorough") else "quick")
    os.environ.setdefault(SEED, str(np.random.SeedSequence().entropy % 2**32))
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


def _share_bytecode(config: pytest.Config) -> None:
    """Let the tests' processes share compiled modules where the environment asks for none beside the sources.

    Hundreds of commands and workers are started, and each would spend half of its start on compiling pyconv.
    """
    if not os.environ.pop("PYTHONDONTWRITEBYTECODE", "") or "PYTHONPYCACHEPREFIX" in os.environ:
        return
    folder = tempfile.TemporaryDirectory(prefix="pyconv-bytecode-", ignore_cleanup_errors=True)
    os.environ["PYTHONPYCACHEPREFIX"] = folder.name
    config.add_cleanup(folder.cleanup)


def pytest_report_header(config: pytest.Config) -> str:
    """Say how to repeat the run."""
    much = "all cases" if config.getoption("thorough") else "a quick run, whose cases are drawn; --thorough runs all"
    return f"{SEED}={os.environ[SEED]}: {much}"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what a quick run does without, unless the command names a test."""
    if config.getoption("thorough") or any("::" in str(each) for each in config.invocation_params.args):
        return
    gone = left_out([item for item in items if item.path.is_relative_to(HERE)], int(os.environ[SEED]))
    if gone:
        config.hook.pytest_deselected(items=[item for item in items if item in gone])
        items[:] = [item for item in items if item not in gone]


@pytest.fixture(scope="session", autouse=True)
def _own_temporary_files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Of one of several processes: what a test finds left in the folder is not another process's."""
    if hasattr(request.config, "workerinput"):
        os.environ["PYCONV_EMULATOR_CACHE"] = str(toolchain.folder())  # that one is for all
        os.environ["TMPDIR"] = tempfile.tempdir = str(tmp_path_factory.mktemp("t"))


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Fresh random numbers in every run; the seed is printed when the test fails."""
    print(f"{SEED}={os.environ[SEED]}")
    return np.random.default_rng([int(os.environ[SEED]), zlib.crc32(request.node.nodeid.encode())])


@pytest.fixture
def thorough(request: pytest.FixtureRequest) -> bool:
    """Whether all cases are asked for."""
    return bool(request.config.getoption("thorough"))


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
