"""Pages: sections of text, tables and pictures, written as Markdown and as one HTML file that needs no other."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import RunError
from ..files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Table:
    """Cells of text under a header; the first column is what a row is about.

    Attributes
    ----------
    header : sequence of str
    rows : sequence of sequence of str
        Each as long as the header.
    caption : str
        A sentence above the table.
    text : bool
        Whether the cells are words, which begin at the left, rather than numbers, which end at the right.
    words : sequence of int
        Columns of words in a table of numbers.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    text: bool = False
    words: Sequence[int] = ()

    def is_left(self, column: int) -> bool:
        """Whether a column's cells begin at the left.

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
        Of its file, without extension.
    figure : Figure
    caption : str
        A sentence under the picture: also what a screen reader reads.
    """

    name: str
    figure: Figure
    caption: str


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it.

    Attributes
    ----------
    title : str
    blocks : sequence of str, Table or Picture
        In order; a str is a paragraph.
    """

    title: str
    blocks: Sequence[str | Table | Picture]


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
        Made if it is not there; files of the same names are replaced.
    title : str
    sections : sequence of Section

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    RunError
        If it cannot be written.
    """
    folder = Path(folder)
    written: list[Path] = []
    drawn: dict[str, bytes] = {}
    try:
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
        for section in sections:
            for block in section.blocks:
                if isinstance(block, Picture):
                    drawn[block.name] = _draw(block, "svg")
                    for extension, content in (("svg", drawn[block.name]), ("png", _draw(block, "png"))):
                        written.append(folder / "pictures" / f"{block.name}.{extension}")
                        write_atomically(written[-1], content)
        for name, text in (("report.md", markdown(title, sections)), ("report.html", page(title, sections, drawn))):
            written.append(folder / name)
            write_atomically(written[-1], text.encode())
    except OSError as error:
        raise RunError(f"{folder}: the report cannot be written: {error.strerror}") from None
    return written


def _draw(picture: Picture, form: str) -> bytes:
    import matplotlib

    buffer = io.BytesIO()
    # The same results give the same bytes: no date in the file, and element names that do not depend on chance.
    with matplotlib.rc_context({"svg.hashsalt": "pyconv"}):
        options = {"metadata": {"Date": None}} if form == "svg" else {"dpi": 150}
        picture.figure.savefig(buffer, format=form, **options)
    return buffer.getvalue()


def markdown(title: str, sections: Sequence[Section]) -> str:
    """The page as Markdown, with pictures as files in ``pictures/``."""
    lines = [f"# {title}", ""]
    for section in sections:
        lines += [f"## {section.title}", ""]
        for block in section.blocks:
            if isinstance(block, str):
                lines += [block, ""]
            elif isinstance(block, Picture):
                lines += [f"![{block.caption}](pictures/{block.name}.png)", "", f"*{block.caption}*", ""]
            else:
                lines += markdown_table(block)
    return "\n".join(lines)


def markdown_table(table: Table) -> list[str]:
    """Lines of a Markdown table, its caption in bold above."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = "|" + "".join("---|" if table.is_left(column) else "---:|" for column in range(len(table.header)))
    caption = [f"**{table.caption}**", ""] if table.caption else []
    return [*caption, line(table.header), rule, *map(line, table.rows), ""]


def page(title: str, sections: Sequence[Section], drawn: dict[str, bytes]) -> str:
    """The page as one HTML file: style and pictures inside it."""
    body = [f"<h1>{html.escape(title)}</h1>"]
    for section in sections:
        body.append(f"<h2>{html.escape(section.title)}</h2>")
        for block in section.blocks:
            if isinstance(block, str):
                body.append(f"<p>{html.escape(block)}</p>")
            elif isinstance(block, Picture):
                data = base64.b64encode(drawn[block.name]).decode()
                caption = html.escape(block.caption)
                body.append(
                    f'<figure><img alt="{caption}" src="data:image/svg+xml;base64,{data}">'
                    f"<figcaption>{caption}</figcaption></figure>"
                )
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
