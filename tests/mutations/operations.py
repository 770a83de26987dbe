"""Mistakes in the code that runs before the kernels: shapes, arguments, limits, files."""

from __future__ import annotations

from .mutation import Mutation

MUTATIONS = [
    Mutation(
        "shapes.py",
        "return total // 2, total - total // 2",
        "return total - total // 2, total // 2",
        'of padding "same" the odd pixel is before',
        "shapes ops nn_onnx",
    ),
    Mutation(
        "shapes.py",
        "before = kernel // 2 - move if turned else (kernel - 1) // 2 + move",
        "before = (kernel - 1) // 2 - move if turned else (kernel - 1) // 2 + move",
        "an even kernel is convolved one pixel further down and right",
        "filtering",
    ),
    Mutation(
        "shapes.py",
        "if before >= kernel or (output - 1) * stride_ - before >= size:",
        "if before >= kernel:",
        "a pooling window may lie wholly in the padding behind the image",
        "shapes ops",
    ),
    Mutation(
        "ops/door.py",
        "(2, 3, 1, 0), (3, 2, 0, 1)",
        "(2, 3, 1, 0), (3, 2, 1, 0)",
        "filters' gradients come back with height and width exchanged in NCHW",
        "ops",
        "another_order",
    ),
    Mutation(
        "ops/filtering.py",
        "return _as_dtype(y[::-1, ::-1] if swapped and not turned else y, dtype)",
        "return _as_dtype(y[::-1, ::-1] if swapped else y, dtype)",
        "a convolution with a larger second argument is turned round",
        "filtering",
    ),
    Mutation(
        "ops/filtering.py",
        "if not integers:",
        "if images.size:",
        "sums of integers are transformed",
        "fft",
    ),
    Mutation(
        "backends/fft/sizes.py",
        "max(size, reach, size + reach - 1 - start, last + 1)",
        "max(size, reach)",
        "transforms are so short that what leaves the image at one edge comes in at the other",
        "fft",
    ),
    Mutation(
        "backends/fft/bound.py",
        "return bad if self.finite else bad | self._sees_what_is_not_finite",
        "return bad",
        "a pixel that is not finite counts as zero",
        "fft",
    ),
    Mutation(
        "values.py",
        "if isinstance(value, (bool, np.bool_)):\n                raise TypeError",
        "if isinstance(value, np.bool_):\n                raise TypeError",
        "True is taken for the number 1",
        "values ops",
    ),
    Mutation(
        "threads.py",
        "cpus if quota is None else max(1, min(cpus, math.ceil(quota)))",
        "cpus if quota is None else max(1, min(cpus, math.floor(quota)))",
        "a quota of 1.5 CPUs is one",
        "threads",
        "quota",
    ),
    Mutation(
        "limits.py",
        "return min(found, key=lambda limit: limit.left, default=None)\n\n\ndef machine_memory",
        "return max(found, key=lambda limit: limit.left, default=None)\n\n\ndef machine_memory",
        "of several control groups the loosest counts",
        "limits",
        "control_groups",
    ),
    Mutation(
        "files.py",
        "        temporary.replace(path)\n    except",
        "        path.write_bytes(data)\n    except",
        "a file is written over in place, and the temporary one stays",
        "checkpoint files",
        "failed_write or interrupted_write",
    ),
]
