"""Videos and seeds drawn again and again: what ``aunet.statistics`` computes its intervals and tests from.

S seeds, V videos, R resamples.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

Terms = tuple[float, Array, Array]
"""Sign of a row, and the (S, V, num_aus) sums of videos whose ratio is what the row has for each AU."""


def multiplicities(counts: Array, resamples: int, seed: int) -> tuple[Array, Array]:
    """(R, V) and (R, S): how often each resample takes each video and each seed."""
    seeds, videos = counts.shape[:2]
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(videos, np.full(videos, 1 / videos), resamples).astype(np.float64)
    chosen = rng.multinomial(seeds, np.full(seeds, 1 / seeds), resamples).astype(np.float64)
    return weights, chosen


def value_and_error(rows: Sequence[Terms], weights: Array, chosen: Array) -> tuple[Array, Array]:
    """(R,) signed sum of the rows' means and its standard error, for (R, V) and (R, S) multiplicities."""
    seeds, videos = chosen.shape[1], weights.shape[1]
    per_seed = np.zeros((seeds, len(weights)))
    factors: list[Array] = []
    columns: list[Array] = []
    for number in range(seeds):
        share = chosen[:, number] / seeds
        for sign, numerators, denominators in rows:
            numerator, denominator = numerators[number], denominators[number]
            total = weights @ denominator
            safe = np.where(total > 0, total, 1.0)
            ratio = (weights @ numerator) / safe
            per_seed[number] += sign * ratio.mean(1)
            # How much each video moves the macro mean: its numerator less the ratio times its denominator.
            scale = sign * share[:, None] / (safe * ratio.shape[1])
            factors += [scale, -ratio * scale]
            columns += [numerator, denominator]
    influence = np.concatenate(factors, 1) @ np.concatenate(columns, 1).T
    value = np.einsum("rs,sr->r", chosen, per_seed) / seeds
    variance = np.einsum("rv,rv,rv->r", weights, influence, influence) * videos / max(1, videos - 1)
    if seeds > 1:
        variance += np.einsum("rs,sr->r", chosen, (per_seed - value) ** 2) / (seeds * (seeds - 1))
    return value, np.sqrt(variance)


def bootstrap_t(
    value: float, error: float, values: Array, errors: Array, level: float
) -> tuple[float, float]:
    """Ends of the interval of a value, from the values and standard errors of its resamples.

    Efron and Tibshirani 1993, section 12.5; the value itself where nothing varies.
    """
    usable = errors > 0
    if not error or not usable.any():
        return value, value
    t = (values[usable] - value) / errors[usable]
    upper, lower = np.quantile(t, [(1 + level) / 2, (1 - level) / 2])
    return float(value - upper * error), float(value - lower * error)


def sign_flip(one: Array, other: Array, resamples: int, seed: int) -> float:
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
