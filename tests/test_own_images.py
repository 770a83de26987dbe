"""The how-to on a user's own images: its network learns with the default settings."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from pyconv import train

PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "own-images.md"


def gratings(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Stripes of two colours, across or down, of any width, under noise."""
    labels = np.arange(n) % 2
    along = np.arange(64) / 64
    waves = np.sin(2 * np.pi * rng.uniform(3, 7, (n, 1)) * along + rng.uniform(0, 6, (n, 1)))
    waves = np.where(labels[:, None, None] == 0, waves[:, None, :], waves[:, :, None])[..., None]
    x = (
        rng.uniform(60, 190, (n, 1, 1, 3))
        + waves * rng.uniform(-50, 50, (n, 1, 1, 3))
        + rng.normal(0, 9, (n, 64, 64, 3))
    )
    return x.clip(0, 255).astype(np.uint8), labels


def test_the_networks_loss_falls(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    (network,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "net.toml").write_text(network)
    np.savez(tmp_path / "a.npz", **dict(zip(("x", "y"), gratings(rng, 128), strict=True)))
    arguments = ["--data", str(tmp_path / "a.npz"), "--model", str(tmp_path / "net.toml"), "--batch-size", "16"]
    assert train.main([*arguments, "--epochs", "4", "--out", str(tmp_path / "run"), "--progress", "off"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert max(line["train_loss"] for line in lines) < 1.5
    assert lines[-1]["train_loss"] < 0.6
    assert lines[-1]["val_accuracy"] > 0.8
