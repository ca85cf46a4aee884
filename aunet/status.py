"""How far a sweep is: rows x seeds, from the run folders alone, on any machine that sees them."""

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table as RichTable
from rich.text import Text

from aunet.cells import PLAN, Cell, State, read_cells, require
from aunet.runs import RunError

COLOURS = {
    State.WAITING: "dim",
    State.RUNNING: "cyan",
    State.INTERRUPTED: "yellow",
    State.FAILED: "red",
    State.DONE: "green",
}

SECONDS_BETWEEN_RUNS = 20.0


def find_sweeps(folders: Sequence[str | Path]) -> list[Path]:
    """The sweeps' folders: those given, or the sweeps in them.

    Raises:
        RunError: There is none.
    """
    found = []
    for folder in map(Path, folders):
        inside = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
        sweeps = [path for path in (folder, *inside) if (path / PLAN).exists() or any(path.glob("*/seed*"))]
        if not sweeps:
            raise RunError(f"{folder} holds no sweep (expected <row>/seed<k>/, or {PLAN})")
        found += sweeps[:1] if sweeps[0] == folder else sweeps
    return found


def view(sweeps: Sequence[Path]) -> Group:
    """A table for each sweep, what has failed and why, and how much is left.

    Raises:
        RunError: A file of a sweep is damaged; names it.
    """
    parts: list[RichTable | Text] = []  # the folder not as a title, which is folded to the grid's width
    for sweep in sweeps:
        cells = read_cells(sweep)
        for cell in cells:
            require(cell, ("val/f1", "training_seconds"))
        parts += [Text(str(sweep)), grid(cells)]
        for cell in cells:
            if cell.reason:
                said = f"{cell.row} seed {cell.seed} {cell.state}: {cell.reason}"
                parts.append(Text(said + (f" (log: {cell.log})" if cell.log else ""), COLOURS[cell.state]))
        parts.append(Text(totals(cells)))
    return Group(*parts)


def grid(cells: Sequence[Cell]) -> RichTable:
    """Rows x seeds, or the other way round where there are many seeds of few rows."""
    rows, seeds = list(dict.fromkeys(c.row for c in cells)), sorted({c.seed for c in cells})
    at = {(cell.row, cell.seed): cell for cell in cells}
    table = RichTable()
    if len(seeds) > max(4, len(rows)):
        table.add_column("seed")
        for row in rows:
            table.add_column(row)
        for seed in seeds:
            table.add_row(str(seed), *(_cell(at.get((row, seed))) for row in rows))
    else:
        table.add_column("row")
        for seed in seeds:
            table.add_column(f"seed {seed}")
        for row in rows:
            table.add_row(row, *(_cell(at.get((row, seed))) for seed in seeds))
    return table


def totals(cells: Sequence[Cell]) -> str:
    """How many runs are how far, and for how long the rest will take at the pace so far."""
    counts = [f"{n} {state}" for state in State if (n := sum(cell.state is state for cell in cells))]
    took = [cell.metrics["training_seconds"] for cell in cells if cell.metrics]
    running = [cell for cell in cells if cell.state is State.RUNNING]
    if not running:
        return ", ".join(counts)
    left = [(cell.progress or {}).get("seconds_left") for cell in running]
    waiting = sum(cell.state is State.WAITING for cell in cells)
    known = [float(seconds) for seconds in left if seconds is not None]
    if len(known) < len(running) or (waiting and not took):
        return ", ".join(counts)
    rest = sum(known) + waiting * (sum(took) / len(took) if took else 0.0)
    longest = max(*known, rest / len(running))  # without waiting runs, places become free for nothing
    return f"{', '.join(counts)}; about {_duration(longest)} left"


def watch(sweeps: Sequence[Path], seconds: float = 2.0) -> None:
    """Shows the sweeps: on a terminal anew every few seconds while a run is at work, else once.

    Ctrl-C ends it.
    """
    console = Console(markup=False, emoji=False)
    if not console.is_terminal:
        Console(width=100, markup=False, emoji=False).print(view(sweeps))
        return
    idle = 0.0 if State.RUNNING in _states(sweeps) else SECONDS_BETWEEN_RUNS
    with suppress(KeyboardInterrupt), Live(view(sweeps), console=console, auto_refresh=False) as live:
        # Between two runs of a sweep none may be at work for a moment.
        while idle < SECONDS_BETWEEN_RUNS:
            time.sleep(seconds)
            live.update(view(sweeps), refresh=True)
            states = _states(sweeps)
            if states <= {State.DONE, State.FAILED}:
                break
            idle = 0.0 if State.RUNNING in states else idle + seconds
        live.update(view(sweeps), refresh=True)


def _states(sweeps: Sequence[Path]) -> set[State]:
    return {cell.state for sweep in sweeps for cell in read_cells(sweep)}


def _cell(cell: Cell | None) -> Text:
    if cell is None:
        return Text("")
    said = str(cell.state)
    if cell.metrics is not None:
        said = f"done {cell.metrics['val/f1']:.4f}"
    elif cell.progress is not None and cell.state in (State.RUNNING, State.INTERRUPTED):
        progress = cell.progress
        epoch = min(progress["epoch"] + 1, progress["epochs"])
        said += f", epoch {epoch}/{progress['epochs']} {progress['done']:.0%}"
        said += "" if progress["f1"] is None else f", F1 {progress['f1']:.4f}"
        if cell.state is State.RUNNING and progress["seconds_left"] is not None:
            said += f", {_duration(progress['seconds_left'])} left"
    return Text(said, COLOURS[cell.state])


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
