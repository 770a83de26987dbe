"""The movements of a face in each expression: actions of brows, lids, nose and mouth.

The actions are a handful of the action units of Ekman and Friesen's *Facial Action Coding System* (1978), each a number
that is 0 in a face at rest. Lengths are in face units: half the height of the head is 1.
"""

from __future__ import annotations

import numpy as np

from ..fer2013 import CLASSES

ACTIONS = (
    "brow_inner",  # inner ends of the brows up (AU 1) or, negative, down (AU 4); length
    "brow_outer",  # outer ends up (AU 2) or down; length
    "brow_close",  # brows drawn together (AU 4); length that each end travels
    "lid_open",  # upper lids raised (AU 5) or, negative, lowered; share of the resting opening
    "lid_tight",  # lower lids raised (AU 6, 7); share of the resting opening
    "lid_droop",  # outer halves of the upper lids hang; share of the resting opening
    "corner",  # corners of the mouth up (AU 12) or down (AU 15); length
    "width",  # mouth stretched (AU 20) or, negative, narrowed; share of its resting width
    "open",  # jaw drops (AU 25 to 27); length of the opening
    "lip_raise",  # middle of the upper lip raised (AU 10); length
    "press",  # lips pressed thin (AU 23, 24); share of their thickness
    "teeth",  # upper teeth bared; share of the opening
    "square",  # opening with square corners; 0 to 1
    "wrinkle",  # nose wrinkled (AU 9); 0 to 1
    "furrow",  # vertical furrow between the brows; 0 to 1
    "forehead",  # lines across the forehead; 0 to 1
    "fold",  # folds from the nose to the corners of the mouth; 0 to 1
)
"""Names of the actions, in the order of the columns that :func:`actions` returns."""

_VARIANTS: dict[str, list[dict[str, float]]] = {
    "Angry": [
        {
            "brow_inner": -0.15,
            "brow_outer": 0.03,
            "brow_close": 0.06,
            "lid_open": 0.1,
            "lid_tight": 0.6,
            "corner": -0.03,
            "width": -0.12,
            "press": 0.8,
            "furrow": 1.0,
            "fold": 0.2,
        },
        {
            "brow_inner": -0.15,
            "brow_outer": 0.02,
            "brow_close": 0.06,
            "lid_open": 0.1,
            "lid_tight": 0.6,
            "corner": -0.04,
            "width": 0.05,
            "open": 0.16,
            "lip_raise": 0.02,
            "teeth": 0.5,
            "square": 1.0,
            "furrow": 1.0,
            "fold": 0.4,
        },
    ],
    "Disgust": [
        {
            "brow_inner": -0.07,
            "brow_outer": -0.05,
            "brow_close": 0.03,
            "lid_open": -0.35,
            "lid_tight": 0.5,
            "corner": -0.06,
            "width": -0.05,
            "lip_raise": 0.09,
            "wrinkle": 1.0,
            "fold": 1.0,
        },
        {
            "brow_inner": -0.07,
            "brow_outer": -0.05,
            "brow_close": 0.03,
            "lid_open": -0.4,
            "lid_tight": 0.5,
            "corner": -0.06,
            "open": 0.08,
            "lip_raise": 0.09,
            "teeth": 0.6,
            "wrinkle": 1.0,
            "fold": 1.0,
        },
    ],
    "Fear": [
        {
            "brow_inner": 0.13,
            "brow_outer": 0.02,
            "brow_close": 0.05,
            "lid_open": 0.75,
            "lid_tight": 0.1,
            "corner": -0.04,
            "width": 0.28,
            "open": 0.10,
            "teeth": 0.35,
            "square": 0.6,
            "forehead": 0.6,
        },
        {
            "brow_inner": 0.13,
            "brow_outer": 0.03,
            "brow_close": 0.05,
            "lid_open": 0.75,
            "corner": -0.05,
            "width": 0.25,
            "open": 0.17,
            "square": 0.5,
            "forehead": 0.6,
        },
    ],
    "Happy": [
        {"brow_outer": 0.01, "lid_open": -0.1, "lid_tight": 0.5, "corner": 0.19, "width": 0.25, "fold": 0.7},
        {
            "brow_outer": 0.02,
            "lid_open": -0.15,
            "lid_tight": 0.6,
            "corner": 0.19,
            "width": 0.3,
            "open": 0.13,
            "teeth": 0.7,
            "fold": 0.8,
        },
    ],
    "Sad": [
        {
            "brow_inner": 0.10,
            "brow_outer": -0.07,
            "brow_close": 0.04,
            "lid_open": -0.3,
            "lid_droop": 0.6,
            "corner": -0.18,
            "width": -0.08,
            "furrow": 0.3,
        },
        {
            "brow_inner": 0.11,
            "brow_outer": -0.08,
            "brow_close": 0.03,
            "lid_open": -0.35,
            "lid_droop": 0.7,
            "corner": -0.16,
            "width": -0.02,
            "open": 0.04,
            "furrow": 0.3,
        },
    ],
    "Surprise": [
        {
            "brow_inner": 0.13,
            "brow_outer": 0.14,
            "lid_open": 0.65,
            "corner": 0.0,
            "width": -0.28,
            "open": 0.30,
            "forehead": 1.0,
        },
        {
            "brow_inner": 0.14,
            "brow_outer": 0.15,
            "lid_open": 0.7,
            "corner": 0.02,
            "width": -0.15,
            "open": 0.24,
            "teeth": 0.3,
            "forehead": 1.0,
        },
    ],
    "Neutral": [{}],
}
"""Ways to show each expression at full intensity; actions that are not named are at rest."""

_HABIT = {
    "brow_inner": 0.014,
    "brow_outer": 0.017,
    "brow_close": 0.009,
    "lid_open": 0.085,
    "lid_tight": 0.068,
    "lid_droop": 0.102,
    "corner": 0.014,
    "width": 0.051,
    "open": 0.0,
    "lip_raise": 0.005,
    "press": 0.102,
    "teeth": 0.068,
    "square": 0.085,
    "wrinkle": 0.085,
    "furrow": 0.119,
    "forehead": 0.119,
    "fold": 0.153,
}
"""Standard deviation of each action between people, also at rest."""

_MOST = max(map(len, _VARIANTS.values()))
_TABLE = np.array(
    [
        [[variants[i % len(variants)].get(action, 0.0) for action in ACTIONS] for i in range(_MOST)]
        for variants in (_VARIANTS[name] for name in CLASSES)
    ]
)
_SPREAD = np.array([_HABIT[action] for action in ACTIONS])
_NEVER_NEGATIVE = np.array(
    [a in ("open", "lip_raise", "press", "teeth", "square", "wrinkle", "furrow", "forehead", "fold", "lid_tight",
           "lid_droop", "brow_close") for a in ACTIONS]
)  # fmt: skip


def actions(labels: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw the actions of faces that show given expressions.

    Parameters
    ----------
    labels : ndarray, shape (N,), int64
        Expressions, as FER2013 numbers them.
    rng : numpy.random.Generator

    Returns
    -------
    dict of str to ndarray, shape (N,), float32
        A value for each of `ACTIONS`.
    """
    n = len(labels)
    target = _TABLE[labels, rng.integers(0, _MOST, n)]
    intensity = 0.7 + 0.5 * rng.beta(2.0, 2.0, n)
    # People do not move all parts of the face equally: each action has a factor of its own.
    shares = intensity[:, None] * rng.normal(1.0, 0.15, target.shape).clip(0.5, 1.5)
    values = shares * target + _SPREAD * rng.standard_normal(target.shape)
    values[:, _NEVER_NEGATIVE] = values[:, _NEVER_NEGATIVE].clip(0)
    return {action: values[:, i].astype(np.float32) for i, action in enumerate(ACTIONS)}
