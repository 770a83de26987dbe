"""pyconv.sklearn: scikit-learn's own checks of an estimator, and what these leave out, above all images."""

from __future__ import annotations

import copy
import pickle
import re
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.metrics import classification_report
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import pyconv
from pyconv import nn, optim, threads
from pyconv.datasets.split import hold_out
from pyconv.errors import InputError, PyconvError
from pyconv.sklearn import ConvNetClassifier, sharing
from pyconv.sklearn.networks import layers_for

PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "scikit-learn.md"
SMALL = [nn.Conv2D(4, 3, padding="same", activation="relu"), nn.MaxPool2D(2), nn.Flatten(), nn.Dense(3)]
NAMES = np.array(["left", "top", "whole"])


@pytest.mark.covering("check", most=8)
@parametrize_with_checks([ConvNetClassifier()])
def test_scikit_learns_checks_pass(estimator: ConvNetClassifier, check: Any) -> None:
    """All checks are run with the defaults; none is expected to fail."""
    check(estimator)


def test_all_kinds_of_checks_are_run() -> None:
    """An estimator that is tagged as one of images alone would get a single check."""
    tags = ConvNetClassifier().__sklearn_tags__()
    assert tags.input_tags.two_d_array and not tags.no_validation and not tags.non_deterministic and not tags._skip_test
    assert not tags.classifier_tags.poor_score


def pictures(count: int = 48, height: int = 6, width: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images whose left half, top half or whole is bright, and labels that say which, as text."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = rng.normal(0, 0.3, (count, height, width)).astype(np.float32)
    for image, label in zip(images, labels):
        image[: height // 2 if label == 1 else height, : width // 2 if label == 0 else width] += 1
    return images, NAMES[labels]


def small(**settings: Any) -> ConvNetClassifier:
    return ConvNetClassifier(
        **{"model": SMALL, "epochs": 12, "lr": 0.02, "batch_size": 16, "random_state": 0, **settings}
    )


# ---- images, rows and labels -----------------------------------------------------------------------------------------


def test_images_come_in_three_shapes() -> None:
    x, y = pictures()
    expected = small().fit(x, y)
    assert expected.image_shape_ == (6, 8, 1) and expected.n_features_in_ == 48
    assert expected.score(*pictures(30, seed=1)) > 0.9
    for other in (
        small().fit(x[..., None], y),
        small(image_shape=(6, 8)).fit(x.reshape(48, 48), y),
        small(image_shape=[6, 8, 1]).fit(x, y),
    ):
        assert np.array_equal(other.model_.flat, expected.model_.flat)
        for same in (x, x[..., None], x.reshape(48, 48)):
            assert np.array_equal(other.predict_proba(same), expected.predict_proba(x))


def test_rows_are_images_of_one_row() -> None:
    x, y = pictures()
    rows = ConvNetClassifier(epochs=1).fit(x.reshape(48, 48), y)
    assert rows.image_shape_ == (1, 48, 1)
    colour = ConvNetClassifier(epochs=1).fit(np.stack([x] * 3, axis=-1), y)
    assert colour.image_shape_ == (6, 8, 3) and len(colour.model_.normalization.mean) == 3


@pytest.mark.covering("wrong", "method")
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ((2, 8, 6), "8×6×1.*6×8×1"),  # as many pixels
        ((2, 6, 4), "6×4×1.*6×8×1"),  # scikit-learn's helper compares heights only, and these are equal
        ((2, 6, 8, 3), "6×8×3.*6×8×1"),
        ((2, 47), "X has 47 features, but ConvNetClassifier is expecting 48 features"),
        ((48,), "Reshape your data"),
        ((2, 2, 6, 8, 1), r"\(N, H, W, C\)"),
    ],
)
@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
def test_predictions_compare_height_width_and_channels(wrong: tuple[int, ...], words: str, method: str) -> None:
    fitted = small(epochs=1).fit(*pictures())
    with pytest.raises(ValueError, match=words) as raised:
        getattr(fitted, method)(np.zeros(wrong, np.float32))
    assert isinstance(raised.value, PyconvError) and "\n" not in str(raised.value)


def test_dtypes_are_computed_in_their_own_precision() -> None:
    x, y = pictures()
    pixels = (np.clip(x, 0, 1) * 255).astype(np.uint8)
    for given, computed in ((x, "float32"), (x.astype(np.float64), "float64"), (pixels, "float32"),
                            (pixels.astype(np.int64), "float32"), (x.astype(">f8"), "float64")):  # fmt: skip
        fitted = small(epochs=1).fit(given, y)
        assert fitted.model_.dtype.name == computed
        assert fitted.predict_proba(given).dtype == np.float64
    assert small(epochs=1, dtype="float64").fit(x, y).model_.dtype == np.float64
    # Bytes and the same numbers are the same images.
    assert np.array_equal(small().fit(pixels, y).model_.flat, small().fit(pixels.astype(np.int64), y).model_.flat)


@pytest.mark.parametrize("labels", [NAMES, np.array([7, -2, 30]), np.array([True, False]), np.array([0.0, 1.0, 2.0])])
def test_labels_of_any_kind_come_back(labels: np.ndarray) -> None:
    x, _ = pictures()
    y = labels[np.arange(48) % len(labels)]
    fitted = small(model="auto", epochs=2).fit(x, y)
    assert fitted.classes_.tolist() == sorted(labels.tolist()) and fitted.classes_.dtype == y.dtype
    assert set(fitted.predict(x)) <= set(labels.tolist())
    assert fitted.model_.classes == [str(label) for label in fitted.classes_.tolist()]


def test_probabilities_logits_and_classes_agree() -> None:
    x, y = pictures()
    fitted = small(epochs=3).fit(x, y)
    share = fitted.predict_proba(x)
    assert np.allclose(share.sum(axis=1), 1, atol=1e-15) and np.allclose(
        share, fitted.model_.predict_proba(x), atol=1e-6
    )
    assert np.allclose(fitted.predict_log_proba(x), np.log(share))
    assert np.array_equal(fitted.classes_[share.argmax(axis=1)], fitted.predict(x))
    assert np.array_equal(fitted.decision_function(x).argmax(axis=1), share.argmax(axis=1))


# ---- networks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 1), (3, 50, 2), (4, 4, 1), (8, 8, 1), (28, 28, 1), (96, 64, 3)])
def test_the_small_network_fits_any_image(shape: tuple[int, int, int]) -> None:
    made = nn.Sequential(layers_for(shape, 4), shape)
    assert made.output_shape == (4,)
    pooled = [
        size for layer, size in zip(made.layers, made._architecture.shapes[1:]) if isinstance(layer, nn.MaxPool2D)
    ]
    assert all(min(size[:2]) <= 8 for size in pooled[-1:])


def test_networks_are_named_listed_made_or_given() -> None:
    x, y = pictures()
    named = small(model="3-4-10-3", epochs=1).fit(x, y)
    assert [type(layer).__name__ for layer in named.model_.layers][-1] == "Dense"
    made = small(model=lambda shape, classes: [nn.Flatten(), nn.Dense(classes)], epochs=1).fit(x, y)
    assert made.model_.flat.size == 48 * 3 + 3
    given = made.model_
    before = given.flat.copy()
    further = small(model=given, epochs=1, random_state=1).fit(x, y)
    assert np.array_equal(given.flat, before) and not np.array_equal(further.model_.flat, before)
    assert further.model_.normalization == given.normalization
    assert np.array_equal(clone(further).fit(x, y).model_.flat, further.model_.flat)


# ---- weights ---------------------------------------------------------------------------------------------------------


def test_a_weight_of_two_is_two_rows_and_of_zero_none() -> None:
    x, y = pictures()
    x = x.astype(np.float64)
    times = np.random.default_rng(0).integers(0, 3, 48)
    weighted = small(batch_size=128).fit(x, y, sample_weight=0.5 * times)
    repeated = small(batch_size=128).fit(x.repeat(times, axis=0), y.repeat(times))
    assert np.allclose(weighted.predict_proba(x), repeated.predict_proba(x), rtol=1e-9)
    assert not np.allclose(weighted.predict_proba(x), small(batch_size=128).fit(x, y).predict_proba(x), rtol=1e-3)
    # A class whose rows have no weight does not exist.
    two = small(model="auto", epochs=1).fit(x, y, sample_weight=y != "top")
    assert two.classes_.tolist() == ["left", "whole"]


def test_class_weights_are_weights_of_the_rows() -> None:
    x, y = pictures()
    kept = np.r_[0:48:3, 2:24:3]  # 16 of "left", 8 of "whole"
    x, y = x[kept], y[kept]
    settings: dict[str, Any] = {"model": "3-4-10-2", "epochs": 4}
    balanced = small(class_weight="balanced", **settings).fit(x, y)
    by_label = small(class_weight={"left": 0.75, "whole": 1.5}, **settings).fit(x, y)
    one_named = small(class_weight={"whole": 2.0}, **settings).fit(x, y)
    plain = small(**settings).fit(x, y)
    assert np.allclose(balanced.model_.flat, by_label.model_.flat, atol=1e-5)
    assert np.allclose(balanced.model_.flat, one_named.model_.flat, atol=1e-5)  # a step uses the weighted mean
    assert not np.allclose(balanced.model_.flat, plain.model_.flat, atol=1e-3)
    # With weights for the rows, "balanced" adds up weights instead of counting rows.
    even = small(class_weight="balanced", **settings).fit(x, y, sample_weight=np.where(y == "whole", 2, 1))
    assert np.allclose(
        even.loss_curve_, small(**settings).fit(x, y, np.where(y == "whole", 2, 1)).loss_curve_, rtol=1e-5
    )


# ---- going on --------------------------------------------------------------------------------------------------------


def test_partial_fit_is_an_epoch_that_keeps_the_optimizer() -> None:
    x, y = pictures()
    halves = [slice(0, 24), slice(24, None)]
    fitted = small()
    for _ in range(8):
        for half in halves:
            fitted.partial_fit(x[half], y[half], classes=["whole", "left", "top"])
    assert fitted.classes_.tolist() == ["left", "top", "whole"] and fitted.n_iter_ == len(fitted.loss_curve_) == 16
    assert fitted.loss_curve_[-1] < 0.5 * fitted.loss_curve_[0] and fitted.score(x, y) > 0.9
    assert fitted._optimizer_state["step"] == 32  # 16 epochs of two steps
    one_class = clone(fitted).partial_fit(x[y == "top"], y[y == "top"], classes=NAMES)
    assert one_class.predict_proba(x).shape == (48, 3)
    after_fit = small(epochs=1).fit(x, y).partial_fit(x, y)
    assert after_fit.n_iter_ == 2 and after_fit._optimizer_state["step"] == 6


def test_warm_start_goes_on() -> None:
    x, y = pictures()
    warm = small(epochs=3, warm_start=True).fit(x, y)
    first = warm.loss_curve_
    assert warm.fit(x, y).loss_curve_[0] < first[0] / 2 and len(warm.loss_curve_) == 3
    cold = small(epochs=3).fit(x, y)
    assert cold.fit(x, y).loss_curve_ == first
    with pytest.raises(ValueError, match="warm_start goes on with the classes"):
        warm.fit(x[:47], np.r_[y[:46], ["other"]])
    with pytest.raises(ValueError, match="8×6×1"):
        warm.fit(x.transpose(0, 2, 1), y)


def test_early_stopping_keeps_the_best_epoch() -> None:
    x, y = pictures(90)
    y = np.where(np.random.default_rng(0).random(90) < 0.3, "top", y)  # labels that cannot be learnt
    settings: dict[str, Any] = {"epochs": 60, "early_stopping": True, "validation_fraction": 0.3}
    fitted = small(n_iter_no_change=4, **settings).fit(x, y)
    scores = fitted.validation_scores_
    assert fitted.n_iter_ == len(scores) < 60 and fitted.best_validation_score_ == max(scores)
    assert max(scores[-4:]) <= max(scores[:-4])
    seed = np.random.RandomState(0).randint(2**31 - 1)
    _, held = hold_out(np.unique(y, return_inverse=True)[1], 0.3, seed)
    assert fitted.score(x[held], y[held]) == fitted.best_validation_score_
    assert small(tol=1.0, n_iter_no_change=2, **settings).fit(x, y).n_iter_ == 3


def test_random_state_decides_everything() -> None:
    x, y = pictures()
    flats = [small(random_state=state, epochs=1).fit(x, y).model_.flat
             for state in (1, 1, 2, np.random.RandomState(1), None, None)]  # fmt: skip
    assert np.array_equal(flats[0], flats[1]) and np.array_equal(flats[0], flats[3])
    assert not np.array_equal(flats[0], flats[2]) and not np.array_equal(flats[4], flats[5])


# ---- in scikit-learn's company ---------------------------------------------------------------------------------------


def test_copies_and_pickles_predict_the_same(tmp_path: Path) -> None:
    x, y = pictures()
    fitted = small(epochs=1, optimizer=optim.SGD(0.05)).fit(x, y)
    joblib.dump(fitted, tmp_path / "model.joblib")
    mapped = joblib.load(tmp_path / "model.joblib", mmap_mode="r")
    for other in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted), mapped):
        assert np.array_equal(other.predict_proba(x), fitted.predict_proba(x))
        other.partial_fit(x, y)
    assert clone(fitted).get_params()["optimizer"] == optim.SGD(0.05)
    assert not hasattr(clone(fitted), "model_")


def test_a_fitted_network_is_asked_in_many_threads() -> None:
    x, y = pictures()
    fitted = small(epochs=1).fit(x, y)
    expected, found = fitted.predict_proba(x), []
    callers = [threading.Thread(target=lambda: found.append(fitted.predict_proba(x))) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(found) == 8 and all(np.array_equal(one, expected) for one in found)


def test_searches_pipelines_and_calibration_take_images() -> None:
    x, y = pictures(60)
    search = GridSearchCV(small(epochs=6), {"lr": [1e-6, 0.02], "optimizer": ["adam"]}, cv=2).fit(x, y)
    assert search.best_params_["lr"] == 0.02
    assert cross_val_score(small(), x, y, cv=2).mean() > 0.8
    table = make_pipeline(StandardScaler(), small(image_shape=(6, 8)))
    assert (
        table.fit(x.reshape(60, 48), y, convnetclassifier__sample_weight=np.ones(60)).score(x.reshape(60, 48), y) > 0.9
    )
    calibrated = CalibratedClassifierCV(small(), cv=2).fit(x, y)
    assert calibrated.predict_proba(x).shape == (60, 3) and calibrated.score(x, y) > 0.8
    assert "whole" in classification_report(y, search.predict(x))


def test_names_of_columns_are_kept_and_compared() -> None:
    pandas = pytest.importorskip("pandas")
    x, y = pictures()
    frame = pandas.DataFrame(x.reshape(48, 48), columns=[f"p{i}" for i in range(48)])
    fitted = small(image_shape=(6, 8), epochs=1).fit(frame, pandas.Series(y))
    assert fitted.feature_names_in_.tolist() == list(frame.columns)
    with pytest.raises(ValueError, match="feature names should match") as raised:
        fitted.predict(frame.rename(columns={"p0": "q"}))
    assert "\n" not in str(raised.value)


# ---- many jobs -------------------------------------------------------------------------------------------------------


def test_workers_train_the_same_network_in_processes() -> None:
    x, y = pictures()
    weights = 1 + np.arange(48) % 2
    settings: dict[str, Any] = {"epochs": 2, "optimizer": "sgd", "schedule": "constant"}
    one = small(batch_size=16, **settings).fit(x, y, sample_weight=weights)
    two = small(batch_size=8, n_jobs=2, **settings).fit(x, y, sample_weight=weights)
    assert np.allclose(two.model_.flat, one.model_.flat, atol=1e-5)
    assert two.n_iter_ == 2 and np.allclose(two.loss_curve_, one.loss_curve_, atol=1e-5)


def _job(jobs: int) -> tuple[tuple[int, int | None], int, np.ndarray, str]:
    """In one of joblib's jobs: workers and threads of an estimator, threads allowed, a network, fit()'s refusal."""
    x, y = pictures()
    fitted = small(epochs=1, n_jobs=jobs).fit(x, y)
    try:
        pyconv.fit(nn.Sequential(SMALL, (6, 8, 1)), x, np.arange(48) % 3, workers=2, progress="off")
    except InputError as error:
        said = str(error)
    return sharing.workers_and_threads(jobs), threads.default(), fitted.model_.flat, said


def test_a_job_of_a_search_takes_one_worker_and_its_share_of_the_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    alone = small(epochs=1).fit(*pictures()).model_.flat
    with joblib.parallel_config("loky", n_jobs=2, inner_max_num_threads=1):
        for share, granted, flat, said in joblib.Parallel()(joblib.delayed(_job)(jobs) for jobs in (4, -1)):
            assert share == (1, None) and granted == 1 and "take workers=1 here" in said
            assert np.allclose(flat, alone, atol=1e-6)
    with joblib.parallel_config("threading", n_jobs=2):
        shares = joblib.Parallel()(joblib.delayed(sharing.workers_and_threads)(jobs) for jobs in (None, 4, -1))
        assert shares == [(1, 1)] * 3
        search = GridSearchCV(small(epochs=2), {"lr": [1e-6, 0.05]}, cv=2).fit(*pictures())
        assert search.best_params_ == {"lr": 0.05}


def test_a_daemonic_process_starts_no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [sharing.workers_and_threads(jobs) for jobs in (3, None)] == [(3, None), (1, None)]
    assert sharing.workers_and_threads(-1)[0] == threads.default()
    monkeypatch.setattr(sharing, "is_daemonic", lambda: True)
    assert sharing.workers_and_threads(3) == (1, None)


# ---- what is refused -------------------------------------------------------------------------------------------------


def _with(value: Any) -> np.ndarray:
    x = pictures()[0]
    x[5, 2, 3] = value
    return x


DEEP: list[Any] = []
for _ in range(5000):
    DEEP = [DEEP]
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "rows that do not fit": ({"image_shape": (6, 7)}, {"X": np.zeros((48, 48))}, "rows of 48 numbers.*6×7×1 takes 42"),
    "images that do not fit": ({"image_shape": (8, 6)}, {}, "images of 6×8×1, but image_shape is 8×6×1"),
    "no shape": ({"image_shape": 48}, {}, "image_shape must be"),
    "a shape of zero": ({"image_shape": (0, 48)}, {}, "at least 1"),
    "NaN": ({}, {"X": _with(np.nan)}, "NaN or infinity, first in row 5"),
    "infinity": ({}, {"X": _with(np.inf)}, "NaN or infinity, first in row 5"),
    "complex": ({}, {"X": np.zeros((48, 6, 8), complex)}, "Complex data not supported"),
    "text": ({}, {"X": np.full((48, 6), "a")}, "dtype"),
    "ragged rows": ({}, {"X": [[1, 2], [3]]}, "cannot be read as an array"),
    "no rows": ({}, {"X": np.zeros((0, 6, 8)), "y": []}, "0 sample"),
    "one class": ({}, {"y": ["left"] * 48}, "one class, 'left'"),
    "labels of another length": ({}, {"y": NAMES}, "inconsistent numbers of samples"),
    "no labels": ({}, {"y": None}, "requires y"),
    "numbers for labels": ({}, {"y": np.linspace(0, 1, 48)}, "continuous"),
    "NaN for a label": ({}, {"y": [np.nan, *range(47)]}, "NaN"),
    "too few weights": ({}, {"sample_weight": [1, 2]}, r"each of 48 rows, not shape \(2,\)"),
    "a weight below zero": ({}, {"sample_weight": np.r_[1, -1, np.ones(46)]}, "-1 at position 1"),
    "no weight": ({}, {"sample_weight": np.zeros(48)}, "zero"),
    "weights of text": ({}, {"sample_weight": ["a"] * 48}, "could not convert"),
    "a class weight below zero": ({"class_weight": {"left": -1}}, {}, "at least 0"),
    "class weights by a word": ({"class_weight": "even"}, {}, "'balanced'"),
    "class weights of unknown labels": ({"class_weight": {"nobody": 1}}, {}, "class_weight"),
    "an unknown network": ({"model": "lennet"}, {}, "lenet"),
    "a network of other classes": ({"model": [nn.Flatten(), nn.Dense(4)]}, {}, r"3 classes: end it in nn.Dense\(3\)"),
    "a network of other images": (
        {"model": nn.Sequential([nn.Flatten(), nn.Dense(3)], (4, 4, 1))},
        {},
        "4×4×1|4, 4, 1",
    ),
    "no network": ({"model": 7}, {}, "model must be"),
    "a function that takes nothing": (
        {"model": lambda: None},
        {},
        r"fails when it is called as model\(shape, classes\)",
    ),
    "no epochs": ({"epochs": 0}, {}, "epochs must be at least 1"),
    "no batch": ({"batch_size": 0}, {}, "batch_size must be at least 1"),
    "an unknown optimizer": ({"optimizer": "adm"}, {}, "adam"),
    "no learning rate": ({"lr": 0}, {}, "lr must be"),
    "a learning rate of text": ({"lr": "1e-3"}, {}, "lr must be"),
    "no jobs": ({"n_jobs": 0}, {}, "n_jobs"),
    "a random state of text": ({"random_state": "a"}, {}, "cannot be used to seed"),
    "a random state that Python cannot print": ({"random_state": DEEP}, {}, "cannot be used to seed"),
    "an unknown dtype": ({"dtype": "float16"}, {}, "float32"),
    "an unknown backend": ({"backend": "gpu"}, {}, "backend"),
    "all held out": ({"early_stopping": True, "validation_fraction": 1.0}, {}, "validation_fraction"),
    "no patience": ({"early_stopping": True, "n_iter_no_change": 0}, {}, "n_iter_no_change"),
    "smoothing above one": ({"label_smoothing": 2}, {}, "label_smoothing"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_said_in_one_line(case: str) -> None:
    settings, data, words = REFUSED[case]
    x, y = pictures()
    with pytest.raises(ValueError, match=words) as raised:
        small(**settings).fit(**{"X": x, "y": y, **data})
    assert isinstance(raised.value, PyconvError)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 400


def test_partial_fit_refuses_what_it_cannot_know() -> None:
    x, y = pictures()
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        small().partial_fit(x, y)
    with pytest.raises(ValueError, match="'whole', which is not one of the classes"):
        small(model="auto").partial_fit(x, y, classes=["left", "top"])
    fitted = small().partial_fit(x, y, classes=NAMES)
    with pytest.raises(ValueError, match="are not those of the first call"):
        fitted.partial_fit(x, y, classes=["left", "top"])
    with pytest.raises(ValueError, match="needs all labels at once"):
        small(class_weight="balanced").partial_fit(x, y, classes=NAMES)


def test_a_divergence_is_told() -> None:
    with pytest.raises(PyconvError, match="take a smaller lr than 1e\\+10"):
        small(optimizer="sgd", lr=1e10).fit(*pictures())


def test_images_in_another_scale_bring_a_warning() -> None:
    x, y = pictures()
    fitted = small(epochs=1).fit(x * 255, y)
    with pytest.warns(UserWarning, match="bring both to one scale"):
        fitted.predict(x)
    rows = small(model="auto", epochs=1).fit(x.reshape(48, 48) * 255, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows.predict(x.reshape(48, 48))


def test_without_scikit_learn_the_import_says_what_to_do() -> None:
    program = "import sys; sys.modules['sklearn'] = None; import pyconv.sklearn"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    last = done.stderr.splitlines()[-1]
    assert re.match(
        r"ImportError: pyconv\.sklearn needs scikit-learn 1\.6 or newer, which .*pip install '\.\[sklearn\]'",
        last,
    )


def test_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    namespace: dict[str, Any] = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), namespace)
    assert len(blocks) >= 4 and "weighted avg" in capsys.readouterr().out
