"""The picture of the architecture page: the packages of pyconv as boxes, and which of them import which.

All of it is read from the sources: the boxes from the folders, their words from the docstrings, the arrows from the
imports. There are no arrows to the foundation: every box stands on it.
"""

from __future__ import annotations

import ast
import itertools
import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyconv
from pyconv.plotting import content, own_style

PACKAGE = Path(pyconv.__file__).parent

#: Boxes of several modules: what they have in common.
TOGETHER = {
    "commands": "What a user starts: ",
    "compiled": "Convolutions, products and elementwise passes for the CPU, in Cython and C",
    "foundation": "What every box uses: ",
}

Imports = dict[str, set[str]]


@dataclass
class Box:
    """A box of the picture.

    Attributes
    ----------
    name : str
        A package's or a module's name, or a key of :data:`TOGETHER`.
    words : str
        What it is, in a line.
    members : list of str
        The modules that it stands for, without ``pyconv.``.
    """

    name: str
    words: str
    members: list[str]


def imports() -> Imports:
    """For every module of the package, the modules that it imports when it runs, anywhere in it."""
    paths = {path.relative_to(PACKAGE) for form in ("*.py", "*.pyx") for path in PACKAGE.rglob(form)}
    named = {_name(path): path for path in paths}
    found: Imports = {}
    for name, path in named.items():
        text = (PACKAGE / path).read_text(encoding="utf-8")
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        wanted = _imported(text) if path.suffix == ".py" else _cimported(text)
        found[name] = {other for each in wanted for other in _resolved(*each, package, named)} - {name}
    return found


def _name(path: Path) -> str:
    parts = path.parts[:-1] if path.name == "__init__.py" else (*path.parts[:-1], path.stem)
    return ".".join(("pyconv", *parts))


#: An import: its dots, the module, the names, and none for ``import module``.
Import = tuple[int, str, list[str]]


def _imported(text: str) -> Iterator[Import]:
    """A module's imports, without those for type checkers only."""
    nodes: list[ast.AST] = [ast.parse(text)]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            nodes += node.orelse
        elif isinstance(node, ast.Import):
            yield from ((0, alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or "", [alias.name for alias in node.names]
        else:
            nodes += ast.iter_child_nodes(node)


def _cimported(text: str) -> Iterator[Import]:
    for dots, module, names in re.findall(r"^\s*from (\.*)([\w.]*) c?import (.+)$", text, re.MULTILINE):
        yield len(dots), module, re.findall(r"\w+", names)
    yield from ((0, module, []) for module in re.findall(r"^\s*c?import (pyconv[\w.]*)", text, re.MULTILINE))


def _resolved(dots: int, module: str, names: list[str], package: str, known: Iterable[str]) -> Iterator[str]:
    """The modules of the package that an import names."""
    base = ".".join([*package.split(".")[: len(package.split(".")) + 1 - dots], *filter(None, [module])])
    base = base if dots else module
    for each in [f"{base}.{name}" for name in names] or [base]:
        if each in known or base in known:
            yield each if each in known else base


def boxes(found: Imports) -> list[Box]:
    """The boxes: packages, groups of modules, and the modules that belong to neither."""
    tops = {name.split(".")[1] for name in found if "." in name}
    packages = {top for top in tops if (PACKAGE / top).is_dir()}
    compiled = {top for top in tops if (PACKAGE / f"{top}.pyx").exists()}
    started = {top for top in tops if re.search(r"^@command$", _source(top), re.MULTILINE)} | {"__main__"}
    below = tops - packages - compiled - started - {"reference"}
    while outside := {top for top in below if _tops(found, f"pyconv.{top}") - below - {top}}:
        below -= outside
    groups = {"commands": started, "compiled": compiled, "foundation": below}
    made = [Box(name, TOGETHER[name], sorted(group)) for name, group in groups.items()]
    for box in made:
        if box.words.endswith(": "):
            box.words += ", ".join(name for name in box.members if not name.startswith("_"))
    made += [Box(top, summary(top), [top]) for top in sorted(tops - set().union(*groups.values()))]
    return made


def _tops(found: Imports, name: str) -> set[str]:
    return {each.split(".")[1] for each in found[name] if "." in each}


def _source(top: str) -> str:
    path = PACKAGE / f"{top}.py"
    return path.read_text(encoding="utf-8") if path.exists() else ""


def summary(top: str) -> str:
    """The first sentence of a module's docstring, without the module's name and marks of code."""
    path = PACKAGE / top / "__init__.py" if (PACKAGE / top).is_dir() else PACKAGE / f"{top}.py"
    first = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
    return re.sub(r"[`*]", "", first).rstrip(".")


def arrows(found: Imports, made: Iterable[Box]) -> Imports:
    """For every box those that it imports from, without those that it reaches through another anyway."""
    box_of = {member: box.name for box in made for member in box.members}
    direct: Imports = {box.name: set() for box in made}
    for name, imported in found.items():
        if "." in name:
            # A package's own command stands with the commands: nothing of the package imports it.
            own = box_of["__main__" if name.endswith(".__main__") else name.split(".")[1]]
            direct[own] |= {box_of[each.split(".")[1]] for each in imported if "." in each} - {own}
    reached = {name: _reached(name, direct) for name in direct}
    return {
        name: {each for each in others if not any(each in reached[other] for other in others - {each})}
        for name, others in direct.items()
    }


def _reached(name: str, direct: Imports) -> set[str]:
    found: set[str] = set()
    waiting = set(direct[name])
    while waiting:
        each = waiting.pop()
        if each == name:
            raise ValueError(f"imports of {name} lead back to it")
        found.add(each)
        waiting |= direct[each] - found
    return found


def rows(drawn: Imports) -> list[list[str]]:
    """The names of the boxes row by row from the top, each below all that import from it."""
    level = dict.fromkeys(drawn, 0)
    for _ in drawn:
        for name, others in drawn.items():
            for other in others:
                level[other] = max(level[other], level[name] + 1)
    for name in drawn:  # as low as it can be: near what it imports
        if drawn[name] and not any(name in others for others in drawn.values()):
            level[name] = min(level[other] for other in drawn[name]) - 1
    made: list[list[str]] = [[] for _ in range(max(level.values()) + 1)]
    for name in sorted(drawn):
        made[level[name]].append(name)
    # Several passes over the rows put every box near those that it is joined to.
    place = {name: (index + 0.5) / len(row) for row in made for index, name in enumerate(row)}
    joined = {name: drawn[name] | {other for other in drawn if name in drawn[other]} for name in drawn}
    for _ in range(10):
        for row in made:
            row.sort(key=lambda name: (sum(place[other] for other in joined[name]) / max(len(joined[name]), 1), name))
            place.update({name: (index + 0.5) / len(row) for index, name in enumerate(row)})
    return made


def draw(path: Path) -> None:
    """Write the picture as an SVG file."""
    found = imports()
    made = {box.name: box for box in boxes(found)}
    drawn = arrows(found, made.values())
    lines = rows(drawn)
    width, height, high = 9.0, 1.2, 0.86
    with own_style():
        from matplotlib.figure import Figure
        from matplotlib.patches import FancyBboxPatch

        figure = Figure(figsize=(width, height * len(lines)))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, width), ylim=(-height * len(lines), 0))
        axes.set_axis_off()
        at = {
            name: (width * (index + 0.5) / len(row), -height * (number + 0.5))
            for number, row in enumerate(lines)
            for index, name in enumerate(row)
        }
        for name, others in drawn.items():
            for other in others - {"foundation"}:
                (x, y), (to_x, to_y) = at[name], at[other]
                axes.annotate(
                    "", (to_x, to_y + high / 2), (x, y - high / 2), zorder=1,
                    arrowprops={"arrowstyle": "-|>", "color": "#8899aa", "shrinkA": 0, "shrinkB": 0, "lw": 1.2},
                )  # fmt: skip
        for name, (x, y) in at.items():
            box, wide = made[name], 8.8 if name == "foundation" else 2.4
            axes.add_patch(
                FancyBboxPatch(
                    (x - wide / 2, y - high / 2), wide, high, boxstyle="round,pad=0,rounding_size=0.08",
                    facecolor="#e8eef5" if box.members == [name] else "#f5f0e6", edgecolor="#4477aa", zorder=2,
                )
            )  # fmt: skip
            axes.text(x, y + 0.29, name, ha="center", va="center", fontsize=10, weight="bold", zorder=3)
            words = "\n".join(itertools.islice(textwrap.wrap(box.words, 38 * wide / 2.4), 4))
            axes.text(x, y + 0.15, words, ha="center", va="top", fontsize=7, zorder=3)
        path.write_bytes(content(figure, "svg"))
