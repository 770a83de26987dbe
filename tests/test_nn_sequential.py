"""Sequential: shapes, flat parameters, what it accepts, randomness, chunks, memory and copies."""

import copy
import functools
import pickle
import re

import numpy as np
import pytest
import scipy.special

from pyconv import nn
from pyconv.backends import dropout_mask
from pyconv.errors import DtypeError, InputError, ShapeError, UnknownNameError
from pyconv.nn.dropout import _STREAM
from pyconv.nn.losses import softmax


def small(**settings):
    model = nn.Sequential(
        [nn.Conv2D(4, 3, activation="relu"), nn.MaxPool2D(2), nn.Flatten(), nn.Dropout(0.5), nn.Dense(3)],
        input_shape=(8, 9, 1),
        **settings,
    )
    model.backend = "reference"
    return model


def images(n=5, dtype=np.float32, shape=(8, 9, 1), seed=0):
    rng = np.random.default_rng(seed)
    if dtype == np.uint8:
        return rng.integers(0, 256, (n, *shape), dtype)
    return rng.normal(size=(n, *shape)).astype(dtype)


# ---- shapes and errors at construction ------------------------------------------------------------


@pytest.mark.parametrize(
    "layers, shape, message",
    [
        (
            [nn.Conv2D(4, 3), nn.MaxPool2D(2), nn.MaxPool2D(9)],
            (8, 8, 1),
            "layer 2 (MaxPool2D): the output would have no",
        ),
        ([nn.Conv2D(4, 9)], (8, 8, 1), "layer 0 (Conv2D): the output would have no pixels"),
        ([nn.Conv2D(4, 3, groups=2)], (8, 8, 3), "layer 0 (Conv2D): groups=2 must divide the 3 input channels"),
        ([nn.Conv2D(4, 3, padding="sam")], (8, 8, 3), "layer 0 (Conv2D): padding must be"),
        ([nn.Conv2D(4, 3, padding=-1)], (8, 8, 3), "layer 0 (Conv2D): padding must be at least 0"),
        ([nn.Conv2D(4, 3), nn.Dense(3)], (8, 8, 3), "layer 1 (Dense): needs vectors.*put a Flatten before it"),
        ([nn.Flatten(), nn.Conv2D(4, 3)], (8, 8, 3), "layer 1 (Conv2D): needs images"),
        ([nn.Flatten(), nn.AvgPool2D(2)], (8, 8, 3), "layer 1 (AvgPool2D): needs images"),
        ([], (8, 8, 3), "at least one layer"),
        ([nn.Flatten(), "Dense"], (8, 8, 3), "layer 1 is 'Dense', which is not a layer"),
        (nn.Flatten(), (8, 8, 3), "must be a list of layers"),
        ([nn.Flatten()], (8, 8), "input_shape must be"),
        ([nn.Flatten()], (8, 0, 1), "every size of input_shape must be at least 1"),
        ([nn.Flatten()], "888", "input_shape must be"),
    ],
)
def test_layers_that_do_not_fit_are_named(layers, shape, message):
    with pytest.raises(InputError, match=re.escape(message).replace(r"\.\*", ".*")) as caught:
        nn.Sequential(layers, shape)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Conv2D(0, 3),
        lambda: nn.Conv2D(4, 0),
        lambda: nn.Conv2D(4, 3, stride=-1),
        lambda: nn.Conv2D(4.5, 3),
        lambda: nn.Conv2D(4, 3, activation="tanh"),
        lambda: nn.Conv2D(4, 3, bias=1),
        lambda: nn.Conv2D(4, (1, 2, 3)),
        lambda: nn.Conv2D(4, 3, dilation=0),
        lambda: nn.MaxPool2D(0),
        lambda: nn.AvgPool2D(2, stride=0),
        lambda: nn.Dense(0),
        lambda: nn.Dense(3, activation="gelu"),
        lambda: nn.Dense(3, scale=-1),
        lambda: nn.Dense(3, scale=float("nan")),
        lambda: nn.Dropout(1.0),
        lambda: nn.Dropout(-0.1),
        lambda: nn.Dropout("half"),
        lambda: nn.BatchNorm(eps=0),
        lambda: nn.BatchNorm(momentum=1.5),
        lambda: nn.BatchNorm(eps=float("inf")),
        lambda: small(seed=-1),
        lambda: small(seed=1 << 64),
        lambda: small(seed=0.5),
        lambda: small(dtype="float16"),
        lambda: small(dtype="nonsense"),
    ],
)
def test_impossible_settings(make):
    with pytest.raises(InputError):
        make()


def test_layers_are_values():
    assert nn.Conv2D(4, [3, 3]) == nn.Conv2D(np.int64(4), (3, 3)) != nn.Conv2D(4, 3)
    with pytest.raises(AttributeError):
        nn.Dense(3).units = 4


def test_one_layer_object_in_two_places_has_two_sets_of_parameters():
    layer = nn.Dense(4)
    model = nn.Sequential([layer, layer], (4,))
    assert list(model.parameters) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert not np.array_equal(model.parameters["0.weight"], model.parameters["1.weight"])


# ---- parameters -----------------------------------------------------------------------------------


def test_parameters_are_views_into_one_flat_vector():
    model = small()
    assert model.flat.dtype == np.float32 and model.flat.flags.c_contiguous
    assert {name: view.shape for name, view in model.parameters.items()} == {
        "0.weight": (3, 3, 1, 4),
        "0.bias": (4,),
        "4.weight": (36, 3),
        "4.bias": (3,),
    }
    assert sum(view.size for view in model.parameters.values()) == model.flat.size
    before = model.forward(images())
    for view in model.parameters.values():
        assert np.shares_memory(view, model.flat)
    model.flat[:] = 0
    assert not model.forward(images()).any() and before.any()
    with pytest.raises(TypeError):
        model.parameters["0.weight"] = 1


def test_he_initialisation_is_seeded_and_alike_in_both_precisions():
    model = nn.build("fer", seed=3)
    for name, view in model.parameters.items():
        if name.endswith("weight"):
            fan_in = view.size // view.shape[-1]
            scale = getattr(model.layers[int(name.split(".")[0])], "scale", 1)
            assert view.std() == pytest.approx(scale * np.sqrt(2 / fan_in), rel=0.1)
            assert abs(view.mean()) < 0.1 * view.std() + 3 * view.std() / np.sqrt(view.size)
        else:
            assert not view.any()
    np.testing.assert_array_equal(model.flat, nn.build("fer", seed=3).flat)
    assert not np.array_equal(model.flat, nn.build("fer", seed=4).flat)
    np.testing.assert_array_equal(model.flat, nn.build("fer", seed=3, dtype="float64").flat.astype(np.float32))


def test_attach_lives_on_the_callers_vectors():
    model = nn.Sequential([nn.Dense(4), nn.BatchNorm(), nn.Dense(2)], (3,))
    model.backend = "reference"
    flat, buffers = model.flat.copy(), model.flat_buffers.copy()
    model.attach(flat, buffers)
    assert model.flat is flat and model.flat_buffers is buffers
    x = images(6, shape=(3,))
    model.loss_and_gradient(x, np.zeros(6, int))
    assert buffers[:4].any()  # the running mean is in the caller's memory
    flat[:] = 0
    assert not model.forward(x).any()
    for bad in (flat[:-1], flat.astype(np.float64), flat[::-1], list(flat)):
        with pytest.raises(InputError):
            model.attach(bad)
    flat.flags.writeable = False
    with pytest.raises(InputError, match="read-only"):
        model.attach(flat)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_are_whole_networks_of_their_own(clone):
    model = nn.Sequential([nn.Conv2D(2, 3), nn.BatchNorm(), nn.Flatten(), nn.Dense(2)], (5, 5, 1), seed=9)
    model.backend, model.threads = "reference", 1
    model.normalization, model.classes = nn.Normalization(0.5, 2.0), ["a", "b"]
    x, labels = images(4, shape=(5, 5, 1)), np.array([0, 1, 1, 0])
    model.loss_and_gradient(x, labels)
    other = clone(model)
    np.testing.assert_array_equal(other.forward(x), model.forward(x))
    assert other.normalization == model.normalization and other.classes == ["a", "b"] and other.threads == 1
    assert not np.shares_memory(other.flat, model.flat) and np.shares_memory(other.parameters["0.bias"], other.flat)
    assert other.config() == model.config()


# ---- what comes in, what goes out -----------------------------------------------------------------


def test_accepts_images_of_any_kind():
    model = small()
    model.normalization = nn.Normalization(100.0, 50.0)
    x = images(dtype=np.uint8)
    expected = model.forward(x)
    assert expected.shape == (5, 3) and expected.dtype == np.float32
    strided = np.zeros((5, 8, 18, 2), np.uint8)[:, :, ::2, :1]
    strided[...] = x
    read_only = x.astype(np.float32)
    read_only.flags.writeable = False
    misaligned = np.frombuffer(b"x" + x.astype(np.float32).tobytes(), np.uint8)[1:].view(np.float32).reshape(x.shape)
    for other in (
        x.astype(np.float32),
        x.astype(np.float64),
        x[..., 0],
        strided,
        np.asfortranarray(x),
        read_only,
        misaligned,
        x.astype(">f4"),
        x.astype(">f8"),
        x.astype(np.float64).tolist(),
    ):
        np.testing.assert_allclose(model.forward(other), expected, rtol=1e-5, atol=1e-6)
        loss, _ = model.loss_and_gradient(other, [0, 1, 2, 0, 1])
        assert np.isfinite(loss)


def test_never_writes_to_the_callers_images():
    for layers in ([nn.ReLU()], [nn.Dropout(0.5), nn.ReLU()], [nn.BatchNorm(), nn.ReLU()], [nn.Flatten(), nn.ReLU()]):
        model = nn.Sequential([*layers, *([] if nn.Flatten() in layers else [nn.Flatten()]), nn.Dense(2)], (4, 4, 1))
        model.backend = "reference"
        x = images(shape=(4, 4, 1))
        kept = x.copy()
        model.forward(x)
        model.forward(x, training=True)
        model.loss_and_gradient(x, np.zeros(5, int))
        np.testing.assert_array_equal(x, kept)


@pytest.mark.parametrize(
    "x, error, message",
    [
        (np.zeros((2, 8, 9, 3), np.float32), ShapeError, "(N, 8, 9, 1), but x has shape (2, 8, 9, 3)"),
        (np.zeros((2, 9, 8), np.float32), ShapeError, "(2, 9, 8)"),
        (np.zeros((8, 9, 1), np.float32), ShapeError, "pass x[None]"),
        (np.zeros((0, 8, 9, 1), np.float32), ShapeError, "no examples"),
        (np.zeros((2, 8, 9, 1), np.int64), DtypeError, "int64"),
        (np.zeros((2, 8, 9, 1), np.float16), DtypeError, "float16"),
        (np.zeros((2, 8, 9, 1), complex), DtypeError, "complex"),
    ],
)
def test_refuses_what_is_no_batch(x, error, message):
    model = small()
    for call in (model.forward, lambda x: model.loss_and_gradient(x, np.zeros(len(x), int))):
        with pytest.raises(error, match=re.escape(message)):
            call(x)


@pytest.mark.parametrize(
    "labels, message",
    [
        ([0, 1, 2, 3, 0], "label 3 at position 3"),
        ([0, -1, 0, 0, 0], "label -1 at position 1"),
        ([0, 1], "shape"),
        ([0.0, 1.0, 2.0, 0.0, 0.0], "integers"),
        (np.zeros((5, 3), int), "shape"),
    ],
)
def test_refuses_wrong_labels(labels, message):
    with pytest.raises(InputError, match=message):
        small().loss_and_gradient(images(), labels)


def test_gradient_goes_to_out():
    model = small()
    out = np.full_like(model.flat, np.nan)
    loss, gradient = model.loss_and_gradient(images(), [0, 1, 2, 0, 1], out=out)
    assert gradient is out and np.isfinite(out).all()
    loss_again, fresh = model.loss_and_gradient(images(), [0, 1, 2, 0, 1])
    assert fresh is not out and loss_again == loss
    np.testing.assert_array_equal(fresh, out)
    for bad in (out[:-1], out.astype(np.float64), np.zeros((len(out), 2), np.float32)[:, 0]):
        with pytest.raises(InputError):
            model.loss_and_gradient(images(), [0, 1, 2, 0, 1], out=bad)


def test_a_network_that_is_no_classifier():
    model = nn.Sequential([nn.Conv2D(2, 3)], (5, 5, 1))
    model.backend = "reference"
    assert model.forward(images(shape=(5, 5, 1))).shape == (5, 3, 3, 2)
    for call in (lambda x: model.loss_and_gradient(x, [0] * 5), model.predict, model.predict_proba):
        with pytest.raises(ShapeError, match="classifier"):
            call(images(shape=(5, 5, 1)))


def test_unknown_backend_and_algorithm():
    model = small()
    model.algorithm = "fourier"
    with pytest.raises(UnknownNameError, match="fourier"):
        model.forward(images())
    model.backend = "gpu"
    with pytest.raises(UnknownNameError, match="reference"):
        model.forward(images())


@pytest.mark.parametrize(
    "values",
    [
        {"std": 0.0},
        {"std": [1.0, -1.0]},
        {"mean": float("nan")},
        {"mean": "x"},
        {"mean": [[1.0]]},
        {"mean": [1.0, 2.0], "std": [1.0, 2.0, 3.0]},
        {"mean": []},
    ],
)
def test_impossible_normalization(values):
    with pytest.raises(InputError):
        nn.Normalization(**values)


def test_normalization_and_classes_must_fit():
    model = small()
    with pytest.raises(ShapeError):
        model.normalization = nn.Normalization([0.0, 1.0])
    with pytest.raises(InputError):
        model.normalization = (0.0, 1.0)
    with pytest.raises(ShapeError):
        model.classes = ["a", "b"]
    with pytest.raises(InputError):
        model.classes = [1, 2, 3]
    model.classes = ("a", "b", "c")
    assert model.classes == ["a", "b", "c"]


# ---- prediction -----------------------------------------------------------------------------------


def test_prediction_in_chunks_is_the_same():
    model = small()
    model.normalization = nn.Normalization(128.0, 74.0)
    x = images(23, np.uint8)
    logits = model.forward(x)
    np.testing.assert_array_equal(model.predict(x), logits.argmax(1))
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for size in (1, 7, 23, 100, None):
        proba = model.predict_proba(x, batch_size=size)
        np.testing.assert_allclose(proba, expected, rtol=1e-5)
    assert model.predict(x).dtype == np.int64
    assert model.predict(x[:0]).shape == (0,) and model.predict_proba(x[:0]).shape == (0, 3)
    with pytest.raises(InputError):
        model.predict(x, batch_size=0)


def test_results_are_the_callers_own():
    model = small()
    first = model.forward(images())
    kept = first.copy()
    proba = model.predict_proba(images())
    kept_proba = proba.copy()
    model.forward(images(seed=1))
    model.predict_proba(images(seed=1))
    model.loss_and_gradient(images(seed=2), [0, 1, 2, 0, 1])
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(proba, kept_proba)


def test_batches_of_changing_size_do_not_disturb_each_other():
    model, labels = small(), np.arange(23) % 3
    x = images(23)
    expected = {n: model.loss_and_gradient(x[:n], labels[:n])[1] for n in (23, 1, 7)}
    for n in (7, 23, 1, 1, 23, 7):
        model.predict(x[: n + 3])
        np.testing.assert_array_equal(model.loss_and_gradient(x[:n], labels[:n])[1], expected[n])
        np.testing.assert_array_equal(copy.deepcopy(model).loss_and_gradient(x[:n], labels[:n])[1], expected[n])


def test_work_arrays_are_kept_from_step_to_step():
    model = small()
    model.loss_and_gradient(images(), [0, 1, 2, 0, 1])
    held = model._here.nbytes
    for _ in range(3):
        model.loss_and_gradient(images(), [0, 1, 2, 0, 1])
        model.loss_and_gradient(images(3), [0, 1, 2])
    assert model._here.nbytes == held > 0


# ---- dropout and BatchNorm ------------------------------------------------------------------------


def test_dropout_masks_do_not_depend_on_the_split():
    model = small(seed=5, dtype="float64")
    x, labels = images(12, np.float64), np.arange(12) % 3
    loss, whole = model.loss_and_gradient(x, labels, step=7)
    parts = [(5, 0), (4, 5), (3, 9)]
    sum_loss, total = 0.0, np.zeros_like(whole)
    for n, first in parts:
        part = slice(first, first + n)
        one_loss, gradient = model.loss_and_gradient(x[part], labels[part], step=7, first=first)
        sum_loss += one_loss * n / 12
        total += gradient * (n / 12)
    assert sum_loss == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(total, whole, rtol=1e-9, atol=1e-12)
    assert model.loss_and_gradient(x, labels, step=8)[0] != loss
    assert model.loss_and_gradient(x, labels, step=7, first=1)[0] != loss


@pytest.mark.parametrize("size", [1, 15, 16, 17, 100])
def test_mask_of_an_example_depends_on_its_position_only(size):
    mask = functools.partial(dropout_mask, stream=_STREAM)
    whole = mask(seed=3, step=9, layer=2, first=0, n=8, size=size, threshold=20000)
    for first in range(8):
        np.testing.assert_array_equal(mask(3, 9, 2, first, 1, size, 20000)[0], whole[first])
    flat = np.concatenate(
        [mask(*key, 0, 50, size, 32768).ravel() for key in ((3, 9, 2), (4, 9, 2), (3, 8, 2), (3, 9, 1))]
    )
    assert len(np.unique(flat.reshape(4, -1), axis=0)) == 4


def test_dropout_rate_and_mean():
    model = nn.Sequential([nn.Dropout(0.3)], (40, 40, 3))
    model.backend = "reference"
    x = np.ones((20, 40, 40, 3), np.float32)
    y = model.forward(x, training=True)
    assert (y == 0).mean() == pytest.approx(0.3, abs=0.005)
    assert y.mean() == pytest.approx(1, abs=0.01)
    np.testing.assert_array_equal(model.forward(x), x)


def test_batch_norm_needs_two_numbers_per_channel():
    model = nn.Sequential([nn.Dense(3), nn.BatchNorm()], (4,))
    model.backend = "reference"
    assert model.forward(images(1, shape=(4,))).shape == (1, 3)
    with pytest.raises(ShapeError, match=r"layer 1 \(BatchNorm\).*batch of 2 or more"):
        model.loss_and_gradient(images(1, shape=(4,)), [0])


# ---- cost and table -------------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.1, 0.25, 1.0])
def test_batch_norm_moves_its_running_statistics(momentum):
    """They move towards the batch's mean and unbiased variance, by the momentum; inference uses them."""
    model = nn.Sequential([nn.BatchNorm(momentum=momentum), nn.Flatten(), nn.Dense(2)], (3, 4, 2), dtype="float64")
    mean, variance = np.zeros(2), np.ones(2)
    rng = np.random.default_rng(8)
    for step in range(3):
        x = rng.normal(3, 5, (6, 3, 4, 2))
        model.loss_and_gradient(x, np.arange(6) % 2, step=step)
        mean = (1 - momentum) * mean + momentum * x.mean(axis=(0, 1, 2))
        variance = (1 - momentum) * variance + momentum * x.var(axis=(0, 1, 2), ddof=1)
        np.testing.assert_allclose(model.buffers["0.running_mean"], mean, rtol=1e-9)
        np.testing.assert_allclose(model.buffers["0.running_var"], variance, rtol=1e-9)
    normal = ((x - mean) / np.sqrt(variance + 1e-5)).reshape(6, -1)
    expected = normal @ model.parameters["2.weight"] + model.parameters["2.bias"]
    np.testing.assert_allclose(model.forward(x), expected, rtol=1e-9)


def test_probabilities_of_rows_that_are_far_apart():
    logits = np.array([[1000.0, 1001.0], [-1000.0, -1002.0], [0.0, 0.0]])
    np.testing.assert_allclose(softmax(logits), scipy.special.softmax(logits, axis=1), rtol=1e-12)


def test_flops_count_multiply_adds_twice():
    model = nn.Sequential([nn.Conv2D(4, 3, bias=False), nn.Flatten(), nn.Dense(5, bias=False)], (6, 7, 2))
    conv, dense = 2 * 4 * 5 * 4 * 9 * 2, 2 * 80 * 5
    assert model.flops() == conv + dense
    assert model.flops(3) == 3 * (conv + dense)
    assert model.flops(training=True) == 2 * conv + 3 * dense  # no gradient of the input
    assert nn.build("fer").flops(training=True) == pytest.approx(0.33e9, rel=0.01)


def test_summary_is_a_table():
    summary = nn.build("fer").summary()
    assert re.search(r"0 +Conv2D\(32, 5, padding='same', activation='relu'\) +48×48×32 +832 +3.83\n", summary)
    assert summary.splitlines()[-1].split() == ["total", "1,127,815", "111.49"]
    assert repr(summary) == str(summary)


SMALL = [name for name, recipe in nn.MODELS.items() if max(recipe.input_shape) < 100]  # the others: test_nn_deep.py


@pytest.mark.covering("name", most=3)
@pytest.mark.parametrize("name", [*SMALL, "5-50-100-10"])
def test_named_models_begin_with_nearly_equal_probabilities(name):
    model = nn.build(name, input_shape=(28, 28, 1), seed=2)
    model.backend = "reference"
    loss, _ = model.loss_and_gradient(images(16, shape=(28, 28, 1)), np.arange(16) % 7)
    assert loss == pytest.approx(np.log(model.output_shape[0]), rel=0.3)
