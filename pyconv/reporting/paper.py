"""The numbers that the paper prints, and where they contradict each other.

Chavan and Kulkarni, *Parallelization of Deep Convolutional Neural Network*; a 4-core AMD CPU with a 48-core NVIDIA GTX
520.
"""

from __future__ import annotations

#: Table I as printed: milliseconds of each variant on five convolutional layers, and the total if one is printed.
TABLE_1: dict[str, tuple[float, ...]] = {
    "serial": (10033, 2205, 798, 908, 605),
    "naive": (4.07, 9.27, 4.27, 6.06, 5.28),
    "input shared": (3.99, 8.95, 5.23, 6.86, 5.48),
    "input and filter shared": (4.82, 8.02, 7.84, 11.21, 5.70),
    "advanced block setting": (3.89, 5.08, 3.99, 5.55, 4.62),
}
TABLE_1_TOTALS = {"serial": 14549.0, "naive": 29.47, "advanced block setting": 23.11}

#: Table II as printed: serial over each variant.
TABLE_2: dict[str, float] = {
    "naive": 826,
    "input shared": 630,
    "input and filter shared": 529,
    "advanced block setting": 701,
}

#: The paper's variants, and the columns of our benchmarks.
OURS = {
    "serial": "serial naive",
    "naive": "cuda naive",
    "input shared": "cuda shared_input",
    "input and filter shared": "cuda shared_input_filter",
    "advanced block setting": "cuda block_tuned",
}


def total(variant: str) -> float:
    """The sum of a variant's five layers, in milliseconds."""
    return sum(TABLE_1[variant])


def ratio(variant: str) -> float:
    """Serial over `variant`, as it follows from Table I (from the printed total if there is one)."""
    return total("serial") / TABLE_1_TOTALS.get(variant, total(variant))


SLIPS = (
    "The paper's Table II does not follow from its Table I: serial over naive is 14549 / 29.47 = 494, not 826; for the "
    "other three variants it is 477, 387 and 630 rather than 630, 529 and 701.",
    "The five layers of its naive variant add up to 28.95 ms, not to the printed 29.47 ms, and those of the advanced "
    "one to 23.13 ms, not to the printed 23.11 ms. Input and filter shared against naive is 0.78, not 0.82.",
    'Its text says "600 times" and "2 times" for what the tables give as 494 and 1.27; the abstract\'s headline is six '
    "times in training.",
    "It does not give the shapes of the five layers. Ours are the five convolutions of the model fer, so only the "
    "ratios between columns can be compared, not the milliseconds.",
    "Sharing the input is no faster than the naive kernel there, because the kernel is small beside the image; on a "
    "GPU with caches the comparison may turn out either way.",
)
