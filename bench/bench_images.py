"""Image files are decoded by a pool of threads: a folder of JPEGs on one thread, and on as many as there are CPUs.

The pictures are made here, as large as a photograph of a face. Both ways give the same bits, and take turns. CPU
seconds are recorded beside wall-clock seconds: on a busy machine the wall clock tells how much CPU time the process
got, the CPU seconds tell what the pool costs.
"""

from __future__ import annotations

import functools
import time
from pathlib import Path

import numpy as np
import pytest
from harness.timing import Times
from harness.turns import in_turns
from PIL import Image

from pyconv import datasets, threads
from pyconv.datasets import at_once

EXPERIMENT = "images"
CLASSES = 4
SIZES = {"640×480 colour, brought to 64×64": ((480, 640), (64, 64)), "96×96 colour, as they are": ((96, 96), None)}


def pictures(folder: Path, count: int, size: tuple[int, int], rng: np.random.Generator) -> Path:
    """Class folders of JPEGs: smooth shapes and some noise, so that they compress as photographs do."""
    for number in range(count):
        coarse = rng.integers(0, 256, (12, 16, 3), np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC), np.int16)
        pixels = (smooth + rng.integers(-8, 9, smooth.shape)).clip(0, 255).astype(np.uint8)
        place = folder / f"class{number % CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{number}.jpg", quality=88)
    return folder


@pytest.mark.parametrize("case", SIZES)
def test_a_folder_of_jpegs(
    case: str, measure, two_cpus: None, quick: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    stored, brought = SIZES[case]
    count = (60 if quick else 300) * (1 if brought else 5)
    folder = pictures(tmp_path, count, stored, rng)
    spent: dict[str, list[float]] = {}

    def read(column: str, number: int) -> np.ndarray:
        monkeypatch.setattr(at_once, "default", lambda: number)
        before = time.process_time()
        found = datasets.load(folder, size=brought)
        spent.setdefault(column, []).append(time.process_time() - before)
        return np.concatenate([found.train.x, found.validation.x])

    def verify(results: dict) -> None:
        one, pool = results.values()
        np.testing.assert_array_equal(one, pool)

    columns = {"1 thread": 1, f"{threads.default()} threads": threads.default()}
    calls = {column: functools.partial(read, column, number) for column, number in columns.items()}
    times, disturbed = measure.once(lambda: in_turns(calls, 2 if quick else 7, verify=verify))
    for column, taken in times.items():
        measure.add(
            experiment=EXPERIMENT, case=case, operation=f"read {count} files", column=column, threads=columns[column],
            **taken.as_record(), images_per_s=count / taken.median, ratio=times["1 thread"].median / taken.median,
            cpu_s=Times(tuple(spent[column][1:])).median, disturbed_rounds=disturbed,
        )  # fmt: skip
