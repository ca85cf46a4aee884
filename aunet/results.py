"""Rows of a table from run folders: never from memory, never from a logger."""

import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aunet.cells import Cell, State, read_cells, require
from aunet.facs import au_column
from aunet.measures import macro, summary
from aunet.metrics import all_present_f1, f1_per_au, random_f1
from aunet.predictions import grouped_predictions, predictions
from aunet.rows import Row, Table
from aunet.runs import RunError, read_json
from aunet.statistics import Counts, au_intervals, compare, f1_interval, holm, video_counts

TABLE1 = (
    "baseline", "resnet50", "inception_v3", "efficientnet", "efficientnet_lite0",
    "without_attention", "without_reweighting", "ours",
)  # fmt: skip
"""Rows of the paper's Table 1 in its order, and among them the one backbone that is pre-trained offline."""

_NEEDED = (
    "title", "paper_f1", "data", "data_fingerprint", "recipe_digest", "aus", "training_rates", "epochs",
    "training_seconds", "parameters", "from_scratch", "frozen",
)  # fmt: skip
"""What is read of ``metrics.json``."""


@dataclass
class _Runs:
    """The finished runs of a row, by seed, with what their predictions give."""

    metrics: dict[int, dict[str, Any]]
    counts: dict[int, Counts]
    measures: dict[int, dict[str, npt.NDArray[np.float64]]]


def read_table(
    sweeps: str | Path | Sequence[str | Path],
    reference: str | None = None,
    order: Sequence[str] = TABLE1,
    resamples: int = 10_000,
    advance: Callable[[int], None] = lambda _: None,
) -> Table:
    """The table of all runs that some sweeps were asked for or hold.

    Args:
        sweeps: Folders ``runs/<sweep>`` with ``<row>/seed<k>/`` in them.
        reference: Row that all others are compared with; None: for each row the one that its configuration
            names (``reference``, by default "ours").
        order: Rows of a sweep that come first, in this order; others follow as they were asked for.
        resamples: Of the intervals and tests, see ``aunet.statistics``.
        advance: Called with 1 for each row that is done, see ``aunet.progress``.

    Raises:
        RunError: The runs saw different data, so that their figures must not share a table; seeds of one row
            were trained by different recipes; a file is damaged; there is no row ``reference``.
    """
    cells = rows_of(sweeps, order)
    check_alike(cells)
    names = list(cells)
    if reference is not None and reference not in cells:
        raise RunError(f"there is no row {reference!r} to compare with; there are {', '.join(names)}")
    groups: list[str] = []
    runs = {name: _read_runs(cells[name], groups) for name in names}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\d+ videos: an interval")  # a note says so once
        rows = []
        for name in names:
            rows.append(_row(name, cells[name], runs[name], resamples))
            advance(1)
        for row in rows:
            row.reference = reference or _reference(row.name, cells)
        _compare(rows, runs, resamples)
    titles = [row.title for row in rows]
    for row in rows:
        if titles.count(row.title) > 1:
            row.title += f" ({row.name})"
    table = Table(rows, groups=len(groups))
    first = next((cell for name in names for cell in cells[name] if cell.metrics), None)
    if first is not None and first.metrics is not None:
        table.aus = [au_column(au) for au in first.metrics["aus"]]
        table.data = first.metrics["data"]
        table.trivial = _trivial(first, first.metrics)
        table.provenance = provenance([c for name in names for c in cells[name] if c.metrics])
    return table


def rows_of(
    sweeps: str | Path | Sequence[str | Path], order: Sequence[str] = TABLE1
) -> dict[str, list[Cell]]:
    """The runs of each row of a table, finished or not, by the row's name; arguments as ``read_table``."""
    given = [sweeps] if isinstance(sweeps, (str, Path)) else sweeps
    folders = {Path(sweep).resolve(): Path(sweep) for sweep in given}
    called = [folder.name for folder in folders]
    cells: dict[str, list[Cell]] = {}
    for place, folder in folders.items():
        prefix = f"{place.name if called.count(place.name) == 1 else folder}/" if len(folders) > 1 else ""
        found = read_cells(folder)
        for cell in sorted(found, key=lambda c: order.index(c.row) if c.row in order else len(order)):
            cells.setdefault(f"{prefix}{cell.row}", []).append(cell)
    return cells


def check_alike(cells: Mapping[str, list[Cell]]) -> None:
    """Refuses rows of different data, and seeds of different recipes.

    Args:
        cells: Runs of each row.

    Raises:
        RunError: Says which, or what a run's metrics lack.
    """
    saw: dict[str, str] = {}
    for name, group in cells.items():
        for cell in group:
            require(cell, _NEEDED)
            if cell.metrics:
                saw.setdefault(cell.metrics["data_fingerprint"], f"{name} (seed {cell.seed})")
        if len({cell.metrics["recipe_digest"] for cell in group if cell.metrics}) > 1:
            raise RunError(
                f"{group[0].folder.parent}: seeds were trained with different configurations (compare their "
                f"config.yaml); remove those that do not belong to the row"
            )
    if len(saw) > 1:
        raise RunError(
            f"rows {' and '.join(sorted(saw.values()))} were trained on different data: their figures cannot "
            f"share a table; move one of them to another sweep"
        )


def _read_runs(cells: Iterable[Cell], groups: list[str]) -> _Runs:
    """Counts and measures of a row's finished runs; ``groups`` receives the groups' names if it is empty."""
    runs = _Runs({}, {}, {})
    for cell in cells:
        if cell.metrics is None:
            continue
        probs, labels, group, number = grouped_predictions(cell, cell.metrics, groups)
        runs.metrics[cell.seed] = cell.metrics
        runs.counts[cell.seed] = video_counts(probs, labels, number)
        if len(groups) > 1:  # of a single one, no threshold can be tuned elsewhere
            runs.measures[cell.seed] = summary(probs, labels, group, cell.metrics.get("pos_weight"))
    return runs


def _counts(cells: Iterable[Cell], groups: list[str]) -> dict[int, Counts]:
    """Counts of a row's finished runs, as ``_read_runs``."""
    found = {}
    for cell in cells:
        if cell.metrics is not None:
            probs, labels, _, number = grouped_predictions(cell, cell.metrics, groups)
            found[cell.seed] = video_counts(probs, labels, number)
    return found


def _row(name: str, cells: list[Cell], runs: _Runs, resamples: int) -> Row:
    unfinished = {c.seed: f"{c.state}: {c.reason}".rstrip(": ") for c in cells if c.state is not State.DONE}
    row = Row(name, " ".join(cells[0].title.split()), sorted(runs.metrics), unfinished)
    if not row.seeds:
        return row
    metrics = [runs.metrics[seed] for seed in row.seeds]
    counts = [runs.counts[seed] for seed in row.seeds]
    aus = [au_column(au) for au in metrics[0]["aus"]]
    row.f1 = f1_interval(counts, resamples=resamples)
    row.f1_per_au = dict(zip(aus, au_intervals(counts, resamples=resamples), strict=True))
    if len(row.seeds) > 1:
        row.spread = float(np.std([f1_per_au(c.sum(0)).mean() for c in counts], ddof=1))
    measured = [runs.measures[seed] for seed in row.seeds if seed in runs.measures]
    for measure in measured[0] if measured else ():
        values = np.mean([found[measure] for found in measured], 0)
        per_au = {au: _number(value) for au, value in zip(aus, values, strict=True)}
        row.measures[measure] = {"macro": _number(macro(values)), **per_au}
    row.title, row.paper_f1 = " ".join(metrics[0]["title"].split()), metrics[0]["paper_f1"]
    row.starts = "from scratch" if metrics[0]["from_scratch"] else "pre-trained"
    row.starts += ", frozen" if metrics[0]["frozen"] else ""
    row.epochs, row.parameters = metrics[0]["epochs"], metrics[0]["parameters"]
    row.flops = metrics[0].get("flops")
    row.seconds = float(np.mean([run["training_seconds"] for run in metrics]))
    return row


def _reference(name: str, cells: Mapping[str, list[Cell]]) -> str | None:
    """The row that a row names, in the same sweep, where it is in the table."""
    cell = cells[name][0]
    found = name.removesuffix(cell.row) + cell.reference
    return found if found in cells else None


def _compare(rows: list[Row], runs: Mapping[str, _Runs], resamples: int) -> None:
    """Fills in the differences, and corrects their p-values together."""
    for row in rows:
        if row.reference in (None, row.name):
            continue
        other = runs[str(row.reference)].counts
        shared = [seed for seed in row.seeds if seed in other]
        row.seeds_compared = len(shared)
        if shared:
            mine = runs[row.name].counts
            pairs = [mine[s] for s in shared], [other[s] for s in shared]
            row.difference = compare(*pairs, resamples=resamples)
    compared = [row for row in rows if row.difference is not None]
    for row, p in zip(compared, holm([r.difference.p for r in compared if r.difference]), strict=True):
        row.p_corrected = p


def _trivial(cell: Cell, metrics: Mapping[str, Any]) -> dict[str, float]:
    """Macro F1 of two predictors that see no pixel, on the validation labels."""
    _, labels, _ = predictions(cell.folder, len(metrics["aus"]))
    rates = np.nan_to_num(np.array(metrics["training_rates"], np.float64))  # NaN: never labelled in training
    return {
        "every AU present": all_present_f1(labels),
        "random at the training rates": random_f1(labels, rates),
    }


def provenance(cells: Sequence[Cell]) -> dict[str, Any]:
    """What the finished runs say of themselves, each fact once."""
    records = [record for cell in cells if (record := read_json(cell.folder / "provenance.json"))]
    attempts = [attempt for record in records for attempt in record.get("attempts", [])]
    metrics = cells[0].metrics or {}

    def distinct(values: Iterable[Any]) -> list[Any]:
        return [json.loads(text) for text in sorted({json.dumps(value, sort_keys=True) for value in values})]

    return {
        "data": metrics["data"],
        "data_fingerprint": metrics["data_fingerprint"],
        "splits": {
            split: {key: counts[key] for key in ("videos", "frames")}
            for split, counts in (records[0].get("splits", {}) if records else {}).items()
        },
        "runs": len(cells),
        "training_hours": round(sum((c.metrics or {})["training_seconds"] for c in cells) / 3600, 2),
        "commits": distinct(record.get("commit") for record in records),
        "packages": distinct(record.get("packages", {}) for record in records),
        "machines": distinct(attempts),
    }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def seed_counts(sweep: str | Path) -> dict[str, dict[int, Counts]]:
    """Confusion counts of each video, of each finished run of a sweep: ``{row: {seed: (V, 3, num_aus)}}``.

    Raises:
        RunError: As ``read_table``.
    """
    cells: dict[str, list[Cell]] = {}
    for cell in read_cells(Path(sweep)):
        cells.setdefault(cell.row, []).append(cell)
    check_alike(cells)
    groups: list[str] = []
    return {name: _counts(runs, groups) for name, runs in cells.items()}
