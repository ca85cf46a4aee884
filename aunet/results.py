"""Tables from run folders: never from memory, never from a logger."""

import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table as RichTable

from aunet.facs import au_column
from aunet.metrics import all_present_f1, random_f1
from aunet.runs import RunError, read_metrics, replacing

Row = dict[str, Any]

TABLE1 = (
    "baseline", "resnet50", "inception_v3", "efficientnet", "efficientnet_lite0",
    "without_attention", "without_reweighting", "ours",
)  # fmt: skip
"""Rows of the paper's Table 1 in its order, and among them the one backbone that is pre-trained offline."""


def read_rows(sweep: str | Path, order: Sequence[str] = TABLE1) -> list[Row]:
    """One entry for each row of a sweep that has a finished run, seeds averaged.

    Args:
        sweep: Folder ``runs/<sweep>`` with ``<row>/seed<k>/`` in it.
        order: Rows that come first, in this order; others follow by name.

    Returns:
        Rows with ``row``, ``title``, ``seeds`` (list), ``f1`` (mean over seeds), ``f1_std`` (None for one
        seed), ``f1_per_au`` (``{"AU1": ...}``), ``paper_f1`` (None where the paper has no such row),
        ``data``, ``from_scratch``, ``frozen``, ``parameters``, ``epochs`` and ``training_seconds`` (mean).

    Raises:
        RunError: The runs of the sweep saw different data, or seeds of one row were trained by different
            recipes, so that their figures must not share a table or a mean.
    """
    runs: dict[str, list[Row]] = {}
    for file in sorted(Path(sweep).glob("*/seed*/metrics.json")):
        metrics = read_metrics(file.parent)
        if metrics is not None:
            runs.setdefault(file.parent.parent.name, []).append(metrics)
    fingerprints = {run["data_fingerprint"]: name for name, group in runs.items() for run in group}
    if len(fingerprints) > 1:
        raise RunError(
            f"{sweep}: rows {' and '.join(sorted(fingerprints.values()))} were trained on different data; "
            f"move one of them to another sweep"
        )
    for name, group in runs.items():
        if len({run["recipe_digest"] for run in group}) > 1:
            raise RunError(
                f"{Path(sweep) / name}: seeds were trained with different configurations (compare their "
                f"config.yaml); remove those that do not belong to the row"
            )
    names = [*(name for name in order if name in runs), *sorted(name for name in runs if name not in order)]
    return [_row(name, sorted(runs[name], key=lambda run: run["seed"])) for name in names]


def trivial_f1(sweep: str | Path) -> dict[str, float]:
    """Macro F1 of two predictors that see no pixel, on the validation labels of a sweep's runs.

    Returns:
        "every AU present" and "random at the training rates" (in expectation); empty without a finished run.
    """
    for file in sorted(Path(sweep).glob("*/seed*/metrics.json")):
        metrics = read_metrics(file.parent)
        if metrics is not None:
            labels = _labels(file.parent / "predictions.npz")
            return {
                "every AU present": all_present_f1(labels),
                "random at the training rates": random_f1(labels, np.array(metrics["training_rates"])),
            }
    return {}


def show_table(sweep: str | Path) -> list[Row]:
    """Prints a sweep's table and what to know about it, and writes it into the sweep's folder.

    Args:
        sweep: Folder ``runs/<sweep>``.

    Returns:
        The rows, see ``read_rows``; without any, nothing is printed or written.
    """
    rows = read_rows(sweep)
    if rows:
        trivial = trivial_f1(sweep)
        files = write_table(sweep, rows, trivial)
        # Full width even where the output goes to a file, so that no title is broken.
        console = Console(width=None if sys.stdout.isatty() else 140, markup=False, highlight=False)
        console.print(terminal(rows))
        for note in [*notes(rows, trivial), f"written: {', '.join(map(str, files))}"]:
            console.print(f"- {note}", soft_wrap=True)
    return rows


def write_table(sweep: str | Path, rows: Sequence[Row], trivial: Mapping[str, float]) -> list[Path]:
    """Writes ``table.md``, ``table.csv`` and ``table.json`` into the sweep's folder.

    Args:
        sweep: Folder ``runs/<sweep>``.
        rows: See ``read_rows``.
        trivial: See ``trivial_f1``.

    Returns:
        The files.
    """
    content = {
        "table.md": markdown(rows, trivial),
        "table.csv": _csv(rows),
        "table.json": json.dumps({"rows": list(rows), "trivial": dict(trivial)}, indent=2) + "\n",
    }
    files = []
    for name, text in content.items():
        with replacing(Path(sweep) / name) as temporary:
            temporary.write_text(text)
        files.append(Path(sweep) / name)
    return files


def markdown(rows: Sequence[Row], trivial: Mapping[str, float]) -> str:
    """The table in Markdown, trivial predictors below it."""
    header, body = _cells(rows)
    lines = [_line(header), _line(["---"] * 2 + ["---:"] * (len(header) - 2)), *map(_line, body), ""]
    lines += [f"- {note}" for note in notes(rows, trivial)]
    return "\n".join(lines) + "\n"


def terminal(rows: Sequence[Row]) -> RichTable:
    """The table for the terminal, without the columns of single AUs."""
    header, body = _cells(rows)
    shown = len(header) - (len(rows[0]["f1_per_au"]) if rows else 0)
    table = RichTable()
    for index, name in enumerate(header[:shown]):
        table.add_column(name, justify="left" if index < 2 else "right", overflow="fold")
    for cells in body:
        table.add_row(*cells[:shown])
    return table


def notes(rows: Sequence[Row], trivial: Mapping[str, float]) -> list[str]:
    """What a reader has to know about the table: trivial predictors, data, what is the paper's."""
    found = [f"trivial predictor, {name}: F1 {value:.4f}" for name, value in trivial.items()]
    data = sorted({row["data"] for row in rows})
    if data:
        found.append(f"F1: macro over the AUs, measured on the validation frames of {', '.join(data)}")
        found.append(
            "paper: as reported there for Aff-Wild2's validation set (one run each), not measured here"
        )
    if any(row["seeds"] and len(row["seeds"]) == 1 for row in rows):
        found.append("one seed: differences between rows are not shown to be more than chance")
    return found


def _labels(predictions: Path) -> npt.NDArray[np.int8]:
    try:
        with np.load(predictions, allow_pickle=False) as arrays:
            return np.asarray(arrays["labels"])
    # NumPy's, for files that are cut off, no archive, or without labels.
    except (BadZipFile, EOFError, KeyError, ValueError) as error:
        raise RunError(f"{predictions}: not readable ({error}); remove the run's folder") from None


def _row(name: str, runs: list[Row]) -> Row:
    f1 = [run["val/f1"] for run in runs]
    return {
        "row": name,
        "title": runs[0]["title"],
        "seeds": [run["seed"] for run in runs],
        "f1": float(np.mean(f1)),
        "f1_std": float(np.std(f1, ddof=1)) if len(f1) > 1 else None,
        "f1_per_au": {
            au_column(au): float(np.mean([run[f"val/f1/{au_column(au)}"] for run in runs]))
            for au in runs[0]["aus"]
        },
        "paper_f1": runs[0]["paper_f1"],
        "data": runs[0]["data"],
        "from_scratch": runs[0]["from_scratch"],
        "frozen": runs[0]["frozen"],
        "parameters": runs[0]["parameters"],
        "epochs": runs[0]["epochs"],
        "training_seconds": float(np.mean([run["training_seconds"] for run in runs])),
    }


def _cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Header and cells: the columns that need words first, single AUs last."""
    aus = list(rows[0]["f1_per_au"]) if rows else []
    header = ["row", "backbone starts", "F1", "paper", "seeds", "epochs", "params (M)", "train (s)", *aus]
    body = []
    for row in rows:
        spread = f" ± {row['f1_std']:.4f}" if row["f1_std"] is not None else ""
        body.append(
            [
                row["title"],
                ("from scratch" if row["from_scratch"] else "pre-trained")
                + (", frozen" if row["frozen"] else ""),
                f"{row['f1']:.4f}{spread}",
                "–" if row["paper_f1"] is None else f"{row['paper_f1']:.4f}",
                str(len(row["seeds"])),
                str(row["epochs"]),
                f"{row['parameters'] / 1e6:.2f}",
                f"{row['training_seconds']:.0f}",
                *(f"{value:.3f}" for value in row["f1_per_au"].values()),
            ]
        )
    return header, body


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    flat = [
        {key: value for key, value in row.items() if key != "f1_per_au"}
        | {"seeds": " ".join(map(str, row["seeds"]))}
        | row["f1_per_au"]
        for row in rows
    ]
    writer = csv.DictWriter(text, list(flat[0]) if flat else ["row"])
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
