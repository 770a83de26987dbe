"""The plan of a pass: arrays that are needed at the same time do not overlap, stages give the same bits, and memory is
not wasted."""

from __future__ import annotations

import numpy as np
import pytest

import pyconv
from pyconv import nn
from pyconv.backends import get
from pyconv.errors import InputError
from pyconv.nn.executor import Executor
from pyconv.nn.plan import Block, lay_out, plan

LAYERS = [
    nn.Conv2D(6, 3, padding="same", activation="relu"),
    nn.Dropout(0.4),
    nn.MaxPool2D(2),
    nn.Conv2D(5, 3),
    nn.BatchNorm(),
    nn.ReLU(),
    nn.Flatten(),
    nn.Dense(9, activation="relu"),
    nn.Dropout(0.2),
    nn.Dense(4),
]


def test_blocks_of_one_moment_do_not_overlap(rng: np.random.Generator) -> None:
    blocks = []
    for _ in range(120):
        start = int(rng.integers(0, 50))
        blocks.append(Block(int(rng.integers(1, 5000)), start, start + int(rng.integers(0, 20))))
    total = lay_out(blocks)
    for i, one in enumerate(blocks):
        assert one.offset % 64 == 0
        assert one.offset + one.size <= total
        for other in blocks[i + 1 :]:
            apart_in_time = one.end < other.start or other.end < one.start
            apart = one.offset + one.size <= other.offset or other.offset + other.size <= one.offset
            assert apart or apart_in_time
    most = max(sum(b.size for b in blocks if b.start <= moment <= b.end) for moment in range(70))
    assert total <= 1.3 * most


def test_inference_takes_less_memory_than_training_and_a_chain_little() -> None:
    model = nn.Sequential([nn.Conv2D(8, 3, padding="same") for _ in range(12)], (16, 16, 8))
    graph, one = model._graph, 4 * 16 * 16 * 8 * 10
    sizes = {
        training: plan(graph, 10, get("reference"), model.dtype, training=training, owned=True).nbytes
        for training in (True, False)
    }
    assert sizes[False] == 2 * one  # two arrays in turn
    assert sizes[True] <= 15 * one  # what the filters' gradients read, and two gradients in turn


@pytest.mark.parametrize("cut", [1, 3, 5])
def test_two_stages_give_the_bits_of_the_whole(rng: np.random.Generator, cut: int) -> None:
    model = nn.Sequential(LAYERS, (10, 9, 2), seed=4)
    model.backend = "serial"
    x, labels = rng.standard_normal((6, 10, 9, 2)).astype("f"), rng.integers(0, 4, 6)
    loss, whole = model.loss_and_gradient(x, labels, step=2, first=3)
    ops, graph = get("serial"), model._graph
    stages = [
        Executor(graph.slice(0, cut), model.dtype, model.seed),
        Executor(graph.slice(cut, len(graph.nodes)), model.dtype, model.seed, input_grad=True),
    ]
    found = {name: np.full(view.shape, np.nan, "f") for name, view in model.parameters.items()}
    passes = [stage.prepared(6, ops, 1, "auto", training=True, owned=False) for stage in stages]
    between = stages[0].forward(passes[0], x, 2, 3).copy()
    logits = stages[1].forward(passes[1], between, 2, 3)
    losses, error = ops.mean_cross_entropy(logits, labels)
    back = stages[1].backward(passes[1], error, found)
    stages[0].backward(passes[0], back.copy(), found)
    assert float(losses.mean(dtype=np.float64)) == loss
    np.testing.assert_array_equal(np.concatenate([found[name].ravel() for name in model.parameters]), whole)


def test_a_slice_needs_a_value_at_its_ends() -> None:
    graph = nn.Sequential(LAYERS, (10, 9, 2))._graph
    with pytest.raises(InputError, match="are none"):
        graph.slice(3, 3)


def test_garbage_in_the_memory_changes_nothing(rng: np.random.Generator) -> None:
    model = nn.Sequential(LAYERS, (10, 9, 2), seed=4, dtype="float64")
    model.backend = "serial"
    x, labels = rng.standard_normal((6, 10, 9, 2)), rng.integers(0, 4, 6)
    _, first = model.loss_and_gradient(x, labels)
    model._here._executor._memory[...] = 255  # NaN in both precisions
    _, second = model.loss_and_gradient(x, labels)
    np.testing.assert_array_equal(first, second)


POOLED = [
    nn.Conv2D(8, 3, padding="same", activation="relu"),
    nn.MaxPool2D(2),
    nn.Conv2D(5, 3),
    nn.ReLU(),
    nn.MaxPool2D(2, stride=1),
    nn.Flatten(),
    nn.Dense(4),
]


@pytest.mark.parametrize("backend", ["reference", "serial", "multicore"])
def test_passes_of_other_sizes_and_kinds_take_turns(rng: np.random.Generator, backend: str) -> None:
    """Arrays that a training pass keeps have its batch's size: inference with a larger batch must not use them."""
    if pyconv.backends()[backend] is not None:
        pytest.skip(f"{backend} cannot run here")
    model, fresh = (nn.Sequential(POOLED, (10, 9, 2), seed=4) for _ in range(2))
    model.backend = fresh.backend = backend
    x, labels = rng.standard_normal((200, 10, 9, 2)).astype("f"), rng.integers(0, 4, 200)
    expected = {}
    for n in (5, 40, 200, 3, 17):
        expected[n] = fresh.forward(x[:n]).copy()
        _, gradient = model.loss_and_gradient(x[:7], labels[:7], step=n)
        kept = gradient.copy()
        np.testing.assert_array_equal(model.forward(x[:n], training=False), expected[n])
        _, again = model.loss_and_gradient(x[:7], labels[:7], step=n)
        np.testing.assert_array_equal(again, kept)
