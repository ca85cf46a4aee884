"""Cells of a table: the runs that a sweep was asked for or holds, and how far each of them is.

All of it stands in the sweep's folder, so that any process on any machine can tell:

runs/<sweep>/
  sweep.json               the runs that were asked for
  <row>/seed<k>/           a run's folder, see aunet.runs; progress.json while it trains
  <row>/seed<k>.failed.json  why the last attempt of a run failed
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from filelock import FileLock

from aunet.locks import living_owner
from aunet.runs import RunError, failure_file, read_json, read_metrics, write_json

PLAN = "sweep.json"


class State(StrEnum):
    """How far a run is."""

    WAITING = "waiting"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    DONE = "done"


@dataclass(frozen=True)
class Cell:
    """One row with one seed.

    Attributes:
        sweep: Folder ``runs/<sweep>``.
        row: Name of the row.
        seed: Of the run.
        title: The row in words.
        state: How far the run is.
        reason: Of a failed or interrupted run: what happened.
        metrics: Of a finished run, the content of its ``metrics.json``.
        progress: Of a running or interrupted one: ``epoch`` (finished ones), ``epochs``, ``done`` (share of
            the training), ``f1`` (best so far, or None) and ``seconds_left``; None before it trains.
    """

    sweep: Path
    row: str
    seed: int
    title: str
    state: State
    reason: str = ""
    metrics: dict[str, Any] | None = None
    progress: dict[str, Any] | None = None

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.sweep / self.row / f"seed{self.seed}"

    @property
    def log(self) -> Path | None:
        """What the run has said, if it has come that far."""
        file = self.folder / "train.log"
        return file if file.exists() else None


def plan(sweep: Path, runs: Iterable[tuple[str, int, str]]) -> None:
    """Adds runs to those that a sweep is asked for.

    Args:
        sweep: Folder ``runs/<sweep>``; made if it is missing.
        runs: (row, seed, title) of each.
    """
    sweep.mkdir(parents=True, exist_ok=True)
    with FileLock(sweep / ".plan.lock"):  # another sweep may be starting in the same folder
        asked = _planned(sweep) | {(row, seed): title for row, seed, title in runs}
        content = [{"row": row, "seed": seed, "title": title} for (row, seed), title in asked.items()]
        write_json(sweep / PLAN, {"runs": content})


def read_cells(sweep: Path) -> list[Cell]:
    """All runs of a sweep that were asked for or have left a folder, by row and seed.

    Raises:
        RunError: A file of the sweep is damaged; names it.
    """
    titles = _planned(sweep)
    for folder in sweep.glob("*/seed*"):
        number = folder.name.removeprefix("seed").removesuffix(".failed.json")
        if number.isdecimal() and (folder.is_dir() or folder.suffix == ".json"):
            titles.setdefault((folder.parent.name, int(number)), folder.parent.name)
    return [_cell(sweep, row, seed, titles[row, seed]) for row, seed in sorted(titles)]


def _cell(sweep: Path, row: str, seed: int, title: str) -> Cell:
    folder = sweep / row / f"seed{seed}"
    metrics = read_metrics(folder)
    if metrics is not None:
        return Cell(sweep, row, seed, str(metrics.get("title", title)), State.DONE, metrics=metrics)
    progress = read_json(folder / "progress.json")
    if living_owner(folder):
        return Cell(sweep, row, seed, title, State.RUNNING, progress=progress)
    failure = read_json(failure_file(folder))
    if failure is not None:
        return Cell(sweep, row, seed, title, State.FAILED, str(failure.get("reason", "")), progress=progress)
    if (folder / "config.yaml").exists():
        reason = "its process ended without a word; the same command goes on with it"
        return Cell(sweep, row, seed, title, State.INTERRUPTED, reason, progress=progress)
    return Cell(sweep, row, seed, title, State.WAITING)


def _planned(sweep: Path) -> dict[tuple[str, int], str]:
    content = read_json(sweep / PLAN)
    try:
        runs = content["runs"] if content else []
        return {(str(run["row"]), int(run["seed"])): str(run["title"]) for run in runs}
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{sweep / PLAN}: not a list of runs ({error!r}); remove it") from None
