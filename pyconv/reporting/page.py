"""Writes pages (sections of text, tables and pictures) as Markdown, and as one HTML file that needs no other files."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import runlog
from ..errors import InputError, RunError, shown
from ..files import write_atomically
from ..plotting import content, own_style, why
from ..values import all_of, flag, function, integer, text
from ..values import path as as_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_log = runlog.logger("pyconv.reporting")


def _parts(value: Any, name: str, kinds: type | tuple[type, ...], what: str) -> tuple[Any, ...]:
    """The items of a sequence; an iterator is refused, because it would be empty when the page is written."""
    if not isinstance(value, Sequence):
        raise InputError(f"{name} must be a list of {what}, not {shown(value)}")
    return all_of(value, name, kinds, what)


@dataclass(frozen=True)
class Table:
    """Cells of text under a header; the first column names the row.

    Attributes
    ----------
    header : sequence of str
    rows : sequence of sequence of str
        Each as long as the header.
    caption : str
        A sentence above the table.
    text : bool
        Whether the cells are words (aligned left) instead of numbers (aligned right).
    words : sequence of int
        Columns of words in a table of numbers, by position.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    text: bool = False
    words: Sequence[int] = ()

    def __post_init__(self) -> None:
        header = _parts(self.header, "header", str, "texts")
        for row in _parts(self.rows, "rows", object, "rows"):
            if len(cells := _parts(row, "a row", str, "texts")) != len(header):
                raise InputError(f"a row has {len(cells)} cells, the header {len(header)}")
        text(self.caption, "caption")
        flag(self.text, "text")
        for column in _parts(self.words, "words", object, "numbers of columns"):
            integer(column, "a column of words", minimum=0)

    def is_left(self, column: int) -> bool:
        """Whether a column is aligned left.

        Parameters
        ----------
        column : int
            From 0.

        Returns
        -------
        bool
        """
        return self.text or column == 0 or column in self.words


@dataclass(frozen=True)
class Picture:
    """A figure of matplotlib.

    Attributes
    ----------
    name : str
        Name of its file, without the ending.
    draw : callable
        Makes the Figure; it is called within :func:`pyconv.plotting.own_style`.
    caption : str
        A sentence under the picture; also the text for screen readers.
    """

    name: str
    draw: Callable[[], Figure]
    caption: str

    def __post_init__(self) -> None:
        name = as_path(text(self.name, "name"), "name")
        if name.name != self.name or self.name == "..":
            raise InputError(f"name must be that of a file, not {shown(self.name)}")
        function(self.draw, "draw", "a function that makes a Figure")
        text(self.caption, "caption")


@dataclass(frozen=True)
class Section:
    """A heading and the text, tables and pictures under it.

    Attributes
    ----------
    title : str
    blocks : sequence of str, Table or Picture
        In order; a str is a paragraph.
    """

    title: str
    blocks: Sequence[str | Table | Picture]

    def __post_init__(self) -> None:
        text(self.title, "title")
        _parts(self.blocks, "blocks", (str, Table, Picture), "paragraphs, tables and pictures")


STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a;
       background: #fff; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; margin: .5rem 0 1rem; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: right; vertical-align: top; }
td { white-space: nowrap; } .text td, td.words { white-space: normal; } .left { text-align: left; }
figure { margin: 1rem 0; } figure img { max-width: 100%; height: auto; } figcaption { font-size: .9rem; color: #444; }
@media print { body { max-width: none; margin: 0; font-size: 10pt; } h2 { break-after: avoid; }
               figure, table { break-inside: avoid; } .wide { overflow: visible; }
               table { font-size: 7.5pt; } th, td { padding: .15rem .35rem; } }
"""


def write(folder: str | Path, title: str, sections: Sequence[Section]) -> list[Path]:
    """Write ``report.md`` with its pictures, and ``report.html``, into `folder`.

    Parameters
    ----------
    folder : path
        Made if it does not exist; files of the same names are replaced.
    title : str
    sections : sequence of Section

    Returns
    -------
    list of Path
        The written files.

    Raises
    ------
    InputError
        If an argument is of another kind.
    RunError
        If a file cannot be written.
    """
    folder, title = as_path(folder, "folder"), text(title, "title")
    sections = all_of(sections, "sections", Section, "sections")
    written: list[Path] = []
    drawn: dict[str, bytes | None] = {}
    try:
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
        for section in sections:
            for block in section.blocks:
                if isinstance(block, Picture):
                    files = _draw(block)
                    drawn[block.name] = files.get("svg")
                    for form, data in files.items():
                        written.append(folder / "pictures" / f"{block.name}.{form}")
                        write_atomically(written[-1], data)
        texts = {"report.md": markdown(title, sections, drawn), "report.html": page(title, sections, drawn)}
        for name, whole in texts.items():
            written.append(folder / name)
            write_atomically(written[-1], whole.encode())
    except OSError as error:
        raise RunError(f"{folder}: the report cannot be written: {error.strerror}") from None
    return written


def _draw(picture: Picture) -> dict[str, bytes]:
    """The picture as an SVG and a PNG file; if it cannot be drawn, a warning and no file: the tables remain."""
    try:
        with own_style():
            figure = picture.draw()
            return {"svg": content(figure, "svg"), "png": content(figure, "png", dots_per_inch=150)}
    except Exception as error:  # fonts, LaTeX, memory: anything may be wrong with matplotlib
        _log.warning("the picture %s cannot be drawn: %s", picture.name, why(error))
        return {}


def markdown(title: str, sections: Sequence[Section], drawn: Mapping[str, bytes | None]) -> str:
    """The page as Markdown, with pictures as files in ``pictures/``; if one could not be drawn, its caption stays."""
    lines = [f"# {title}", ""]
    for section in sections:
        lines += [f"## {section.title}", ""]
        for block in section.blocks:
            if isinstance(block, str):
                lines += [block, ""]
            elif isinstance(block, Picture):
                if drawn[block.name] is not None:
                    lines += [f"![{block.caption}](pictures/{block.name}.png)", ""]
                lines += [f"*{block.caption}*", ""]
            else:
                lines += markdown_table(block)
    return "\n".join(lines)


def markdown_table(table: Table) -> list[str]:
    """The lines of a Markdown table, with the caption in bold above."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = "|" + "".join("---|" if table.is_left(column) else "---:|" for column in range(len(table.header)))
    caption = [f"**{table.caption}**", ""] if table.caption else []
    return [*caption, line(table.header), rule, *map(line, table.rows), ""]


def page(title: str, sections: Sequence[Section], drawn: Mapping[str, bytes | None]) -> str:
    """The page as one HTML file, with style and pictures inside."""
    body = [f"<h1>{html.escape(title)}</h1>"]
    for section in sections:
        body.append(f"<h2>{html.escape(section.title)}</h2>")
        for block in section.blocks:
            if isinstance(block, str):
                body.append(f"<p>{html.escape(block)}</p>")
            elif isinstance(block, Picture):
                caption = html.escape(block.caption)
                image = ""
                if (picture := drawn[block.name]) is not None:
                    data = base64.b64encode(picture).decode()
                    image = f'<img alt="{caption}" src="data:image/svg+xml;base64,{data}">'
                body.append(f"<figure>{image}<figcaption>{caption}</figcaption></figure>")
            else:
                body.append(_html_table(block))
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{STYLE}</style>\n</head>\n'
        "<body>\n" + "\n".join(body) + "\n</body>\n</html>\n"
    )


def _html_table(table: Table) -> str:
    kinds = ["left" if table.is_left(column) else "" for column in range(len(table.header))]
    kinds = [f"{kind} words" if column in table.words else kind for column, kind in enumerate(kinds)]
    classes = [f' class="{kind}"' if kind else "" for kind in kinds]

    def row(cells: Sequence[str], tag: str) -> str:
        made = (f"<{tag}{kind}>{html.escape(cell)}</{tag}>" for kind, cell in zip(classes, cells))
        return f"<tr>{''.join(made)}</tr>"

    caption = f"<caption>{html.escape(table.caption)}</caption>" if table.caption else ""
    rows = "\n".join(row(cells, "td") for cells in table.rows)
    head = f"{caption}<thead>{row(table.header, 'th')}</thead>"
    kind = ' class="text"' if table.text else ""
    return f'<div class="wide"><table{kind}>{head}\n<tbody>{rows}</tbody></table></div>'
