"""A table for people and programs: terminal, Markdown, LaTeX, CSV and JSON."""

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from aunet.columns import au_cells, cost_cells, notes, result_cells, shown_parts, star
from aunet.files import replacing
from aunet.rows import Row, Table

WIDTH = 100
"""Columns that the terminal tables need."""

WORDS = 18
"""Of them, those that are kept for a row's title; figures that do not fit beside it go to a further table."""

AUS_IN_LATEX = 12
"""Single AUs beside each other in a table for a paper."""


def markdown(table: Table) -> str:
    """All parts in Markdown, notes below."""
    lines = []
    for title, header, body in shown_parts(table):
        lines += [f"**{title}**", "", markdown_table(header, body), ""]
    return "\n".join([*lines, *(f"- {note}" for note in notes(table))]) + "\n"


def markdown_table(header: Sequence[str], body: Sequence[Sequence[str]], words: int = 1) -> str:
    """A single table in Markdown, its figures to the right.

    Args:
        header: Names of the columns.
        body: Cells of each line.
        words: Columns before the figures.
    """
    rule = ["---"] * words + ["---:"] * (len(header) - words)
    return "\n".join(map(_line, [header, rule, *body]))


def terminal(table: Table) -> list[RichTable]:
    """All parts for a terminal of 100 columns; one that is wider makes several tables."""
    return [
        _rich(f"{title}, continued" if start else title, header, body, slice(start + 1, end + 1))
        for title, header, body in shown_parts(table)
        for start, end in _blocks(_widths(header, body))
    ]


def _rich(title: str, header: Sequence[str], body: Sequence[Sequence[str]], shown: slice) -> RichTable:
    """A table of the first column and of some others."""
    part = RichTable(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    # Figures are never folded: what is left is for the words.
    figures = _widths(header, body)[shown.start - 1 : shown.stop - 1]
    part.add_column(header[0], max_width=WIDTH - sum(figures) - 2 * len(figures) - 2, overflow="fold")
    for name, width in zip(header[shown], figures, strict=True):
        part.add_column(name, justify="right", width=width)
    for row in body:
        part.add_row(row[0], *row[shown])
    return part


def _widths(header: Sequence[str], body: Sequence[Sequence[str]]) -> list[int]:
    """Of each column of figures: that of its longest figure, or word of its header."""
    return [
        max(len(word) for word in (*name.split(), *(line[index] for line in body)))
        for index, name in enumerate(header)
    ][1:]


def _blocks(widths: Sequence[int]) -> list[tuple[int, int]]:
    """Columns of figures that fit beside each other: the first, and the one behind the last."""
    blocks, start = [], 0
    for end in range(1, len(widths) + 1):
        if end - start > 1 and sum(widths[start:end]) + 2 * (end - start + 1) > WIDTH - WORDS:
            blocks.append((start, end - 1))
            start = end - 1
    return [*blocks, (start, len(widths))]


def latex(table: Table) -> str:
    """Result and single AUs as tables for a paper, as wide as its lines; see the first line for packages."""
    of = f" of {table.data}" if table.data else ""
    header, body = result_cells(table)
    costs, cost_body = cost_cells(table)
    both = [result + cost[2:4] for result, cost in zip(body, cost_body, strict=True)]
    caption = f"Macro F1 on the validation set{of}."
    if any(row.difference is not None for row in table.rows):
        caption += f" {star()}."
    parts = [(caption, [*header, *costs[2:4]], both)]
    header, body = au_cells(table)
    names = [name.removeprefix("AU") for name in header]
    for start in range(1, len(names), AUS_IN_LATEX):
        block = slice(start, start + AUS_IN_LATEX)
        parts.append(
            (
                f"F1 of each AU on the validation set{of}, in per cent.",
                ["AU", *names[block]],
                [[row[0], *row[block]] for row in body],
            )
        )
    lines = ["% \\usepackage{booktabs,tabularx}"]
    for title, columns, rows in parts:
        lines += [
            "\\begin{table}",
            "\\centering\\scriptsize\\setlength{\\tabcolsep}{2pt}\\setlength{\\belowcaptionskip}{4pt}",
            f"\\caption{{{_tex(title)}}}",
            "\\begin{tabularx}{\\linewidth}{@{}>{\\raggedright\\arraybackslash\\hangindent=1em}X"
            f"{'r' * (len(columns) - 1)}@{{}}}}",
            "\\toprule",
            " & ".join(map(_tex_header, columns)) + " \\\\",
            "\\midrule",
            *(" & ".join(map(_tex, row)) + " \\\\" for row in rows),
            "\\bottomrule",
            "\\end{tabularx}",
            "\\end{table}",
        ]
    return "\n".join([*lines, *(f"% {note}" for note in notes(table))]) + "\n"


def as_json(table: Table) -> str:
    """Everything, with nothing rounded."""
    content = asdict(table) | {"notes": notes(table)}
    for row, found in zip(content["rows"], table.rows, strict=True):
        row["differs"] = found.differs
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def as_csv(table: Table) -> str:
    """A line for each row, a column for each figure."""
    lines = [_flat(row) for row in table.rows]
    columns = list(dict.fromkeys(key for line in lines for key in line)) or ["name"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


TEXT: dict[str, Callable[[Table], str]] = {
    "markdown": markdown,
    "csv": as_csv,
    "json": as_json,
    "latex": latex,
}
"""Formats of files, and what writes them."""

_SUFFIXES = {"markdown": "md", "csv": "csv", "json": "json", "latex": "tex"}


def write_table(folder: str | Path, table: Table) -> list[Path]:
    """Writes the table in all formats into a folder, which is made if it is missing.

    Returns:
        The files.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    files = []
    for name, write in TEXT.items():
        file = Path(folder) / f"table.{_SUFFIXES[name]}"
        with replacing(file) as temporary:
            temporary.write_text(write(table), "utf-8")
        files.append(file)
    return files


def print_table(table: Table) -> None:
    """Prints the table and its notes, in 100 columns also where the output goes to a file."""
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal or console.width < WIDTH:  # a narrow terminal breaks lines, but no figures
        console.width = WIDTH
    for part in terminal(table):
        console.print(part)
    for note in notes(table):
        console.print(f"- {note}")


def _flat(row: Row) -> dict[str, Any]:
    content = asdict(row)
    per_au, measures = content.pop("f1_per_au"), content.pop("measures")
    for key in ("f1", "difference"):
        found = content.pop(key) or {}
        content |= {key if name == "value" else f"{key}_{name}": value for name, value in found.items()}
    content["differs"] = row.differs
    content["seeds"] = " ".join(map(str, row.seeds))
    content["unfinished"] = "; ".join(f"seed {seed}: {why}" for seed, why in row.unfinished.items())
    content |= {f"f1_{au}": found["value"] for au, found in per_au.items()}
    for measure, values in measures.items():
        if measure != "f1":
            content |= {f"{measure}_{name}" if name != "macro" else measure: v for name, v in values.items()}
    return content


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "[": "{[}", "]": "{]}", "|": r"\textbar{}", "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}", "–": "--", "±": r"$\pm$", "<": "$<$", ">": "$>$",
}  # fmt: skip


def _tex(text: str) -> str:
    written = "".join(_TEX.get(letter, letter) for letter in text)
    return re.sub(r"^-(?=\d)", "$-$", written)  # a hyphen is shorter than a minus


def _tex_header(name: str) -> str:
    """Its words below each other."""
    words = _tex(name).split()
    return words[0] if len(words) == 1 else "\\shortstack[r]{" + r" \\ ".join(words) + "}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
