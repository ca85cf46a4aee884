"""Intervals and tests over videos, against simulation and against direct computation."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aunet.metrics import confusion_counts, f1_per_au
from aunet.statistics import au_intervals, compare, f1_interval, holm, video_counts

pytestmark = pytest.mark.filterwarnings("ignore:.* videos. an interval may cover less")

SCRIPT = Path(__file__).parents[1] / "experiments" / "interval_coverage.py"
_spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
simulation = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(simulation)


def simulated(rng, videos, aus=12, frames=60, shift=0.0, noise=1.0):
    """Probabilities, labels and video of clustered frames: each video has rates and skills of its own."""
    video = np.repeat(np.arange(videos), frames)
    rate = 1 / (1 + np.exp(-(rng.normal(-1, 0.7, aus) + rng.normal(0, 1.0, (videos, aus)))))
    labels = (rng.random((videos * frames, aus)) < rate[video]).astype(np.int8)
    skill = 1.2 + rng.normal(0, 0.6, (videos, aus)) + shift
    bias = rng.normal(0, 0.5, (videos, aus))
    logits = skill[video] * (2 * labels - 1) + bias[video] + rng.normal(0, noise, labels.shape)
    return 1 / (1 + np.exp(-logits)), labels, video


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.int8, (40, 3), elements=st.sampled_from([-1, 0, 1])),
    arrays(np.float64, (40, 3), elements=st.floats(0, 1)),
    arrays(np.int64, 40, elements=st.integers(0, 6)),
)
def test_counts_of_videos_add_up_to_those_of_the_split(labels, probs, video):
    counts = video_counts(probs, labels, video)
    assert counts.shape == (video.max() + 1, 3, 3)
    np.testing.assert_array_equal(counts.sum(0), confusion_counts(probs, labels))
    for number in range(video.max() + 1):
        rows = video == number
        np.testing.assert_array_equal(counts[number], confusion_counts(probs[rows], labels[rows]))


def test_thresholds_may_differ_between_aus():
    probs, labels, video = simulated(np.random.default_rng(0), 5, 3)
    thresholds = np.array([0.2, 0.5, 0.8])
    np.testing.assert_array_equal(
        video_counts(probs, labels, video, thresholds).sum(0),
        np.stack([confusion_counts(probs, labels, t)[:, i] for i, t in enumerate(thresholds)], 1),
    )


def test_the_value_is_the_pooled_macro_f1_and_the_mean_over_seeds():
    rng = np.random.default_rng(0)
    seeds = [video_counts(*simulated(rng, 50)) for _ in range(3)]
    values = [float(f1_per_au(counts.sum(0)).mean()) for counts in seeds]
    assert f1_interval(seeds[0]).value == pytest.approx(values[0])
    assert f1_interval(seeds).value == pytest.approx(np.mean(values))
    per_au = au_intervals(seeds[0])
    assert [e.value for e in per_au] == pytest.approx(f1_per_au(seeds[0].sum(0)).tolist())
    assert all(e.low <= e.value <= e.high for e in per_au)


def test_the_standard_error_is_that_of_resampled_videos():
    counts = video_counts(*simulated(np.random.default_rng(1), 200))
    rng = np.random.default_rng(2)
    resampled = [f1_per_au(counts[rng.integers(200, size=200)].sum(0)).mean() for _ in range(800)]
    assert f1_interval(counts).error == pytest.approx(np.std(resampled), rel=0.1)


def test_more_seeds_that_differ_widen_the_interval_and_equal_ones_do_not():
    rng = np.random.default_rng(3)
    probs, labels, video = simulated(rng, 60)
    logits = np.log(probs / (1 - probs))
    same = video_counts(probs, labels, video)
    others = [video_counts(1 / (1 + np.exp(-(logits + step))), labels, video) for step in (-1.0, 0.0, 1.2)]
    one, equal, different = f1_interval(same), f1_interval([same] * 3), f1_interval(others)
    assert equal.error == pytest.approx(one.error)
    assert different.error > 1.1 * one.error


@pytest.mark.parametrize(("videos", "at_least"), [(27, 0.90), (41, 0.92), (105, 0.92)])
def test_intervals_cover(videos, at_least):
    """Less what 400 data sets leave to chance; experiments/interval_coverage.py takes more."""
    found = simulation.coverage(videos, 400, 500)
    assert at_least - 0.02 <= found <= 0.99


def test_a_true_null_is_rejected_as_often_as_promised():
    assert 0.02 <= simulation.rejections(41, 400, 500) <= 0.085


def test_few_videos_deserve_a_warning():
    with pytest.warns(UserWarning, match="30 videos: an interval may cover less than 95%"):
        f1_interval(video_counts(*simulated(np.random.default_rng(0), 30)))


def test_a_true_difference_is_found():
    rng = np.random.default_rng(6)
    probs, labels, video = simulated(rng, 80)
    logits = np.log(probs / (1 - probs))
    worse = 1 / (1 + np.exp(-(logits + rng.normal(0, 2.5, logits.shape))))
    good, bad = video_counts(probs, labels, video), video_counts(worse, labels, video)
    found = compare(good, bad)
    assert found.value > 0.02
    assert 0 < found.low < found.value < found.high
    assert found.p < 0.01
    assert 0 < found.detectable < found.value
    mirrored = compare(bad, good)
    assert mirrored.value == pytest.approx(-found.value)
    assert mirrored.p == found.p


def test_a_row_against_itself_differs_by_nothing():
    counts = video_counts(*simulated(np.random.default_rng(8), 30))
    found = compare(counts, counts)
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_rows_that_cannot_be_paired_are_refused():
    rng = np.random.default_rng(9)
    one, other = video_counts(*simulated(rng, 10)), video_counts(*simulated(rng, 11))
    with pytest.raises(ValueError, match="cannot be paired"):
        compare(one, other)
    with pytest.raises(ValueError, match="cannot be paired"):
        compare([one, one], one)


def test_holm_equals_its_definition():
    p = [0.01, 0.04, 0.03, 0.005]
    ordered = sorted(p)
    adjusted = np.maximum.accumulate([min(1, (4 - i) * value) for i, value in enumerate(ordered)])
    expected = dict(zip(ordered, adjusted, strict=True))
    assert holm(p) == pytest.approx([expected[value] for value in p])
    assert holm([]) == []


def test_aus_that_nobody_shows_and_nobody_detects_count_zero():
    labels, video = np.zeros((20, 2), np.int8), np.repeat(np.arange(4), 5)
    labels[:, 0] = np.arange(20) % 2
    probs = np.where(labels == 1, 0.9, 0.1)
    estimate = f1_interval(video_counts(probs, labels, video))
    assert (estimate.value, estimate.low, estimate.high) == (0.5, 0.5, 0.5)
