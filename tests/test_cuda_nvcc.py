"""nvcc compiles every kernel for every architecture that pyconv supports, and the fast ones without register spills."""

from __future__ import annotations

import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from cuda_devices import BACKEND, NO_EMULATOR, running_on
from cuda_on_cpu.null import NullDevice

from pyconv import cuda, nn, optim, threads
from pyconv.cuda import block_tuned, first_layer, implicit_gemm, source
from pyconv.cuda.problem import REAL, Problem
from pyconv.cuda.variants import SharedInput, SharedInputFilter
from pyconv.nn.on_device import OptimizerOnDevice
from pyconv.shapes import ConvGeometry, conv_geometry

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc, of NVIDIA's CUDA toolkit, is not on PATH"),
    pytest.mark.skipif(NO_EMULATOR is not None, reason=str(NO_EMULATOR)),  # the tiles are chosen for this device
]

ARCHITECTURES = ("sm_75", "sm_80", "sm_90")
DTYPES = ("float32", "float64")

FER = [
    conv_geometry((128, 48, 48, 1), (5, 5, 1, 32), padding=2),
    conv_geometry((128, 24, 24, 32), (3, 3, 32, 64), padding=1),
    conv_geometry((128, 6, 6, 128), (3, 3, 128, 256), padding=1),
]
ODD = conv_geometry((3, 17, 19, 10), (3, 5, 5, 14), stride=(2, 1), padding=1, dilation=(1, 2), groups=2)


def build(folder: Path, name: str, architecture: str, macros: source.Macros) -> dict[str, tuple[int, int]]:
    """Compile a file; for each kernel its registers and the bytes that it spills."""
    text = folder / name
    text.write_text(source.text(name))
    command = ["nvcc", f"-arch={architecture}", "--cubin", "-O3", "-std=c++17", "-Xptxas", "-v", str(text)]
    done = subprocess.run(
        [*command, "-o", str(folder / "out.cubin"), *source.defines(macros)],
        capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr, done.stderr
    found, kernel, spills = {}, "", 0
    for line in done.stderr.splitlines():
        if match := re.search(r"Compiling entry function '(\w+)'", line):
            kernel = match[1]
        elif match := re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", line):
            spills = int(match[1]) + int(match[2])
        elif match := re.search(r"Used (\d+) registers", line):
            found[kernel] = int(match[1]), spills
    assert found, done.stderr
    return found


def convolutions(g: ConvGeometry, dtype: str) -> list[tuple[str, source.Macros]]:
    """Every convolution file with the macros that it gets for a layer."""
    p, itemsize = Problem.forward(g), np.dtype(dtype).itemsize
    shape = p.macros(dtype)
    tile = next(block_tuned.candidates(p, dtype))
    gemm, _ = implicit_gemm.choose(p.pixels, p.group_filters, p.taps * p.group_channels, p.groups, itemsize, 132, True)
    pool = (2, 2) if p.channels == 1 else (1, 1)
    first = first_layer._tile(p, pool, itemsize)
    wide = (4 if p.group_channels % 4 == 0 else 1), (4 if p.group_filters % 4 == 0 else 1)
    files: list[tuple[str, source.Macros]] = [
        ("naive.cu", shape),
        ("shared_input.cu", {**shape, **SharedInput().tile(p, dtype)[0]}),
        ("shared_input_filter.cu", {**shape, **SharedInputFilter().tile(p, dtype)[0]}),
        ("block_tuned.cu", {**shape, **tile.macros(), "GRAD_C": 32, "GRAD_K": 64, "GRAD_P": 32 * 4 // itemsize}),
        ("implicit_gemm.cu", {**shape, **gemm.macros(*wide)}),
    ]
    if first is not None:  # the variant is refused if there are many channels
        files.append(("first_layer.cu", {**shape, **first, "GRAD_K": 32, "GRAD_T": 8, "GRAD_D": 4}))
    return files


def others(dtype: str) -> list[tuple[str, source.Macros]]:
    names = {path.name for path in source.HERE.glob("*.cu")} - {name for name, _ in convolutions_of_none()}
    return [(name, {"REAL": REAL[np.dtype(dtype).char]}) for name in sorted(names)]


def convolutions_of_none() -> list[tuple[str, source.Macros]]:
    with running_on("emulated"):
        return convolutions(ODD, "float32")


def no_spills(name: str, found: dict[str, tuple[int, int]]) -> None:
    if name in ("block_tuned.cu", "implicit_gemm.cu"):
        assert all(spilled == 0 for _, spilled in found.values()), (name, found)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_file_compiles(architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a layer's macros, in float32: one pass over all files."""
    monkeypatch.setenv("PYCONV_CUDA_SPECIALISE", "0")
    with running_on("emulated"):
        files = [*convolutions(ODD, "float32"), *others("float32")]
        all_of(tmp_path, [(name, architecture, macros) for name, macros in files])


def all_of(folder: Path, jobs: list[tuple[str, str, source.Macros]]) -> dict[str, dict[str, tuple[int, int]]]:
    """Compile (file, architecture, macros) side by side; without spills in the fast ones."""

    def one(number: int) -> tuple[str, dict[str, tuple[int, int]]]:
        name, architecture, macros = jobs[number]
        (folder / str(number)).mkdir()
        return name, build(folder / str(number), name, architecture, macros)

    with ThreadPoolExecutor(threads.usable_cpus()) as pool:
        results = list(pool.map(one, range(len(jobs))))
    for name, found in results:
        no_spills(name, found)
    return dict(results)


def test_all_that_training_fer_compiles(tmp_path: Path) -> None:
    """The programs are recorded from two steps with every layer of pyconv, as on a GPU with 132 multiprocessors."""
    model = nn.build("fer-bn")
    x, labels = np.zeros((128, 48, 48, 1), np.uint8), np.zeros(128, np.int64)
    with cuda.use(NullDevice(132)) as device:
        network = model.on_device()
        network.begin(network.stage(x, labels), BACKEND, "auto", model.normalization, 0, 0)
        OptimizerOnDevice(optim.SGD(0.1), network).update(1, 0.1)
    compiled = [(name, "sm_90", macros) for (name, _), macros in device.compiled.items()]
    assert {"implicit_gemm.cu", "first_layer.cu", "channels.cu", "dropout.cu", "updates.cu"} <= {c[0] for c in compiled}
    all_of(tmp_path, compiled)


@pytest.mark.parametrize(
    ("g", "architecture", "dtype"),
    [
        (FER[0], "sm_90", "float32"),
        (FER[1], "sm_75", "float32"),
        (FER[2], "sm_80", "float32"),
        (ODD, "sm_90", "float64"),
    ],
)  # fmt: skip
def test_the_paper_s_variants_compile(g: ConvGeometry, architecture: str, dtype: str, tmp_path: Path) -> None:
    """With a layer's macros, as in training, and the tiles that the static choice takes."""
    with running_on("emulated"):
        jobs = [(name, architecture, macros) for name, macros in convolutions(g, dtype)]
        all_of(tmp_path, jobs)


def test_no_kind_of_tile_of_block_tuned_spills(tmp_path: Path) -> None:
    """The likeliest tile for each number of outputs of a thread; forward, and input gradient of a strided layer."""
    strided = conv_geometry((128, 24, 24, 32), (3, 3, 32, 64), stride=2, padding=1)
    with running_on("emulated"):
        jobs = []
        for p in (Problem.forward(FER[1]), Problem.input_grad(strided)):
            kinds: dict[tuple[int, int], block_tuned.Tile] = {}
            for tile in block_tuned.candidates(p, "float32"):
                kinds.setdefault((tile.out_p, tile.out_k), tile)
            most = sorted(kinds.items(), key=lambda item: -item[0][0] * item[0][1])[:4]
            for _, tile in most:
                macros = {**p.macros("float32"), **tile.macros(), "GRAD_C": 32, "GRAD_K": 64, "GRAD_P": 32}
                jobs.append(("block_tuned.cu", "sm_90", macros))
        all_of(tmp_path, jobs)


def test_no_tile_of_implicit_gemm_spills(tmp_path: Path) -> None:
    tiles = [*implicit_gemm._LARGE, *implicit_gemm._SMALL]
    shape = Problem.forward(FER[1]).macros("float32")
    with running_on("emulated"):
        jobs = [("implicit_gemm.cu", "sm_90", {**shape, **tile.macros(4, 4)}) for tile in tiles]
        for tile, (name, architecture, macros) in zip(tiles, jobs):
            folder = tmp_path / f"{tile.m}x{tile.n}"
            folder.mkdir()
            found = all_of(folder, [(name, architecture, macros)])[name]
            # Two blocks of 256 threads, or as many threads in smaller ones, must fit into 65536 registers.
            fits = all(registers * tile.threads * 2 <= 65536 or tile.threads < 256 for registers, _ in found.values())
            assert fits, (tile, found)
