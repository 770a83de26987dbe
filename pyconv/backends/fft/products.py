"""The products of two blocks of spectra, by operation: at each frequency, a product of matrices.

A block is (frequencies down, frequencies across, windows, channels). The filters' one window has ``C // groups * K``
channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ... import _cpu
from ...shapes import ConvGeometry


def _product(a: Any, b: Any, **turned: bool) -> Any:
    """``a @ b`` of (..., rows, columns)."""
    if a.shape[-2:] == b.shape[-2:] == (1, 1):
        return a * b
    stacks = (np.ascontiguousarray(each).reshape(-1, *each.shape[-2:]) for each in (a, b))
    found = _cpu.stack_product(*stacks, **turned)
    return found.reshape(*a.shape[:-2], *found.shape[1:])


def _groups(block: Any, groups: int) -> Any:
    """(…, windows, channels) as (…, groups, windows, channels of one)."""
    return block.reshape(*block.shape[:-1], groups, -1).swapaxes(-2, -3)


def _filters(filters: Any, g: ConvGeometry) -> Any:
    """(…, 1, ``C // groups * K``) as (…, groups, C of one, K of one)."""
    return filters.reshape(*filters.shape[:2], g.c // g.groups, g.groups, -1).swapaxes(-2, -3)


def _joined(found: Any) -> Any:
    """The reverse of :func:`_groups`."""
    found = found.swapaxes(-2, -3)
    return found.reshape(*found.shape[:-2], -1)


def forward(images: Any, filters: Any, g: ConvGeometry) -> Any:
    """(…, windows, K): sums over the channels of a group."""
    return _joined(_product(_groups(images, g.groups), _filters(filters, g)))


def input_grad(errors: Any, filters: Any, g: ConvGeometry) -> Any:
    """(…, windows, C): sums over the filters of a group."""
    return _joined(_product(_groups(errors, g.groups), _filters(filters, g), b_turned=True))


def weight_grad(images: Any, errors: Any, g: ConvGeometry) -> Any:
    """(…, 1, ``C // groups * K``): sums over the windows, those of all images among them."""
    found = _product(_groups(images, g.groups), _groups(errors, g.groups), a_turned=True)
    return found.swapaxes(-2, -3).reshape(*found.shape[:2], 1, -1)


#: By operation, in the order of `sizes`.
PRODUCTS: tuple[Callable[[Any, Any, ConvGeometry], Any], ...] = (forward, input_grad, weight_grad)
