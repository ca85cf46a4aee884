"""A table for people and programs: terminal, Markdown, LaTeX, CSV and JSON."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from aunet.results import ALPHA, Row, Table, few_groups
from aunet.runs import replacing

WIDTH = 100
"""Columns that the terminal tables need."""

NONE = "–"

MEASURES = {
    "f1": "F1",
    "f1_tuned": "F1 tuned",
    "average_precision": "AP",
    "roc_auc": "AUC",
    "balanced_accuracy": "bal. acc.",
    "mcc": "MCC",
    "f1_skew_normalised": "F1 skew-n.",
    "brier": "Brier",
    "brier_corrected": "Brier corr.",
    "ece": "ECE",
    "ece_corrected": "ECE corr.",
}
"""Names of ``aunet.measures.summary`` -> headers."""


def result_cells(table: Table) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the result: which row wins, and whether by more than chance."""
    header = ["row", "F1", "± seeds", "95% interval", "difference", "p", "paper", "seeds"]
    return header, [
        [
            row.title,
            _f1(row),
            NONE if row.spread is None else f"{row.spread:.4f}",
            NONE if row.f1 is None else f"{row.f1.low:.3f}–{row.f1.high:.3f}",
            NONE if row.difference is None else f"{row.difference.value:+.4f}" + "*" * row.differs,
            NONE if row.p_corrected is None else _p(row.p_corrected),
            NONE if row.paper_f1 is None else f"{row.paper_f1:.4f}",
            _seeds(row),
        ]
        for row in table.rows
    ]


def measure_cells(table: Table) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the macro means of all measures."""
    shown = [name for name in MEASURES if any(name in row.measures for row in table.rows)]
    return ["row", *(MEASURES[name] for name in shown)], [
        [row.title, *(_value(row.measures.get(name, {}).get("macro")) for name in shown)]
        for row in table.rows
    ]


def cost_cells(table: Table) -> tuple[list[str], list[list[str]]]:
    """Header and cells of what a row costs."""
    return ["row", "backbone starts", "params (M)", "GFLOP", "epochs", "train (s)"], [
        [
            row.title,
            row.starts or NONE,
            NONE if row.parameters is None else f"{row.parameters / 1e6:.2f}",
            NONE if row.flops is None else f"{row.flops / 1e9:.2f}",
            NONE if row.epochs is None else str(row.epochs),
            NONE if row.seconds is None else f"{row.seconds:.0f}",
        ]
        for row in table.rows
    ]


def au_cells(table: Table) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the F1 of single AUs, in per cent."""
    return ["row", *table.aus], [
        [row.title, *(f"{e.value:.1%}"[:-1] if (e := row.f1_per_au.get(au)) else NONE for au in table.aus)]
        for row in table.rows
    ]


PARTS: tuple[tuple[str, Callable[[Table], tuple[list[str], list[list[str]]]]], ...] = (
    ("Result", result_cells),
    ("Measures, mean over the AUs", measure_cells),
    ("F1 of each AU, in per cent", au_cells),
    ("Cost", cost_cells),
)


def notes(table: Table) -> list[str]:
    """What a reader has to know: data, missing runs, how to read the figures, what is the paper's."""
    found = [
        f"{row.title}, seed {seed}: {why}"
        for row in table.rows
        for seed, why in sorted(row.unfinished.items())
    ]
    if not table.data:
        return found
    found += [f"trivial predictor, {name}: F1 {value:.4f}" for name, value in table.trivial.items()]
    found += [
        f"F1: macro over the AUs, measured on the validation frames of {table.data}, {table.groups} videos "
        f"or people; 95% intervals are over these and over the seeds",
        "paper: as reported there for Aff-Wild2's validation set (one run each), not measured here",
    ]
    if few_groups(table):
        found.append(f"{table.groups} videos or people are few: intervals may cover less than 95%")
    compared = [(str(row.reference), row.difference) for row in table.rows if row.difference is not None]
    if compared:
        names = ", ".join(sorted({name for name, _ in compared}))
        smallest = [difference.detectable for _, difference in compared]
        found += [
            f"difference: to {names}; p: sign-flip test over videos, corrected for {len(compared)} tests "
            f"(Holm); *: several seeds, p < {ALPHA}, and 0 lies outside the difference's 95% interval",
            f"smallest true difference that these videos and seeds would show four times in five: "
            f"{min(smallest):.3f} to {max(smallest):.3f}, by row",
        ]
    if any(len(row.seeds) == 1 for row in table.rows):
        found.append(
            "rows of one seed: the test speaks of these trained networks, not of what another seed gives"
        )
    if any("f1_tuned" in row.measures for row in table.rows):
        found.append(
            "F1 tuned: each AU's threshold from the other four fifths of the videos; all else at probability "
            "0.5; corrected: after undoing the loss weights in the probabilities"
        )
    return found


def markdown(table: Table) -> str:
    """All parts in Markdown, notes below."""
    lines = []
    for title, cells in PARTS:
        header, body = cells(table)
        lines += [f"**{title}**", "", _line(header), _line(["---"] + ["---:"] * (len(header) - 1))]
        lines += [*map(_line, body), ""]
    return "\n".join([*lines, *(f"- {note}" for note in notes(table))]) + "\n"


def terminal(table: Table) -> list[RichTable]:
    """All parts for a terminal of 100 columns."""
    parts = []
    for title, cells in PARTS:
        header, body = cells(table)
        part = RichTable(
            title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
        )
        # Figures are never folded: what is left is for the words.
        figures = [
            max(len(word) for word in (*name.split(), *(line[index] for line in body)))
            for index, name in enumerate(header)
        ][1:]
        part.add_column(header[0], max_width=WIDTH - sum(figures) - 2 * len(header), overflow="fold")
        for name, width in zip(header[1:], figures, strict=True):
            part.add_column(name, justify="right", width=width)
        for row in body:
            part.add_row(*row)
        parts.append(part)
    return parts


def latex(table: Table) -> str:
    """Result and single AUs as two tables for a paper; needs the package booktabs."""
    header, body = result_cells(table)
    costs, cost_body = cost_cells(table)
    both = [result + cost[2:4] for result, cost in zip(body, cost_body, strict=True)]
    parts = [
        ("Macro F1 on the validation set", [*header, *costs[2:4]], both),
        ("F1 of each AU, in per cent,", *au_cells(table)),
    ]
    lines = ["% \\usepackage{booktabs}"]
    for title, columns, rows in parts:
        lines += [
            "\\begin{table}",
            "\\centering\\scriptsize\\setlength{\\tabcolsep}{3pt}",
            f"\\caption{{{_tex(title)} of {_tex(table.data)}.}}",
            f"\\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}",
            "\\toprule",
            " & ".join(map(_tex, columns)) + " \\\\",
            "\\midrule",
            *(" & ".join(map(_tex, row)) + " \\\\" for row in rows),
            "\\bottomrule",
            "\\end{tabular}",
            "\\end{table}",
        ]
    return "\n".join([*lines, *(f"% {note}" for note in notes(table))]) + "\n"


def as_json(table: Table) -> str:
    """Everything, with nothing rounded."""
    content = asdict(table) | {"notes": notes(table)}
    for row, found in zip(content["rows"], table.rows, strict=True):
        row["differs"] = found.differs
    return json.dumps(content, indent=1) + "\n"


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
            temporary.write_text(write(table))
        files.append(file)
    return files


def print_table(table: Table) -> None:
    """Prints the table and its notes, in 100 columns also where the output goes to a file."""
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console = Console(width=WIDTH, markup=False, highlight=False)
    for part in terminal(table):
        console.print(part)
    for note in notes(table):
        console.print(f"- {note}")


def _f1(row: Row) -> str:
    if row.f1 is not None:
        return f"{row.f1.value:.4f}"
    # Of several seeds without any finished one, the state that needs most attention.
    states = [why.partition(":")[0] for why in row.unfinished.values()]
    return next((s for s in ("failed", "interrupted", "running", "waiting") if s in states), "missing")


def _seeds(row: Row) -> str:
    asked = len(row.seeds) + len(row.unfinished)
    return f"{len(row.seeds)} of {asked}" if row.unfinished else str(asked)


def _value(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"


def _p(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _flat(row: Row) -> dict[str, Any]:
    content = asdict(row)
    per_au, measures = content.pop("f1_per_au"), content.pop("measures")
    for key in ("f1", "difference"):
        found = content.pop(key) or {}
        content |= {key if name == "value" else f"{key}_{name}": value for name, value in found.items()}
    content["seeds"] = " ".join(map(str, row.seeds))
    content["unfinished"] = "; ".join(f"seed {seed}: {why}" for seed, why in row.unfinished.items())
    content |= {f"f1_{au}": found["value"] for au, found in per_au.items()}
    for measure, values in measures.items():
        if measure != "f1":
            content |= {f"{measure}_{name}" if name != "macro" else measure: v for name, v in values.items()}
    return content


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "±": r"$\pm$", "<": "$<$", ">": "$>$",
}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in text)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
