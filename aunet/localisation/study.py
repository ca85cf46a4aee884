"""Finished runs: their maps over validation frames, drawn, and scored where the truth is known."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aunet.cells import Cell, State, cells_at
from aunet.data.datamodule import FrameDataModule
from aunet.data.loader import channels_first
from aunet.data.rendered.truth import has_truth, read_displacement
from aunet.facs import au_column
from aunet.host import describe_host
from aunet.localisation.estimates import Sample, Score, Sums, estimates, score_frames
from aunet.localisation.maps import Look, Maps, centre_prior, look, of_others, settle_normalisation, uniform
from aunet.localisation.sheets import write_sheets
from aunet.progress import progress
from aunet.results import check_alike, provenance
from aunet.runs import RunError, source_commit
from aunet.trained import load, load_data, load_untrained

_AT_ONCE = 64


@dataclass(frozen=True)
class RowFacts:
    """A row that was looked at.

    Attributes:
        name: Of the row; ``<sweep>/<row>`` where runs of several sweeps are looked at.
        title: In words.
        seeds: Those that were looked at.
        map_size: (h, w) of its feature map.
        attention: "one map", "a map for each AU", or "none".
        empty: Share of the Grad-CAM maps of AUs that are present, mean over the seeds, that were 0 everywhere
            and have been replaced by uniform ones.
        fixed: Share of frames whose attention is greatest at the position where it is so most often, mean
            over maps and seeds: 1 for a network that looks at the same place whatever it sees. None without
            attention.
    """

    name: str
    title: str
    seeds: list[int]
    map_size: tuple[int, int]
    attention: str
    empty: float
    fixed: float | None


@dataclass
class Study:
    """Scores of some rows.

    Attributes:
        rows: In order.
        aus: Names of the AUs.
        shown: Number of frames that each AU was scored on.
        data: Name of the data set.
        frames: Number of frames looked at.
        groups: Number of independent videos or people that they are of.
        left_out: Runs that could not be looked at, and why.
        provenance: Of runs and scores.
        scores: Of all rows and of the priors; empty where nobody knows where AUs moved the face.
        pictures: The files that were drawn.
    """

    rows: list[RowFacts]
    aus: list[str]
    shown: list[int]
    data: str
    frames: int
    groups: int
    left_out: list[str]
    provenance: dict[str, Any]
    scores: list[Score] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)


def place_of(places: Sequence[str | Path]) -> Path:
    """Where results go unless one says otherwise: ``attention`` in the folder that holds all the runs.

    Raises:
        RunError: They are of several sweeps.
    """
    folders = {Path(place).resolve() for place in places}
    if len(folders) > 1:
        folders = {cell.sweep for place in places for cell in cells_at(place)}
    if len(folders) > 1:
        raise RunError("runs of several sweeps have no folder in common: say by --out where results go")
    return folders.pop() / "attention"


def find_runs(places: Sequence[str | Path]) -> tuple[dict[str, list[Cell]], list[str]]:
    """Finished runs with weights, by row, and what was left out and why.

    Args:
        places: Folders of runs, of rows or of sweeps.

    Raises:
        RunError: A folder holds no runs, nothing is left, or runs do not belong together.
    """
    cells = {cell.folder: cell for place in places for cell in cells_at(place)}.values()
    names = [sweep.name for sweep in {cell.sweep for cell in cells}]
    rows: dict[str, list[Cell]] = {}
    left_out = []
    for cell in cells:
        if cell.state is not State.DONE:
            left_out.append(f"{cell.row} seed {cell.seed}: {cell.state}")
        elif not (cell.folder / "best.ckpt").exists():
            left_out.append(f"{cell.row} seed {cell.seed}: best.ckpt is missing")
        else:
            sweep = cell.sweep.name if names.count(cell.sweep.name) == 1 else cell.sweep
            rows.setdefault(f"{sweep}/{cell.row}" if len(names) > 1 else cell.row, []).append(cell)
    if not rows:
        raise RunError(f"there is no finished run to look at: {'; '.join(left_out)}")
    check_alike(rows)
    return rows, left_out


def study(
    places: Sequence[str | Path],
    out: Path,
    root: str | Path | None = None,
    frames: int = 2000,
    resamples: int = 4000,
) -> Study:
    """Looks at the frames through the networks of some runs.

    Args:
        places: See ``find_runs``.
        out: Folder for the pictures of each row's first seed, see ``aunet.localisation.sheets``.
        root: Where the data lie now; None: where the runs have found them.
        frames: At most so many, evenly spread over the validation table.
        resamples: Of the intervals.

    Raises:
        RunError, DataError: What the user has to mend.
    """
    rows, left_out = find_runs(places)
    cells = [cell for of_row in rows.values() for cell in of_row]
    data = load_data(cells[0].folder, root)
    sample = take_sample(data, frames)
    n = len(sample.rows)
    found = Study(
        rows=[],
        aus=[au_column(au) for au in data.aus],
        shown=sample.shown.sum(0).tolist(),
        data=str(data.name),
        frames=n,
        groups=len(np.unique(sample.group)),
        left_out=left_out,
        provenance=provenance(cells) | {"scored_by": source_commit(), "scored_on": describe_host()},
    )
    priors = {}
    if sample.moved is not None:
        priors = score_frames({"uniform": uniform(n), "centre": centre_prior(n)}, sample)
        found.scores += estimates("", [priors], {}, sample, found.aus, resamples)
    passes = 1 if sample.moved is None else 2  # the second one through untrained networks
    with progress("looking", passes * n * len(cells), "frames") as advance:
        for name, of_row in rows.items():
            looks: list[Look] = []
            sums: list[dict[str, Sums]] = []
            for cell in of_row:
                data = load_data(cell.folder, root)  # the same frames, but perhaps in another size
                looks.append(_look(cell, data, sample, advance))
                if len(looks) == 1:
                    drawn = write_sheets(out, f"{name} seed {cell.seed}", looks[0], data, sample)
                    found.pictures += map(str, drawn)
                if sample.moved is not None:
                    untrained = _look(cell, data, sample, advance, untrained=True)
                    sums.append(score_frames(_methods(looks[-1], untrained), sample))
            found.rows.append(_facts(name, of_row, looks, sample))
            if sums:
                found.scores += estimates(name, sums, priors, sample, found.aus, resamples)
    return found


def take_sample(data: FrameDataModule, frames: int) -> Sample:
    """Validation frames, evenly spread, with what is known of them.

    Raises:
        RunError: No AU is present in any of them.
        DataError: See ``read_displacement``.
    """
    table = data.tables["val"]
    if frames < 1:
        raise RunError(f"{frames} frames cannot be looked at: ask for one or more")
    rows = np.linspace(0, len(table) - 1, min(frames, len(table))).round().astype(np.int64)
    group = np.unique(np.array(table.groups)[table.video[rows]], return_inverse=True)[1]
    moved = read_displacement(data.root, table, rows) if has_truth(data.root) else None
    sample = Sample(rows, table.labels[rows], group, moved)
    if not sample.shown.any():
        raise RunError(f"no AU is present in {len(rows)} frames of {data.root}: ask for more frames")
    return sample


def _look(
    cell: Cell,
    data: FrameDataModule,
    sample: Sample,
    advance: Callable[[int], None],
    untrained: bool = False,
) -> Look:
    """A run's network, or one of its shape with random weights, over the frames of the sample."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module = load_untrained(cell.folder, cell.seed) if untrained else load(cell.folder)
    network = module.network.to(device)

    def pictures(rows: np.ndarray) -> Tensor:
        return channels_first(torch.from_numpy(data.frames("val", rows)).to(device))

    def batches() -> Iterator[Tensor]:
        for start in range(0, len(sample.rows), _AT_ONCE):
            rows = sample.rows[start : start + _AT_ONCE]
            yield pictures(rows)
            advance(len(rows))

    if untrained:
        spread = np.linspace(0, len(sample.rows) - 1, min(_AT_ONCE, len(sample.rows))).astype(np.int64)
        settle_normalisation(network, pictures(sample.rows[spread]))
    return look(network, batches(), data.image_size)


def _methods(trained: Look, untrained: Look) -> dict[str, Maps]:
    found: dict[str, Maps] = {}
    for name, own, control in (
        ("attention", trained.attention, untrained.attention),
        ("grad_cam", trained.grad_cam, untrained.grad_cam),
    ):
        if own is not None and control is not None:
            found |= {name: own, f"{name}_untrained": control}
            if not own.shared:
                found[f"{name}_others"] = of_others(own)
    return found


def _facts(name: str, cells: Sequence[Cell], looks: Sequence[Look], sample: Sample) -> RowFacts:
    height, width = looks[0].grad_cam.weights.shape[2:]
    attention = [seen.attention for seen in looks if seen.attention is not None]
    return RowFacts(
        name,
        " ".join(cells[0].title.split()),
        [cell.seed for cell in cells],
        (height, width),
        ("one map" if attention[0].shared else "a map for each AU") if attention else "none",
        float(np.mean([seen.empty[sample.shown].mean() for seen in looks])),
        float(np.mean([_fixed(maps) for maps in attention])) if attention else None,
    )


def _fixed(maps: Maps) -> float:
    """Share of frames whose greatest weight is where most frames have theirs, mean over the maps."""
    frames, number = maps.weights.shape[:2]
    places = maps.weights.reshape(frames, number, -1).argmax(2)
    most = [int(np.bincount(of_map).max()) for of_map in places.T]
    return float(sum(most) / (frames * number))
