"""Options of `pytest`, what it collects (tests, or with --benchmark-only benchmarks), and on how many processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("pyconv")
    group.addoption("--quick", action="store_true", help="benchmarks: small sizes, under a minute a file")
    group.addoption("--thorough", action="store_true", help="all cases of the tests; of the benchmarks what takes long")
    group.addoption("--results", type=Path, help="of benchmarks (default: bench/results, or .../quick)")
    group.addoption("--isa", choices=("baseline", "avx2", "avx512"), help="limit pyconv and PyTorch to this ISA")


#: What limits pyconv, and PyTorch's oneDNN, MKL (on 1×1 convolutions, say) and kernels of its own.
LIMITS = {
    "PYCONV_ISA": {"baseline": "baseline", "avx2": "avx2", "avx512": "avx512"},
    "ONEDNN_MAX_CPU_ISA": {"baseline": "SSE41", "avx2": "AVX2", "avx512": "AVX512_CORE"},
    "MKL_ENABLE_INSTRUCTIONS": {"baseline": "SSE4_2", "avx2": "AVX2", "avx512": "AVX512"},
    "ATEN_CPU_CAPABILITY": {"baseline": "default", "avx2": "avx2", "avx512": "avx512"},
}


def pytest_configure(config: pytest.Config) -> None:
    # Before anything imports pyconv's kernels or PyTorch: both read these once.
    isa = config.getoption("isa")
    if isa is not None:
        os.environ.update({variable: value[isa] for variable, value in LIMITS.items()})


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """The number of processes of ``-n auto``: a few, because many tests start processes and threads themselves."""
    from pyconv.threads import usable_cpus

    return min(usable_cpus(), 4)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the benchmarks, or with --benchmark-only the tests, unless the command names a path in them."""
    benchmarking = config.getoption("benchmark_only", default=False)
    left_out = ROOT / ("tests" if benchmarking else "bench")
    if not collection_path.is_relative_to(left_out):
        return None
    named = (Path(argument.split("::")[0]).resolve() for argument in map(str, config.invocation_params.args))
    return None if any(path.is_relative_to(left_out) for path in named) else True
