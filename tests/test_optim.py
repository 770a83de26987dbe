"""The optimizers against PyTorch's, and on slices; the schedules against PyTorch's."""

import itertools
import pickle

import numpy as np
import pytest

from pyconv import optim
from pyconv.errors import DtypeError, InputError, ShapeError, UnknownNameError
from pyconv.optim import _fused
from pyconv.optim.base import BLOCK, Optimizer

#: name, our settings, PyTorch's class, PyTorch's settings
CASES = [
    ("sgd", {"lr": 0.05}, "SGD", {"lr": 0.05}),
    ("sgd", {"lr": 0.05, "momentum": 0.9}, "SGD", {"lr": 0.05, "momentum": 0.9}),
    (
        "sgd",
        {"lr": 0.02, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1},
        "SGD",
        {"lr": 0.02, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1},
    ),
    ("sgd", {"lr": 0.02, "weight_decay": 0.3}, "SGD", {"lr": 0.02, "weight_decay": 0.3}),
    ("adagrad", {}, "Adagrad", {"lr": 0.01}),
    (
        "adagrad",
        {"lr": 0.1, "lr_decay": 0.1, "eps": 1e-3, "weight_decay": 0.2},
        "Adagrad",
        {"lr": 0.1, "lr_decay": 0.1, "eps": 1e-3, "weight_decay": 0.2},
    ),
    ("adadelta", {}, "Adadelta", {"lr": 1.0}),
    (
        "adadelta",
        {"lr": 0.5, "rho": 0.8, "eps": 1e-3, "weight_decay": 0.2},
        "Adadelta",
        {"lr": 0.5, "rho": 0.8, "eps": 1e-3, "weight_decay": 0.2},
    ),
    ("adam", {}, "Adam", {"lr": 1e-3}),
    (
        "adam",
        {"lr": 0.02, "beta1": 0.8, "beta2": 0.95, "eps": 1e-2, "weight_decay": 0.2},
        "Adam",
        {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-2, "weight_decay": 0.2},
    ),
    ("adamw", {}, "AdamW", {"lr": 1e-3}),
    (
        "adamw",
        {"lr": 0.02, "beta1": 0.8, "beta2": 0.95, "eps": 1e-2, "weight_decay": 0.2},
        "AdamW",
        {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-2, "weight_decay": 0.2},
    ),
    ("adamax", {}, "Adamax", {"lr": 2e-3}),
    (
        "adamax",
        {"lr": 0.02, "beta1": 0.8, "beta2": 0.95, "eps": 1e-2, "weight_decay": 0.2},
        "Adamax",
        {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-2, "weight_decay": 0.2},
    ),
]
IDS = [f"{name}-{'plain' if len(ours) < 2 else '-'.join(ours)}" for name, ours, _, _ in CASES]


def gradient(p, step):
    """The gradient of a quadratic function, with a term that changes from step to step; exactly 0 in one place."""
    g = 3 * np.tanh(p - 1) ** 3 + 0.5 * p + np.sin(np.arange(p.size, dtype=p.dtype) * step)
    g[3] = 0
    return g.astype(p.dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name, ours, torch_name, theirs", CASES, ids=IDS)
def test_follows_pytorch_for_100_steps(name, ours, torch_name, theirs, dtype):
    torch = pytest.importorskip("torch")
    start = np.random.default_rng(7).normal(size=37).astype(dtype)
    optimizer = optim.by_name(name, **ours)
    flat = start.copy()
    state = optimizer.init(flat.size, dtype)
    parameter = torch.nn.Parameter(torch.from_numpy(start.copy()))
    other = getattr(torch.optim, torch_name)([parameter], **theirs)
    rtol = 1e-12 if dtype == "float64" else 2e-5
    for step in range(1, 101):
        optimizer.update(flat, gradient(flat, step), state, step)
        parameter.grad = torch.from_numpy(gradient(parameter.detach().numpy(), step))
        other.step()
        np.testing.assert_allclose(flat, parameter.detach().numpy(), rtol=rtol, atol=rtol, err_msg=f"step {step}")
    assert np.abs(flat - start).max() > 1e-3
    assert flat.dtype == dtype and all(vector.dtype == dtype for vector in state.values())


@pytest.mark.parametrize("name, ours, torch_name, theirs", CASES, ids=IDS)
def test_slices_give_the_bits_of_the_whole(name, ours, torch_name, theirs):
    """Updates of slices, as in a parameter server, give the same bits; so does any division into blocks."""
    rng = np.random.default_rng(3)
    n = 2 * BLOCK + 123
    optimizer = optim.by_name(name, **ours)
    whole = rng.normal(size=n).astype(np.float32)
    sliced = whole.copy()
    state, sliced_state = optimizer.init(n), optimizer.init(n)
    cuts = [0, 5, BLOCK - 1, BLOCK + 77, n]
    for step in range(1, 5):
        g = rng.normal(size=n).astype(np.float32)
        kept = g.copy()
        optimizer.update(whole, g, state, step)
        np.testing.assert_array_equal(g, kept)
        for a, b in itertools.pairwise(cuts):
            optimizer.update(sliced[a:b], g[a:b], {k: v[a:b] for k, v in sliced_state.items()}, step)
    np.testing.assert_array_equal(whole, sliced)
    for key in state:
        np.testing.assert_array_equal(state[key], sliced_state[key])


SGD_SETTINGS = [
    {"lr": 0.05},
    {"lr": 0.05, "weight_decay": 0.3},
    {"lr": 0.05, "momentum": 0.9},
    {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.3},
    {"lr": 0.05, "momentum": 0.9, "nesterov": True},
    {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.3},
]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("settings", SGD_SETTINGS, ids=lambda settings: "-".join(settings))
def test_compiled_pass_gives_the_bits_of_numpy(settings, dtype):
    """For all sizes near a vector's length, and every place of the first number in a cache line, on fresh numbers."""
    rng = np.random.default_rng()
    optimizer = optim.SGD(**settings)
    for n in (*range(1, 36), 1000, BLOCK + 7):
        start = int(rng.integers(16))
        p, g = rng.normal(size=(2, n + 16)).astype(dtype)[:, start : start + n]
        state = {name: rng.normal(size=n + 16).astype(dtype)[-n:] for name in optimizer.state_names}
        numpy_p, numpy_state = p.copy(), {name: vector.copy() for name, vector in state.items()}
        assert _fused.sgd(
            p.copy(), g, numpy_state["momentum"].copy() if state else None, 0.1, 0.5, 0.0, False
        )  # so update() uses the compiled pass
        optimizer.update(p, g, state, 1)
        Optimizer._update_vectors(optimizer, [numpy_p, g, *numpy_state.values()], (optimizer.lr,))
        np.testing.assert_array_equal(p, numpy_p)
        for name in state:
            np.testing.assert_array_equal(state[name], numpy_state[name])


def unaligned(values):
    """The same values, at an address that is one byte further."""
    memory = np.empty(values.nbytes + 1, np.uint8)[1:].view(values.dtype)
    memory[...] = values
    return memory


@pytest.mark.parametrize(
    "odd",
    [
        lambda values: np.repeat(values, 2)[::2],
        lambda values: values[::-1].copy()[::-1],
        lambda values: values.astype(values.dtype.newbyteorder()),
        unaligned,
    ],
    ids=["strided", "backwards", "byte order", "unaligned"],
)
@pytest.mark.parametrize("place", ["parameters", "gradient", "state"])
def test_vectors_that_only_numpy_can_read(odd, place):
    rng = np.random.default_rng()
    p, g, v = rng.normal(size=(3, 100)).astype(np.float32)
    optimizer = optim.SGD(0.1, momentum=0.9, nesterov=True)
    vectors = {"parameters": p.copy(), "gradient": g.copy(), "state": v.copy()}
    vectors[place] = odd(vectors[place])
    assert not _fused.sgd(*vectors.values(), 0.1, 0.9, 0.0, True)
    if vectors[place].dtype != np.float32:
        with pytest.raises(DtypeError):
            optimizer.update(vectors["parameters"], vectors["gradient"], {"momentum": vectors["state"]}, 1)
        return
    optimizer.update(vectors["parameters"], vectors["gradient"], {"momentum": vectors["state"]}, 1)
    optimizer.update(p, g, {"momentum": v}, 1)
    np.testing.assert_array_equal(vectors["parameters"], p)
    np.testing.assert_array_equal(vectors["state"], v)


def test_gradient_may_be_the_parameters():
    """The same memory is read and written, number by number."""
    p = np.random.default_rng().normal(size=77).astype(np.float32)
    expected = p - p * np.float32(0.25)
    optim.SGD(0.25).update(p, p, {}, 1)
    np.testing.assert_array_equal(p, expected)


def test_parameters_that_may_not_be_written():
    p = np.ones(5, np.float32)
    p.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        optim.SGD(0.1).update(p, np.ones(5, np.float32), {}, 1)
    np.testing.assert_array_equal(p, 1)


def test_learning_rate_of_the_step_wins():
    optimizer = optim.SGD(1.0)
    flat = np.zeros(2)
    optimizer.update(flat, np.ones(2), {}, 1, lr=0.25)
    np.testing.assert_array_equal(flat, [-0.25, -0.25])


@pytest.mark.parametrize("name", optim.OPTIMIZERS)
def test_config_round_trip_and_pickle(name):
    optimizer = optim.by_name(name, lr=0.125, weight_decay=0.5)
    config = optimizer.config()
    assert config["name"] == name
    assert optim.by_name(**config) == optimizer == pickle.loads(pickle.dumps(optimizer))
    assert set(optimizer.init(3)) == set(optimizer.state_names)


def test_unknown_names_list_the_known():
    with pytest.raises(UnknownNameError, match=r"did you mean 'adam'.*adadelta"):
        optim.by_name("adan")
    with pytest.raises(UnknownNameError, match=r"setting of SGD.*momentum"):
        optim.by_name("sgd", momentun=0.9)
    with pytest.raises(UnknownNameError, match="cosine"):
        optim.schedule("cosinus")
    with pytest.raises(UnknownNameError, match="warmup"):
        optim.schedule("cosine", warm=3)


@pytest.mark.parametrize(
    "settings",
    [
        {"lr": -1},
        {"lr": float("nan")},
        {"lr": "fast"},
        {"momentum": 1.0},
        {"momentum": -0.1},
        {"nesterov": True},
        {"nesterov": "yes", "momentum": 0.9},
        {"weight_decay": float("inf")},
    ],
)
def test_impossible_settings(settings):
    with pytest.raises(InputError):
        optim.SGD(**settings)


def test_vectors_that_do_not_fit():
    optimizer = optim.SGD(0.1, momentum=0.9)
    flat = np.zeros(3, np.float32)
    with pytest.raises(InputError, match="momentum"):
        optimizer.update(flat, flat, {}, 1)
    with pytest.raises(ShapeError):
        optimizer.update(flat, np.zeros(4, np.float32), optimizer.init(3), 1)
    with pytest.raises(DtypeError):
        optimizer.update(flat, np.zeros(3), optimizer.init(3), 1)
    with pytest.raises(DtypeError):
        optim.SGD().update(np.zeros(3, int), np.zeros(3, int), {}, 1)
    with pytest.raises(InputError, match="step"):
        optimizer.update(flat, flat, optimizer.init(3), 0)


def pytorch_factors(make, steps):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = make(torch.optim.lr_scheduler, optimizer)
    factors = []
    for _ in range(steps):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return factors


def test_cosine_follows_pytorch():
    theirs = pytorch_factors(lambda s, o: s.CosineAnnealingLR(o, 40, eta_min=0.1), 40)
    ours = optim.schedule("cosine", floor=0.1)
    np.testing.assert_allclose([ours(step, 40) for step in range(1, 41)], theirs, rtol=1e-12)


def test_step_follows_pytorch():
    theirs = pytorch_factors(lambda s, o: s.MultiStepLR(o, [20, 30], gamma=0.2), 40)
    ours = optim.schedule("step", drops=[0.5, 0.75], gamma=0.2)
    np.testing.assert_allclose([ours(step, 40) for step in range(1, 41)], theirs, rtol=1e-12)


@pytest.mark.parametrize("name", optim.SCHEDULES)
def test_warmup_is_linear_and_round_trips(name):
    for warmup, steps in ((10, 10), (0.1, 5)):
        schedule = optim.schedule(name, warmup=warmup)
        factors = [schedule(step, 50) for step in range(1, 51)]
        np.testing.assert_allclose(factors[:steps], np.arange(1, steps + 1) / steps)
        assert max(factors) == 1 and factors[steps] == 1
        assert optim.schedule(**schedule.config()) == schedule
    assert schedule(500, 50) == schedule(50, 50)
    assert optim.schedule(name, warmup=100)(50, 50) == 0.5


def test_schedule_refuses_impossible_arguments():
    for settings in ({"warmup": -1}, {"warmup": 2.5}, {"warmup": "x"}):
        with pytest.raises(InputError):
            optim.schedule("constant", **settings)
    with pytest.raises(InputError):
        optim.schedule()(0, 5)
    with pytest.raises(InputError):
        optim.schedule("step", drops=[1.5])


def test_a_subclass_of_sgd_keeps_its_own_update():
    class Half(optim.SGD):
        def _update_block(self, p, g, *state, constants):
            p -= g / 2

    parameters, gradient = np.ones(7, np.float32), np.full(7, 0.5, np.float32)
    Half(0.1).update(parameters, gradient, {}, 1)
    np.testing.assert_array_equal(parameters, np.full(7, 0.75, np.float32))


@pytest.mark.parametrize("name, ours", [(name, ours) for name, ours, _, _ in CASES], ids=IDS)
def test_a_planned_update_gives_the_bits_of_update(name, ours):
    optimizer = optim.by_name(name, **ours)
    one, other = (np.random.default_rng(8).standard_normal(BLOCK + 7, np.float32) for _ in range(2))
    one_state, other_state = (optimizer.init(one.size) for _ in range(2))
    errors = np.empty_like(one)
    step = optimizer.planned(other, errors, other_state)
    for number in range(1, 6):
        errors[...] = gradient(one, number)
        optimizer.update(one, errors, one_state, number, lr=0.1 / number)
        step(number, 0.1 / number)
        assert one.tobytes() == other.tobytes()
    for name in one_state:
        assert one_state[name].tobytes() == other_state[name].tobytes()


def test_a_planned_update_checks_its_vectors_first():
    optimizer, flat = optim.SGD(0.1, momentum=0.9), np.zeros(3, np.float32)
    with pytest.raises(InputError, match="momentum"):
        optimizer.planned(flat, flat, {})
    with pytest.raises(ShapeError):
        optimizer.planned(flat, np.zeros(4, np.float32), optimizer.init(3))


def test_a_subclass_may_have_an_update_of_its_own():
    class Half(optim.SGD):
        def update(self, flat, gradient, state, step, lr=None):
            flat -= gradient / 2

    parameters, gradient = np.ones(7, np.float32), np.full(7, 0.5, np.float32)
    Half(0.1).planned(parameters, gradient, {})(1, 0.1)
    np.testing.assert_array_equal(parameters, np.full(7, 0.75, np.float32))
