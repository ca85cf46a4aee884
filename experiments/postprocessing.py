"""What does post-processing change? It measures: ``python experiments/postprocessing.py RUN ...``.

RUN: a row's folder, or those of its seeds, trained on rendered faces. DIR: rendered videos of 30 frames a
second, made on first use, of people that no run has seen. Every option is measured as ``aunet submit`` uses
it: thresholds are tuned on the run's own validation predictions, which are of other people. To measure gaps,
each face loses a stretch of its frames, which alone are scored. Runs are not changed.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aunet.cells import Cell, State, cells_at
from aunet.data.datamodule import FrameDataModule
from aunet.data.faults import Faults
from aunet.data.frames import FrameTable
from aunet.data.rendered import alignment, render
from aunet.data.rendered.behaviour import FRAMES_PER_SECOND
from aunet.files import replacing
from aunet.host import describe_host
from aunet.metrics import THRESHOLD, f1_per_au
from aunet.postprocess import Postprocess
from aunet.predictions import tune
from aunet.results import check_alike, provenance
from aunet.rows import more_than_chance
from aunet.runs import RunError, source_commit
from aunet.statistics import Counts, Difference, compare, holm, video_counts
from aunet.submit.run import answer, crop_probs
from aunet.thresholds import Labels, Probs
from aunet.trained import data_module, load, read_config

VIDEOS = {"train": 1, "val": 100}
"""The reader wants both splits; only "val" is looked at."""
FRAMES, STRIDE, SEED = 120, 1, 1
"""Of each video: four seconds. Sets of other seeds show other people."""
HIDDEN = 15
"""Neighbouring frames that each face loses: half a second."""

PLAIN, NEAREST = "threshold 0.5", "hidden: answer of the nearest frame"
OPTIONS = {
    "thresholds tuned": Postprocess("tuned"),
    **{f"centred, {s:g} s": Postprocess(smoothing="centred", smoothing_seconds=s) for s in (0.3, 1)},
    **{f"causal, {s:g} s": Postprocess(smoothing="causal", smoothing_seconds=s) for s in (0.3, 1)},
    "centred, 0.3 s, thresholds tuned": Postprocess("tuned", "centred", 0.3),
}
"""Each is compared with PLAIN, on all frames."""
FILLS = {
    "hidden: interpolated": Postprocess(fill="linear", fill_seconds=1),
    "hidden: last value": Postprocess(fill="last", fill_seconds=1),
}
SEEN, MAJORITY = "hidden: their own crops", "hidden: majority of the training labels"
"""As FILLS, compared with NEAREST, on the hidden frames: the best that filling can do, and the least."""


@dataclass
class Line:
    """A line of the table: ``option``, macro F1 with it and with what it is compared with, the difference."""

    option: str
    compared_with: str
    f1: float
    f1_without: float
    difference: Difference
    p_corrected: float = 1.0


def find_cells(places: Sequence[Path]) -> list[Cell]:
    """The finished seeds of one row.

    Raises:
        RunError: They are anything else.
    """
    cells = list({cell.folder: cell for place in places for cell in cells_at(place)}.values())
    if unfinished := [cell for cell in cells if cell.state is not State.DONE]:
        raise RunError(f"{unfinished[0].folder} has not finished: leave it out, or train it")
    if len({(cell.sweep, cell.row) for cell in cells}) > 1:
        raise RunError(f"{cells[0].folder} and {cells[-1].folder} are not seeds of one row")
    check_alike({cells[0].row: cells})
    return cells


def validation_rate(cell: Cell) -> float:
    """Frames per second of the rendered videos that a run was validated on.

    Raises:
        RunError: They were not rendered, or show the people that post-processing is measured on.
    """
    prepare = read_config(cell.folder)["data"].get("prepare") or {}
    if "stride" not in prepare:
        raise RunError(f"{cell.folder} has seen no rendered faces: take a run that has")
    if prepare.get("seed") == SEED:
        raise RunError(
            f"{cell.folder} was trained on the people of data.prepare.seed={SEED}: take another run"
        )
    return FRAMES_PER_SECOND / float(prepare["stride"])


def hide(table: FrameTable) -> npt.NDArray[np.bool_]:
    """(N,) the frames that each face loses: neighbours at a random place, never all it has."""
    rng, hidden = np.random.default_rng(0), np.zeros(len(table), bool)
    for video in range(len(table.videos)):
        rows = np.flatnonzero(table.video == video)
        length = min(HIDDEN, len(rows) - 1)
        start = rng.integers(len(rows) - length + 1)
        hidden[rows[start : start + length]] = True
    return hidden


def answers(probs: Probs, table: FrameTable, option: Postprocess, majority: npt.NDArray[np.int8]) -> Labels:
    """(N, num_aus) in {0, 1}: what a submission says of a table's frames; rows of NaN have no crop."""
    found = np.empty(probs.shape, np.int8)
    for video in range(len(table.videos)):
        rows = np.flatnonzero(table.video == video)
        frame = table.frame[rows]
        due = answer(probs[rows], frame, int(frame.max()), option, FRAMES_PER_SECOND / STRIDE, majority)
        found[rows] = due[frame - 1]
    return found


def counts_of_run(cell: Cell, probs: Probs, table: FrameTable) -> dict[str, Counts]:
    """Confusion counts of each base video with each option.

    Args:
        cell: The run.
        probs: (N, num_aus) that it gives to the table's frames.
        table: N labelled frames.
    """
    rates = np.array((cell.metrics or {})["training_rates"], np.float64)
    majority = (rates >= THRESHOLD).astype(np.int8)
    _, group = np.unique(np.array(table.groups)[table.video], return_inverse=True)
    plain = answers(probs, table, Postprocess(), majority)

    def count(said: Labels, labels: Labels) -> Counts:
        return video_counts(said.astype(np.float32), labels, group)

    counts = {PLAIN: count(plain, table.labels)}
    for name, option in OPTIONS.items():
        ready = tune(option, cell.folder, validation_rate(cell))
        counts[name] = count(answers(probs, table, ready, majority), table.labels)
    hidden = hide(table)[:, None]
    labels, visible = np.where(hidden, table.labels, -1).astype(np.int8), np.where(hidden, np.nan, probs)
    counts[SEEN] = count(plain, labels)
    counts[MAJORITY] = count(np.broadcast_to(majority, plain.shape), labels)
    for name, option in {NEAREST: Postprocess(), **FILLS}.items():
        counts[name] = count(answers(visible, table, option, majority), labels)
    return counts


def measure(runs: Sequence[dict[str, Counts]]) -> list[Line]:
    """The table's lines, from the counts of each run."""
    lines = []
    for option in (*OPTIONS, *FILLS, SEEN, MAJORITY):
        other = PLAIN if option in OPTIONS else NEAREST
        one, without = ([run[name] for run in runs] for name in (option, other))
        f1, f1_without = (float(np.mean([f1_per_au(c.sum(0)).mean() for c in x])) for x in (one, without))
        lines.append(Line(option, other, f1, f1_without, compare(one, without)))
    for line, p in zip(lines, holm([line.difference.p for line in lines]), strict=True):
        line.p_corrected = p
    return lines


def predict(cell: Cell, root: Path) -> tuple[Probs, FrameTable]:
    """A run's probabilities of the videos' frames, and these frames."""
    datamodule: FrameDataModule = data_module(cell.folder, root)
    table = datamodule.read_tables(Faults())["val"]
    return crop_probs(load(cell.folder), datamodule, table), table


def notes(seeds: int, table: FrameTable) -> list[str]:
    """What a reader has to know."""
    return [
        f"F1: macro over the AUs, mean over {seeds} seed(s), on {len(table)} frames of "
        f"{len(set(table.groups))} rendered videos, {FRAMES_PER_SECOND / STRIDE:g} frames per second",
        "in brackets: 95% intervals over videos and seeds; p: sign-flip test over videos, corrected for "
        f"{len(OPTIONS) + len(FILLS) + 2} tests (Holm); *: several seeds, p < 0.05, 0 outside the interval",
        "thresholds tuned: on the run's own validation predictions, of other people, two frames a second as "
        "a rule, which a window of 0.3 s leaves as they are",
        f"hidden: each face loses {HIDDEN} neighbouring frames; F1 is of these frames alone",
    ]


def markdown(lines: list[Line], seeds: int, said: list[str]) -> str:
    """The table and its notes."""
    cells = [["option", "compared with", "F1", "F1 of that", "difference", "p"], ["---"] * 2 + ["---:"] * 4]
    for line in lines:
        found = line.difference
        star = "*" * more_than_chance(found, line.p_corrected, seeds)
        cells.append([
            line.option, line.compared_with, f"{line.f1:.4f}", f"{line.f1_without:.4f}",
            f"{found.value:+.4f}{star} [{found.low:+.4f}, {found.high:+.4f}]", f"{line.p_corrected:.4f}",
        ])  # fmt: skip
    table = "\n".join(f"| {' | '.join(row)} |" for row in cells)
    return table + "\n\n" + "".join(f"- {note}\n" for note in said)


def run(places: Sequence[Path], root: Path) -> tuple[str, dict[str, Any]]:
    """Renders the videos if they are not there, predicts them; the table as text and as data."""
    cells = find_cells(places)
    for cell in cells:
        validation_rate(cell)
    aligned = alignment(read_config(cells[0].folder)["data"]["prepare"])
    render(root, videos=VIDEOS, frames_per_video=FRAMES, stride=STRIDE, seed=SEED, **aligned)
    runs = []
    for cell in cells:
        probs, table = predict(cell, root)
        runs.append(counts_of_run(cell, probs, table))
    lines, said = measure(runs), notes(len(cells), table)
    content = {
        "lines": [asdict(line) for line in lines],
        "row": cells[0].row,
        "seeds": [cell.seed for cell in cells],
        "videos": {
            "fingerprint": table.fingerprint(),
            "groups": len(set(table.groups)),
            "frames": len(table),
        },
        "provenance": provenance(cells) | {"measured_by": source_commit(), "measured_on": describe_host()},
        "notes": said,
    }
    return markdown(lines, len(cells), said), content


def main() -> None:
    """Prints the table and writes it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a row, or its seeds")
    data = Path(os.environ.get("AUNET_DATA", "data")) / "rendered_videos"
    parser.add_argument("--data", type=Path, default=data, help="the rendered videos; %(default)s")
    out = Path("runs/postprocessing")
    parser.add_argument("--out", type=Path, default=out, help="takes table.md, table.json; %(default)s")
    options = parser.parse_args()
    try:
        text, content = run(options.runs, options.data)
    except (RuntimeError, ValueError, OSError) as error:
        sys.exit(f"aunet: {error}")
    options.out.mkdir(parents=True, exist_ok=True)
    for name, written in (("table.md", text), ("table.json", json.dumps(content, indent=1) + "\n")):
        with replacing(options.out / name) as temporary:
            temporary.write_text(written)
    print(f"{text}written: {options.out / 'table.md'}, {options.out / 'table.json'}")


if __name__ == "__main__":
    main()
