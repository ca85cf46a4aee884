"""Smoothing, filling and thresholds against plain loops and known values, and what no input may change."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from run_folders import predictions, write_run

from aunet.config import postprocess
from aunet.metrics import confusion_counts, f1_per_au
from aunet.postprocess import Postprocess, frame_seconds, moving_average
from aunet.predictions import tune
from aunet.runs import RunError
from aunet.thresholds import best_threshold, rankings


def column(*values):
    """(n, 1) probabilities; None is a frame without a face."""
    return np.array([[np.nan if value is None else value] for value in values], np.float64)


@st.composite
def tracks(draw):
    """Probabilities of one face in sixteenths, rows of NaN among them, at irregular times in eighths."""
    steps = draw(st.lists(st.integers(0, 12), min_size=1, max_size=14))
    probs = draw(arrays(np.float64, (len(steps), 2), elements=st.integers(0, 16).map(lambda k: k / 16)))
    probs[~np.array([draw(st.booleans()) for _ in steps])] = np.nan
    return probs, np.cumsum(steps) / 8


def slow_mean(probs, seconds, before, after):
    """The window's mean by two loops."""
    result = np.full_like(probs, np.nan)
    for i, now in enumerate(seconds):
        window = [
            probs[j]
            for j, then in enumerate(seconds)
            if -before <= then - now <= after and (after or j <= i) and not np.isnan(probs[j]).any()
        ]
        if not np.isnan(probs[i]).any():
            result[i] = np.mean(window, 0)
    return result


def slow_fill(probs, seconds, linear, longest):
    """Filling by looking to the left and to the right of each frame."""
    known = [i for i in range(len(probs)) if not np.isnan(probs[i]).any()]
    result = probs.copy()
    for i in set(range(len(probs))) - set(known):
        left = max((k for k in known if k < i), default=None)
        right = min((k for k in known if k > i), default=None)
        if linear and left is not None and right is not None:
            span = seconds[right] - seconds[left]
            share = (seconds[i] - seconds[left]) / span if span else 0
            if span <= longest:
                result[i] = (1 - share) * probs[left] + share * probs[right]
            continue
        nearest = left if left is not None else right if linear else None
        if nearest is not None and abs(seconds[i] - seconds[nearest]) <= longest:
            result[i] = probs[nearest]
    return result


@settings(max_examples=100, deadline=None)
@given(tracks(), st.sampled_from(["centred", "causal"]), st.integers(1, 30))
def test_smoothing_is_the_mean_over_a_window_of_time(track, smoothing, eighths):
    probs, seconds = track
    width = eighths / 8
    found = Postprocess(smoothing=smoothing, smoothing_seconds=width).over_time(probs, seconds)
    reach = (width / 2, width / 2) if smoothing == "centred" else (width, 0)
    np.testing.assert_allclose(found, slow_mean(probs, seconds, *reach), atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(tracks(), st.sampled_from(["linear", "last"]), st.integers(1, 30))
def test_filling_follows_its_definition(track, fill, eighths):
    probs, seconds = track
    found = Postprocess(fill=fill, fill_seconds=eighths / 8).over_time(probs, seconds)
    np.testing.assert_allclose(found, slow_fill(probs, seconds, fill == "linear", eighths / 8), atol=1e-12)


def test_known_values():
    probs, seconds = column(None, 0.2, None, None, 0.8, 1.0, None), np.arange(7.0)
    for arguments, expected in (
        ({"fill": "linear", "fill_seconds": 3}, (0.2, 0.2, 0.4, 0.6, 0.8, 1.0, 1.0)),
        ({"fill": "linear", "fill_seconds": 2}, (0.2, 0.2, None, None, 0.8, 1.0, 1.0)),
        ({"fill": "last", "fill_seconds": 1}, (None, 0.2, 0.2, None, 0.8, 1.0, 1.0)),
        ({"smoothing": "centred", "smoothing_seconds": 2}, (None, 0.2, None, None, 0.9, 0.9, None)),
        ({"smoothing": "causal", "smoothing_seconds": 1}, (None, 0.2, None, None, 0.8, 0.9, None)),
        ({"smoothing": "causal", "smoothing_seconds": 3}, (None, 0.2, None, None, 0.5, 0.9, None)),
    ):
        np.testing.assert_allclose(
            Postprocess(**arguments).over_time(probs, seconds), column(*expected), err_msg=f"{arguments}"
        )


CAUSAL = Postprocess(smoothing="causal", smoothing_seconds=0.6, fill="last", fill_seconds=1.0)


@settings(max_examples=100, deadline=None)
@given(tracks(), st.integers(0, 13))
@example((np.array([[0.0], [1.0]]), np.zeros(2)), 1)  # two frames of the same time
def test_causal_means_that_the_future_changes_nothing(track, cut):
    probs, seconds = track
    found, occurrence = CAUSAL(probs, seconds)
    alone, occurrence_alone = CAUSAL(probs[:cut], seconds[:cut])
    np.testing.assert_allclose(alone, found[:cut], atol=1e-12)
    np.testing.assert_array_equal(occurrence_alone, occurrence[:cut])


@settings(max_examples=100, deadline=None)
@given(tracks(), st.integers(-1000, 1000), st.sampled_from([0.5, 2.0, 4.0]))
def test_only_differences_of_time_count_and_only_together_with_the_widths(track, shift, factor):
    probs, seconds = track
    one = Postprocess(0.5, "centred", 0.75, "linear", 1.5)
    other = Postprocess(0.5, "centred", 0.75 * factor, "linear", 1.5 * factor)
    found, occurrence = one(probs, seconds)
    np.testing.assert_allclose(one(probs, seconds + shift)[0], found, atol=1e-9)
    np.testing.assert_allclose(other(probs, seconds * factor)[0], found, atol=1e-9)
    assert ((found >= 0) & (found <= 1) | np.isnan(found)).all()
    np.testing.assert_array_equal(occurrence == -1, np.isnan(found))


@settings(max_examples=60, deadline=None)
@given(tracks())
def test_with_nothing_asked_for_nothing_changes(track):
    probs, seconds = track
    found, occurrence = Postprocess()(probs.astype(np.float32), seconds)
    np.testing.assert_array_equal(found, probs)
    np.testing.assert_array_equal(occurrence, np.where(np.isnan(probs), -1, probs >= 0.5))
    assert occurrence.dtype == np.int8


def test_frames_at_the_end_of_a_window_belong_to_it_at_any_frame_rate():
    """Times of frames are rounded: 0.3 s are nine frames of 30 a second everywhere in an hour of video."""
    frame = np.arange(1, 30 * 3600)
    seconds = frame_seconds(frame, 30)
    probs = np.random.default_rng(0).random((len(frame), 1))
    found = Postprocess(smoothing="centred", smoothing_seconds=0.3 - 1 / 30).over_time(probs, seconds)
    expected = np.convolve(probs[:, 0], np.full(9, 1 / 9), mode="valid")
    np.testing.assert_allclose(found[4:-4, 0], expected, atol=1e-12)


def test_smoothing_leaves_no_trace_of_what_lies_far_away():
    """Differences of running sums would: thousands of frames of 1 before some of 0 must not lift them."""
    probs = np.r_[np.full(50_000, 0.1), np.zeros(50)][:, None]
    assert (moving_average(probs, np.arange(len(probs)) / 30, 0.2, 0.2)[-40:] == 0).all()


def test_tracks_are_smoothed_by_themselves_in_any_order():
    rng = np.random.default_rng(0)
    track = rng.permutation(np.repeat(["a", "b", "c"], 20))
    seconds, probs = rng.integers(0, 1000, 60) / 30, rng.random((60, 3))
    smooth = Postprocess(smoothing="centred", smoothing_seconds=5)
    found = smooth.by_track(probs, seconds, track)
    for name in "abc":
        rows = np.flatnonzero(track == name)
        rows = rows[np.argsort(seconds[rows], kind="stable")]
        np.testing.assert_allclose(found[rows], smooth.over_time(probs[rows], seconds[rows]))


def test_thresholds_are_tuned_on_smoothed_probabilities():
    rng = np.random.default_rng(1)
    labels = rng.choice(np.array([-1, 0, 1], np.int8), (300, 2))
    probs = np.clip(0.3 * (labels == 1) + rng.random((300, 2)) * 0.7, 0, 1)
    seconds, track = np.tile(np.arange(30) / 10, 10), np.repeat(np.arange(10), 30)
    tuned = Postprocess("tuned", "centred", 0.3).tuned(probs, labels, seconds, track)
    smoothed = tuned.by_track(probs, seconds, track)
    assert tuned.threshold == tuple(best_threshold(ranking) for ranking in rankings(smoothed, labels))
    here = f1_per_au(confusion_counts(smoothed >= np.array(tuned.threshold), labels))
    assert (here >= f1_per_au(confusion_counts(smoothed, labels))).all()
    np.testing.assert_array_equal(tuned.detect(smoothed), smoothed >= np.array(tuned.threshold))
    assert Postprocess(0.4).tuned(probs, labels, seconds, track) == Postprocess(0.4)
    with pytest.raises(ValueError, match="threshold=tuned: labelled predictions are needed"):
        Postprocess("tuned")(probs, np.arange(300))


def test_thresholds_of_a_run_come_from_its_validation_predictions(tmp_path):
    folder = write_run(tmp_path / "s", "a")
    arrays = predictions("a")
    probs = 1 / (1 + np.exp(-arrays["logits"].astype(np.float64)))
    asked = Postprocess("tuned", "causal", 0.2)
    expected = asked.tuned(probs, arrays["labels"], (arrays["frame"] - 1) / 10, arrays["video"])
    assert tune(asked, folder, 10).threshold == pytest.approx(expected.threshold, abs=1e-6)
    assert tune(asked, folder, 10).threshold != tune(asked, folder, 2).threshold
    (folder / "metrics.json").unlink()
    with pytest.raises(RunError, match="no finished run"):
        tune(asked, folder, 10)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"threshold": 1.5}, "threshold=1.5 must be numbers from 0 to 1"),
        ({"threshold": (0.5, -0.1)}, "threshold="),
        ({"threshold": "best"}, "threshold=best must be .* 'tuned'"),
        ({"threshold": float("nan")}, "threshold=nan"),
        ({"smoothing": "median"}, "smoothing=median must be one of none, centred, causal"),
        ({"smoothing": "causal"}, r"smoothing_seconds=0\.0 must be a number above 0"),
        ({"fill": "linear", "fill_seconds": float("nan")}, "fill_seconds=nan"),
        ({"fill": "nearest", "fill_seconds": 1}, "fill=nearest"),
    ],
)
def test_wrong_settings_are_named(arguments, said):
    with pytest.raises(ValueError, match=said):
        Postprocess(**arguments)


@pytest.mark.parametrize(
    ("probs", "seconds", "said"),
    [
        (column(0.5, 0.5), [0], "seconds .1,. must give the time of each of 2 frames"),
        (column(0.5, 0.5), [1, 0], "must not go back"),
        (column(0.5, 0.5), [0, float("nan")], "finite"),
        (column(0.5, 1.5), [0, 1], "must lie in"),
        (np.array([[0.5, np.nan]]), [0], "must lie in"),
    ],
)
def test_wrong_input_is_named(probs, seconds, said):
    with pytest.raises(ValueError, match=said):
        Postprocess()(probs, seconds)


def test_thresholds_of_other_aus_are_refused():
    with pytest.raises(ValueError, match="2 values for 1 AUs"):
        Postprocess((0.5, 0.5))(column(0.5), [0])
    with pytest.raises(ValueError, match="frames per second: 0"):
        frame_seconds(np.array([1]), 0)


def test_configured_options_are_what_their_names_say():
    assert postprocess() == Postprocess()
    assert postprocess("tuned") == Postprocess("tuned")
    smoothed = postprocess("smoothed")
    assert (smoothed.smoothing, smoothed.fill, smoothed.threshold) == ("centred", "linear", 0.5)
    assert postprocess("causal", ["postprocess.smoothing_seconds=0.6"]) == CAUSAL
    assert postprocess("tuned_smoothed") == Postprocess(
        "tuned", "centred", smoothed.smoothing_seconds, "linear", smoothed.fill_seconds
    )
    given_by_hand = postprocess("none", ["postprocess.threshold=[0.5,0.25]", "postprocess.fill=linear",
                                         "postprocess.fill_seconds=inf"])  # fmt: skip
    assert given_by_hand([[np.nan, np.nan], [0.4, 0.4]], [0, 9])[1].tolist() == [[0, 1], [0, 1]]
    for name, overrides, said in (
        ("smooth", [], "no postprocess=smooth; there are causal, none, smoothed, tuned, tuned_smoothed"),
        ("none", ["postprocess.width=1"], "postprocess.width=1: say postprocess.KEY=VALUE, where KEY is one"),
        ("none", ["+postprocess.width=1"], "KEY is one of threshold, smoothing, smoothing_seconds, fill"),
        ("none", ["foo=1"], "foo=1: say"),
        ("none", ["~postprocess.fill"], "~postprocess.fill: say"),
        (
            "none",
            ["postprocess.smoothing_seconds=0.5"],
            "changes nothing while postprocess.smoothing",
        ),
        ("tuned", ["postprocess.fill_seconds=1"], "changes nothing while postprocess.fill is none"),
        ("none", ["postprocess.smoothing_seconds=abc"], "smoothing_seconds=abc"),
        ("none", ["postprocess.smoothing=median"], "smoothing=median must be one of"),
        ("none", ["postprocess.threshold=high"], "threshold=high must be"),
        ("smoothed", ["postprocess.fill_seconds=.inf"], "fill_seconds=.inf must be a number above 0"),
    ):
        with pytest.raises(ValueError, match=said):
            postprocess(name, overrides)
