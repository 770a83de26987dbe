"""Draws random traits of faces: head, pose, light, objects in front of it; the expression is drawn elsewhere."""

from __future__ import annotations

import numpy as np

Traits = dict[str, np.ndarray]


def person(n: int, rng: np.random.Generator) -> Traits:
    """Draw identities, poses, light, and objects in front of the faces.

    Parameters
    ----------
    n : int
        Faces.
    rng : numpy.random.Generator

    Returns
    -------
    dict of str to ndarray, shape (n,), float32
        Lengths in face units (half the height of the head is 1), angles in radians, tones from 0 (black) to 1
        (white), shares from 0 to 1; a share of 0 means that a face does not have the thing.
    """

    def uniform(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, n)

    def normal(mean: float, deviation: float, reach: float = 2.5) -> np.ndarray:
        return mean + deviation * rng.standard_normal(n).clip(-reach, reach)

    def some(share: float, value: np.ndarray) -> np.ndarray:
        return np.where(rng.random(n) < share, value, 0.0)

    skin = uniform(0.42, 0.85)
    hair = np.where(rng.random(n) < 0.25, uniform(0.45, 0.8), uniform(0.05, 0.4))
    traits = {
        # Head and hair
        "head_width": normal(0.76, 0.045),
        "jaw": uniform(0.08, 0.34),
        "skin": skin,
        "hair": hair,
        "hairline": normal(-0.66, 0.07) - some(0.15, uniform(0.2, 0.4)),
        "fringe": normal(0.15, 0.25),
        "parting": normal(0.0, 0.2),
        "hair_volume": uniform(0.03, 0.2),
        "hair_length": np.where(rng.random(n) < 0.4, uniform(0.6, 1.6), uniform(-0.4, 0.1)),
        # Features
        "eye_distance": normal(0.345, 0.02),
        "eye_height": normal(-0.17, 0.025),
        "eye_width": normal(0.18, 0.014),
        "eye_open": normal(0.085, 0.008),
        "eye_slant": normal(0.0, 0.02),
        "iris": uniform(0.08, 0.4),
        "gaze_x": normal(0.0, 0.03),
        "gaze_y": normal(0.0, 0.012),
        "brow_height": normal(0.20, 0.02),
        "brow_thick": normal(0.036, 0.008, 2.0),
        "brow_arch": normal(0.035, 0.018),
        "brow_tone": (hair * 0.6 + 0.02).clip(0, skin - 0.28),
        "nose_length": normal(0.26, 0.03),
        "nose_width": normal(0.125, 0.015),
        "mouth_height": normal(0.54, 0.028),
        "mouth_width": normal(0.3, 0.02),
        "lip": normal(0.05, 0.011),
        "lip_tone": uniform(0.62, 0.95),
        "lines": uniform(0.1, 0.4),
        "beard": some(0.18, uniform(0.25, 0.75)),
        "moustache": some(0.1, uniform(0.3, 0.8)),
        "glasses": some(0.18, uniform(0.6, 1.0)),
        "glasses_size": uniform(0.2, 0.25),
        "glasses_tone": uniform(0.02, 0.35),
        "asymmetry": normal(0.0, 0.15),
        # Pose: roll in the picture's plane, yaw and pitch as shifts of the features across the head
        "size": normal(21.5, 1.4),
        "shift_x": normal(0.0, 1.5),
        "shift_y": normal(0.0, 1.5),
        "roll": normal(0.0, 0.12),
        "yaw": normal(0.0, 0.09),
        "pitch": normal(0.0, 0.06),
        # Light and background
        "light_x": normal(0.0, 0.55),
        "light_y": normal(-0.25, 0.3),
        "ambient": uniform(0.45, 0.85),
        "back": uniform(0.0, 1.0),
        "back_slope": normal(0.0, 0.2),
        "back_wave": uniform(0.0, 0.12),
        "back_angle": uniform(0.0, 2 * np.pi),
        "back_pitch": uniform(0.15, 0.9),
        "clothes": uniform(0.0, 1.0),
        # Something before the face: a hand, an arm, a strap
        "bar": some(0.1, np.ones(n)),
        "bar_x": normal(0.0, 0.45),
        "bar_y": normal(0.1, 0.45),
        "bar_angle": uniform(0.0, np.pi),
        "bar_width": uniform(0.07, 0.17),
        "bar_length": uniform(0.3, 0.7),
        "bar_tone": uniform(0.05, 0.95),
        # Camera
        "contrast": uniform(0.75, 1.15),
        "brightness": normal(0.0, 0.07),
        "blur": uniform(0.0, 0.8),
        "noise": uniform(0.005, 0.035),
    }
    return {name: np.asarray(value, np.float32) for name, value in traits.items()}
