"""Decides which module of a state_dict belongs to which layer: by `names`, or else by order and shapes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from pyconv.errors import CheckpointError, InputError, shown, unknown_name
from pyconv.values import sequence

from .expected import Part

Shapes = Mapping[str, tuple[int, ...]]

#: Tensors of a module that count batches; pyconv does not need them.
COUNTERS = ("num_batches_tracked",)

_NUMBERED = re.compile(r"(\D*)(\d+)(\D*)")
_USUAL = "weight, bias, running_mean, running_var"


def modules_of(shapes: Shapes) -> dict[str, dict[str, tuple[int, ...]]]:
    """The shapes of a file's tensors, by module and name within it, in the order of the modules' names."""
    found: defaultdict[str, dict[str, tuple[int, ...]]] = defaultdict(dict)
    for full in sorted(shapes, key=_natural):
        module, _, name = full.rpartition(".")
        if name not in COUNTERS:
            found[module][name] = shapes[full]
    return dict(found)


def matched(parts: Sequence[Part], modules: Mapping[str, Shapes], names: Any) -> dict[str, str]:
    """The file's module of each part.

    Parameters
    ----------
    parts : sequence of Part
    modules : mapping of str to mapping
        Shapes by name within the module, by module.
    names : mapping, sequence or None
        As :meth:`pyconv.nn.Sequential.load_weights` takes it.

    Returns
    -------
    dict of str to str
        The module of each part, by the part's path.

    Raises
    ------
    InputError
        If `names` holds layers or modules that do not exist.
    CheckpointError
        If something is missing, surplus or of another shape, or several modules fit a layer.
    """
    given = _by_way(names, parts, modules) if isinstance(names, Mapping) else {}
    listed = None if names is None or isinstance(names, Mapping) else _listed(names, modules)
    for part in parts:
        if part.way in given and dict(modules[given[part.way]]) != part.shapes:
            raise CheckpointError(f"{_needs(part)}, and {_has(given[part.way], modules)}")
    open_parts = [part for part in parts if part.way not in given]
    taken = set(given.values())
    free = [module for module in (modules if listed is None else listed) if module not in taken]
    found = dict(given)
    for _, (fitting, candidates) in _groups(open_parts, free, modules).items():
        if len(fitting) == len(candidates):
            if listed is None:
                _check_order(fitting, candidates)
            found.update(zip((part.way for part in fitting), candidates))
    _check_all(parts, modules, found)
    return found


def _by_way(names: Mapping[Any, Any], parts: Sequence[Part], modules: Mapping[str, Shapes]) -> dict[str, str]:
    """A mapping from layers to modules, checked."""
    known = [part.way for part in parts]
    found: dict[str, str] = {}
    for way, module in names.items():
        way = str(way) if isinstance(way, int) else way
        if not isinstance(way, str) or way not in known:
            raise unknown_name("layer in names", way, known)
        if not isinstance(module, str) or module not in modules:
            raise unknown_name(f"module of layer {way} in names", module, modules)
        if module in found.values():
            raise InputError(f"names gives {shown(module)} to two layers")
        found[way] = module
    return found


def _listed(names: Any, modules: Mapping[str, Shapes]) -> list[str]:
    """A list of modules, or of their tensors, in the order in which they compute."""
    given = sequence(names)
    if given is None:
        raise InputError(
            f"names must be a mapping, such as {{'0': 'conv1'}}, or a list of the file's names, not {shown(names)}"
        )
    found: dict[str, None] = {}
    for name in given:
        module = name if isinstance(name, str) and name in modules else str(name).rpartition(".")[0]
        if not isinstance(name, str) or module not in modules:
            if isinstance(name, str) and name.rpartition(".")[2] in COUNTERS:
                continue
            raise unknown_name("module in names", name, modules)
        found[module] = None
    return list(found)


Group = tuple[list[Part], list[str]]


def _groups(parts: Sequence[Part], free: Sequence[str], modules: Mapping[str, Shapes]) -> dict[Any, Group]:
    """Groups of parts and modules with the same shapes, each in its order."""
    found: defaultdict[Any, Group] = defaultdict(lambda: ([], []))
    for part in parts:
        found[frozenset(part.shapes.items())][0].append(part)
    for module in free:
        found[frozenset(modules[module].items())][1].append(module)
    return found


def _check_order(parts: Sequence[Part], modules: Sequence[str]) -> None:
    """Refuse modules of the same shapes whose names do not tell their order, as numbers in them do."""
    for (part, one), (_, other) in zip(zip(parts, modules), zip(parts[1:], modules[1:])):
        if not _follows(one, other):
            raise CheckpointError(
                f"{shown(one)} and {shown(other)} both fit {part.title}, and their names tell no order: give "
                f"names={{{part.way!r}: {one!r}, ...}}, or names=list(state_dict), PyTorch's own order"
            )


def _follows(one: str, other: str) -> bool:
    """Whether two names differ first in a number."""
    for a, b in zip(one.split("."), other.split(".")):
        if a != b:
            first, second = _NUMBERED.fullmatch(a), _NUMBERED.fullmatch(b)
            return bool(first and second and first.group(1, 3) == second.group(1, 3))
    return False


def _check_all(parts: Sequence[Part], modules: Mapping[str, Shapes], found: Mapping[str, str]) -> None:
    """Refuse parts and modules that are left over; the message names them."""
    missing = [part for part in parts if part.way not in found]
    surplus = [module for module in modules if module not in found.values()]
    if not missing and not surplus:
        return
    if not missing:
        tensors = ", ".join(f"{module}.{name}".lstrip(".") for module in surplus for name in modules[module])
        raise CheckpointError(f"holds {_short(tensors)}, for which the network has no layer")
    part = missing[0]
    alike = [module for module in surplus if modules[module].keys() == part.shapes.keys()] or surplus
    rest = f"; {len(missing) - 1} more layers find nothing" if len(missing) > 1 else ""
    if not alike:
        raise CheckpointError(f"{_needs(part)}, and nothing of that shape is left in the file{rest}")
    raise CheckpointError(f"{_needs(part)}, and {_has(alike[0], modules)}{rest}")


def _needs(part: Part) -> str:
    return f"{part.title} needs {_words(part.shapes)}"


def _has(module: str, modules: Mapping[str, Shapes]) -> str:
    return f"the file's {shown(module)} has {_words(modules[module])}"


def _words(shapes: Shapes) -> str:
    in_order = sorted(shapes, key=lambda name: (name not in _USUAL, _USUAL.find(name)))
    return _short(", ".join(f"{name} {shapes[name]}" for name in in_order))


def _short(text: str) -> str:
    return text if len(text) <= 150 else f"{text[:150]}…"


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts names with the numbers in them as numbers."""
    return [(0, int(piece), "") if piece.isdecimal() else (1, 0, piece) for piece in re.split(r"(\d+)", name) if piece]
