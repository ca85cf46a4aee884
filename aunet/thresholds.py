"""Frames ranked by probability, and detection thresholds tuned on other people's or videos' frames.

A threshold tuned on the frames that it is then scored on gives too high an F1. Here every frame is detected
with thresholds that maximise F1 on the frames of other groups only.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aunet.metrics import THRESHOLD

Probs = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.int8]
Array = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Ranking:
    """An AU's labelled frames, the most probable first; sorted once, for everything that needs the order.

    Attributes:
        frames: (n,) number of each frame.
        probs: (n,) their probabilities, falling.
        present: (n,) bool, whether the AU is present.
    """

    frames: Numbers
    probs: Probs
    present: npt.NDArray[np.bool_]


def rankings(probs: Probs, labels: Labels) -> list[Ranking]:
    """The ranking of each AU.

    Args:
        probs: (N, num_aus) probabilities in [0, 1].
        labels: (N, num_aus) in {0, 1, -1}; frames of -1 are left out of the AU's ranking.

    Raises:
        ValueError: The shapes differ, or a probability or a label is out of range.
    """
    check(probs, labels)
    ranked = []
    for p, y in zip(probs.T, labels.T, strict=True):
        known = np.flatnonzero(y >= 0)
        p = p[known]
        order = np.argsort(p)[::-1]
        frames = known[order]
        ranked.append(Ranking(frames, p[order], y[frames] == 1))
    return ranked


def check(probs: Probs, labels: Labels) -> None:
    """Raises ValueError unless both are (N, num_aus), ``probs`` in [0, 1] and ``labels`` in {0, 1, -1}."""
    if labels.shape != probs.shape:
        raise ValueError(f"probs {probs.shape} and labels {labels.shape} must both be (N, num_aus)")
    check_probs(probs)
    if labels.size and not (labels.min() >= -1 and labels.max() <= 1):
        raise ValueError(f"labels from {labels.min()} to {labels.max()} must be 0, 1 or -1")


def check_probs(probs: Probs) -> None:
    """Raises ValueError unless ``probs`` is (N, num_aus) of numbers in [0, 1]."""
    if probs.ndim != 2:
        raise ValueError(f"probs {probs.shape} must be (N, num_aus)")
    if probs.size and not (probs.min() >= 0 and probs.max() <= 1):  # NaN is not at least 0
        raise ValueError(f"probs from {probs.min()} to {probs.max()} must lie in [0, 1]: logits are no probs")


def detection_curve(ranking: Ranking) -> tuple[Probs, Numbers, Numbers]:
    """What is detected from each probability on.

    Returns:
        (d,) distinct probabilities, falling; (d,) true positives and (d,) false positives where frames of at
        least that probability count as detected. Frames of equal probability are detected together.
    """
    probs = ranking.probs
    last = np.flatnonzero(np.append(probs[1:] != probs[:-1], np.full(min(1, len(probs)), True)))
    true = np.cumsum(ranking.present, dtype=np.intp)[last]
    return probs[last], true, last + 1 - true


def best_threshold(ranking: Ranking) -> float:
    """The threshold of the highest F1 on these frames; ``metrics.THRESHOLD`` where none has the AU.

    All distinct probabilities are tried. The threshold lies midway between the lowest detected probability
    and the next one below (0 if there is none). Of equally good ones it is the nearest to
    ``metrics.THRESHOLD``, and of two as near the higher.
    """
    if not ranking.present.any():
        return THRESHOLD
    values, true, false = detection_curve(ranking)
    # The doubled counts are exact, so that equal F1 compare equal.
    f1 = 2 * true / (true[-1] + true + false)
    best = np.flatnonzero(f1 == f1.max())
    detected, below = values[best], np.append(values, values.dtype.type(0))[best + 1]
    # In the type of the probabilities: NumPy rounds a plain number to it before it compares.
    middle = (detected + below) / 2
    middle = np.where(middle > below, middle, detected)  # neighbouring numbers have none between them
    return float(middle[np.abs(middle - THRESHOLD).argmin()])


def group_folds(group: npt.ArrayLike, folds: int = 5, seed: int = 0) -> Numbers:
    """Deals whole groups out to folds.

    The groups are shuffled by a hash of seed and name: neither the order of the frames nor the version of
    NumPy makes a difference.

    Args:
        group: (N,) name or number of each frame's video or person.
        folds: Number of folds; as many as groups where those are fewer.
        seed: Of the shuffling.

    Returns:
        (N,) fold of each frame, from 0. Their numbers of groups differ by one at most.

    Raises:
        ValueError: There are fewer than two groups or folds.
    """
    names, number = np.unique(np.asarray(group), return_inverse=True)
    if len(names) < 2:
        raise ValueError(
            f"group: {len(names)} video(s) or person(s); tuning thresholds on other groups needs at least two"
        )
    if folds < 2:
        raise ValueError(f"folds={folds} must be at least 2")
    keys = [f"{seed}\0{name}".encode("utf-8", "surrogatepass") for name in names.tolist()]
    shuffled = sorted(range(len(keys)), key=lambda i: hashlib.sha256(keys[i]).digest())
    fold = np.empty(len(keys), np.intp)
    fold[shuffled] = np.arange(len(keys)) % folds
    return fold[number]


def fold_thresholds(ranked: Sequence[Ranking], fold: Numbers) -> Array:
    """For each fold the thresholds that are best on all other folds.

    Args:
        ranked: The ranking of each AU.
        fold: (N,) fold of each frame, from 0.

    Returns:
        (folds, num_aus) thresholds in [0, 1], see ``best_threshold``.
    """
    thresholds = np.empty((int(fold.max()) + 1, len(ranked)))
    for au, ranking in enumerate(ranked):
        of_frame = fold[ranking.frames]
        for number in range(len(thresholds)):
            others = of_frame != number
            part = Ranking(ranking.frames[others], ranking.probs[others], ranking.present[others])
            thresholds[number, au] = best_threshold(part)
    return thresholds


def cross_fitted_thresholds(
    probs: Probs,
    labels: Labels,
    group: npt.ArrayLike,
    folds: int = 5,
    seed: int = 0,
    ranked: Sequence[Ranking] | None = None,
) -> Array:
    """Thresholds tuned for F1 without leakage: those of a frame come from other folds' frames alone.

    ``statistics.video_counts`` and a comparison ``probs >= thresholds`` take them as they are.

    Args:
        probs: (N, num_aus) probabilities in [0, 1].
        labels: (N, num_aus) in {0, 1, -1}; -1 is not counted.
        group: (N,) name or number of each frame's video or person; a group is never divided.
        folds: Number of folds; as many as groups where those are fewer.
        seed: Of the division into folds.
        ranked: ``rankings(probs, labels)`` of a caller who has them already.

    Returns:
        (N, num_aus) threshold of each frame and AU, in [0, 1]; ``metrics.THRESHOLD`` for an AU without a
        positive frame in the other folds.

    Raises:
        ValueError: Shapes or ranges are wrong, or there are fewer than two groups or folds.
    """
    fold = group_folds(group, folds, seed)
    if fold.shape != (len(probs),):
        raise ValueError(f"group {fold.shape} must name the group of each of {len(probs)} frames")
    return fold_thresholds(rankings(probs, labels) if ranked is None else ranked, fold)[fold]
