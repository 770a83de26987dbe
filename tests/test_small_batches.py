"""Networks that need several images in a mini-batch: the last one of an epoch has enough, or the run is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import pyconv
from pyconv import nn, optim
from pyconv.errors import InputError
from pyconv.parallel import RULES


def data(n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(n).integers(0, 256, (n, 4, 4, 1), dtype=np.uint8), np.arange(n) % 2


def normed() -> nn.Sequential:
    """BatchNorm gets one number for each channel and image, as behind a dense layer of fer-bn."""
    return nn.Sequential([nn.Flatten(), nn.Dense(6), nn.BatchNorm(), nn.ReLU(), nn.Dense(2)], input_shape=(4, 4, 1))


def test_how_many_images_a_network_needs() -> None:
    assert normed().least_batch == nn.build("fer-bn").least_batch == 2
    by_pixels = nn.Sequential([nn.Conv2D(2, 3), nn.BatchNorm(), nn.Flatten(), nn.Dense(2)], input_shape=(4, 4, 1))
    assert by_pixels.least_batch == nn.build("fer").least_batch == 1  # four pixels of one image have a variance


@pytest.mark.covering("update", most=3)
@pytest.mark.parametrize(
    ("n", "workers", "update"), [(17, 1, "sync"), (18, 2, "sync"), *((17, 2, update) for update in RULES)]
)
def test_a_last_batch_of_one_image(n: int, workers: int, update: str) -> None:
    model = normed()
    history = pyconv.fit(model, *data(n), epochs=2, batch_size=8 // workers, workers=workers, update=update,
                         optimizer=optim.SGD(0.01), threads_per_worker=1, progress="off")  # fmt: skip
    assert [line["images"] for line in history] == [n, n]
    assert [line["restarts"] for line in history] == [0, 0]
    assert history[-1]["step"] == 6
    assert np.isfinite(model.flat).all()


@pytest.mark.parametrize(
    ("n", "batch_size", "workers", "advice"),
    [(12, 1, 1, "take batch_size 2$"), (13, 2, 1, "take batch_size 3$"), (13, 2, 2, "take batch_size 3$"),
     (8, 1, 8, "take batch_size 2 and at most 4 workers$")],
)  # fmt: skip
def test_what_cannot_be_split_is_refused_with_what_would_do(
    tmp_path: Path, n: int, batch_size: int, workers: int, advice: str
) -> None:
    with pytest.raises(InputError, match=f"^batch_size {batch_size}.*BatchNorm needs; {advice}"):
        pyconv.fit(normed(), *data(n), batch_size=batch_size, workers=workers, out=tmp_path / "run", progress="off")
    assert not list(tmp_path.iterdir())
