"""Measures against scikit-learn and a slow loop, their invariants, and a weighted loss undone."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as reference
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression

from aunet.losses import BinaryCrossEntropy
from aunet.measures import (
    average_precision,
    balanced_accuracy,
    brier,
    ece,
    macro,
    matthews_correlation,
    reliability,
    roc_auc,
    skew_normalised_f1,
    summary,
    undo_pos_weight,
)
from aunet.metrics import confusion_counts, f1_per_au
from aunet.statistics import video_counts
from aunet.thresholds import cross_fitted_thresholds

ALL = (
    average_precision,
    roc_auc,
    balanced_accuracy,
    matthews_correlation,
    skew_normalised_f1,
    brier,
    ece,
)


def balanced_f1(y, p):
    """F1 of frames weighted so that both classes weigh the same."""
    weight = np.where(y == 1, 1 / max(1, (y == 1).sum()), 1 / max(1, (y == 0).sum()))
    return reference.f1_score(y, p >= 0.5, sample_weight=weight, zero_division=0)


def slow_ece(y, p, bins=15):
    """Bin by bin, by comparison with the bin's ends."""
    total = 0.0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        inside = (p >= low) & ((p < high) | (number == bins - 1))
        if inside.any():
            total += inside.mean() * abs(p[inside].mean() - y[inside].mean())
    return total


# Measure, reference, and what stands where the labels are all 1, all 0 or all unknown (None: the reference).
CASES = {
    "average_precision": (average_precision, reference.average_precision_score, (None, np.nan, np.nan)),
    "roc_auc": (roc_auc, reference.roc_auc_score, (np.nan, np.nan, np.nan)),
    "balanced_accuracy": (
        balanced_accuracy,
        lambda y, p: reference.balanced_accuracy_score(y, p >= 0.5),
        (np.nan, np.nan, np.nan),
    ),
    "matthews": (
        matthews_correlation,
        lambda y, p: reference.matthews_corrcoef(y, p >= 0.5),
        (None, None, 0),
    ),
    "skew_normalised_f1": (skew_normalised_f1, balanced_f1, (0, 0, 0)),
    "brier": (brier, lambda y, p: reference.brier_score_loss(y, p, pos_label=1), (None, None, np.nan)),
    "ece": (ece, slow_ece, (None, None, np.nan)),
}


def simulated(rng, frames, aus, grid=None, dtype=np.float64):
    """Probabilities that know something of the labels; a grid gives ties. The first AUs lack a class."""
    labels = (rng.random((frames, aus)) < rng.uniform(0.05, 0.6, aus)).astype(np.int8)
    probs = 1 / (1 + np.exp(-(rng.normal(-1, 1.5, labels.shape) + 1.5 * labels)))
    labels[rng.random(labels.shape) < 0.1] = -1
    for column, value in enumerate((1, 0, -1)):  # a class that is there stays partly unknown
        labels[:, column] = np.where(labels[:, column] >= 0, value, -1)
    if grid:
        probs = np.round(probs * grid) / grid
    return probs.astype(dtype), labels


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("grid", [None, 10, 30])
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_reference(name, grid, dtype):
    measure, expected, without_a_class = CASES[name]
    probs, labels = simulated(np.random.default_rng(grid), 700, 8, grid, dtype)
    found = measure(probs, labels)
    assert found.shape == (8,)
    assert found.dtype == np.float64
    for au, (p, y) in enumerate(zip(probs.T.astype(np.float64), labels.T, strict=True)):
        value = without_a_class[au] if au < 3 else None
        if value is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # scikit-learn on a single class
                value = expected(y[y >= 0], p[y >= 0])
        assert found[au] == pytest.approx(value, abs=1e-6 if dtype is np.float32 else 1e-12, nan_ok=True)


def test_counts_of_a_whole_data_set_do_not_overflow():
    rng = np.random.default_rng(0)
    labels = (rng.random((200_000, 1)) < 0.4).astype(np.int8)
    probs = np.clip(labels * 0.3 + rng.random(labels.shape) * 0.7, 0, 1)
    expected = reference.matthews_corrcoef(labels[:, 0], probs[:, 0] >= 0.5)
    assert matthews_correlation(probs, labels)[0] == pytest.approx(expected)
    assert roc_auc(probs, labels)[0] == pytest.approx(reference.roc_auc_score(labels, probs))


def test_a_probability_of_1_lies_in_the_last_bin():
    probs, labels = np.array([[1.0], [0.95], [0.5]]), np.array([[0], [1], [0]], np.int8)
    assert ece(probs, labels) == pytest.approx((abs(1.95 - 1) + 0.5) / 3)


def test_reliability_agrees_with_scikit_learn():
    """scikit-learn's bins have their upper ends instead: no probability lies on one."""
    rng = np.random.default_rng(0)
    probs, labels = rng.uniform(0.001, 0.999, (500, 2)), rng.integers(-1, 2, (500, 2)).astype(np.int8)
    frames, promised, present = reliability(probs, labels, bins=10)
    for au in range(2):
        known, some = labels[:, au] >= 0, frames[:, au] > 0
        share, mean = calibration_curve(labels[known, au], probs[known, au], n_bins=10)
        assert frames[:, au].sum() == known.sum()
        np.testing.assert_allclose(present[some, au] / frames[some, au], share)
        np.testing.assert_allclose(promised[some, au] / frames[some, au], mean)


def test_skew_normalised_f1_is_f1_where_frames_of_the_rarer_class_are_repeated():
    rng = np.random.default_rng(0)
    labels = np.repeat([1, 0], [30, 240]).astype(np.int8)[:, None]
    probs = rng.random(labels.shape) * 0.7 + labels * 0.3
    repeated = np.repeat(np.arange(270), np.where(labels[:, 0] == 1, 8, 1))
    same = f1_per_au(confusion_counts(probs[repeated], labels[repeated]))
    assert skew_normalised_f1(probs, labels) == pytest.approx(same)
    assert f1_per_au(confusion_counts(probs, labels)) < same


def cases(elements):
    """Probabilities of the given elements and labels, a few frames of two AUs."""
    return st.integers(1, 40).flatmap(
        lambda frames: st.tuples(
            arrays(np.float64, (frames, 2), elements=elements),
            arrays(np.int8, (frames, 2), elements=st.sampled_from([-1, 0, 1])),
        )
    )


SIXTY_FOURTHS = st.integers(0, 64).map(lambda k: k / 64)  # 1 - p and p^2 are exact and keep every tie


@settings(max_examples=100, deadline=None)
@given(cases(SIXTY_FOURTHS))
def test_only_the_order_counts_for_ranking(case):
    probs, labels = case
    for measure in (average_precision, roc_auc):
        found = measure(probs, labels)
        np.testing.assert_array_equal(measure(probs**2, labels), found)
        np.testing.assert_array_equal(measure(probs / 4 + 0.125, labels), found)
    np.testing.assert_allclose(roc_auc(1 - probs, labels), 1 - roc_auc(probs, labels), atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(cases(st.floats(0, 1)), st.randoms(use_true_random=False))
def test_values_stay_in_range_and_the_order_of_frames_is_of_no_account(case, random):
    probs, labels = case
    order = random.sample(range(len(probs)), len(probs))
    for measure in ALL:
        found = measure(probs, labels)
        defined = found[~np.isnan(found)]
        assert (defined <= 1 + 1e-12).all()
        assert (defined >= (-1 - 1e-12 if measure is matthews_correlation else 0)).all()
        np.testing.assert_allclose(measure(probs[order], labels[order]), found, atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(cases(st.floats(0, 1)), arrays(np.float64, 40, elements=st.floats(0, 1)))
def test_unknown_frames_count_nowhere(case, more):
    probs, labels = case
    extended = np.vstack([probs, more.reshape(-1, 2)]), np.vstack([labels, np.full((20, 2), -1, np.int8)])
    for measure in ALL:
        np.testing.assert_allclose(measure(*extended), measure(probs, labels), atol=1e-12)


WEIGHTS = arrays(np.float64, 2, elements=st.floats(0.01, 100))


@settings(max_examples=200, deadline=None)
@given(arrays(np.float64, (30, 2), elements=st.floats(0, 1)), WEIGHTS)
def test_undoing_inverts_the_weighting_and_keeps_the_order(p, w):
    weighted = w * p / (w * p + (1 - p))  # so bracketed it is at most 1
    np.testing.assert_allclose(undo_pos_weight(weighted, w), p, rtol=1e-9, atol=1e-12)
    corrected = undo_pos_weight(np.sort(p, 0), w)
    assert (np.diff(corrected, axis=0) >= -1e-15).all()
    assert ((corrected >= 0) & (corrected <= 1)).all()
    np.testing.assert_array_equal(undo_pos_weight(p, np.ones(2)), p)


@pytest.mark.parametrize("weight", [1e-30, 1e-3, 1.0, 17.8, 1e30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_undoing_is_safe_at_both_ends(dtype, weight):
    ends = np.array([[0.0], [1.0], [np.finfo(dtype).tiny], [np.nextafter(1, 0, dtype=dtype)]], dtype)
    corrected = undo_pos_weight(ends, [weight])
    assert corrected.dtype == dtype
    assert corrected[:2, 0].tolist() == [0, 1]
    assert ((corrected >= 0) & (corrected <= 1)).all()


@pytest.mark.parametrize("weight", [[0, 1], [-1, 1], [np.inf, 1], [np.nan, 1], [1], 1.0, [[1, 1]], [1e39, 1]])
def test_weights_must_be_positive_finite_and_one_for_each_au(weight):
    with (
        np.errstate(over="ignore"),  # 1e39 as float32
        pytest.raises(ValueError, match="pos_weight"),
    ):
        undo_pos_weight(np.full((3, 2), 0.5, np.float32), weight)


@pytest.mark.parametrize(("positives", "weight"), [(10, 5.0), (60, 0.8), (100, 1.0), (3, 33.3)])
def test_undoing_answers_the_loss_of_the_package(positives, weight):
    """At the probability that the weighted loss is least for, its slope is 0; undone, it is the true rate."""
    labels = (torch.arange(200) < positives).to(torch.int8)[:, None]
    loss = BinaryCrossEntropy(1, lambda positives, known: torch.tensor([weight]))
    loss.set_counts(torch.tensor([positives]), torch.tensor([200]))
    logit = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logit], max_iter=50, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = loss(logit.expand(200, 1), labels)
        value.backward()
        return value

    optimizer.step(closure)
    q = torch.sigmoid(logit).detach().numpy()
    assert undo_pos_weight(q, loss.pos_weight.numpy()).item() == pytest.approx(positives / 200, abs=1e-4)


def test_undoing_restores_the_calibration_of_a_weighted_logistic_model():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40_000, 2))
    true = 1 / (1 + np.exp(-(features @ [1.0, -0.7] - 2.5)))
    labels = (rng.random(len(true)) < true).astype(np.int8)[:, None]
    weight = [1 / (2 * labels[:20_000].mean())]  # paper Eq. 4
    model = LogisticRegression(C=1e6, class_weight={0: 1.0, 1: weight[0]})
    model.fit(features[:20_000], labels[:20_000, 0])
    probs, labels, true = model.predict_proba(features[20_000:])[:, 1:], labels[20_000:], true[20_000:]
    corrected = undo_pos_weight(probs, weight)
    assert ece(probs, labels) > 0.1
    assert ece(corrected, labels) < 0.015
    np.testing.assert_allclose(corrected[:, 0], true, atol=0.03)
    assert brier(corrected, labels) == pytest.approx(brier(true[:, None], labels), abs=5e-4)
    np.testing.assert_array_equal(roc_auc(corrected, labels), roc_auc(probs, labels))


KEYS = (
    *("f1", "f1_tuned", "average_precision", "roc_auc", "balanced_accuracy", "mcc", "f1_skew_normalised"),
    *("brier", "ece", "brier_corrected", "ece_corrected"),
)


def test_the_summary_is_the_measures_in_their_order():
    probs, labels = simulated(np.random.default_rng(0), 600, 5, 40, np.float32)
    video = np.repeat(np.arange(12), 50)
    weight = [2.0, 0.5, 3.0, 9.0, 1.0]
    found = summary(probs, labels, video, weight)
    assert tuple(found) == KEYS
    tuned = video_counts(probs, labels, video, cross_fitted_thresholds(probs, labels, video)).sum(0)
    corrected = undo_pos_weight(probs, weight)
    expected = (
        f1_per_au(confusion_counts(probs, labels)),
        f1_per_au(tuned),
        *(measure(probs, labels) for measure in ALL),
        brier(corrected, labels),
        ece(corrected, labels),
    )
    for key, values in zip(KEYS, expected, strict=True):
        assert found[key].dtype == np.float64
        np.testing.assert_array_equal(found[key], values, err_msg=key)


@pytest.mark.parametrize("weight", [None, np.ones(5)])
def test_without_weights_there_is_nothing_to_correct(weight):
    probs, labels = simulated(np.random.default_rng(1), 200, 5)
    found = summary(probs, labels, np.repeat(["a", "b", "c", "d"], 50), weight)
    np.testing.assert_array_equal(found["brier_corrected"], found["brier"])
    np.testing.assert_array_equal(found["ece_corrected"], found["ece"])


def test_macro_is_the_mean_of_what_is_defined():
    assert macro(np.array([0.25, np.nan, 0.75])) == 0.5
    assert np.isnan(macro(np.full(3, np.nan)))


@pytest.mark.parametrize("measure", ALL)
@pytest.mark.parametrize(
    ("probs", "labels", "named"),
    [
        (np.full((4, 2), 0.5), np.zeros((4, 3), np.int8), "differ|must both"),
        (np.full(4, 0.5), np.zeros(4, np.int8), "probs"),
        (np.full((4, 2), 1.5), np.zeros((4, 2), np.int8), "probs from 1.5"),
        (np.full((4, 2), np.nan), np.zeros((4, 2), np.int8), "probs from nan"),
        (np.full((4, 2), 0.5), np.full((4, 2), 5, np.int8), "labels from 5"),
    ],
)
def test_wrong_input_is_named(measure, probs, labels, named):
    with pytest.raises(ValueError, match=named):
        measure(probs, labels)
