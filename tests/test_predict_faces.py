"""Faces are found, followed and aligned: on a photograph, and on rendered people who move in a scene."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from media import ROOT, script
from PIL import Image
from skimage.data import astronaut

from aunet.facs import TEMPLATE
from aunet.predict import mtcnn
from aunet.predict.align import crops, similarity, template
from aunet.predict.detect import FaceDetector
from aunet.predict.faces import FaceFinder
from aunet.predict.frames import Frame
from aunet.predict.track import LONGEST_GAP, Tracker

ASTRONAUT = np.array([(203.6, 101.1), (246.6, 103.4), (224.5, 128.0), (203.0, 139.9), (244.8, 140.9)])
"""Pupils, tip of the nose and corners of the mouth, set by hand in an enlarged picture."""

FRAMES = 10


@pytest.fixture(scope="module")
def detector():
    return FaceDetector(torch.device("cpu"))


def found_in(detector, picture):
    look = detector.look(picture[None])
    return look.faces(0, look.windows([0])[0])


# Alignment


@given(
    st.floats(0.05, 20),
    st.floats(-np.pi, np.pi),
    st.floats(-500, 500),
    st.floats(-500, 500),
)
def test_a_similarity_is_found_again(scale, angle, dx, dy):
    c = scale * np.exp(1j * angle)
    matrix = np.array([(c.real, -c.imag, dx), (c.imag, c.real, dy)])
    points = np.array(TEMPLATE)
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    np.testing.assert_allclose(similarity(points[None], moved)[0], matrix, atol=1e-6)


@given(st.integers(0, 10_000))
def test_alignment_is_the_least_squares_solution(seed):
    points = np.random.default_rng(seed).normal(50, 30, (5, 2))
    target = template()
    # x' = a x - b y + tx, y' = b x + a y + ty, as a linear system.
    x, y = points.T
    zero, one = np.zeros(5), np.ones(5)
    system = np.vstack([np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)])
    (a, b, tx, ty), *_ = np.linalg.lstsq(system, np.concatenate(target.T), rcond=None)
    np.testing.assert_allclose(similarity(points[None], target)[0], [(a, -b, tx), (b, a, ty)], atol=1e-6)


def test_points_that_coincide_are_refused():
    with pytest.raises(ValueError, match="coincide"):
        similarity(np.ones((1, 5, 2)), template())


def test_an_aligned_picture_is_its_own_crop():
    picture = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
    crop = crops(picture, template()[None], 112)[0].permute(1, 2, 0).numpy()
    assert abs(crop.astype(int) - picture).max() <= 1


@pytest.mark.parametrize("scale", [1.5, 3.0, 7.0])
def test_a_large_face_is_averaged_not_sampled(scale):
    """A fine chequerboard becomes grey; a ramp stays what it is."""
    side = round(112 * scale)
    y, x = np.mgrid[:side, :side]
    chequered = np.repeat(((x + y) % 2 * 255).astype(np.uint8)[..., None], 3, 2)
    crop = crops(chequered, template()[None] * scale, 112)[0].numpy()[:, 8:-8, 8:-8]
    assert abs(crop.astype(float) - 127.5).max() < 50
    ramp = np.repeat(np.rint((x + 0.5) * 255 / side).astype(np.uint8)[..., None], 3, 2)
    crop = crops(ramp, template()[None] * scale, 112)[0].numpy()[0, 56, 8:-8].astype(float)
    np.testing.assert_allclose(crop, (np.arange(112)[8:-8] + 0.5) * 255 / 112, atol=2)


def test_outside_of_the_picture_is_black():
    crop = crops(np.full((112, 112, 3), 200, np.uint8), template()[None] + (60, 0), 112)[0].numpy()
    assert (crop[:, :, :50] == 200).all()
    assert (crop[:, :, 54:] == 0).all()
    assert not crops(np.full((20, 20, 3), 200, np.uint8), template()[None] + 500, 112).any()


# Detection


def test_weights_are_the_known_ones_or_refused(monkeypatch):
    assert [a.shape for a in mtcnn._read("pnet")][:3] == [(3, 3, 3, 10), (10,), (1, 1, 10)]
    layout = mtcnn.LAYOUTS["pnet"]
    monkeypatch.setitem(mtcnn.LAYOUTS, "pnet", layout._replace(sha256="0" * 64))
    with pytest.raises(RuntimeError, match=r"mtcnn==1\.0\.0"):
        mtcnn.CascadeNet("pnet")
    monkeypatch.setattr(mtcnn, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match=r"aunet\[predict\]"):
        mtcnn.CascadeNet("pnet")


def test_the_photograph_is_found_and_aligned(detector):
    faces = found_in(detector, astronaut())
    assert len(faces) == 1
    assert faces.scores[0] > 0.95
    x0, y0, x1, y1 = faces.boxes[0]
    assert (((x0, y0) < ASTRONAUT) & ((x1, y1) > ASTRONAUT)).all()
    assert np.linalg.norm(faces.points[0] - ASTRONAUT, axis=1).max() < 3
    # Where the crop shows what was marked by hand, against where alignment of those marks would put it.
    ours, by_hand = similarity(faces.points, template())[0], similarity(ASTRONAUT[None], template())[0]
    marks = np.column_stack([ASTRONAUT, np.ones(5)])
    assert np.linalg.norm(marks @ ours.T - marks @ by_hand.T, axis=1).max() < 3
    assert np.linalg.norm(marks @ ours.T - template(), axis=1).max() < 8  # a broad smile


def test_a_large_picture_is_looked_at_in_a_smaller_size(detector):
    small = astronaut()[40:200, 140:300]
    large = np.repeat(np.repeat(small, 10, 0), 10, 1)
    faces = found_in(detector, large)
    assert len(faces) == 1
    assert np.linalg.norm(faces.points[0] / 10 - (ASTRONAUT - (140, 40)), axis=1).max() < 3


@pytest.mark.parametrize("size", [(1, 1), (5, 300), (40, 40), (200, 90)])
def test_nothing_is_found_where_nothing_is(detector, size):
    assert len(found_in(detector, np.full((*size, 3), 90, np.uint8))) == 0


def test_the_smallest_face_is_a_choice(detector):
    assert len(found_in(FaceDetector(torch.device("cpu"), smallest=250), astronaut())) == 0


def test_a_small_face_of_a_large_picture_is_found(detector):
    """Sizes are those of the picture, however it is shrunk to be looked at."""
    large = np.full((3000, 4000, 3), 90, np.uint8)
    small = np.asarray(Image.fromarray(astronaut()).resize((300, 300), Image.Resampling.LANCZOS))
    large[1200:1500, 1700:2000] = small
    (box,) = found_in(detector, large).boxes
    assert 40 < np.sqrt(np.prod(box[2:] - box[:2])) < 70


# Tracking


def boxes_at(*centres, side=50):
    return np.array([(x - side / 2, y - side / 2, x + side / 2, y + side / 2) for x, y in centres])


def test_people_who_pass_each_other_keep_their_numbers():
    tracker = Tracker()
    for k in range(40):
        there, back = (100 + 10 * k, 100), (500 - 10 * k, 160)
        order = (there, back) if k % 3 else (back, there)
        numbers = tracker.number(boxes_at(*order), k / 25)
        assert dict(zip(order, numbers.tolist(), strict=True)) == {there: 1, back: 0}


def test_a_face_that_sets_off_fast_keeps_its_number():
    tracker = Tracker()
    for k, x in enumerate((100, 125, 175, 235)):  # of a face's side: by 0.5, 1.0 and 1.2
        assert tracker.number(boxes_at((x, 100)), k / 15).tolist() == [0]


def test_a_face_keeps_its_number_through_a_gap_and_loses_it_after_a_long_one():
    tracker = Tracker()
    for k in range(5):
        tracker.number(boxes_at((100 + 5 * k, 100)), k / 25)
    assert tracker.number(boxes_at((135, 100)), 7 / 25).tolist() == [0]
    assert tracker.number(boxes_at((135, 100)), 7 / 25 + LONGEST_GAP + 0.1).tolist() == [1]


def test_frames_further_apart_than_the_longest_gap_are_no_gap():
    tracker = Tracker()
    for k in range(5):
        assert tracker.number(boxes_at((100 + k, 100)), 3.0 * k).tolist() == [0]
    tracker.number(boxes_at()[:0].reshape(0, 4), 15.0)
    assert tracker.number(boxes_at((104, 100)), 18.0).tolist() == [1]


def test_who_appears_far_away_or_in_another_size_is_somebody_else():
    tracker = Tracker()
    tracker.number(boxes_at((100, 100)), 0.0)
    assert tracker.number(boxes_at((300, 100)), 0.04).tolist() == [1]
    assert tracker.number(boxes_at((300, 100), side=150), 0.08).tolist() == [2]


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(2, 8))
def test_numbers_are_dense_and_of_one_face_each(seed, people, frames):
    rng = np.random.default_rng(seed)
    tracker, seen = Tracker(), set()
    for k in range(frames):
        numbers = tracker.number(boxes_at(*rng.uniform(0, 400, (people, 2))), k / 10).tolist()
        assert len(set(numbers)) == people
        seen |= set(numbers)
    assert seen == set(range(len(seen)))
    assert len(tracker.expected(frames / 10 + 2 * LONGEST_GAP)) == 0


# Scenes


@pytest.fixture(scope="module")
def scene():
    """Two people who change sides."""
    return list(script("scenes").two_people(1, FRAMES))


@pytest.mark.parametrize("every", [1, 4])
def test_two_people_are_found_followed_and_aligned(detector, scene, every):
    finder, tracker = FaceFinder(detector, 112, 12, every), Tracker()
    frames = [Frame(k + 1, k / 15, one.pixels) for k, one in enumerate(scene)]
    parts = [finder.in_video(frames[start : start + 4], tracker) for start in range(0, FRAMES, 4)]
    rows = np.concatenate([part.rows for part in parts])
    shown = torch.cat([part.crops for part in parts]).permute(0, 2, 3, 1).numpy()
    assert set(rows["face"].tolist()) == {0, 1}  # nobody else, and nobody twice
    who, moved = {}, []
    for row, crop in zip(rows, shown, strict=True):
        one = scene[row["frame"] - 1]
        apart = np.linalg.norm(one.landmarks.mean(1) - row["points"].mean(0), axis=1)
        person = int(apart.argmin())
        assert who.setdefault(int(row["face"]), person) == person
        # The crop shows what the original does: the corners of the face are moved by a few pixels.
        matrix = similarity(row["points"][None], template())[0]
        corners = np.array([(28, 28), (84, 28), (28, 84), (84, 84)])
        placed = corners @ one.placed[person][:, :2].T + one.placed[person][:, 2]
        moved.append(np.linalg.norm(placed @ matrix[:, :2].T + matrix[:, 2] - corners, axis=1).mean())
        middle = slice(28, 84)
        assert abs(crop.astype(float) - one.crops[person])[middle, middle].mean() < 30
    assert len(rows) == 2 * FRAMES
    # What is left: how the detector's points differ from the mesh's, and the noise of the latter.
    assert np.median(moved) < 6


def test_the_check_tells_how_crops_are_displaced(scene, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")  # where it finds the scripts beside it
    check = script("predict_check")
    for one in scene[::3]:
        for crop, placed in zip(one.crops, one.placed, strict=True):
            # What stands where the original crop was put is that crop, but for two resamplings.
            again = check.cut_in_place(one.pixels, placed)
            assert abs(again.astype(int) - crop)[28:84, 28:84].mean() < 8
            there = template() @ placed[:, :2].T + placed[:, 2]
            np.testing.assert_allclose(check.similarity_between(there, placed), np.eye(2, 3), atol=1e-9)
    centre, angle = np.array([56.0, 56.0]), np.radians(5)
    moved = []
    for scale, shift in ((1.1, (2, -1)), (0.9, (4, -1))):
        turn = scale * np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
        moved.append(np.column_stack([turn, centre + shift - turn @ centre]))
    figures = check.displacement(np.stack(moved))
    kinds = [figures[f"{kind}_mean"] for kind in ("scale_percent", "turn_degrees", "right_px", "down_px")]
    assert kinds == pytest.approx([0, 5, 3, -1])
    assert figures["scale_percent_scatter"] == pytest.approx(10)
    assert figures["turn_degrees_scatter"] == figures["down_px_scatter"] == 0
    assert figures["corner_shift_px"] == pytest.approx(13.48)
