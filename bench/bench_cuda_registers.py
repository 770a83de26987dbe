"""Registers and spilled bytes per thread in the GPU's fast kernels, as nvcc reports them; no GPU is needed.

The kernels are those of the forward pass for the layers of the model `fer` and of AlexNet at batch 128, with the tiles
that the static choice takes for each card below. The table goes to ``bench/results/cuda_registers.md``.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from harness.layers import FER, GROUPS, Layer

from pyconv import cuda
from pyconv.cuda import first_layer, implicit_gemm, source
from pyconv.cuda.problem import Problem
from pyconv.threads import usable_cpus

EXPERIMENT = "cuda_registers"
#: Architecture: multiprocessors of a card that has it (T4, A100, H100).
CARDS = {"sm_75": 40, "sm_80": 108, "sm_90": 132}
LAYERS = [*FER, *(one for group in GROUPS for one in group.layers if "AlexNet" in one.name)]


def compiled(folder: Path, name: str, architecture: str, options: tuple[str, ...]) -> dict[str, tuple[int, int, int]]:
    """For each kernel of a file: registers, spilled bytes, and bytes of static shared memory."""
    text = folder / name
    text.write_text(source.text(name))
    command = ["nvcc", f"-arch={architecture}", "--cubin", "-O3", "-std=c++17", "-Xptxas", "-v", *options]
    done = subprocess.run([*command, str(text), "-o", f"{text}.cubin"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found, kernel, spilled = {}, "", 0
    for line in done.stderr.splitlines():
        if match := re.search(r"Compiling entry function '(\w+)'", line):
            kernel = match[1]
        elif match := re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", line):
            spilled = int(match[1]) + int(match[2])
        elif match := re.search(r"Used (\d+) registers", line):
            shared = re.search(r"(\d+) bytes smem", line)
            found[kernel] = int(match[1]), spilled, int(shared[1]) if shared else 0
    return found


def files_of(p: Problem, multiprocessors: int) -> list[tuple[str, dict, str, int]]:
    """The fast variants for a problem, each as (file, macros, tile in words, threads of a block)."""
    from pyconv.cuda.block_tuned import _GRAD, candidates

    files = []
    tile = next(candidates(p, "float32"), None)
    if tile is not None:
        words = (
            f"{tile.tile_n}×{tile.tile_h}×{tile.tile_w} pixels × {tile.tile_k} filters, {tile.out_p}×{tile.out_k} each"
        )
        files.append(("block_tuned.cu", {**tile.macros(), **_GRAD}, words, tile.threads))
    depth = p.taps * p.group_channels
    gemm, shares = implicit_gemm.choose(p.pixels, p.group_filters, depth, p.groups, 4, multiprocessors, True)
    wide = (4 if p.group_channels % 4 == 0 else 1), (4 if p.group_filters % 4 == 0 else 1)
    words = f"{gemm.m} pixels × {gemm.n} filters, {gemm.per_m}×{gemm.per_n} each, {shares} share(s)"
    files.append(("implicit_gemm.cu", gemm.macros(*wide), words, gemm.threads))
    if p.channels == 1:
        macros = first_layer._tile(p, (2, 2), 4)
        assert macros is not None
        threads = macros["TILE_K"] // macros["OUT_K"] * macros["TILE_H"] * macros["TILE_W"]
        words = (
            f"{macros['TILE_H']}×{macros['TILE_W']} windows × {macros['TILE_K']} filters, 2×2×{macros['OUT_K']} each"
        )
        files.append(("first_layer.cu", {**macros, **first_layer._GRAD}, words, threads))
    return files


@pytest.mark.parametrize("architecture", CARDS)
@pytest.mark.parametrize("one", LAYERS, ids=lambda one: one.id)
def test_registers(one: Layer, architecture: str, measure, tmp_path: Path) -> None:
    if shutil.which("nvcc") is None:
        pytest.skip("nvcc, of NVIDIA's CUDA toolkit, is not on PATH")
    g = Layer(one.name, (128, *one.shape[1:]), one.filters, one.kernel, one.stride, one.padding).geometry
    described = SimpleNamespace(
        name=architecture, capability=(9, 0), multiprocessors=CARDS[architecture], shared_bytes=48 * 1024
    )

    p = Problem.forward(g)

    def all_of() -> list[tuple]:
        with cuda.use(described):  # type: ignore[arg-type]
            files = files_of(p, CARDS[architecture])

        def row(file: tuple[str, dict, str, int]) -> tuple:
            name, macros, words, threads = file
            options = tuple(source.defines({**p.macros("float32"), **macros}))
            return name, words, threads, compiled(tmp_path, name, architecture, options)["convolve"]

        with ThreadPoolExecutor(usable_cpus()) as pool:  # nvcc takes a second for each
            return list(pool.map(row, files))

    for name, words, threads, (registers, spilled, shared) in measure.once(all_of):
        measure.add(
            experiment=EXPERIMENT, case=one.name.rsplit(" b", 1)[0], operation="forward",
            column=f"{name.removesuffix('.cu')} {architecture}", tile=words, block=threads, registers=registers,
            spilled_bytes=spilled, static_shared_bytes=shared,
        )  # fmt: skip
        assert spilled == 0
