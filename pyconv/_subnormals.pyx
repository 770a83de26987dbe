"""The calling thread's treatment of subnormal numbers: :mod:`pyconv.arithmetic` sets it and puts it back."""

cdef extern from "subnormals.h" nogil:
    ctypedef unsigned long long float_control
    float_control pyconv_flush_subnormals()
    void pyconv_set_control(float_control control)


def flush():
    """Take subnormal numbers for zero on this thread from now on.

    Returns
    -------
    int
        What :func:`restore` takes to put the thread back.
    """
    return pyconv_flush_subnormals()


def restore(float_control before):
    """Put this thread back to where :func:`flush` found it."""
    pyconv_set_control(before)
