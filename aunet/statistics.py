"""How sure a macro F1 is, and a difference of two: videos are what varies, so videos are what is resampled.

Frames of a video are nearly the same picture; an interval that resamples frames is three to four times too
narrow. Everything here starts from the confusion counts of each video, which is all that pooled F1 depends on
(paper Eq. 5), so that thousands of resamples are a few matrix products. The mean of a score of frames
(``mean_intervals``) is, as F1 is, a ratio of sums over videos.

Intervals are bootstrap-t intervals over videos (Efron and Tibshirani 1993, section 12.5): the deviation of
each resample is divided by a standard error of its own, that of the linearised F1 of its videos. The plain
percentile interval is too short for few videos. Where a row has several seeds, they are drawn along with the
videos, and the spread between them is a part of the standard error.

Tests swap the two rows' predictions within videos (a sign-flip permutation): were the rows equal, it would
make no difference which of them gave which. A test of one seed each speaks of the two networks that were
trained, not of what another seed would have given.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student  # type: ignore[import-untyped]
from statsmodels.stats.multitest import multipletests

from aunet.metrics import THRESHOLD
from aunet.resampling import Array, Terms, bootstrap_t, multiplicities, sign_flip, value_and_error

Counts = npt.NDArray[np.int64]

FEW_VIDEOS = 40
"""With fewer videos (or people) than this, intervals may cover less than they promise."""

_POWER_95_80 = 1.959964 + 0.841621
"""Standard errors of the smallest difference that a 5% test finds four times in five."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval.

    Attributes:
        value: Mean over the seeds.
        low: Lower end of the interval.
        high: Upper end.
        error: Standard error, over videos and seeds.
    """

    value: float
    low: float
    high: float
    error: float


@dataclass(frozen=True)
class Difference(Estimate):
    """One row's macro F1 less another's.

    Attributes:
        p: Of the sign-flip test, two-sided, not corrected for the number of tests.
        detectable: The smallest true difference that a 5% test on these videos finds four times in five.
    """

    p: float
    detectable: float


def video_counts(
    probs: npt.NDArray[np.floating],
    labels: npt.NDArray[np.int8],
    video: npt.NDArray[np.integer],
    threshold: float | Array = THRESHOLD,
) -> Counts:
    """Confusion counts of each video.

    Args:
        probs: (N, num_aus) probabilities in [0, 1].
        labels: (N, num_aus) in {0, 1, -1}; -1 is not counted.
        video: (N,) number of each frame's video, from 0.
        threshold: An AU is detected where ``probs >= threshold``; one for all, or (num_aus,).

    Returns:
        (V, 3, num_aus) tp, fp, fn; their sum over the videos is what ``metrics.confusion_counts`` gives.
    """
    detected, present, absent = probs >= threshold, labels == 1, labels == 0
    kind = np.select([present & detected, absent & detected, present], [0, 1, 2], 3)
    videos = int(video.max()) + 1 if len(video) else 0
    cells = [np.bincount(video * 4 + column, minlength=4 * videos).reshape(videos, 4) for column in kind.T]
    return np.stack(cells, 2)[:, :3].astype(np.int64)


def f1_interval(
    counts: Counts | Sequence[Counts], level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Estimate:
    """Macro F1 of one row and its interval.

    Args:
        counts: (V, 3, num_aus) of ``video_counts``, or those of several seeds, the same videos in each.
        level: Of the interval.
        resamples: Of videos, and of seeds.
        seed: Of the resampling.
    """
    stacked = _stacked(counts)
    return _interval([(1.0, *_f1_terms(stacked))], multiplicities(stacked, resamples, seed), level)


def au_intervals(
    counts: Counts | Sequence[Counts], level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> list[Estimate]:
    """The same for the F1 of each AU by itself."""
    stacked = _stacked(counts)
    weights = multiplicities(stacked, resamples, seed)
    return [
        _interval([(1.0, *_f1_terms(stacked[..., [au]]))], weights, level) for au in range(stacked.shape[-1])
    ]


def mean_intervals(
    sums: npt.ArrayLike,
    counts: npt.ArrayLike,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> list[Estimate]:
    """Means of scores of frames, averaged over the AUs, and their intervals over videos and seeds.

    For the difference of two scores of the same frames, give the sums of the frames' differences.

    One seed has a bootstrap-t interval over videos. Several seeds have Student's, of the added variances of
    videos and of seeds with Satterthwaite's degrees of freedom, as is usual where a few readers judge many
    cases (Hillis, Statistics in Medicine 2007): where networks differ by more than videos explain, as their
    maps do, two or three of them cannot be resampled, and bootstrap-t intervals are often as wide as can be.

    Args:
        sums: (M, S, V, num_aus), for M scores and S seeds: sum of the score over the frames of each video.
        counts: (V, num_aus) number of frames that were summed, the same for all. An AU without any is left
            out; at least one must have some.
        level: Of the intervals.
        resamples: Of videos.
        seed: Of the resampling.
        bounds: Least and greatest value that the scores can have.

    Raises:
        ValueError: The shapes do not fit, or there is no frame at all.
    """
    totals, number = np.asarray(sums, np.float64), np.asarray(counts, np.float64)
    if totals.ndim != 4 or totals.shape[2:] != number.shape:
        raise ValueError(f"sums {totals.shape} are not (scores, seeds, *counts' {number.shape})")
    seen = number.sum(0) > 0
    if not seen.any():
        raise ValueError("there is no frame whose score could be averaged")
    totals, number = totals[..., seen], number[:, seen]
    seeds, videos = totals.shape[1:3]
    weights = multiplicities(totals[0], resamples, seed) if seeds == 1 else None
    estimates = []
    for total in totals:
        means = total.sum((0, 1)) / (seeds * number.sum(0))
        # About the means, so that a resample without any frame of a rare AU counts as no deviation, not as 0.
        about = total - means * number
        if weights is not None:
            found = _interval([(1.0, about, number[None])], weights, level, (-np.inf, np.inf))
        else:
            influence = (about.mean(0) / number.sum(0)).mean(1)
            of_videos = (influence**2).sum() * videos / max(1, videos - 1)
            of_seeds = (about.sum(1) / number.sum(0)).mean(1).var(ddof=1) / seeds
            found = _student(of_videos, max(1, videos - 1), of_seeds, seeds - 1, level)
        low, high = np.clip([found.low + means.mean(), found.high + means.mean()], *bounds)
        estimates.append(Estimate(float(means.mean()), float(low), float(high), found.error))
    return estimates


def compare(
    one: Counts | Sequence[Counts],
    other: Counts | Sequence[Counts],
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Difference:
    """Macro F1 of one row less that of another, on the same videos.

    Args:
        one: (V, 3, num_aus) of ``video_counts``, or those of several seeds.
        other: The same of the other row; as many seeds, in the same order.
        level: Of the interval.
        resamples: Of the interval and of the test.
        seed: Of both.

    Raises:
        ValueError: The rows differ in videos, AUs or number of seeds.
    """
    a, b = _stacked(one), _stacked(other)
    if a.shape != b.shape:
        raise ValueError(f"counts of {a.shape} and {b.shape} (seeds, videos, 3, AUs) cannot be paired")
    terms = (1.0, *_f1_terms(a)), (-1.0, *_f1_terms(b))
    found = _interval(terms, multiplicities(a, resamples, seed), level, (-1.0, 1.0))
    return Difference(
        found.value,
        found.low,
        found.high,
        found.error,
        p=sign_flip(a, b, resamples, seed),
        detectable=_POWER_95_80 * found.error,
    )


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979)."""
    return [float(value) for value in multipletests(list(p), method="holm")[1]] if len(p) else []


def _f1_terms(counts: Array) -> tuple[Array, Array]:
    """(S, V, num_aus) each: numerator and denominator of F1, 2 tp and 2 tp + fp + fn."""
    return 2.0 * counts[:, :, 0], counts.sum(2) + counts[:, :, 0]


def _interval(
    rows: Sequence[Terms],
    weights: tuple[Array, Array],
    level: float,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Estimate:
    """Estimate, from the data and from their resamples, of the signed sum of the rows' means over the AUs."""
    seeds, videos = rows[0][1].shape[:2]
    if videos < FEW_VIDEOS:
        warnings.warn(f"{videos} videos: an interval may cover less than {level:.0%}", stacklevel=3)
    value, error = (float(x[0]) for x in value_and_error(rows, np.ones((1, videos)), np.ones((1, seeds))))
    low, high = bootstrap_t(value, error, *value_and_error(rows, *weights), level)
    return Estimate(value, max(bounds[0], low), min(bounds[1], high), error)


def _student(one: float, freedom: int, other: float, other_freedom: int, level: float) -> Estimate:
    """Interval around 0 for the sum of two independent variances (Satterthwaite, Biometrics 1946)."""
    variance = one + other
    if not variance:
        return Estimate(0.0, 0.0, 0.0, 0.0)
    both = variance**2 / (one**2 / freedom + other**2 / other_freedom)
    error = float(np.sqrt(variance))
    reach = float(student.ppf((1 + level) / 2, both)) * error
    return Estimate(0.0, -reach, reach, error)


def _stacked(counts: Counts | Sequence[Counts]) -> Array:
    """(S, V, 3, num_aus) of one seed or several."""
    array = np.asarray(counts, np.float64)
    return array[None] if array.ndim == 3 else array
