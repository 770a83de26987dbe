"""Draws faces from their traits and actions, many at a time.

Shapes are implicit curves whose edges are blurred over one pixel. They are painted over one another, from the
background to the front. Large shapes are painted on the whole picture; eyes, nose and mouth on small patches of it,
several times as fast.
"""

from __future__ import annotations

import numpy as np

from .person import Traits

SIDE = 48
"""Height and width of a picture in pixels."""

Array = np.ndarray


class Patch:
    """A rectangle of the same size in each picture, around a point of the face, and its place in the picture.

    Attributes
    ----------
    u, v : ndarray, shape (N, rows, columns), float32
        Face coordinates of each pixel: right and down from the middle of the head, in face units.
    tone : ndarray, shape (N, rows, columns), float32
        The pixels.
    pixels : ndarray, shape (N, 1, 1), float32
        Pixels per face unit.
    """

    def __init__(
        self, face: Traits, canvas: Array, rows: int = SIDE, columns: int = SIDE, at: tuple[Array, Array] | None = None
    ) -> None:
        self._canvas = canvas
        self._face = face
        n = len(canvas)
        cos, sin = np.cos(face["roll"]), np.sin(face["roll"])
        middle_x = (SIDE - 1) / 2 + face["shift_x"]
        middle_y = (SIDE - 1) / 2 + face["shift_y"]
        top = left = np.zeros((n, 1), np.intp)
        if at is not None:
            u, v = _feature_to_head(face, *at)
            x = middle_x + face["size"] * (cos * u - sin * v)
            y = middle_y + face["size"] * (sin * u + cos * v)
            left = np.rint(x - columns / 2 + 0.5).astype(np.intp).clip(0, SIDE - columns)[:, None]
            top = np.rint(y - rows / 2 + 0.5).astype(np.intp).clip(0, SIDE - rows)[:, None]
        self._rows = (top + np.arange(rows))[:, :, None]
        self._columns = (left + np.arange(columns))[:, None, :]
        self._picture = np.arange(n)[:, None, None]
        x = ((self._columns - middle_x[:, None, None]) / face["size"][:, None, None]).astype(np.float32)
        y = ((self._rows - middle_y[:, None, None]) / face["size"][:, None, None]).astype(np.float32)
        cos, sin = cos[:, None, None], sin[:, None, None]
        self.u = cos * x + sin * y
        self.v = cos * y - sin * x
        self.whole = at is None
        if at is None:
            self.tone = canvas
        else:
            self.tone = canvas[self._picture, self._rows, self._columns]
            # The head is round: turning moves the middle of it more than its outline.
            self.u += face["yaw"][:, None, None] * (1 - self.u * self.u)
            self.v += face["pitch"][:, None, None] * (1 - self.v * self.v)
        self.pixels = face["size"][:, None, None]

    def __getattr__(self, name: str) -> Array:
        """A trait or an action of the faces, in a shape that broadcasts against the pixels."""
        try:
            return self._face[name][:, None, None]
        except KeyError:
            raise AttributeError(name) from None

    def soft(self, distance: Array) -> Array:
        """The share of the pixel, 0 to 1, from the distance inside an edge in face units."""
        share = distance * self.pixels
        share += 0.5
        return np.clip(share, 0, 1, out=share)

    def stroke(self, distance: Array, thickness: Array | float) -> Array:
        """Share of each pixel that a line covers, from the distance to its middle."""
        return self.soft(0.5 * thickness - np.abs(distance))

    def paint(self, share: Array, tone: Array | float) -> None:
        """Mix `tone` over the pixels."""
        self.tone += share * (tone - self.tone)

    def darken(self, share: Array) -> None:
        """Reduce the light by a share."""
        self.tone *= 1 - share

    def put_back(self) -> None:
        """Write the pixels to the pictures that they were taken from."""
        self._canvas[self._picture, self._rows, self._columns] = self.tone


def _feature_to_head(face: Traits, u: Array, v: Array) -> tuple[Array, Array]:
    """Where a feature is on the turned head; the inverse of the bend in `Patch`, to first order."""
    return u - face["yaw"] * (1 - u * u), v - face["pitch"] * (1 - v * v)


def draw(traits: Traits, actions: Traits, noise: Array) -> Array:
    """Draw one face for each set of traits and actions.

    Parameters
    ----------
    traits : dict of str to ndarray, shape (N,), float32
        From :func:`~pyconv.datasets.synthetic.person.person`.
    actions : dict of str to ndarray, shape (N,), float32
        From :func:`~pyconv.datasets.synthetic.expressions.actions`.
    noise : ndarray, shape (N, 48, 48), float32
        Standard normal numbers for the grain.

    Returns
    -------
    ndarray, shape (N, 48, 48), uint8
    """
    face = traits | actions
    canvas = np.empty(noise.shape, np.float32)
    _background(Patch(face, canvas))
    _head(Patch(face, canvas))
    _nose(Patch(face, canvas, 28, 16, (0 * face["size"], np.full_like(face["size"], -0.12))))
    for side in (-1, 1):
        place = side * face["eye_distance"], face["eye_height"] - 0.1
        _eye(Patch(face, canvas, 22, 18, place), side)
    _mouth(Patch(face, canvas, 26, 28, (0 * face["size"], face["mouth_height"] + 0.02)))
    _bar(Patch(face, canvas))
    return _picture(face, canvas, noise)


def _background(on: Patch) -> None:
    """Paint a slope of gray with waves in it, and clothes."""
    along = np.cos(on.back_angle) * on.u + np.sin(on.back_angle) * on.v
    on.tone[:] = on.back + on.back_slope * along
    on.tone += on.back_wave * np.sin(along * (6 / on.back_pitch))
    on.paint(on.soft(on.v - 1.18 - 0.25 * on.u * on.u), on.clothes)


def _head(on: Patch) -> None:
    """Paint hair, neck, ears and the head itself, lit from one side, with a fringe and a beard."""
    u, v = on.u, on.v
    square_u, square_v = u * u, v * v
    wide = on.head_width
    volume = on.hair_volume
    hair_texture = on.hair + 0.05 * np.sin(u * 23 + v * 6)
    around = np.sqrt(square_u / (wide + 0.05 + volume) ** 2 + square_v / (1.02 + volume) ** 2)
    long_hair = np.minimum((1 - around), (on.hair_length - v)) * 0.8
    # Long hair hangs straight beside the face and does not close below it.
    falls = np.minimum(np.minimum(wide + 0.05 + volume - np.abs(u), on.hair_length - v), v + 0.1)
    on.paint(on.soft(np.maximum(long_hair, falls)), hair_texture)
    shade_neck = on.skin * 0.7
    on.paint(on.soft(np.minimum(0.36 - np.abs(u) + 0.1 * square_v, 1.35 - v)) * (v > 0.3), shade_neck)
    drop = 1 + 0.35 * on.open
    lower = np.maximum(v, 0) / drop
    across = u / (wide * (1 - on.jaw * lower * np.sqrt(lower)))
    down = np.where(v > 0, lower, v)
    radius = across * across + down * down
    round_ = np.sqrt(np.maximum(1 - radius, 0))
    light = across * on.light_x + down * on.light_y + round_ * 0.9
    lit = on.skin * (on.ambient + (1 - on.ambient) * 1.2 * np.maximum(light, 0))
    ears = np.sqrt(((np.abs(u) - wide) / 0.1) ** 2 + ((v - 0.02) / 0.2) ** 2)
    on.paint(on.soft((1 - ears) * 0.1), lit * 0.9)
    inside = on.soft((1 - np.sqrt(radius)) * 0.8)
    on.paint(inside, lit)
    # Lines across the forehead
    forehead = on.forehead * np.maximum(1 - (square_u / 0.2), 0)
    waves = np.maximum(np.cos((v + 0.62 + 0.1 * square_u) * 42), 0) * (np.abs(v + 0.58) < 0.14)
    on.darken(0.28 * forehead * waves)
    front = on.hairline + on.fringe * (square_u - 0.2) + on.parting * u * 0.5 - v
    on.paint(on.soft(front) * inside, hair_texture)
    chin = np.clip((v - 0.22 + 0.5 * (square_u - 0.15)) * 5, 0, 1) * inside * on.beard
    on.paint(chin, on.brow_tone + 0.05)


def _eye(on: Patch, side: int) -> None:
    """Paint an eye and its brow; `side` is -1 for the left of the picture, 1 for the right."""
    uneven = 1 + side * on.asymmetry
    x = side * on.u - on.eye_distance
    y = on.v - on.eye_height
    t = x / on.eye_width
    bump = np.maximum(1 - t * t, 0)
    opening = on.eye_open * (1 + on.lid_open * uneven)
    up = np.maximum(opening * 1.1, 0.004)
    low = np.maximum(on.eye_open * 0.7 * (1 - 0.75 * on.lid_tight), 0.004)
    slant = on.eye_slant * t
    upper = slant - up * bump * (1 - on.lid_droop * np.clip(0.35 + 0.5 * t, 0, 0.9))
    lower = slant + low * bump
    skin = on.skin
    # Socket: the hollow under the brow is darker
    hollow = np.exp(-(t * t) * 0.7 - ((y + 0.03) / 0.13) ** 2)
    on.darken(0.25 * hollow)
    inside = on.soft(np.minimum(y - upper, lower - y)) * (bump > 0)
    on.paint(inside, np.minimum(skin + 0.3, 0.95))
    from_iris = np.sqrt((x - side * on.gaze_x) ** 2 + (y - on.gaze_y) ** 2)
    on.paint(inside * on.soft(0.078 - from_iris), on.iris)
    on.paint(inside * on.soft(0.035 - from_iris), 0.02)
    ends = on.soft((1.1 - np.abs(t)) * on.eye_width)
    on.paint(ends * on.stroke(y - upper, 0.045), 0.12 * skin)
    on.darken(0.35 * ends * on.stroke(y - lower, 0.03))
    on.darken((0.2 + 0.2 * on.lid_tight) * ends * on.stroke(y - lower - 0.05, 0.03))
    # Lines beside and under the eye when the cheek is raised
    crow = ends * on.stroke(y - lower - 0.1 + 0.03 * t, 0.03)
    on.darken(0.35 * on.lid_tight * crow)
    q = (x + on.brow_close) / 0.23
    inner, outer = on.brow_inner * uneven, on.brow_outer * uneven
    middle = -on.brow_height - 0.5 * (inner * (1 - q) + outer * (1 + q)) + on.brow_arch * (q * q - 0.3)
    thickness = 2 * on.brow_thick * (1.1 - 0.4 * np.maximum(q, 0))
    on.paint(on.stroke(y - middle, thickness) * on.soft((1 - np.abs(q)) * 0.23), on.brow_tone)
    frame = np.abs(x) ** 3 + np.abs(y - 0.02) ** 3
    ring = on.stroke(np.cbrt(frame) - on.glasses_size, 0.05)
    bridge = on.stroke(y + 0.02, 0.05) * (x < -on.glasses_size)
    on.paint(on.glasses * np.maximum(ring, bridge), on.glasses_tone)
    on.put_back()


def _nose(on: Patch) -> None:
    """Paint the nose, its wrinkles and the furrow between the brows."""
    u, v = on.u, on.v
    tip = on.nose_length
    beside = np.abs(u)
    ridge = np.where(on.light_x > 0, -1.0, 1.0) * u
    flank = 0.03 + on.nose_width * np.clip((v + 0.25) / (tip + 0.25), 0, 1) ** 2
    within = np.clip((v + 0.2) * 8, 0, 1) * on.soft(tip - v)
    on.darken(0.3 * on.stroke(ridge - flank, 0.06) * within)
    on.tone += 0.06 * np.exp(-((u / 0.06) ** 2)) * within
    nostrils = np.sqrt(((beside - 0.6 * on.nose_width) / 0.05) ** 2 + ((v - tip) / 0.03) ** 2)
    on.darken(0.7 * on.soft((1 - nostrils) * 0.035))
    wing = on.stroke(beside - on.nose_width - 0.02, 0.04) * on.stroke(v - tip + 0.03, 0.12)
    on.darken((0.25 + 0.2 * on.wrinkle) * wing)
    base = on.stroke(v - tip - 0.03, 0.05) * on.soft(on.nose_width - beside)
    on.darken(0.25 * base)
    furrows = on.stroke(beside - 0.05, 0.035) * on.soft(0.12 - np.abs(v - on.eye_height + 0.17))
    on.darken(np.minimum(0.6 * on.furrow, 0.8) * furrows)
    across = on.soft(0.13 - beside) * on.soft(0.1 - np.abs(v + 0.1))
    lines = np.maximum(np.cos((v + 0.35 * beside) * 56), 0)
    on.darken(np.minimum(0.5 * on.wrinkle, 0.7) * across * lines)
    on.put_back()


def _mouth(on: Patch) -> None:
    """Paint the mouth, the folds beside it, the chin and a moustache."""
    u = on.u
    y = on.v - on.mouth_height - 0.12 * on.open
    wide = on.mouth_width * (1 + on.width)
    t = u / wide
    square = t * t
    bump = np.maximum(1 - square, 0)
    arch = bump + on.square.clip(0, 1) * (np.sqrt(bump) - bump)
    line = -on.corner * (1 + t * on.asymmetry) * (square - 0.35)
    raised = on.lip_raise * np.maximum(1 - 2.2 * square, 0)
    upper = line - 0.4 * on.open * arch - raised * (1 + 0.3 * (on.open > 0.03))
    lower = line + 0.6 * on.open * arch - 0.3 * raised
    thin = np.maximum(1 - on.press, 0.1)
    lip = on.lip * thin * (0.25 + 0.75 * bump) * (bump > 0)
    lips = on.soft(np.minimum(y - upper + lip, lower + 1.25 * lip - y)) * on.soft((1.02 - np.abs(t)) * wide)
    # Folds from the wings of the nose down past the corners of the mouth
    top = on.nose_length - on.mouth_height
    along = np.clip((y - top) / -top, 0, 1.4)
    fold = np.abs(u) - on.nose_width - 0.04 - (wide + 0.08 - on.nose_width - 0.04) * np.sqrt(along)
    folds = on.stroke(fold, 0.045) * on.soft(y - top + 0.02) * on.soft(0.06 - y)
    on.darken(np.minimum(0.12 * on.lines + 0.38 * on.fold, 0.6) * folds)
    below = np.exp(-(((y - lower - 0.17) / 0.05) ** 2) - 2 * square)
    on.darken((0.16 + 0.5 * np.maximum(-on.corner, 0)) * below)
    bristles = np.minimum(upper - lip - y, y - (upper - lip) + 0.13 * (0.25 + bump))
    on.paint(on.moustache * on.soft(bristles) * on.soft((1.15 - np.abs(t)) * wide), on.brow_tone)
    on.paint(lips, on.skin * on.lip_tone * 0.85)
    gap = np.minimum(y - upper, lower - y)
    inside = on.soft(gap) * (bump > 0) * np.clip(on.open * 25, 0, 1)
    on.paint(inside, 0.08)
    bared = upper + np.clip(on.teeth, 0, 1) * (lower - upper)
    on.paint(inside * on.soft(bared - y) * np.clip(on.teeth * 4, 0, 1), np.minimum(on.skin + 0.35, 0.97))
    closed = on.stroke(y - 0.5 * (upper + lower), 0.03) * on.soft((1.05 - np.abs(t)) * wide)
    on.darken(0.75 * closed * np.clip(1 - on.open * 25, 0, 1))
    corners = np.sqrt((np.abs(u) - wide) ** 2 + (y - line) ** 2)
    on.darken(0.35 * on.soft(0.04 - corners))
    on.put_back()


def _bar(on: Patch) -> None:
    """Paint a bar with round ends, which hides a part of some faces."""
    some = np.flatnonzero(on.bar[:, 0, 0])
    if not some.size:
        return
    u = on.u[some] - on.bar_x[some]
    v = on.v[some] - on.bar_y[some]
    angle = on.bar_angle[some]
    along = np.abs(np.cos(angle) * u + np.sin(angle) * v) - on.bar_length[some]
    across = np.cos(angle) * v - np.sin(angle) * u
    distance = on.bar_width[some] - np.sqrt(np.maximum(along, 0) ** 2 + across * across)
    share = np.clip(distance * on.pixels[some] + 0.5, 0, 1)
    shade = 1 - 0.35 * (across / on.bar_width[some]) ** 2
    on.tone[some] += share * (on.bar_tone[some] * shade - on.tone[some])


def _picture(face: Traits, canvas: Array, noise: Array) -> Array:
    """Add blur, contrast, brightness and grain, and convert to bytes."""
    for axis in (1, 2):
        before = np.roll(canvas, 1, axis)
        after = np.roll(canvas, -1, axis)
        # Beyond the edge, the edge is repeated.
        np.moveaxis(before, axis, 0)[0] = np.moveaxis(canvas, axis, 0)[0]
        np.moveaxis(after, axis, 0)[-1] = np.moveaxis(canvas, axis, 0)[-1]
        weight = (0.33 * face["blur"])[:, None, None]
        canvas = canvas + weight * (0.5 * (before + after) - canvas)
    canvas -= 0.5
    canvas *= face["contrast"][:, None, None]
    canvas += 0.5 + face["brightness"][:, None, None]
    canvas += face["noise"][:, None, None] * noise
    canvas *= 255
    return np.clip(np.rint(canvas, out=canvas), 0, 255, out=canvas).astype(np.uint8)
