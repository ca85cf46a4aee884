"""What the page says in words and numbers beside the tables: runs, data, and commands to repeat it all."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aunet.cells import Cell, State
from aunet.facs import NAMES
from aunet.repeat import train_again
from aunet.report.curves import Curves
from aunet.rows import Row, Table
from aunet.runs import RunError, read_json

Lines = list[list[str]]

WORST = 10
"""Videos that are named."""


@dataclass(frozen=True)
class Data:
    """What the runs have seen.

    Attributes:
        splits: Name, videos, frames, and what was left out of each split.
        header: Of ``aus``.
        aus: A line for each AU: number, name, and for each split positives and their share.
    """

    splits: Lines
    header: list[str]
    aus: Lines


def run_cells(table: Table, rows: Mapping[str, Sequence[Cell]]) -> tuple[list[str], Lines]:
    """Header and cells of all runs: F1 of the finished ones, and of the others why there is none."""
    seeds = sorted({cell.seed for cells in rows.values() for cell in cells})
    lines = []
    for row in table.rows:
        by_seed = {cell.seed: cell for cell in rows[row.name]}
        said = [_outcome(by_seed[seed]) if seed in by_seed else "not asked for" for seed in seeds]
        lines.append([row.title, *said])
    return ["row", *(f"seed {seed}" for seed in seeds)], lines


def _outcome(cell: Cell) -> str:
    if cell.state is State.DONE:
        return f"{float((cell.metrics or {})['val/f1']):.4f}"
    return f"{cell.state}: {cell.reason}".rstrip(": ")


def data_summary(table: Table, cells: Sequence[Cell]) -> Data | None:
    """From the record of the first run that has one; None where none tells what its splits hold.

    Raises:
        RunError: A record is damaged.
    """
    for cell in cells:
        file = cell.folder / "provenance.json"
        record = read_json(file) or {}
        if cell.metrics is None or "splits" not in record:
            continue
        splits = record["splits"]
        try:
            counts = {
                name: [*zip(split["positives"], split["known"], strict=True)]
                for name, split in splits.items()
            }
            lines = split_lines(splits)
            aus = [
                [au, NAMES.get(int(au.removeprefix("AU")), "")]
                + [text for split in counts.values() for text in _share(*split[column])]
                for column, au in enumerate(table.aus)
            ]
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise RunError(f"{file}: not the record of a run ({error!r}); remove the run's folder") from None
        header = [text for name in counts for text in (f"{name}: present", f"{name}: share")]
        return Data(lines, ["AU", "name", *header], aus)
    return None


def split_lines(splits: Mapping[str, Any]) -> Lines:
    """Name, videos, frames, and what was left out, of the splits in a run's record.

    Raises:
        KeyError, TypeError, AttributeError: It is no such record.
    """
    return [
        [
            name,
            str(split["videos"]),
            str(split["frames"]),
            ", ".join(f"{number} {what}" for what, number in split["left_out"].items() if number)
            or "nothing",
        ]
        for name, split in splits.items()
    ]


def _share(present: int, known: int) -> tuple[str, str]:
    return str(present), f"{present / known:.2%}" if known else "never labelled"


def worst_videos(rows: Sequence[Row], curves: Mapping[str, Curves]) -> tuple[list[str], Lines]:
    """Header and cells of the videos on which the first row is worst."""
    first = curves[rows[0].name]
    worst = [int(i) for i in first.video_f1.argsort(kind="stable")[:WORST]]  # NaN comes last
    lines = [
        [
            str(first.videos[i]),
            str(first.video_frames[i]),
            *(f"{curves[row.name].video_f1[i]:.3f}" for row in rows),
        ]
        for i in worst
        if first.video_f1[i] >= 0
    ]
    return ["video", "frames", *(row.title for row in rows)], lines


def measure_cells(table: Table, measures: Sequence[str]) -> tuple[list[str], Lines]:
    """Header and cells of some measures of each AU, in per cent; several of them as "before → after".

    Args:
        table: Of the rows.
        measures: Names in ``aunet.measures.summary``.
    """
    header = ["row", *table.aus]
    return header, [
        [row.title, *(" → ".join(_percent(row, name, au) for name in measures) for au in table.aus)]
        for row in table.rows
        if row.measures
    ]


def _percent(row: Row, measure: str, au: str) -> str:
    value = row.measures[measure][au]
    return "–" if value is None else f"{value:.1%}"[:-1]


def described(facts: Mapping[str, Any]) -> str:
    """Names and values in one line."""
    values = {
        name: ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
        for name, value in facts.items()
    }
    return "; ".join(f"{name} {value}" for name, value in values.items())


def training_commands(table: Table, rows: Mapping[str, Sequence[Cell]]) -> list[tuple[str, list[str]]]:
    """For each row its title, and the commands that train its runs again or why there are none."""
    found = []
    for row in table.rows:
        cells = rows[row.name]
        done = [cell for cell in cells if cell.metrics is not None]
        recorded = done or [cell for cell in cells if (cell.folder / "config.yaml").exists()]
        if not recorded:
            found.append((row.title, ["# it has left no configuration"]))
            continue
        try:
            commands = train_again(recorded[0].folder, [cell.seed for cell in recorded])
        except RunError as error:
            commands = [f"# {error}"]
        found.append((row.title, commands))
    return found


def page_commands(
    sweeps: Sequence[str | Path], out: str | Path, data: str | Path | None, reference: str | None, faces: bool
) -> list[str]:
    """The commands that print the same tables and write the same page."""
    common = [*map(str, sweeps), *(["--reference", reference] if reference else [])]
    report = [*common, "-o", str(out), *(["--data", str(data)] if data else []), *["--faces"] * faces]
    return [shlex.join(["aunet", "table", *common]), shlex.join(["aunet", "report", *report])]
