"""Lending: a vector that is handed out, and whether anybody outside can still write to it."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np


class Loan:
    """What every array that was handed out, and every view of one, keeps alive."""

    __slots__ = ("__weakref__", "_array")

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self._array.__array_interface__

    @property
    def array(self) -> np.ndarray:
        """The vector itself."""
        return self._array


class Lending:
    """A vector that changes only when its owner, or somebody to whom it was lent, writes to it.

    What is computed from it stays true as long as it is not lent. An address that was taken from an array does not keep
    the array alive: who writes there later is not noticed.

    Attributes
    ----------
    array : ndarray
        The vector, for its owner, who must call :meth:`changed` after writing to it.
    """

    def __init__(self) -> None:
        self.array = np.empty(0)
        self._owned = False
        self._last: weakref.ref[np.ndarray] | None = None
        self._loans: weakref.WeakSet[Loan] = weakref.WeakSet()
        self._state = object()

    def take(self, array: np.ndarray, *, owned: bool = False) -> None:
        """Use another vector from now on.

        Parameters
        ----------
        array : ndarray
            If it was lent here, whole, it is the owner's again.
        owned : bool
            Whether nobody else has it.
        """
        loan = array.base
        if isinstance(loan, Loan) and loan in self._loans and array.shape == loan.array.shape:
            self.array, self._owned, self._last = loan.array, True, weakref.ref(array)
        else:
            self.array, self._owned, self._last = array, owned, None
        self.changed()

    def has(self, array: np.ndarray) -> bool:
        """Whether `array` is the vector, or it as it is lent."""
        return array is self.array or (self._last is not None and array is self._last())

    def changed(self) -> None:
        """The owner has written to the vector."""
        self._state = object()

    def lent(self) -> np.ndarray:
        """The vector for others: the same array as long as somebody has it."""
        if not self._owned:
            return self.array
        found = None if self._last is None else self._last()
        if found is None:
            loan = Loan(self.array)
            self._loans.add(loan)
            self.changed()  # from now on it may be written to
            found = np.asarray(loan)
            self._last = weakref.ref(found)
        return found

    @property
    def state(self) -> object | None:
        """An object that is the same as long as the vector is; None if it may be written to at any moment."""
        state = self._state  # looked at first: a loan in the meantime makes another one
        return state if self._owned and not self._loans else None
