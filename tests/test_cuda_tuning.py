"""Tuning and timing: the fastest tile is found, remembered in a file, and taken from there."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from cuda_devices import BACKEND, DEVICES, running_on

import pyconv.reference as twin
from pyconv import cuda
from pyconv.cuda import block_tuned, tile_file, timing
from pyconv.cuda.array import to_device
from pyconv.cuda.choice import TABLE
from pyconv.cuda.problem import Problem
from pyconv.errors import RunError
from pyconv.shapes import conv_geometry

on_every_device = pytest.mark.parametrize("device", DEVICES)
G = conv_geometry((2, 8, 8, 8), (3, 3, 8, 16), stride=2, padding=1)
FORWARD = Problem.forward(G)
VARIANT: block_tuned.BlockTuned = TABLE["block_tuned"]  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYCONV_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("PYCONV_CUDA_SPECIALISE", "0")
    tile_file._read.cache_clear()
    VARIANT.forget()


def static() -> list[block_tuned.Tile]:
    return [tile for tile, _ in zip(block_tuned.candidates(FORWARD, np.float32), range(5))]


@on_every_device
def test_the_fastest_tile_is_remembered(rng: np.random.Generator, device: str) -> None:
    with running_on(device):
        found = cuda.tune(G, tries=3)
        assert set(found) == {"forward", "input_grad"}
        for name, problem in (("forward", FORWARD), ("input_grad", Problem.input_grad(G))):
            times = [milliseconds for _, milliseconds in found[name]]
            assert len(times) == 3 and times == sorted(times) and times[0] > 0
            assert VARIANT.choice(problem, np.float32) == found[name][0][0]
        content = json.loads(tile_file.path().read_text())
        assert content["version"] == 1 and len(content["tiles"]) == 2
        x, weight = rng.standard_normal(G.input_shape).astype("f"), rng.standard_normal(G.weight_shape).astype("f")
        y = BACKEND.conv2d(x, weight, None, G, algorithm="block_tuned")
        np.testing.assert_allclose(y, twin.conv2d(x, weight, None, G), atol=1e-4)


def test_what_the_file_says_is_taken_and_a_second_layer_keeps_the_first() -> None:
    with running_on("emulated"):
        tiles = static()
        assert VARIANT.choice(FORWARD, np.float32) == tiles[0]
        tile_file.remember("block_tuned", FORWARD, np.float32, tiles[3])
        VARIANT.forget()
        assert VARIANT.choice(FORWARD, np.float32) == tiles[3]
        tile_file.remember("block_tuned", Problem.input_grad(G), np.float32, tiles[1])
        assert len(json.loads(tile_file.path().read_text())["tiles"]) == 2
        assert VARIANT.choice(FORWARD, np.float64) != tiles[3], "another precision is another layer"


@pytest.mark.parametrize(
    "change",
    [
        lambda tile: {**tile, "out_p": 0},
        lambda tile: {**tile, "tile_h": "4"},
        lambda tile: {**tile, "tile_h": 1 << 20},
        lambda tile: {**tile, "out_k": 2},
        lambda tile: {**tile, "tile_k": tile["tile_k"] + 1},
        lambda tile: {**tile, "out_p": [1]},
        lambda tile: {**tile, "unknown": 1},
        lambda tile: {},
    ],
    ids=["zero", "text", "too large", "no whole pack", "not aligned", "list", "unknown", "empty"],
)
def test_a_tile_that_cannot_be_is_not_taken(change) -> None:
    with running_on("emulated"):
        tiles = static()
        tile_file.remember("block_tuned", FORWARD, np.float32, tiles[2])
        content = json.loads(tile_file.path().read_text())
        (key,) = content["tiles"]
        content["tiles"][key] = change(asdict(tiles[2]))
        tile_file.path().write_text(json.dumps(content))
        tile_file._read.cache_clear()
        assert VARIANT.choice(FORWARD, np.float32) == tiles[0]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 99, "tiles": {}}', '{"version": 1}'])
def test_a_damaged_file_is_as_none(text: str) -> None:
    with running_on("emulated"):
        tile_file.path().write_text(text)
        assert VARIANT.choice(FORWARD, np.float32) == static()[0]
        tile_file.remember("block_tuned", FORWARD, np.float32, static()[1])
        assert list(json.loads(tile_file.path().read_text())["tiles"].values()) == [asdict(static()[1])]


def test_a_cache_folder_that_cannot_be_made_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PYCONV_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(RunError, match=r"cannot be made: .*; set PYCONV_CACHE_DIR"):
        tile_file.path()


@on_every_device
def test_times_by_events(rng: np.random.Generator, device: str) -> None:
    x = rng.standard_normal((64, 33)).astype(np.float32)
    with running_on(device) as running:
        there = to_device(x)
        BACKEND.relu(there)
        if device == "emulated":
            running.launches.clear()
        alone = timing.kernels(lambda: BACKEND.relu(there), calls=4)
        if device == "emulated":
            names = [kernel for _, kernel in running.launches]
            assert names == ["relu", "hold", *["relu"] * 4], "the device is held up until all is queued"
        whole = timing.whole(lambda: BACKEND.relu(x), calls=2)
    assert 0 < alone < 1 and 0 < whole < 1
