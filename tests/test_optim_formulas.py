"""Each optimiser against its formula, written down again for single numbers: this needs no other library."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pyconv import optim

CASES = {
    "sgd": ("sgd", {"lr": 0.02}),
    "sgd, decay": ("sgd", {"lr": 0.02, "weight_decay": 0.3}),
    "momentum": ("sgd", {"lr": 0.02, "momentum": 0.8, "weight_decay": 0.1}),
    "nesterov": ("sgd", {"lr": 0.02, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1}),
    "adagrad": ("adagrad", {"lr": 0.1, "lr_decay": 0.1, "eps": 1e-3, "weight_decay": 0.2}),
    "adadelta": ("adadelta", {"lr": 0.5, "rho": 0.8, "eps": 1e-3, "weight_decay": 0.2}),
    "adam": ("adam", {"lr": 0.02, "beta1": 0.8, "beta2": 0.95, "eps": 1e-2, "weight_decay": 0.2}),
    "adamw": ("adamw", {"lr": 0.02, "beta1": 0.8, "beta2": 0.95, "eps": 1e-2, "weight_decay": 0.2}),
    "adamax": ("adamax", {"lr": 0.02, "beta1": 0.8, "beta2": 0.95, "eps": 1e-2, "weight_decay": 0.2}),
}


def stepped(name: str, how: dict, p: float, g: float, state: dict[str, float], step: int) -> float:
    """One parameter after a step; `state`, empty at first, is changed."""
    lr, decay, eps = how["lr"], how.get("weight_decay", 0.0), how.get("eps", 0.0)
    if name == "adamw":
        p -= lr * decay * p
    else:
        g += decay * p
    if name == "sgd":
        momentum = how.get("momentum", 0.0)
        v = state["v"] = momentum * state.get("v", 0.0) + g
        return p - lr * (g + momentum * v if how.get("nesterov") else v)
    if name == "adagrad":
        total = state["total"] = state.get("total", 0.0) + g * g
        return p - lr / (1 + (step - 1) * how["lr_decay"]) * g / (math.sqrt(total) + eps)
    if name == "adadelta":
        rho = how["rho"]
        square = state["square"] = rho * state.get("square", 0.0) + (1 - rho) * g * g
        moved = math.sqrt(state.get("moved", 0.0) + eps) / math.sqrt(square + eps) * g
        state["moved"] = rho * state.get("moved", 0.0) + (1 - rho) * moved * moved
        return p - lr * moved
    beta1, beta2 = how["beta1"], how["beta2"]
    m = state["m"] = beta1 * state.get("m", 0.0) + (1 - beta1) * g
    if name == "adamax":
        u = state["u"] = max(beta2 * state.get("u", 0.0), abs(g) + eps)
        return p - lr / (1 - beta1**step) * m / u
    v = state["v"] = beta2 * state.get("v", 0.0) + (1 - beta2) * g * g
    return p - lr * (m / (1 - beta1**step)) / (math.sqrt(v / (1 - beta2**step)) + eps)


@pytest.mark.parametrize("case", CASES)
def test_an_optimiser_follows_its_formula(case: str, rng: np.random.Generator) -> None:
    name, how = CASES[case]
    optimizer = optim.by_name(name, **how)
    flat = rng.standard_normal(7)
    expected, states, state = flat.tolist(), [{} for _ in flat], optimizer.init(7, np.float64)
    for step in range(1, 31):
        gradient = rng.standard_normal(7)
        gradient[step % 7] = 0
        optimizer.update(flat, gradient, state, step)
        expected = [stepped(name, how, *each, step) for each in zip(expected, gradient.tolist(), states, strict=True)]
        np.testing.assert_allclose(flat, expected, rtol=1e-10, atol=1e-12, err_msg=f"step {step}")


@pytest.mark.parametrize("total", [1, 7, 40])
def test_the_schedules_follow_their_formulas(total: int) -> None:
    for warmup in (0, 3):
        after = max(total - warmup, 1)
        schedules = optim.schedule("constant", warmup=warmup), optim.schedule("cosine", warmup=warmup, floor=0.1)
        for step in range(1, total + 1):
            if step <= warmup:
                wanted = [step / warmup] * 2
            else:
                wanted = [1.0, 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (step - 1 - warmup) / after))]
            assert [each(step, total) for each in schedules] == pytest.approx(wanted), (step, warmup)
