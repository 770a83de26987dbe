"""The augmentations that draw a strength for each image: one file for each, and one line in the table here.

An augmentation is a class with ``name``, ``neutral`` (the setting that changes nothing), ``help`` and ``metavar`` for
the command, ``check(value)``, ``check_size(value, height, width)`` and ``apply(batch, value, draws)``. They are applied
in the order of the table.
"""

from __future__ import annotations

from .base import Augmentation
from .brightness import Brightness
from .crop import Crop
from .cutout import Cutout
from .rotation import Rotation

AUGMENTATIONS: dict[str, Augmentation] = {each.name: each for each in (Rotation(), Crop(), Brightness(), Cutout())}
