"""Mistakes in the readers of data and in augmentation."""

from __future__ import annotations

from .mutation import Mutation

MUTATIONS = [
    Mutation(
        "datasets/fer2013.py",
        "if public is None:\n        public, private = private, None\n    return Source",
        "if public is None:\n        public = private\n    return Source",
        "the test images validate too",
        "datasets_fer2013",
    ),
    Mutation(
        "datasets/fer2013.py",
        "votes = [vote if vote > 1 else 0 for vote in votes]",
        "votes = list(votes)",
        "single votes count in FERPlus",
        "datasets_fer2013",
    ),
    Mutation(
        "datasets/fer2013.py",
        "for place in (2, 3):",
        "for place in (2,):",
        "pixels from 100 on lose their first digit",
        "datasets_fer2013",
    ),
    Mutation(
        "datasets/idx.py",
        "x = np.ascontiguousarray(x.transpose(0, 2, 1))",
        "x = np.ascontiguousarray(x)",
        "EMNIST's images lie on their side",
        "datasets_idx",
    ),
    Mutation(
        "datasets/idx.py",
        "    if stream.read(1):\n",
        "    if stream.read(0):\n",
        "an IDX file longer than it says is taken",
        "datasets_idx damaged_files datasets_damage",
    ),
    Mutation(
        "datasets/arrays.py",
        "bad = np.argwhere((chunk < 0) | (chunk > 255))",
        "bad = np.argwhere(chunk > 255)",
        "negative pixels wrap round",
        "datasets_npz",
    ),
    Mutation(
        "datasets/npz.py",
        "opened = np.load(path, allow_pickle=False)",
        "opened = np.load(path, allow_pickle=True)",
        "an archive may hold a stranger's code",
        "datasets_npz",
    ),
    Mutation(
        "datasets/folder.py",
        "labels += [label] * len(images)",
        "labels += [label] * len(found)",
        "files that are no images shift the labels",
        "datasets_folder",
    ),
    Mutation(
        "datasets/images.py",
        "FULL - deep if inverted else deep",
        "deep",
        "a TIFF in which 0 is white is read as its negative",
        "datasets_images",
    ),
    Mutation(
        "datasets/labels.py",
        "split.y - first if first else split.y",
        "split.y",
        "labels from 1 stay as they are",
        "datasets_labels datasets_npz datasets_idx",
    ),
    Mutation(
        "datasets/split.py",
        "std[std <= 1e-12 * np.abs(mean)] = 1.0",
        "std[std < 0] = 1.0",
        "a constant channel is divided by 0",
        "datasets_load",
    ),
    Mutation(
        "datasets/split.py",
        "places = share_out(total, counts - 1)\n",
        "places = share_out(total, counts)\n",
        "a class's only image is held out",
        "datasets_load",
    ),
    Mutation(
        "datasets/order.py",
        "SeedSequence([seed, epoch])",
        "SeedSequence([seed])",
        "every epoch has the same order",
        "parallel_sampler loop",
    ),
    Mutation(
        "datasets/augmentation.py",
        "columns = np.where(flipped[:, None], width - 1 - columns, columns)",
        "columns = np.where(flipped[:, None], width - columns, columns).clip(0, width - 1)",
        "flipped images are a pixel to the right",
        "datasets_augment",
    ),
    Mutation(
        "datasets/augmentations/rotation.py",
        "centre = (np.array(batch.shape[1:3]) - 1) / 2",
        "centre = np.array(batch.shape[1:3]) / 2",
        "images turn about a point beside their centre",
        "datasets_augmentations",
    ),
]
