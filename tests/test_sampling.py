"""Which frames an epoch takes, in which order, and what paper Eq. 4 counts then."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aunet.data.frames import FrameTable
from aunet.data.sampling import Sampling, label_weights
from aunet.data.sources import CropFiles


def table_of(sizes, labels=None, seed=0):
    """Videos of these numbers of frames, with these labels or random ones of three AUs."""
    video = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    frame = np.concatenate([np.arange(1, size + 1, dtype=np.int32) for size in sizes])
    if labels is None:
        labels = np.random.default_rng(seed).choice([-1, 0, 0, 1], (len(video), 3)).astype(np.int8)
    names = tuple(f"v{i:03}" for i in range(len(sizes)))
    return FrameTable((1, 2, 4), names, names, video, frame, labels, CropFiles([], video, frame))


sizes = st.lists(st.integers(1, 30), min_size=1, max_size=8)
samplings = st.builds(
    Sampling,
    stride=st.integers(1, 7),
    frames_per_video=st.none() | st.integers(1, 40),
    balance=st.sampled_from([None, "videos", "labels"]),
)


@settings(max_examples=200, deadline=None)
@given(sizes=sizes, sampling=samplings, seed=st.integers(0, 2**40), epoch=st.integers(0, 1000))
def test_an_epoch_follows_from_seed_and_epoch_and_has_its_size(sizes, sampling, seed, epoch):
    table = sampling.thin(table_of(sizes))
    order = sampling.order(table, seed, epoch)
    np.testing.assert_array_equal(order, sampling.order(table, seed, epoch))
    assert len(order) == sampling.epoch_size(table)
    assert order.min() >= 0
    assert order.max() < len(table)


@settings(max_examples=100, deadline=None)
@given(sizes=sizes, stride=st.integers(1, 40))
def test_stride_keeps_every_nth_frame_of_each_video(sizes, stride):
    table = Sampling(stride=stride).thin(table_of(sizes))
    kept = {name: table.frame[table.video == i].tolist() for i, name in enumerate(table.videos)}
    assert kept == {f"v{i:03}": list(range(1, size + 1, stride)) for i, size in enumerate(sizes)}


def test_all_frames_once_by_default():
    table = table_of([5, 3, 9])
    orders = [Sampling().order(table, 0, epoch).tolist() for epoch in range(3)]
    assert all(sorted(order) == list(range(17)) for order in orders)
    assert len(set(map(str, orders))) == 3
    assert Sampling().order(table, 1, 0).tolist() != orders[0]


def test_frames_per_video_are_drawn_anew_without_repetition():
    table, sampling = table_of([50, 3, 20]), Sampling(frames_per_video=10)
    epochs = [sampling.order(table, 0, epoch) for epoch in range(200)]
    for order in epochs:
        assert np.bincount(table.video[order]).tolist() == [10, 3, 10]
        assert len(set(order.tolist())) == len(order)
    counts = np.bincount(np.concatenate(epochs), minlength=73) / 200
    assert counts[:50] == pytest.approx(np.full(50, 10 / 50), abs=0.12)
    assert (counts[50:53] == 1).all()


def test_balance_over_videos_takes_equally_many_of_each():
    table = table_of([50, 3, 20])
    order = Sampling(balance="videos").order(table, 0, 0)
    assert np.bincount(table.video[order]).tolist() == [24, 24, 24]
    per_frame = np.bincount(order, minlength=73)
    assert set(per_frame[50:53].tolist()) == {8}
    assert per_frame[:50].max() == 1
    assert per_frame[53:].tolist().count(2) == 4
    order = Sampling(balance="videos", frames_per_video=5).order(table, 0, 0)
    assert np.bincount(table.video[order]).tolist() == [5, 5, 5]


def test_balance_over_labels_draws_rare_aus_more_often():
    labels = np.zeros((1000, 3), np.int8)
    labels[:10, 0], labels[:400, 1], labels[300:500, 2] = 1, 1, 1
    table = table_of([1000], labels)
    weights = label_weights(table)
    assert weights[:10] == pytest.approx(1 / 10)
    assert weights[10:300] == pytest.approx(1 / 400)
    assert weights[300:500] == pytest.approx(1 / 200)
    assert weights[500:] == pytest.approx(1 / 500)
    order = Sampling(balance="labels").order(table, 0, 0)
    rates = (labels[order] == 1).mean(0)
    expected = (weights[:, None] * labels).sum(0) / weights.sum()
    assert rates == pytest.approx(expected, abs=0.05)
    assert rates[0] > 0.2


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4), sampling=samplings)
def test_counts_of_eq4_are_the_mean_over_epochs(sizes, sampling):
    table = sampling.thin(table_of(sizes, seed=1))
    positives, known = sampling.expected_counts(table)
    epochs = [table.labels[sampling.order(table, 3, epoch)] for epoch in range(400)]
    for expected, drawn in (
        (positives, [(labels == 1).sum(0) for labels in epochs]),
        (known, [(labels >= 0).sum(0) for labels in epochs]),
    ):
        spread = np.std(drawn, 0) / 20 + 1e-9
        assert (np.abs(np.mean(drawn, 0) - expected) <= 6 * spread + 1e-6).all()


def test_plain_counts_are_those_of_the_table():
    table = table_of([40, 7])
    positives, known = Sampling().expected_counts(table)
    assert positives.tolist() == (table.labels == 1).sum(0).tolist()
    assert known.tolist() == (table.labels >= 0).sum(0).tolist()
    thin = Sampling(stride=3).thin(table)
    assert Sampling(stride=3).expected_counts(thin)[0].tolist() == thin.positives().tolist()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"stride": 0}, "sampling.stride=0"),
        ({"frames_per_video": 0}, "sampling.frames_per_video=0"),
        ({"balance": "people"}, "sampling.balance=people must be videos, labels or null"),
    ],
)
def test_impossible_settings_are_named(arguments, said):
    with pytest.raises(ValueError, match=said):
        Sampling(**arguments)
