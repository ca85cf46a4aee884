"""Tuned thresholds against brute force, and that nothing leaks from the frames that they are used on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aunet.metrics import confusion_counts, f1_per_au
from aunet.thresholds import (
    best_threshold,
    cross_fitted_thresholds,
    fold_thresholds,
    group_folds,
    rankings,
)


def simulated(rng, groups=10, frames=30, aus=3):
    """Probabilities, labels and group of frames, the groups in disorder."""
    group = rng.permutation(np.repeat([f"person{n}" for n in range(groups)], frames))
    labels = rng.choice(np.array([-1, 0, 0, 0, 1], np.int8), (groups * frames, aus))
    probs = np.round(1 / (1 + np.exp(-(rng.normal(-2, 1, labels.shape) + labels))), 2)
    return probs, labels, group


def f1(probs, labels, threshold):
    """F1 of one AU."""
    return f1_per_au(confusion_counts(probs[:, None], labels[:, None], threshold))[0]


def brute_force(probs, labels):
    """Highest F1 of one AU, and all ways of detecting frames (as thresholds) that reach it."""
    middles = np.unique(np.append(probs[labels >= 0], 0))
    middles = np.append((middles[1:] + middles[:-1]) / 2, [0] if 0 in probs[labels >= 0] else [])
    scores = np.array([f1(probs, labels, t) for t in middles])
    return scores.max(), middles[scores == scores.max()]


@settings(max_examples=200, deadline=None)
@given(
    arrays(np.float64, 25, elements=st.integers(0, 32).map(lambda k: k / 32)),
    arrays(np.int8, 25, elements=st.sampled_from([-1, 0, 1])),
)
def test_no_threshold_is_better_and_of_equals_it_is_nearest_to_one_half(probs, labels):
    threshold = best_threshold(rankings(probs[:, None], labels[:, None])[0])
    if not (labels == 1).any():
        assert threshold == 0.5
        return
    best, equals = brute_force(probs, labels)
    assert f1(probs, labels, threshold) == best
    assert threshold in equals
    assert abs(threshold - 0.5) == np.abs(equals - 0.5).min()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings(max_examples=100, deadline=None)
@given(start=st.floats(0, 0.75, width=32), labels=arrays(np.int8, 6, elements=st.sampled_from([0, 1])))
def test_neighbouring_numbers_are_told_apart(dtype, start, labels):
    values = [dtype(start)]
    for _ in range(5):
        values.append(np.nextafter(values[-1], dtype(1)))
    probs = np.array(values)
    if labels.any():
        threshold = best_threshold(rankings(probs[:, None], labels[:, None])[0])
        best = max(f1(probs, labels, t) for t in probs)
        assert f1(probs, labels, threshold) == best  # NumPy compares it as of the type of probs
        assert f1(probs.astype(np.float64), labels, threshold) == best


def test_thresholds_lie_midway_between_probabilities():
    probs = np.array([0.9, 0.7, 0.3, 0.1])[:, None]
    for labels, expected in (
        ((1, 1, 0, 0), 0.5),
        ((1, 0, 0, 0), 0.8),
        ((1, 1, 1, 0), 0.2),
        ((1, 1, 1, 1), 0.05),
    ):
        found = best_threshold(rankings(probs, np.array(labels, np.int8)[:, None])[0])
        assert found == pytest.approx(expected)


def test_thresholds_of_a_fold_are_best_on_all_other_folds():
    probs, labels, group = simulated(np.random.default_rng(0))
    fold = group_folds(group)
    thresholds = cross_fitted_thresholds(probs, labels, group)
    assert thresholds.shape == probs.shape
    assert thresholds.dtype == np.float64
    np.testing.assert_array_equal(thresholds, fold_thresholds(rankings(probs, labels), fold)[fold])
    for number in range(5):
        mine, others = fold == number, fold != number
        for au in range(probs.shape[1]):
            threshold = thresholds[mine, au][0]
            assert (thresholds[mine, au] == threshold).all()
            best, _ = brute_force(probs[others, au], labels[others, au])
            assert f1(probs[others, au], labels[others, au], threshold) == best


def test_nothing_leaks_into_a_fold_from_its_own_frames():
    rng = np.random.default_rng(1)
    probs, labels, group = simulated(rng)
    fold, before = group_folds(group), cross_fitted_thresholds(probs, labels, group)
    for number in range(5):
        mine = fold == number
        changed, moved = labels.copy(), probs.copy()
        changed[mine] = rng.choice(np.array([-1, 0, 1], np.int8), changed[mine].shape)
        moved[mine] = rng.random(moved[mine].shape)
        after = cross_fitted_thresholds(moved, changed, group)
        np.testing.assert_array_equal(after[mine], before[mine])
        assert (after[~mine] != before[~mine]).any()


def test_tuning_on_noise_gains_nothing_that_is_not_there():
    """Tuned and scored on the same few frames, thresholds promise more than they keep on others'."""
    rng = np.random.default_rng(2)
    labels = (rng.random((120, 200)) < 0.3).astype(np.int8)
    probs, group = rng.random(labels.shape), np.repeat(np.arange(12), 10)
    leaking = np.array([best_threshold(ranking) for ranking in rankings(probs, labels)])
    of_fold = cross_fitted_thresholds(probs, labels, group)
    means = [f1_per_au(confusion_counts(probs >= t, labels)).mean() for t in (leaking, of_fold)]
    all_detected = f1_per_au(confusion_counts(np.ones_like(probs), labels)).mean()  # the best without skill
    assert means[0] > all_detected
    assert means[1] < all_detected


def test_the_order_of_frames_is_of_no_account():
    rng = np.random.default_rng(3)
    probs, labels, group = simulated(rng)
    order = rng.permutation(len(probs))
    np.testing.assert_array_equal(
        cross_fitted_thresholds(probs[order], labels[order], group[order]),
        cross_fitted_thresholds(probs, labels, group)[order],
    )


def test_an_au_without_a_positive_frame_elsewhere_keeps_one_half():
    probs, labels, group = simulated(np.random.default_rng(4))
    fold = group_folds(group)
    labels[:, 0] = np.minimum(labels[:, 0], 0)
    labels[(fold != 2) & (labels[:, 1] == 1), 1] = 0
    labels[:, 2] = -1
    probs /= 2  # no tuned threshold can be one half
    thresholds = cross_fitted_thresholds(probs, labels, group)
    assert (thresholds[:, [0, 2]] == 0.5).all()
    assert (thresholds[fold == 2, 1] == 0.5).all()
    assert (labels[fold == 2, 1] == 1).any()
    assert (thresholds[fold != 2, 1] != 0.5).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=2, max_size=60), st.integers(2, 7), st.integers(0, 3))
def test_whole_groups_are_dealt_out_evenly(numbers, folds, seed):
    groups = len(set(numbers))
    if groups < 2:
        return
    fold = group_folds(numbers, folds, seed)
    of_group = dict(zip(numbers, fold.tolist(), strict=True))
    assert [of_group[number] for number in numbers] == fold.tolist()
    sizes = np.bincount(list(of_group.values()))
    assert len(sizes) == min(folds, groups)
    assert sizes.max() - sizes.min() <= 1
    np.testing.assert_array_equal(group_folds([str(number) for number in numbers], folds, seed), fold)


def test_seeds_divide_differently():
    divisions = {tuple(group_folds(np.arange(20), 5, seed)) for seed in range(4)}
    assert len(divisions) == 4


def test_what_cannot_be_divided_is_named():
    probs, labels, group = simulated(np.random.default_rng(5))
    with pytest.raises(ValueError, match=r"1 video\(s\) or person\(s\)"):
        cross_fitted_thresholds(probs, labels, np.full(len(probs), "one"))
    with pytest.raises(ValueError, match="folds=1"):
        cross_fitted_thresholds(probs, labels, group, folds=1)
    with pytest.raises(ValueError, match="group"):
        cross_fitted_thresholds(probs, labels, group[:-1])
