"""F1 against scikit-learn, pooling over batches, and the trivial predictors against published numbers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import f1_score, precision_score, recall_score

from aunet.facs import AFFWILD2
from aunet.metrics import (
    all_present_f1,
    confusion_counts,
    f1_metrics,
    f1_per_au,
    precision_per_au,
    random_f1,
    recall_per_au,
)

# Aff-Wild2's training split in the third ABAW challenge: frames, and frames in which each AU is present.
FRAMES = 1_356_861
POSITIVES = np.array(
    [160329, 67650, 208911, 361132, 538973, 467499, 332410, 38160, 42686, 34752, 850250, 100973]
)


@st.composite
def predictions(draw):
    """Probabilities (ties at the threshold included) and labels, some AUs without positives or unknown."""
    shape = draw(st.integers(1, 30)), draw(st.integers(1, 6))
    probs = draw(arrays(np.float64, shape, elements=st.sampled_from([0.0, 0.25, 0.4999999, 0.5, 0.75, 1.0])))
    labels = draw(arrays(np.int8, shape, elements=st.sampled_from([-1, 0, 1])))
    for column in draw(st.sets(st.integers(0, shape[1] - 1))):
        labels[:, column] = np.minimum(labels[:, column], draw(st.sampled_from([-1, 0])))
    return probs, labels


def sklearns(score, probs, labels):
    """A score of each AU over its known labels, by scikit-learn."""
    scores = []
    for p, y in zip(probs.T, labels.T, strict=True):
        known = y >= 0
        scores.append(score(y[known], p[known] >= 0.5, zero_division=0) if known.any() else 0.0)
    return np.array(scores)


@settings(max_examples=60, deadline=None)
@given(predictions())
def test_f1_agrees_with_scikit_learn(case):
    probs, labels = case
    counts = confusion_counts(probs, labels)
    assert counts.shape == (3, labels.shape[1])
    assert counts.dtype == np.int64
    np.testing.assert_allclose(f1_per_au(counts), sklearns(f1_score, probs, labels), atol=1e-6)
    aus = range(labels.shape[1])
    assert f1_metrics(counts, aus)["val/f1"] == pytest.approx(
        sklearns(f1_score, probs, labels).mean(), abs=1e-6
    )


@settings(max_examples=30, deadline=None)
@given(predictions())
def test_precision_and_recall_agree_with_scikit_learn(case):
    counts = confusion_counts(*case)
    for ours, theirs in ((precision_per_au, precision_score), (recall_per_au, recall_score)):
        found = ours(counts)
        np.testing.assert_allclose(found, sklearns(theirs, *case), atol=1e-12)
        np.testing.assert_array_equal(ours(torch.from_numpy(counts)).numpy(), found)


@settings(max_examples=30, deadline=None)
@given(predictions())
def test_torch_and_numpy_agree(case):
    probs, labels = case
    counts = confusion_counts(torch.from_numpy(probs), torch.from_numpy(labels))
    assert counts.dtype == torch.int64
    assert (counts.numpy() == confusion_counts(probs, labels)).all()
    f1 = f1_per_au(counts)
    assert f1.dtype == torch.float64
    np.testing.assert_array_equal(f1.numpy(), f1_per_au(confusion_counts(probs, labels)))


@settings(max_examples=30, deadline=None)
@given(predictions(), st.data())
def test_counts_of_batches_add_up_to_the_pooled_ones(case, data):
    probs, labels = case
    cuts = sorted(data.draw(st.sets(st.integers(0, len(probs)), max_size=4)))
    batches = zip(np.split(probs, cuts), np.split(labels, cuts), strict=True)
    total = sum(confusion_counts(p, y) for p, y in batches)
    np.testing.assert_array_equal(total, confusion_counts(probs, labels))


def test_pooled_f1_is_not_the_mean_of_batch_f1():
    probs, labels = np.array([[1.0], [1.0], [1.0], [0.0]]), np.array([[1], [1], [0], [1]])
    pooled = f1_per_au(confusion_counts(probs, labels))[0]
    halves = [f1_per_au(confusion_counts(probs[i : i + 2], labels[i : i + 2]))[0] for i in (0, 2)]
    assert pooled == pytest.approx(2 / 3)
    assert np.mean(halves) == pytest.approx(1 / 2)


def test_counts_by_hand():
    probs = np.array([[0.5, 0.9], [0.49, 0.9], [0.7, 0.9], [0.1, 0.1]])
    labels = np.array([[1, 0], [1, -1], [0, 0], [0, -1]])
    counts = confusion_counts(probs, labels)
    assert counts.tolist() == [[1, 0], [1, 2], [1, 0]]
    assert f1_metrics(counts, (1, 12)) == {"val/f1": 0.25, "val/f1/AU1": 0.5, "val/f1/AU12": 0.0}
    assert set(f1_metrics(torch.from_numpy(counts), (1, 12), prefix="test/f1")) == {
        "test/f1",
        "test/f1/AU1",
        "test/f1/AU12",
    }


def test_threshold_is_inclusive_and_can_be_chosen():
    labels = np.ones((1, 1), np.int8)
    assert confusion_counts(np.array([[0.3]]), labels, threshold=0.3).tolist() == [[1], [0], [0]]
    assert confusion_counts(np.array([[0.3]]), labels).tolist() == [[0], [0], [1]]


def test_half_precision_probabilities_count_the_same():
    probs = torch.tensor([[0.5], [0.49]], dtype=torch.float16)
    assert confusion_counts(probs, torch.ones(2, 1)).tolist() == [[1], [0], [1]]


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"\(2, 12\).*\(2, 1\)"):
        confusion_counts(np.zeros((2, 12)), np.zeros((2, 1)))
    with pytest.raises(ValueError, match=r"shorter|longer"):
        f1_metrics(np.zeros((3, 12), int), AFFWILD2[:-1])


def test_trivial_predictors_by_hand():
    labels = np.array([[1, 1, -1], [0, 1, -1], [0, -1, -1], [0, -1, -1]], np.int8)
    # precision 1/4 and recall 1; both 1; nothing to find and nothing found
    assert all_present_f1(labels) == pytest.approx((2 / 5 + 1 + 0) / 3)
    # F1 = 2 r P / (r N + P): 1 / 3 and 2 / 3 for a fair coin
    assert random_f1(labels, np.full(3, 0.5)) == pytest.approx((1 / 3 + 2 / 3 + 0) / 3)
    assert random_f1(labels, np.ones(3)) == pytest.approx(all_present_f1(labels))
    assert random_f1(labels, np.zeros(3)) == 0.0


def test_random_f1_is_what_chance_gives():
    rng = np.random.default_rng(0)
    labels = (rng.random((4000, 4)) < (0.05, 0.2, 0.5, 0.8)).astype(np.int8)
    labels[rng.random(labels.shape) < 0.1] = -1
    rates = np.array([0.1, 0.2, 0.5, 0.6])
    draws = [
        f1_per_au(confusion_counts((rng.random(labels.shape) < rates).astype(float), labels)).mean()
        for _ in range(50)
    ]
    assert random_f1(labels, rates) == pytest.approx(np.mean(draws), abs=0.005)


def test_trivial_predictors_at_the_published_prevalences():
    """All present 0.295 and a fair coin 0.241, at a twentieth of the published frames."""
    labels = (np.arange(FRAMES // 20)[:, None] < POSITIVES // 20).astype(np.int8)
    assert all_present_f1(labels) == pytest.approx(0.295, abs=5e-4)
    assert random_f1(labels, np.full(12, 0.5)) == pytest.approx(0.241, abs=5e-4)
