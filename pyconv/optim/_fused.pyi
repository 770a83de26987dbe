from typing import Any

Array = Any

def sgd(
    p: Array, g: Array, v: Array | None, lr: float, momentum: float, weight_decay: float, nesterov: bool
) -> bool: ...
