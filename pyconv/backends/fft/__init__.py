"""The algorithm ``fft``: convolution and its two gradients by SciPy's transforms, for large kernels.

sizes.py       how an operation is cut into windows, and how long the transforms are
operands.py    the operands with the zeros that this needs
transforms.py  rows, columns, products, and back
products.py    the products of spectra
blocks.py      blocks of work on threads
prices.py      what all that costs, in the cycles of ``_kernels/cost.h``
bound.py       how far the result may be off, and whether it may stand
run.py         the operations, and whether they pay

Decision 38 says why it is as it is.
"""

from .run import conv2d, conv2d_input_grad, conv2d_weight_grad, estimate, pays

__all__ = ["conv2d", "conv2d_input_grad", "conv2d_weight_grad", "estimate", "pays"]
