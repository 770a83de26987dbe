#!/usr/bin/env bash
# scikit-learn 1.9.1: check_estimator passes an estimator of images after one check, which looks at no prediction.
#
# An estimator whose tags say that it takes three-dimensional arrays and no tables is only cloned. This one predicts a
# class that it has never seen. As an estimator of tables the same class fails.
#
# Seen 2026-11-28, Python 3.11, Linux x86-64, NumPy 2.4.6, SciPy 1.17.1:
#   images: passed {'check_estimator_cloneable'}
#   tables: failed
#
# In pyconv: ConvNetClassifier takes rows too, so that all checks run; its tests of images are written beside them.
source "$(dirname "$0")/common.sh"
packages numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1
seen <<'PYTHON'
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.estimator_checks import check_estimator


class Tables(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), "a class of its own")


class Images(Tables):
    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = False, True
        return tags


results = check_estimator(Images(), on_fail=None)
print("images:", *{result["status"] for result in results}, {result["check_name"] for result in results})
results = check_estimator(Tables(), on_fail=None)
print("tables:", "failed" if any(result["status"] == "failed" for result in results) else "passed")
PYTHON
