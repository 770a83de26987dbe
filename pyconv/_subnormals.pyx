"""Makes subnormal numbers zero on the calling thread, and undoes it; :mod:`pyconv.arithmetic` calls it."""

cdef extern from "subnormals.h" nogil:
    ctypedef unsigned long long float_control
    float_control pyconv_flush_subnormals()
    void pyconv_set_control(float_control control)


def flush():
    """Treat subnormal numbers as zero on this thread from now on.

    Returns
    -------
    int
        For :func:`restore`, which undoes it.
    """
    return pyconv_flush_subnormals()


def restore(float_control before):
    """Undo :func:`flush` on this thread."""
    pyconv_set_control(before)
