"""Measures beside the challenge metric: what a network ranks, detects and promises.

F1 at 0.5 mixes three things: how well an AU's frames are ranked (average precision, ROC AUC), where the
threshold lies (F1 with thresholds tuned on other groups), and how common the AU is (balanced accuracy, F1 as
it would be with as many positive as negative frames). A loss with weighted positives moves all probabilities
up; ``undo_pos_weight`` moves them back, and Brier score and calibration error tell how well that works.

Everywhere ``probs`` is (N, num_aus) in [0, 1], ``labels`` is (N, num_aus) in {0, 1, -1}, of which -1 counts
nowhere, and the result is (num_aus,) float64. Wrong shapes or ranges raise ValueError.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from aunet.metrics import confusion_counts, f1_per_au
from aunet.thresholds import (
    Array,
    Labels,
    Probs,
    Ranking,
    check,
    check_probs,
    cross_fitted_thresholds,
    detection_curve,
    rankings,
)

BINS = 15
"""Equal-width bins of the expected calibration error."""


def average_precision(probs: Probs, labels: Labels) -> Array:
    """Area under the precision-recall curve as a sum of steps, without interpolation; in [0, 1].

    Equal probabilities are one step. NaN for an AU without a positive frame.
    """
    return _average_precision(rankings(probs, labels))


def roc_auc(probs: Probs, labels: Labels) -> Array:
    """Chance that a positive frame is more probable than a negative one, ties counting half; in [0, 1].

    NaN for an AU without a positive or without a negative frame.
    """
    return _roc_auc(rankings(probs, labels))


def balanced_accuracy(probs: Probs, labels: Labels) -> Array:
    """Mean of true positive and true negative rate at ``metrics.THRESHOLD``; in [0, 1].

    NaN for an AU without a positive or without a negative frame.
    """
    tp, fp, fn, tn = _confusion(probs, labels)
    return (_ratio(tp, tp + fn, np.nan) + _ratio(tn, tn + fp, np.nan)) / 2


def matthews_correlation(probs: Probs, labels: Labels) -> Array:
    """Correlation of detection and label at ``metrics.THRESHOLD`` (Matthews 1975); in [-1, 1].

    0 where either is the same in all frames.
    """
    tp, fp, fn, tn = _confusion(probs, labels)
    # A product of two roots: four counts multiplied would be beyond what float64 holds exactly.
    spread = np.sqrt((tp + fp) * (tn + fn)) * np.sqrt((tp + fn) * (tn + fp))
    return _ratio(tp * tn - fp * fn, spread, 0.0)


def skew_normalised_f1(probs: Probs, labels: Labels) -> Array:
    """F1 at ``metrics.THRESHOLD`` as it would be with as many negative as positive frames; in [0, 1].

    From true and false positive rate, 2 TPR / (1 + TPR + FPR), so that common and rare AUs can be compared
    (Jeni, Cohn and De la Torre, ACII 2013). 0 for an AU without a positive or without a negative frame.
    """
    tp, fp, fn, tn = _confusion(probs, labels)
    tpr, fpr = _ratio(tp, tp + fn, np.nan), _ratio(fp, fp + tn, np.nan)
    return np.nan_to_num(2 * tpr / (1 + tpr + fpr))


def brier(probs: Probs, labels: Labels) -> Array:
    """Mean squared difference of probability and label (Brier 1950); in [0, 1], less is better.

    NaN for an AU without a labelled frame.
    """
    check(probs, labels)
    known = labels >= 0
    squares = np.where(known, (probs - labels) ** 2, 0)
    return _ratio(squares.sum(0, dtype=np.float64), known.sum(0), np.nan)


def ece(probs: Probs, labels: Labels, bins: int = BINS) -> Array:
    """Expected calibration error of the probability (Naeini et al., AAAI 2015); in [0, 1], less is better.

    The difference between mean probability and share of positive frames in each of ``bins`` bins of equal
    width, weighted by the bin's share of the frames. A bin has its lower end, the last one also 1. NaN for an
    AU without a labelled frame.
    """
    frames, promised, present = reliability(probs, labels, bins)
    # Share times difference of means is the difference of sums over the number of all frames.
    return _ratio(np.abs(promised - present).sum(0), frames.sum(0), np.nan)


def reliability(probs: Probs, labels: Labels, bins: int = BINS) -> tuple[Array, Array, Array]:
    """What a reliability diagram shows: what is promised and what is there, in bins of probability.

    Args:
        probs: (N, num_aus) probabilities in [0, 1].
        labels: (N, num_aus) in {0, 1, -1}; -1 is not counted.
        bins: Number of bins of equal width; a bin has its lower end, the last one also 1.

    Returns:
        (bins, num_aus) float64 each: number of labelled frames, sum of their probabilities, and number of
        those in which the AU is present.
    """
    check(probs, labels)
    frames, promised, present = np.zeros((3, bins, probs.shape[1]))
    for au, (p, y) in enumerate(zip(probs.T, labels.T, strict=True)):
        known = y >= 0
        of_au = p[known].astype(np.float64)
        number = np.minimum((of_au * bins).astype(np.intp), bins - 1)
        frames[:, au] = np.bincount(number, minlength=bins)
        promised[:, au] = np.bincount(number, of_au, bins)
        present[:, au] = np.bincount(number, y[known], bins)
    return frames, promised, present


def undo_pos_weight(probs: Probs, pos_weight: npt.ArrayLike) -> Probs:
    """Probabilities of a network as if its cross-entropy had not weighted the positive term (paper Eq. 3).

    Derivation: for a true probability p the loss -(w p log q + (1 - p) log(1 - q)) is least at
    q = w p / (w p + 1 - p), hence p = q / (q + w (1 - q)).

    Args:
        probs: (N, num_aus) probabilities q in [0, 1].
        pos_weight: (num_aus,) weights w of the loss, positive and finite; 1 changes nothing.

    Returns:
        (N, num_aus) of the type of ``probs``, in the same order within each AU.

    Raises:
        ValueError: ``pos_weight`` has another length, or one that is not positive and finite.
    """
    check_probs(probs)
    weight = np.asarray(pos_weight, probs.dtype)
    if weight.shape != probs.shape[1:]:
        raise ValueError(f"pos_weight {weight.shape} must have one weight for each of {probs.shape[1:]} AUs")
    if not (np.isfinite(weight) & (weight > 0)).all():
        raise ValueError(f"pos_weight must be positive and finite, not {weight.tolist()}")
    return np.asarray(probs / (probs + weight * (1 - probs)))


def summary(
    probs: Probs, labels: Labels, group: npt.ArrayLike, pos_weight: npt.ArrayLike | None = None
) -> dict[str, Array]:
    """All measures of each AU.

    Args:
        probs: (N, num_aus) probabilities in [0, 1].
        labels: (N, num_aus) in {0, 1, -1}; -1 is not counted.
        group: (N,) name or number of each frame's video or person, for ``f1_tuned``.
        pos_weight: (num_aus,) weights of the positive term that the network was trained with; None: all 1.

    Returns:
        (num_aus,) float64 under each of ``f1``, ``f1_tuned`` (thresholds from ``cross_fitted_thresholds``),
        ``average_precision``, ``roc_auc``, ``balanced_accuracy``, ``mcc``, ``f1_skew_normalised``, ``brier``,
        ``ece``, and ``brier_corrected`` and ``ece_corrected`` (after ``undo_pos_weight``), in this order.

    Raises:
        ValueError: Shapes or ranges are wrong, or there are fewer than two groups.
    """
    ranked = rankings(probs, labels)
    tuned = cross_fitted_thresholds(probs, labels, group, ranked=ranked)
    corrected = probs if pos_weight is None else undo_pos_weight(probs, pos_weight)
    return {
        "f1": f1_per_au(confusion_counts(probs, labels)),
        "f1_tuned": f1_per_au(confusion_counts(probs >= tuned, labels)),
        "average_precision": _average_precision(ranked),
        "roc_auc": _roc_auc(ranked),
        "balanced_accuracy": balanced_accuracy(probs, labels),
        "mcc": matthews_correlation(probs, labels),
        "f1_skew_normalised": skew_normalised_f1(probs, labels),
        "brier": brier(probs, labels),
        "ece": ece(probs, labels),
        "brier_corrected": brier(corrected, labels),
        "ece_corrected": ece(corrected, labels),
    }


def macro(values: Array) -> float:
    """Mean over the AUs whose value is defined, that is not NaN; NaN where none is.

    Args:
        values: (num_aus,) of any measure here.
    """
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def _average_precision(ranked: Sequence[Ranking]) -> Array:
    found = np.full(len(ranked), np.nan)
    for au, ranking in enumerate(ranked):
        if ranking.present.any():
            _, true, false = detection_curve(ranking)
            found[au] = (np.diff(true, prepend=0) * (true / (true + false))).sum() / true[-1]
    return found


def _roc_auc(ranked: Sequence[Ranking]) -> Array:
    found = np.full(len(ranked), np.nan)
    for au, ranking in enumerate(ranked):
        if ranking.present.any() and not ranking.present.all():
            _, true, false = detection_curve(ranking)
            # Trapezia, doubled so that the sum is one of whole numbers.
            area = (np.diff(false, prepend=0) * (2 * true - np.diff(true, prepend=0))).sum()
            found[au] = area / (2 * true[-1] * false[-1])
    return found


def _confusion(probs: Probs, labels: Labels) -> Array:
    """(4, num_aus) true positives, false positives, false negatives, true negatives."""
    check(probs, labels)
    counts = confusion_counts(probs, labels)
    return np.concatenate([counts, (labels >= 0).sum(0)[None] - counts.sum(0)[None]]).astype(np.float64)


def _ratio(above: Array, below: Array, undefined: float) -> Array:
    """The quotient, and ``undefined`` where ``below`` is 0."""
    return np.where(below > 0, above / np.where(below > 0, below, 1), undefined)
