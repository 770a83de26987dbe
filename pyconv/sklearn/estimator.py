"""ConvNetClassifier: a scikit-learn classifier that trains pyconv's networks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted, column_or_1d

from ..backends import NAMES as BACKENDS
from ..backends import get as get_backend
from ..datasets.split import hold_out
from ..errors import InputError, is_text, shown
from ..loop import recipe as recipes
from ..loop.recipe import Asked
from ..nn import InputRange, Layer, Normalization, Sequential
from ..nn.layer import Shape
from ..optim import Optimizer
from ..parallel import Job, Rule, Weighing, smallest_batch
from ..values import choice, flag, float_dtype, integer, real
from . import inputs, sharing, training
from .networks import network


class ConvNetClassifier(ClassifierMixin, BaseEstimator):
    """A convolutional network as a scikit-learn classifier.

    It takes images, ``(N, H, W)`` or ``(N, H, W, C)``, and flat rows, ``(N, features)``. Rows are images of
    `image_shape`; without it, images of a single row.

    Parameters
    ----------
    model : str, sequence of Layer, callable or Sequential
        "auto": a small network that fits the images; or a name for :func:`pyconv.nn.build`; or layers, the last of them
        a ``Dense`` with one unit for each class; or a function that makes layers or a network, called with the shape of
        an example and the number of classes; or a network, of which a copy is trained further.
    image_shape : (int, int) or (int, int, int), optional
        Height, width and channels (1 if left out) of the images that flat rows hold.
    epochs : int, optional
        Passes over the data; by default 10, or as many as 300 steps take.
    batch_size : int, optional
        Examples of one worker's step; by default the workers share 64. Never more than there are.
    optimizer : str, mapping or Optimizer
        As :func:`pyconv.fit` takes it.
    lr : float, optional
        Learning rate, instead of the optimizer's; by default what :func:`pyconv.fit` chooses.
    schedule : str, mapping or callable, optional
        Of the learning rate; a cosine by default. `partial_fit` does not change the rate.
    class_weight : "balanced", dict or None
        Weight of each class in the loss, by its label. "balanced" makes all classes equally important.
    label_smoothing : float
        Share of each label that is spread evenly over all classes.
    augment : mapping, optional
        As :func:`pyconv.fit` takes it, for images.
    early_stopping : bool
        Hold out examples in `fit`, stop when the accuracy on them no longer rises, and keep the network of the best
        epoch.
    validation_fraction : float
        Share that is held out for that, the same of each class.
    n_iter_no_change : int
        Stop after this many epochs in a row without a better accuracy.
    tol : float
        An accuracy is better if it is higher by more than this.
    warm_start : bool
        Whether `fit` continues with the network of the last `fit`.
    n_jobs : int or None
        Workers: training processes. None is one, -1 as many as there are CPUs. `partial_fit` uses one, and so does
        every fit that joblib runs beside others, as in a search with `n_jobs` of its own.
    update : str or Rule
        How several workers meet, as :func:`pyconv.fit` takes it.
    backend : str
        Where operations run; see :func:`pyconv.backends`.
    dtype : {"auto", "float32", "float64"}
        Dtype of all computations; "auto" is float64 for float64 data, else float32, which is twice as fast.
    random_state : int, RandomState or None
        For first weights, dropout, the order of the examples and the choice of held-out ones. With an int, each fit on
        the same data gives the same network.

    Attributes
    ----------
    classes_ : (classes,) ndarray
        The labels.
    model_ : Sequential
        The trained network, to save, export or inspect.
    image_shape_ : tuple of int
        Of one example: height, width and channels.
    n_features_in_ : int
        Numbers of one example.
    feature_names_in_ : ndarray of str
        Names of the columns, if rows came in a data frame.
    n_iter_ : int
        Epochs of the last `fit`; after `partial_fit`, all of them.
    loss_, loss_curve_ : float, list of float
        Mean training loss of the last epoch, and of each epoch.
    validation_scores_, best_validation_score_ : list of float, float
        Accuracy on the held-out examples after each epoch, and the best one; None without early stopping.

    Notes
    -----
    Images are normalised by the mean and standard deviation of each channel. The rows of a table have a single channel:
    scale their columns first, with ``StandardScaler`` in a pipeline.

    A row of weight 2 counts as if it were there twice. This is exact if a step takes all rows; with smaller batches
    each step takes the weighted mean of its own rows. Rows of weight 0 are left out.

    Examples
    --------
    >>> import numpy as np
    >>> from pyconv.sklearn import ConvNetClassifier
    >>> images = np.random.default_rng(0).random((60, 8, 8))
    >>> images[:30, :, :4] += 1
    >>> labels = np.repeat(["left", "flat"], 30)
    >>> ConvNetClassifier(epochs=20, random_state=0).fit(images, labels).predict(images[:2])
    array(['left', 'left'], dtype='<U4')
    """

    def __init__(
        self,
        model: str | Sequence[Layer] | Callable[[Shape, int], Sequential | Sequence[Layer]] | Sequential = "auto",
        *,
        image_shape: Sequence[int] | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        optimizer: str | Mapping[str, Any] | Optimizer = "adam",
        lr: float | None = None,
        schedule: str | Mapping[str, Any] | Callable[[int, int], float] | None = None,
        class_weight: str | Mapping[str, float] | Mapping[int, float] | None = None,
        label_smoothing: float = 0.0,
        augment: Mapping[str, Any] | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 0.0,
        warm_start: bool = False,
        n_jobs: int | None = None,
        update: str | Rule = "sync",
        backend: str = "auto",
        dtype: str = "auto",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.model = model
        self.image_shape = image_shape
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.lr = lr
        self.schedule = schedule
        self.class_weight = class_weight
        self.label_smoothing = label_smoothing
        self.augment = augment
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.n_jobs = n_jobs
        self.update = update
        self.backend = backend
        self.dtype = dtype
        self.random_state = random_state

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.sparse = True
        return tags

    # ---- training

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> ConvNetClassifier:
        """Train on images or rows.

        Parameters
        ----------
        X : (N, H, W), (N, H, W, C) or (N, features) array, data frame or sparse matrix
            Sparse rows become dense.
        y : (N,) array
            Labels of any kind that can be sorted; at least two classes.
        sample_weight : (N,) array, optional
            Weight of each row, at least 0.

        Returns
        -------
        ConvNetClassifier
            The estimator itself.

        Raises
        ------
        InputError, ShapeError, DtypeError
            If the data or a parameter is wrong. All are ``ValueError``, and say in one line what to do.
        DivergedError
            If the loss becomes NaN or infinite.
        """
        again = flag(self.warm_start, "warm_start") and hasattr(self, "model_")
        stop = flag(self.early_stopping, "early_stopping")
        x, targets = inputs.examples(self, X, y, reset=not again)
        weights = inputs.sample_weights(sample_weight, len(x))
        if weights is not None and not weights.all():
            x, targets, weights = x[weights > 0], targets[weights > 0], weights[weights > 0]
        with inputs.one_line():
            classes, labels = np.unique(targets, return_inverse=True)
        if len(classes) < 2:
            raise InputError(
                f"y holds one class, {shown(classes.tolist()[0])}; a classifier needs rows of at least two"
            )
        if again and not np.array_equal(classes, self.classes_):
            raise InputError(
                f"warm_start goes on with the classes of the last fit, {shown(self.classes_.tolist())}, "
                f"but y holds {shown(classes.tolist())}; take warm_start=False"
            )
        seed = self._seed()
        if not again:
            self._begin(x, classes, weights, seed)
        counts = inputs.together(weights, inputs.class_weights(self.class_weight, classes, labels, weights), labels)
        patience = None
        if stop:
            kept, held = hold_out(labels, self.validation_fraction, seed)
            if not len(held):
                raise InputError("early_stopping needs a second row of some class, to hold it out")
            patience = training.Patience(
                training.Held(x[held], labels[held], None if weights is None else weights[held]),
                integer(self.n_iter_no_change, "n_iter_no_change", minimum=1),
                real(self.tol, "tol", minimum=0),
            )
            x, labels, counts = x[kept], labels[kept], None if counts is None else counts[kept]
        workers, threads = sharing.workers_and_threads(self.n_jobs)
        job = self._job(len(x), counts, min(workers, max(len(x) // self.model_.least_batch, 1)), threads, seed)
        record = training.train(self.model_, np.ascontiguousarray(x), labels, job, patience=patience)
        self._optimizer_state = record.state if job.workers == 1 else {}
        self._passes, self.n_iter_ = job.epochs, len(record.losses)
        self.loss_curve_, self.loss_ = record.losses, record.losses[-1]
        self.validation_scores_ = record.scores if stop else None
        self.best_validation_score_ = max(record.scores) if stop else None
        return self

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> ConvNetClassifier:
        """Train one more epoch on these rows, and continue with the optimizer's state; without early stopping.

        Parameters
        ----------
        X, y : see :meth:`fit`
            The rows of the first call set the normalisation.
        classes : (classes,) array, optional
            All labels that will ever occur; required in the first call.
        sample_weight : (N,) array, optional
            Weight of each row, at least 0.

        Returns
        -------
        ConvNetClassifier
            The estimator itself.

        Raises
        ------
        InputError, ShapeError, DtypeError, DivergedError
            As :meth:`fit`; also if a label is not one of `classes`.
        """
        if self.class_weight is not None and isinstance(self.class_weight, str):
            raise InputError(
                f"class_weight={shown(self.class_weight)} needs all labels at once; give partial_fit weights by label"
            )
        first = not hasattr(self, "model_")
        known = self._known(classes, first)
        x, targets = inputs.examples(self, X, y, reset=first)
        weights = inputs.sample_weights(sample_weight, len(x))
        if weights is not None and not weights.all():
            x, targets, weights = x[weights > 0], targets[weights > 0], weights[weights > 0]
        with inputs.one_line():
            unknown = np.setdiff1d(targets, known)
            labels = np.searchsorted(known, targets)
        if unknown.size:
            raise InputError(
                f"y holds {shown(unknown.tolist()[0])}, which is not one of the classes {shown(known.tolist())}"
            )
        seed = self._seed()
        if first:
            self._begin(x, known, weights, seed)
            self._passes, self._optimizer_state, self.loss_curve_ = 0, {}, []
            self.validation_scores_ = self.best_validation_score_ = None
        by_class = inputs.class_weights(self.class_weight, known, labels, weights)
        counts = inputs.together(weights, by_class, labels)
        job = self._job(len(x), counts, 1, sharing.threads_here(), seed, online=True)
        state = self._optimizer_state
        record = training.train(self.model_, x, labels, job, first_epoch=self._passes, epochs=1, state=state)
        self._optimizer_state = record.state
        self._passes += 1
        self.loss_curve_ = [*self.loss_curve_, *record.losses]
        self.n_iter_, self.loss_ = len(self.loss_curve_), self.loss_curve_[-1]
        return self

    def _known(self, classes: Any, first: bool) -> np.ndarray:
        """The classes for `partial_fit`, checked."""
        if classes is None:
            if first:
                raise InputError("classes must be passed on the first call to partial_fit: all labels that will come")
            return self.classes_
        with inputs.one_line():
            given = np.unique(column_or_1d(classes))
        if not first and not np.array_equal(given, self.classes_):
            raise InputError(
                f"classes {shown(given.tolist())} are not those of the first call, {shown(self.classes_.tolist())}"
            )
        if len(given) < 2:
            raise InputError("classes holds one class; a classifier needs at least two")
        return given

    def _seed(self) -> int:
        known = (int, np.integer, np.random.RandomState, type(None), type(np.random))
        if not isinstance(self.random_state, known):  # scikit-learn's message would quote it, which may fail
            raise InputError(f"random_state {shown(self.random_state)} cannot be used to seed a RandomState")
        with inputs.one_line():
            return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _begin(self, x: np.ndarray, classes: np.ndarray, weights: np.ndarray | None, seed: int) -> None:
        """Make the network and set its normalisation."""
        if isinstance(self.dtype, str) and self.dtype == "auto":
            dtype = np.dtype(np.float64 if x.dtype == np.float64 else np.float32)
        else:
            dtype = float_dtype(self.dtype)
        made = network(self.model, self.image_shape_, len(classes), seed=seed, dtype=dtype)
        if made.normalization.identity:
            made.normalization = Normalization(*inputs.moments(x, weights))
        # Later rows of a table may hold small numbers only: rows have no scale to warn about.
        made.input_range = InputRange.of(x) if self.image_shape_[0] > 1 else InputRange("", 0.0, 0.0)
        names = [str(label) for label in classes.tolist()]
        made.classes = names if all(map(is_text, names)) else None
        made.backend = choice(self.backend, "backend", BACKENDS)
        get_backend(made.backend)
        self.model_, self.classes_ = made, classes

    def _job(
        self, count: int, weights: np.ndarray | None, workers: int, threads: int | None, seed: int,
        *, online: bool = False,
    ) -> Job:  # fmt: skip
        """The engine's job; `online` for a single epoch by itself."""
        asked = Asked.of(self.batch_size, self.optimizer, self.schedule, self.update)
        # The learning rate is for the batch size asked for, however few rows there are: a weight of 2 is two rows.
        asked = dataclasses.replace(asked, batch_size=asked.batch_size or max(recipes.BATCH // workers, 1))
        if self.lr is not None:
            lr = real(self.lr, "lr", above=0)
            given = asked.optimizer
            changed = dataclasses.replace(given, lr=lr) if isinstance(given, Optimizer) else {**(given or {}), "lr": lr}
            asked = dataclasses.replace(asked, optimizer=changed)
        least = self.model_.least_batch
        recipe = recipes.choose(asked, workers, count, least)
        batch = smallest_batch(count, min(recipe.batch_size, max(count // workers, 1)), workers, least)
        recipe = dataclasses.replace(recipe, batch_size=batch)
        if online:
            recipe = dataclasses.replace(recipe, schedule=lambda step, total: 1.0)
        smoothing = real(self.label_smoothing, "label_smoothing", minimum=0, maximum=1)
        steps = -(-count // (batch * workers))
        if self.epochs is None:
            epochs = training.default_epochs(steps)
        else:
            epochs = integer(self.epochs, "epochs", minimum=1)
        return Job(
            epochs=epochs,
            seed=seed,
            augment=self.augment,
            backend=self.model_.backend,
            threads_per_worker=threads,
            workers=workers,
            weighing=Weighing(images=weights, smoothing=smoothing) if weights is not None or smoothing else None,
            **recipe.settings(),
        )

    # ---- predictions

    def predict(self, X: ArrayLike) -> np.ndarray:
        """The most probable label of each row or image.

        Parameters
        ----------
        X : array, data frame or sparse matrix
            As in :meth:`fit`: height, width and channels, or the number of features, must be the same.

        Returns
        -------
        (N,) ndarray
            With the labels' dtype.

        Raises
        ------
        InputError, ShapeError, DtypeError
            If `X` does not fit; ``NotFittedError`` before :meth:`fit`.
        """
        found = self._logits(X).argmax(axis=1)
        return self.classes_[found]

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """The probability of each class.

        Parameters
        ----------
        X : see :meth:`predict`

        Returns
        -------
        (N, classes) ndarray of float64
            In the order of ``classes_``; each row adds up to 1.
        """
        return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X: ArrayLike) -> np.ndarray:
        """The logarithm of the probability of each class.

        Parameters
        ----------
        X : see :meth:`predict`

        Returns
        -------
        (N, classes) ndarray of float64
        """
        return training.log_probabilities(self._logits(X))

    def decision_function(self, X: ArrayLike) -> np.ndarray:
        """The network's logits; for two classes, the second class's logit minus the first's.

        Parameters
        ----------
        X : see :meth:`predict`

        Returns
        -------
        (N, classes) or (N,) ndarray of float64
        """
        found = self._logits(X)
        return found[:, 1] - found[:, 0] if len(self.classes_) == 2 else found

    def _logits(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        x, _ = inputs.examples(self, X, reset=False)
        self.model_.threads = sharing.threads_here()
        return training.logits(self.model_, x)
