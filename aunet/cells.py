"""Cells of a table: the runs that a sweep was asked for or holds, and how far each of them is.

All of it stands in the sweep's folder, so that any process on any machine can tell:

runs/<sweep>/
  sweep.json               the runs that were asked for
  <row>/seed<k>/           a run's folder, see aunet.runs; progress.json while it trains
  <row>/seed<k>.failed.json  why the last attempt of a run failed
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, TypedDict

from filelock import FileLock

from aunet.files import write_json
from aunet.locks import living_owner
from aunet.runs import RunError, failure_file, read_json, read_metrics

PLAN = "sweep.json"


class State(StrEnum):
    """How far a run is."""

    WAITING = "waiting"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    DONE = "done"


class Facts(TypedDict):
    """What a table shows of a row and no result depends on."""

    title: str
    reference: str


@dataclass(frozen=True)
class Cell:
    """One row with one seed.

    Attributes:
        sweep: Folder ``runs/<sweep>``.
        row: Name of the row.
        seed: Of the run.
        title: The row in words.
        state: How far the run is.
        reference: Name of the row that a table compares this one with.
        reason: Of a failed or interrupted run what happened; of a finished one why the last call refused it.
        metrics: Of a finished run, the content of its ``metrics.json``.
        progress: Of a running or interrupted one: ``epoch`` (finished ones), ``epochs``, ``done`` (share of
            the training), ``f1`` (best so far, or None) and ``seconds_left``; None before it trains.
    """

    sweep: Path
    row: str
    seed: int
    title: str
    state: State
    reference: str = "ours"
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


def plan(sweep: Path, runs: Mapping[tuple[str, int], Facts]) -> None:
    """Adds runs to those that a sweep is asked for.

    Args:
        sweep: Folder ``runs/<sweep>``; made if it is missing.
        runs: By (row, seed).
    """
    sweep.mkdir(parents=True, exist_ok=True)
    with FileLock(sweep / ".plan.lock"):  # another sweep may be starting in the same folder
        asked = _planned(sweep) | dict(runs)
        content = [{"row": row, "seed": seed, **facts} for (row, seed), facts in asked.items()]
        write_json(sweep / PLAN, {"runs": content})


def read_cells(sweep: Path) -> list[Cell]:
    """All runs of a sweep that were asked for or have left a folder.

    Rows come in the order in which they were asked for, others after them by name; seeds by number.

    Raises:
        RunError: A file of the sweep is damaged; names it.
    """
    facts = _planned(sweep)
    for folder in sorted(sweep.glob("*/seed*")):
        number = folder.name.removeprefix("seed").removesuffix(".failed.json")
        if number.isdecimal() and (folder.is_dir() or folder.suffix == ".json"):
            row = folder.parent.name
            facts.setdefault((row, int(number)), {"title": row, "reference": ""})
    rows = list(dict.fromkeys(row for row, _ in facts))
    ordered = sorted(facts, key=lambda run: (rows.index(run[0]), run[1]))
    return [_cell(sweep, row, seed, facts[row, seed]) for row, seed in ordered]


def cells_at(place: str | Path) -> list[Cell]:
    """Runs of a folder: of a sweep all, of a row its seeds, of a run itself.

    Raises:
        RunError: It is none of them, or a file of the sweep is damaged.
    """
    folder = Path(place).resolve()
    for sweep in (folder, folder.parent, folder.parent.parent):
        found = [c for c in read_cells(sweep) if folder in (sweep, c.folder.parent, c.folder)]
        if found:
            return found
    raise RunError(f"{place} holds no runs: give a sweep's folder, a row's or a run's (<row>/seed<k>)")


def require(cell: Cell, keys: Collection[str]) -> None:
    """Refuses a finished run whose metrics lack something.

    Args:
        cell: Any; only the metrics of a finished one are looked at.
        keys: That ``metrics.json`` must have.

    Raises:
        RunError: Names file and keys.
    """
    missing = [key for key in keys if cell.metrics is not None and key not in cell.metrics]
    if missing:
        raise RunError(f"{cell.folder / 'metrics.json'}: lacks {', '.join(missing)}; remove the run's folder")


def _cell(sweep: Path, row: str, seed: int, facts: Facts) -> Cell:
    folder = sweep / row / f"seed{seed}"
    waiting = Cell(sweep, row, seed, facts["title"], State.WAITING, facts["reference"] or "ours")
    at_work = living_owner(folder)  # asked first: a run that ends meanwhile has left its metrics by then
    failure = read_json(failure_file(folder), "remove it")
    said = str(failure.get("reason", "")) if failure else ""
    metrics = read_metrics(folder)
    if metrics is not None:
        title = str(metrics.get("title", waiting.title))
        reference = facts["reference"] or str(metrics.get("reference", "ours"))
        done = replace(waiting, state=State.DONE, title=title, reference=reference)
        return replace(done, metrics=metrics, reason=said)
    begun = replace(waiting, progress=_progress(folder / "progress.json"))
    if at_work:
        return replace(begun, state=State.RUNNING)
    if failure is not None:
        return replace(begun, state=State.FAILED, reason=said)
    if (folder / "config.yaml").exists():
        reason = "its process ended without a word; the same command goes on with it"
        return replace(begun, state=State.INTERRUPTED, reason=reason)
    return waiting


def _progress(file: Path) -> dict[str, Any] | None:
    content = read_json(file, "remove it")
    if content is None:
        return None
    perhaps = [content.get(key, "missing") for key in ("f1", "seconds_left")]
    told = [content.get(key) for key in ("epoch", "epochs", "done")] + [p for p in perhaps if p is not None]
    if not all(isinstance(value, (int, float)) for value in told):
        raise RunError(f"{file}: does not tell how far the run is; remove it")
    return content


def _planned(sweep: Path) -> dict[tuple[str, int], Facts]:
    content = read_json(sweep / PLAN, "remove it")
    try:
        return {
            (str(run["row"]), int(run["seed"])): {
                "title": str(run["title"]),
                "reference": str(run["reference"]),
            }
            for run in (content["runs"] if content else [])
        }
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{sweep / PLAN}: not a list of runs ({error!r}); remove it") from None
