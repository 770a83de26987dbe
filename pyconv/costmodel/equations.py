"""The paper's cost model (its section 4), with units.

An N × N image, an m × m kernel, K kernels and p processes; t_c seconds an operation, t_s seconds to start a message,
t_b seconds a byte, S messages sent at once:

    T_1     = t_c (2 m² + 1) N² K
    T_comp  = T_1 / p                                                       (5)
    T_comm  = 2 K (t_s + t_b S N (m - 1) / 2)                               (6)
    T_par   = T_comp + T_comm                                               (7)
    S(p)    = T_1 / T_par
            = p / (1 + p (2 t_s + t_b S N (m - 1)) / (t_c (2 m² + 1) N²))   (8)

(8) is derived from (7). In the paper it is printed with p under the fraction bar, where (7) puts it above, and with t_B
S in the place of t_s; and (6) is headed T_comp there, but is T_comm. The processes send halos: the (m - 1) / 2 rows at
the border of a process's part, S N (m - 1) / 2 bytes in one direction.
"""

from __future__ import annotations

import math

from .checks import counts, not_negative, plain, positive


@plain
def operations(n: int, m: int, k: int) -> float:
    """Operations of one layer on one image: ``(2 m² + 1) N² K``.

    Parameters
    ----------
    n : int
        N, height and width of the image in pixels.
    m : int
        Height and width of a kernel in pixels.
    k : int
        K, number of kernels.

    Returns
    -------
    float
        Their number.

    Raises
    ------
    InputError
        If a size is no integer of at least 1. The other functions refuse wrong numbers in the same way.
    """
    counts(n=n, m=m, k=k)
    return float((2 * m * m + 1) * n * n * k)


@plain
def serial_time(n: int, m: int, k: int, *, t_c: float) -> float:
    """T_1: the time of one layer on one process.

    Parameters
    ----------
    n, m, k : int
        As in :func:`operations`.
    t_c : float
        Seconds an operation.

    Returns
    -------
    float
        Seconds.
    """
    positive(t_c=t_c)
    return t_c * operations(n, m, k)


@plain
def computation_time(p: int, n: int, m: int, k: int, *, t_c: float) -> float:
    """Eq. (5): the time that each of `p` processes computes.

    Parameters
    ----------
    p : int
        Processes.
    n, m, k : int
        As in :func:`operations`.
    t_c : float
        Seconds an operation.

    Returns
    -------
    float
        Seconds.
    """
    counts(p=p)
    return serial_time(n, m, k, t_c=t_c) / p


@plain
def communication_time(n: int, m: int, k: int, *, t_s: float, t_b: float, s: float = 1) -> float:
    """Eq. (6): the time that each process communicates; it does not depend on the number of processes.

    Parameters
    ----------
    n, m, k : int
        As in :func:`operations`.
    t_s : float
        Seconds to start a message.
    t_b : float
        Seconds a byte.
    s : float
        S, messages sent at once. The equation counts a pixel as a byte; for float32, give 4 times the messages.

    Returns
    -------
    float
        Seconds.
    """
    counts(n=n, m=m, k=k)
    not_negative(t_s=t_s, t_b=t_b, s=s)
    return 2 * k * (t_s + t_b * s * n * (m - 1) / 2)


@plain
def parallel_time(p: int, n: int, m: int, k: int, *, t_c: float, t_s: float, t_b: float, s: float = 1) -> float:
    """Eq. (7): the time of one layer on `p` processes. On one process nothing is sent.

    Parameters
    ----------
    p : int
        Processes.
    n, m, k : int
        As in :func:`operations`.
    t_c, t_s, t_b : float
        Seconds an operation, to start a message, a byte.
    s : float
        Messages sent at once, as in :func:`communication_time`.

    Returns
    -------
    float
        Seconds.
    """
    alone = computation_time(p, n, m, k, t_c=t_c)
    sending = communication_time(n, m, k, t_s=t_s, t_b=t_b, s=s)
    return alone if p == 1 else alone + sending


@plain
def speedup(p: int, n: int, m: int, *, t_c: float, t_s: float, t_b: float, s: float = 1) -> float:
    """Eq. (8): how many times faster `p` processes are than one; the number of kernels cancels.

    Parameters
    ----------
    p : int
        Processes.
    n, m : int
        Size of the image and of a kernel in pixels.
    t_c, t_s, t_b : float
        Seconds an operation, to start a message, a byte.
    s : float
        Messages sent at once.

    Returns
    -------
    float
        T_1 over T_par; at most `p`.

    Examples
    --------
    >>> from pyconv import costmodel
    >>> costmodel.speedup(4, 48, 5, t_c=1e-9, t_s=0, t_b=0)
    4.0
    >>> round(costmodel.speedup(16, 48, 5, t_c=1e-9, t_s=1e-6, t_b=1e-9), 2)
    12.32
    """
    counts(p=p, n=n, m=m)
    positive(t_c=t_c)
    not_negative(t_s=t_s, t_b=t_b, s=s)
    if p == 1:
        return 1.0
    return p / (1 + p * (2 * t_s + t_b * s * n * (m - 1)) / (t_c * operations(n, m, 1)))


@plain
def averaging_time(workers: int, parameter_bytes: float, *, t_s: float, t_b: float) -> float:
    """The time of the average of Algorithm 4: an all-to-one reduction and a broadcast, ``⌈log2 k⌉`` rounds each.

    Parameters
    ----------
    workers : int
        k, workers that hold parameters.
    parameter_bytes : float
        n, bytes of one worker's parameters.
    t_s, t_b : float
        Seconds to start a message, and a byte.

    Returns
    -------
    float
        Seconds.
    """
    counts(workers=workers)
    not_negative(parameter_bytes=parameter_bytes, t_s=t_s, t_b=t_b)
    return 2 * math.ceil(math.log2(workers)) * (t_s + t_b * parameter_bytes)


@plain
def shuffle_time(workers: int, examples: int, *, t_n: float, cpus: int | None = None) -> float:
    """The time of the shuffle of Algorithm 4, O(k N): each of k workers brings all N examples into their order.

    No message is sent for it: the order follows from seed and epoch, and each worker makes all of it. With a CPU for
    each worker that takes as long as one order, N t_n; with fewer CPUs the workers take turns.

    Parameters
    ----------
    workers : int
        k.
    examples : int
        N, examples of an epoch.
    t_n : float
        Seconds to bring one example into its place.
    cpus : int, optional
        CPUs that the workers share; by default one for each.

    Returns
    -------
    float
        Seconds: ``k N t_n / min(k, cpus)``.

    References
    ----------
    Section 4 of the paper, whose shuffle costs O(k N).
    """
    counts(workers=workers, examples=examples, cpus=workers if cpus is None else cpus)
    not_negative(t_n=t_n)
    return workers * examples * t_n / min(workers, cpus or workers)


@plain
def epoch_time(
    workers: int, compute_s: float, parameter_bytes: float, *, t_s: float, t_b: float, shuffle_s: float = 0.0
) -> float:
    """The time of an epoch of parallel SGD (Algorithm 4): the shuffle, local computation, then one average.

    Parameters
    ----------
    workers : int
        k, workers that share the epoch.
    compute_s : float
        Seconds that one worker would compute for the whole epoch.
    parameter_bytes, t_s, t_b : float
        As in :func:`averaging_time`.
    shuffle_s : float
        Seconds of the shuffle, as :func:`shuffle_time` gives them.

    Returns
    -------
    float
        Seconds.
    """
    average_s = averaging_time(workers, parameter_bytes, t_s=t_s, t_b=t_b)
    not_negative(compute_s=compute_s, shuffle_s=shuffle_s)
    return shuffle_s + compute_s / workers + average_s
