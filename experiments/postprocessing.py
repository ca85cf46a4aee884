"""What does post-processing change? ``python experiments/postprocessing.py RUN ... [--fps N] [--out DIR]``.

RUN: folders of finished runs, the seeds of one row. Their ``predictions.npz`` is all that is read: validation
frames with a crop and a label, of rendered videos as a rule two frames a second. So smoothing is measured on
what a run has predicted, thresholds are tuned on other videos (five folds), and gaps are made: each face
loses a stretch of frames, which is then filled. It takes seconds; runs are not changed.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from omegaconf import OmegaConf

from aunet.cells import Cell, State, require
from aunet.data.rendered.behaviour import FRAMES_PER_SECOND
from aunet.metrics import THRESHOLD, f1_per_au
from aunet.postprocess import Postprocess, frame_seconds
from aunet.predictions import grouped_predictions, places
from aunet.results import more_than_chance, provenance
from aunet.runs import RunError, read_metrics, replacing
from aunet.statistics import Counts, Difference, compare, holm, video_counts
from aunet.thresholds import cross_fitted_thresholds

HIDDEN = 2
"""Neighbouring frames that each face loses."""

PLAIN, GAPS = "threshold 0.5", "hidden frames: majority of the training labels"
OPTIONS = {
    "thresholds tuned": Postprocess("tuned"),
    **{f"centred, {s:g} s": Postprocess(smoothing="centred", smoothing_seconds=s) for s in (1, 2)},
    **{f"causal, {s:g} s": Postprocess(smoothing="causal", smoothing_seconds=s) for s in (0.5, 1)},
    "centred, 1 s, thresholds tuned": Postprocess("tuned", "centred", 1),
}
FILLS = {
    "hidden frames: interpolated": Postprocess(fill="linear", fill_seconds=np.inf),
    "hidden frames: last value": Postprocess(fill="last", fill_seconds=np.inf),
}
"""Each is compared with its line above: PLAIN or GAPS."""


@dataclass
class Line:
    """A line of the table: ``option``, macro F1 with and ``without`` it, and their difference."""

    option: str
    compared_with: str
    f1: float
    f1_without: float
    difference: Difference
    p_corrected: float = 1.0


def read_run(folder: Path) -> Cell:
    """A run as the cell of a table; RunError if it has not finished."""
    metrics = read_metrics(folder)
    if metrics is None:
        raise RunError(f"{folder} is no finished run: metrics.json is missing")
    cell = Cell(
        folder.parent.parent, folder.parent.name, int(metrics["seed"]), "", State.DONE, metrics=metrics
    )
    require(cell, ("aus", "data", "data_fingerprint", "recipe_digest", "training_rates", "training_seconds"))
    return cell


def frame_rate(cell: Cell) -> float:
    """Frames per second of the rendered videos that a run was validated on."""
    prepare = OmegaConf.load(cell.folder / "config.yaml").data.get("prepare") or {}
    if "stride" not in prepare:
        raise RunError(
            f"{cell.folder} has seen no rendered faces: give the frame rate of its videos by --fps"
        )
    return FRAMES_PER_SECOND / float(prepare["stride"])


def hide(track: npt.NDArray[Any], seconds: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """(N,) the frames that each face loses: neighbours at a random place, never all it has."""
    rng, hidden = np.random.default_rng(0), np.zeros(len(track), bool)
    for name in np.unique(track):
        rows = np.flatnonzero(track == name)
        rows = rows[np.argsort(seconds[rows])]
        length = min(HIDDEN, len(rows) - 1)
        start = rng.integers(len(rows) - length + 1)
        hidden[rows[start : start + length]] = True
    return hidden


def counts_of_run(cell: Cell, fps: float, groups: list[str]) -> dict[str, Counts]:
    """Confusion counts of each video with each option."""
    metrics = cell.metrics or {}
    probs, labels, group, number = grouped_predictions(cell, metrics, groups)
    video, frame = places(cell.folder)
    seconds = frame_seconds(frame, fps)
    counts = {PLAIN: video_counts(probs, labels, number)}
    for name, option in OPTIONS.items():
        smoothed = option.by_track(probs, seconds, video)
        tuned = option.threshold == "tuned"
        threshold = cross_fitted_thresholds(smoothed, labels, group) if tuned else THRESHOLD
        counts[name] = video_counts(smoothed, labels, number, threshold)
    with_gaps = np.where(hide(video, seconds)[:, None], np.nan, probs)
    majority = np.array(metrics["training_rates"], np.float64) >= THRESHOLD
    for name, option in {GAPS: Postprocess(), **FILLS}.items():
        filled = option.by_track(with_gaps, seconds, video)
        counts[name] = video_counts(np.where(np.isnan(filled), majority, filled), labels, number)
    return counts


def measure(cells: list[Cell], fps: float) -> tuple[list[Line], int]:
    """The table's lines, and the number of independent videos."""
    if len({(c.metrics or {})["recipe_digest"] for c in cells}) > 1 or len({c.seed for c in cells}) < len(
        cells
    ):
        raise RunError(f"{cells[0].folder} and the others are not different seeds of one row")
    groups: list[str] = []
    runs = [counts_of_run(cell, fps, groups) for cell in cells]
    lines = []
    for option in (*OPTIONS, GAPS, *FILLS):
        other = GAPS if option in FILLS else PLAIN
        one, without = ([run[name] for run in runs] for name in (option, other))
        f1, f1_without = (float(np.mean([f1_per_au(c.sum(0)).mean() for c in x])) for x in (one, without))
        lines.append(Line(option, other, f1, f1_without, compare(one, without)))
    for line, p in zip(lines, holm([line.difference.p for line in lines]), strict=True):
        line.p_corrected = p
    return lines, len(groups)


def notes(fps: float, seeds: int, groups: int) -> list[str]:
    """What a reader has to know."""
    tests = len(OPTIONS) + 1 + len(FILLS)
    return [
        f"F1: macro over the AUs, mean over {seeds} seed(s), on the validation frames of {groups} videos, "
        f"{fps:g} frames per second",
        f"in brackets: 95% intervals over videos and seeds; p: sign-flip test over videos, corrected for "
        f"{tests} tests (Holm); *: several seeds, p < 0.05, and 0 lies outside the interval",
        "thresholds tuned: each AU's from the other four fifths of the videos, after smoothing",
        f"hidden frames: each face loses {HIDDEN} neighbouring frames; the first such line tells what that "
        "costs, the others what filling brings back",
    ]


def markdown(lines: list[Line], seeds: int, said: list[str]) -> str:
    """The table and its notes."""
    cells = [["option", "less", "F1", "F1 without", "difference", "p"], ["---", "---", *["---:"] * 4]]
    for line in lines:
        found = line.difference
        star = "*" * more_than_chance(found, line.p_corrected, seeds)
        cells.append([
            line.option, line.compared_with, f"{line.f1:.4f}", f"{line.f1_without:.4f}",
            f"{found.value:+.4f}{star} [{found.low:+.3f}, {found.high:+.3f}]", f"{line.p_corrected:.3f}",
        ])  # fmt: skip
    table = "\n".join(f"| {' | '.join(row)} |" for row in cells)
    return table + "\n\n" + "".join(f"- {note}\n" for note in said)


def main() -> None:
    """Reads the runs, prints the table and writes it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="seeds of one row")
    parser.add_argument(
        "--fps", type=float, help="frames per second; default: what the faces were rendered at"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/postprocessing"), help="takes table.md, table.json"
    )
    options = parser.parse_args()
    try:
        cells = [read_run(folder) for folder in options.runs]
        fps = frame_rate(cells[0]) if options.fps is None else options.fps
        lines, groups = measure(cells, fps)
    except (RunError, ValueError, OSError) as error:
        sys.exit(f"aunet: {error}")
    said = notes(fps, len(cells), groups)
    content = {
        "rows": [asdict(line) for line in lines],
        "row": cells[0].row,
        "seeds": [cell.seed for cell in cells],
        "frames_per_second": fps,
        "groups": groups,
        "provenance": provenance(cells),
        "notes": said,
    }
    texts = {"md": markdown(lines, len(cells), said), "json": json.dumps(content, indent=1) + "\n"}
    options.out.mkdir(parents=True, exist_ok=True)
    for suffix, text in texts.items():
        with replacing(options.out / f"table.{suffix}") as temporary:
            temporary.write_text(text)
    print(f"{texts['md']}written: {options.out / 'table.md'}, {options.out / 'table.json'}")


if __name__ == "__main__":
    main()
