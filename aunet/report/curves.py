"""What the figures of single AUs and videos show: curves of a row, mean over its finished seeds.

All frames of the validation videos are pooled, and labels of -1 count nowhere, as in every table.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aunet.cells import Cell
from aunet.measures import reliability, undo_pos_weight
from aunet.metrics import f1_per_au
from aunet.predictions import grouped_predictions, places
from aunet.runs import RunError
from aunet.statistics import video_counts
from aunet.thresholds import Ranking, detection_curve, fold_thresholds, group_folds, rankings

Array = npt.NDArray[np.float64]

RECALLS: Array = np.linspace(0, 1, 101)
THRESHOLDS: Array = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Reliability:
    """Frames of all seeds in bins of probability, (bins, num_aus) each: see ``measures.reliability``."""

    frames: Array
    promised: Array
    present: Array


@dataclass(frozen=True)
class Curves:
    """What is drawn of one row.

    Attributes:
        precision: (101, num_aus) at each of ``RECALLS``; NaN for an AU without a positive frame.
        f1: (101, num_aus) at each of ``THRESHOLDS``.
        tuned: (n, num_aus) thresholds of all folds of all seeds, tuned on the other folds; n is 0 where there
            is one video or person only.
        trained: Reliability of the probabilities as they are.
        corrected: The same after the loss weights are undone.
        videos: (V,) names, sorted.
        video_frames: (V,) frames of each.
        video_f1: (V,) F1 of each, see ``macro_of_videos``.
    """

    precision: Array
    f1: Array
    tuned: Array
    trained: Reliability
    corrected: Reliability
    videos: npt.NDArray[np.str_]
    video_frames: npt.NDArray[np.int64]
    video_f1: Array


def read_curves(cells: Sequence[Cell]) -> Curves:
    """Curves of a row from the predictions of its finished runs, of which there is one or more.

    Raises:
        RunError: A file is damaged.
    """
    precisions, f1s, tuned, trained, corrected, of_videos = [], [], [], [], [], []
    groups: list[str] = []
    for cell in cells:
        if cell.metrics is None:
            continue
        probs, labels, group, _ = grouped_predictions(cell, cell.metrics, groups)
        ranked = rankings(probs, labels)
        precisions.append(np.stack([precision_curve(ranking) for ranking in ranked], 1))
        f1s.append(np.stack([f1_curve(ranking) for ranking in ranked], 1))
        if len(groups) > 1:
            tuned.append(fold_thresholds(ranked, group_folds(group)))
        weight = cell.metrics.get("pos_weight")
        trained.append(reliability(probs, labels))
        corrected.append(reliability(probs if weight is None else undo_pos_weight(probs, weight), labels))
        videos, number, frames = np.unique(places(cell.folder)[0], return_inverse=True, return_counts=True)
        of_videos.append(macro_of_videos(video_counts(probs, labels, number)))
    num_aus = precisions[0].shape[1]
    return Curves(
        np.mean(precisions, 0),
        np.mean(f1s, 0),
        np.concatenate([np.empty((0, num_aus)), *tuned]),
        Reliability(*np.sum(trained, 0)),
        Reliability(*np.sum(corrected, 0)),
        videos,
        frames,
        np.mean(of_videos, 0),
    )


def precision_curve(ranking: Ranking) -> Array:
    """(101,) precision where at least each of ``RECALLS`` is reached; NaN without a positive frame."""
    if not ranking.present.any():
        return np.full(len(RECALLS), np.nan)
    _, true, false = detection_curve(ranking)
    reached = np.searchsorted(true, np.ceil(RECALLS * true[-1] - 1e-9))
    return np.asarray(true[reached] / (true[reached] + false[reached]))


def f1_curve(ranking: Ranking) -> Array:
    """(101,) F1 where frames from each of ``THRESHOLDS`` on are detected; 0 where nothing is present."""
    probs, true, false = detection_curve(ranking)
    # In the type of the probabilities, as a plain number would be compared.
    distinct = np.searchsorted(-probs, -THRESHOLDS.astype(probs.dtype), side="right")
    tp, fp = (np.append(0, counts)[distinct] for counts in (true, false))
    return f1_per_au(np.stack([tp, fp, ranking.present.sum() - tp]))


def macro_of_videos(counts: npt.NDArray[np.int64]) -> Array:
    """(V,) mean F1 over the AUs that occur in a video; NaN where none does.

    Args:
        counts: (V, 3, num_aus) of ``statistics.video_counts``.
    """
    occurs = counts[:, 0] + counts[:, 2] > 0
    f1 = f1_per_au(counts.transpose(1, 0, 2))
    number = occurs.sum(1)
    return np.where(number > 0, (f1 * occurs).sum(1) / np.maximum(number, 1), np.nan)


def read_history(cell: Cell) -> dict[str, list[float]] | None:
    """F1 and losses of each epoch of a run; None where there is no ``history.csv``, or no epoch in it.

    Raises:
        RunError: The file is damaged.
    """
    file: Path = cell.folder / "history.csv"
    try:
        with file.open(newline="") as text:
            rows = list(csv.DictReader(text))
        found = {key: [float(row[key]) for row in rows] for key in ("train/loss", "val/loss", "val/f1")}
    except FileNotFoundError:
        return None
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        csv.Error,
    ) as error:  # UnicodeDecodeError is a ValueError
        raise RunError(f"{file}: not the history of a run ({error!r}); remove the run's folder") from None
    return found if rows else None
