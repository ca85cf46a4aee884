"""How sure a macro F1 is, and a difference of two: videos are what varies, so videos are what is resampled.

Frames of a video are nearly the same picture; an interval that resamples frames is three to four times too
narrow. Everything here starts from the confusion counts of each video, which is all that pooled F1 depends on
(paper Eq. 5), so that thousands of resamples are a few matrix products.

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
from statsmodels.stats.multitest import multipletests

from aunet.metrics import THRESHOLD

Counts = npt.NDArray[np.int64]
Array = npt.NDArray[np.float64]

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
    return _interval([(1.0, stacked)], _weights(stacked, resamples, seed), level)


def au_intervals(
    counts: Counts | Sequence[Counts], level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> list[Estimate]:
    """The same for the F1 of each AU by itself."""
    stacked = _stacked(counts)
    weights = _weights(stacked, resamples, seed)
    return [_interval([(1.0, stacked[..., [au]])], weights, level) for au in range(stacked.shape[-1])]


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
    found = _interval([(1.0, a), (-1.0, b)], _weights(a, resamples, seed), level, lowest=-1.0)
    return Difference(
        found.value,
        found.low,
        found.high,
        found.error,
        p=_sign_flip(a, b, resamples, seed),
        detectable=_POWER_95_80 * found.error,
    )


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979)."""
    return [float(value) for value in multipletests(list(p), method="holm")[1]] if len(p) else []


def _weights(counts: Array, resamples: int, seed: int) -> tuple[Array, Array]:
    """(R, V) and (R, S): how often each resample takes each video and each seed."""
    seeds, videos = counts.shape[:2]
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(videos, np.full(videos, 1 / videos), resamples).astype(np.float64)
    chosen = rng.multinomial(seeds, np.full(seeds, 1 / seeds), resamples).astype(np.float64)
    return weights, chosen


def _interval(
    rows: Sequence[tuple[float, Array]], weights: tuple[Array, Array], level: float, lowest: float = 0.0
) -> Estimate:
    """Estimate, from the data and from their resamples, of the signed sum of the rows' macro F1."""
    seeds, videos = rows[0][1].shape[:2]
    if videos < FEW_VIDEOS:
        warnings.warn(f"{videos} videos: an interval may cover less than {level:.0%}", stacklevel=3)
    value, error = (float(x[0]) for x in _value_and_error(rows, np.ones((1, videos)), np.ones((1, seeds))))
    low, high = _bootstrap_t(value, error, *_value_and_error(rows, *weights), level)
    return Estimate(value, max(lowest, low), min(1.0, high), error)


def _value_and_error(
    rows: Sequence[tuple[float, Array]], weights: Array, chosen: Array
) -> tuple[Array, Array]:
    """(R,) signed sum of the rows' macro F1 and its standard error, for (R, V) and (R, S) multiplicities."""
    seeds, videos = chosen.shape[1], weights.shape[1]
    per_seed = np.zeros((seeds, len(weights)))
    factors: list[Array] = []
    columns: list[Array] = []
    for number in range(seeds):
        share = chosen[:, number] / seeds
        for sign, counts in rows:
            twice, total = 2.0 * counts[number, :, 0], counts[number].sum(1) + counts[number, :, 0]
            denominator = weights @ total
            safe = np.where(denominator > 0, denominator, 1.0)
            f1 = (weights @ twice) / safe
            per_seed[number] += sign * f1.mean(1)
            # How much each video moves the macro F1: its numerator less F1 times its denominator.
            scale = sign * share[:, None] / (safe * f1.shape[1])
            factors += [scale, -f1 * scale]
            columns += [twice, total]
    influence = np.concatenate(factors, 1) @ np.concatenate(columns, 1).T
    value = np.einsum("rs,sr->r", chosen, per_seed) / seeds
    variance = np.einsum("rv,rv,rv->r", weights, influence, influence) * videos / max(1, videos - 1)
    if seeds > 1:
        variance += np.einsum("rs,sr->r", chosen, (per_seed - value) ** 2) / (seeds * (seeds - 1))
    return value, np.sqrt(variance)


def _bootstrap_t(
    value: float, error: float, values: Array, errors: Array, level: float
) -> tuple[float, float]:
    usable = errors > 0
    if not error or not usable.any():
        return value, value
    t = (values[usable] - value) / errors[usable]
    upper, lower = np.quantile(t, [(1 + level) / 2, (1 - level) / 2])
    return float(value - upper * error), float(value - lower * error)


def _sign_flip(one: Array, other: Array, resamples: int, seed: int) -> float:
    """p-value: how often rows swapped at random within videos differ as much."""
    videos = one.shape[1]
    signs = np.random.default_rng((seed, 1)).choice([-1.0, 1.0], (resamples, videos))
    signs = np.concatenate([np.ones((1, videos)), signs])  # the first is the data
    found = np.zeros(len(signs))
    for a, b in zip(one, other, strict=True):
        halves = [(a + sign * b) / 2 for sign in (1, -1)]  # mean and half difference
        mean, half = ((2 * h[:, 0], h.sum(1) + h[:, 0]) for h in halves)
        for side in (1, -1):
            twice = mean[0].sum(0) + side * (signs @ half[0])
            total = mean[1].sum(0) + side * (signs @ half[1])
            found += side * np.where(total > 0, twice / np.where(total > 0, total, 1), 0).mean(1)
    at_least = np.abs(found) >= abs(found[0]) - 1e-12
    return float(at_least.mean())


def _stacked(counts: Counts | Sequence[Counts]) -> Array:
    """(S, V, 3, num_aus) of one seed or several."""
    array = np.asarray(counts, np.float64)
    return array[None] if array.ndim == 3 else array
