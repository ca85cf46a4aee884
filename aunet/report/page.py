"""The page itself: what it holds, in the order of the template, and its text."""

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from aunet.cells import Cell
from aunet.columns import notes, shown_parts
from aunet.facs import NAMES
from aunet.measures import BINS
from aunet.report import facts, figures, panels
from aunet.report.curves import Curves, read_curves, read_history
from aunet.report.gallery import KINDS, Gallery
from aunet.report.svg import LINES
from aunet.rows import Row, Table

HERE = Path(__file__).parent

SECTIONS = {
    "result": "Result",
    "differences": "Differences",
    "aus": "AUs",
    "learning": "Learning curves",
    "precision": "Precision and recall",
    "calibration": "Calibration",
    "thresholds": "Thresholds",
    "videos": "Videos",
    "frames": "Frames",
    "data": "Data",
    "provenance": "Provenance",
}
"""Places on the page, in order."""


def shown_rows(table: Table, most: int = len(LINES)) -> list[Row]:
    """The finished row that most others are compared with, and the best of the others.

    Args:
        table: With one finished row or more.
        most: Rows at most.
    """
    found = [(row.f1.value, row) for row in table.rows if row.f1 is not None]
    best = [row for _, row in sorted(found, key=lambda pair: -pair[0])]
    named = Counter(row.reference for row in table.rows)
    often = max(named[row.name] for row in best)
    first = next(row for row in (table.rows if often else best) if row in best and named[row.name] == often)
    return [first, *(row for row in best if row is not first)][:most]


def contents(table: Table, rows: Mapping[str, Sequence[Cell]], commands: list[str]) -> dict[str, Any]:
    """What the template shows, but for the gallery.

    Args:
        table: Of all runs; one has finished.
        rows: Runs of each row, by its name.
        commands: That make table and page.

    Raises:
        RunError: A file of a run is damaged.
    """
    compared = shown_rows(table)
    sweeps = dict.fromkeys(cell.sweep.resolve().name for of_row in rows.values() for cell in of_row)
    curves = {row.name: read_curves(rows[row.name]) for row in compared}
    cells = [cell for of_row in rows.values() for cell in of_row]
    header, lines = facts.run_cells(table, rows)
    return {
        "title": ", ".join(sweeps),
        "sections": SECTIONS,
        "table": table,
        "searched": {row.title: f"{row.title} {row.name}" for row in table.rows},
        "rows": compared,
        "legends": {
            place: [(panels.key(place, number), said) for number, said in enumerate(lines)]
            for place, lines in (
                ("learning", ("F1", "training loss", "validation loss")),
                *(
                    (place, [row.title for row in compared])
                    for place in ("precision", "calibration", "thresholds", "videos")
                ),
            )
        },
        "names": {au: NAMES.get(int(au.removeprefix("AU")), "") for au in table.aus},
        "parts": [(title, *part) for title, *part in shown_parts(table)] + [("Runs", header, lines)],
        # Unfinished runs, which come first, have a table of their own.
        "notes": notes(table)[sum(len(row.unfinished) for row in table.rows) :],
        "intervals": [
            {au: f"{100 * f1.low:.1f}–{100 * f1.high:.1f}" for au, f1 in row.f1_per_au.items()}
            for row in table.rows
        ],
        "chosen": _chosen(table, compared),
        "forest": figures.forest(table),
        "heat_map": figures.heat_map(table),
        "learning": _learning(table, rows),
        "precision": _of_aus(panels.precision_recall, table, compared, curves),
        "calibration": _of_aus(panels.calibration, table, compared, curves),
        "thresholds": _of_aus(panels.thresholds, table, compared, curves),
        "average_precision": facts.measure_cells(table, ["average_precision"]),
        "ece": facts.measure_cells(table, ["ece", "ece_corrected"]),
        "tuned": facts.measure_cells(table, ["f1", "f1_tuned"]),
        "videos": figures.videos(compared, curves),
        "worst": facts.worst_videos(compared, curves),
        "data": facts.data_summary(table, cells),
        "packages": [facts.described(packages) for packages in table.provenance["packages"]],
        "machines": [facts.described(machine) for machine in table.provenance["machines"]],
        "training": facts.training_commands(table, rows),
        "commands": commands,
        "bins": BINS,
        "fewest": panels.FEWEST,
    }


def render(page: Mapping[str, Any], gallery: Gallery, cut: str) -> str:
    """The page as text.

    Args:
        page: Of ``contents``.
        gallery: Frames.
        cut: Why there are fewer frames than there could be; empty if there are not.
    """
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"order": sort_key, "words": word_columns}
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page.html").render(
        page,
        gallery=gallery,
        kinds=[title for title, *_ in KINDS],
        cut=cut,
        # Our own files, which hold nothing of the runs' (S704).
        style=Markup(style),  # noqa: S704
        script=Markup(script),  # noqa: S704
        script_hash=f"sha256-{allowed}",
    )


def sort_key(cell: str) -> str:
    """The number by which a table is sorted that has this text in a cell; empty for words."""
    found = re.fullmatch(r"<?([+-]?\d+(?:\.\d+)?)(?:[%*]|–[\d.]+| of \d+| → .*)?", cell)
    return found[1] if found else ""


def word_columns(body: Sequence[Sequence[str]]) -> set[int]:
    """Columns of a table without any number in them."""
    return {column for column, cells in enumerate(zip(*body, strict=True)) if not any(map(sort_key, cells))}


def _chosen(table: Table, rows: Sequence[Row]) -> str:
    """Which rows share the panels, and why."""
    finished = sum(row.f1 is not None for row in table.rows)
    if finished == len(rows):
        return "All finished rows." if finished > 1 else ""
    named = any(row.reference == rows[0].name for row in table.rows)
    first = f"{rows[0].title}, with which others are compared, and the best others" if named else "the best"
    return f"{len(rows)} of {finished} finished rows: {first} by macro F1."


def _of_aus(
    panel: Callable[[Table, int, Sequence[Row], Mapping[str, Curves]], Markup],
    table: Table,
    rows: Sequence[Row],
    curves: Mapping[str, Curves],
) -> dict[str, Markup]:
    return {au: panel(table, number, rows, curves) for number, au in enumerate(table.aus)}


def _learning(table: Table, rows: Mapping[str, Sequence[Cell]]) -> list[tuple[Row, Markup]]:
    """Learning curves of each row that has any."""
    read = {
        row.name: {cell.seed: history for cell in rows[row.name] if (history := read_history(cell))}
        for row in table.rows
    }
    f1s = [f1 for of_row in read.values() for one in of_row.values() for f1 in one["val/f1"]]
    highest = min(1.0, 1.1 * max((f1 for f1 in f1s if f1 > 0), default=1.0))
    return [
        (row, panels.learning(number, row, read[row.name], highest))
        for number, row in enumerate(table.rows)
        if read[row.name]
    ]
