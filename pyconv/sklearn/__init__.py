"""A classifier for scikit-learn: pyconv's networks in pipelines, searches and cross-validation.

It needs scikit-learn 1.6 or newer, which is an optional extra.
"""

from ..errors import needed

with needed("pyconv.sklearn needs scikit-learn 1.6 or newer", extra="sklearn", error=ImportError):
    from sklearn.utils.validation import validate_data as _in_1_6  # noqa: F401

from .estimator import ConvNetClassifier

__all__ = ["ConvNetClassifier"]
