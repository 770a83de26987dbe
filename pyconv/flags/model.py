"""The network that ``--model`` names, for the data at hand."""

from __future__ import annotations

from pathlib import Path

from .. import datasets, nn
from ..errors import InputError
from ..nn.serialize import FILES


def network(name: str, data: datasets.Dataset, seed: int, new_head: bool) -> tuple[nn.Sequential, bool]:
    """The network called `name`, or described in a TOML file, or read from a model's file, for this data.

    Also whether it has been trained before, so that its own normalisation is kept.
    """
    classes = len(data.classes)
    ready = Path(name).suffix.lower() in FILES
    if new_head and not ready:
        raise InputError(f"--new-head is for a --model that is read from a file ({', '.join(FILES)}), not {name}")
    if ready:
        open_sizes = {} if name.lower().endswith(".safetensors") else {"input_shape": data.image_shape}
        model = nn.load(name, **open_sizes)
    elif name.endswith(".toml"):
        model = nn.from_toml(name, seed=seed)
    else:
        return nn.build(name, input_shape=data.image_shape, classes=classes, seed=seed), False
    if model.input_shape != data.image_shape:
        advice = "bring the images to that size with --size" if ready else "change its input_shape"
        raise InputError(f"{name}: the network takes {model.input_shape}, the images are {data.image_shape}; {advice}")
    if new_head:
        try:
            return model.with_new_head(classes, seed=seed), True
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
    if model.output_shape != (classes,):
        count = model.output_shape[-1] if len(model.output_shape) == 1 else model.output_shape
        advice = "add --new-head for a fresh last layer" if ready else "change its last layer"
        raise InputError(f"{name}: the network gives {count} classes, the data have {classes}: {advice}")
    return model, ready
