"""The rendered pictures: every AU shows where FACS says, and the truth maps say so too."""

import numpy as np
import pytest
from PIL import Image

from aunet import facs
from aunet.data import rendered
from aunet.data.rendered import camera, scene, shading
from aunet.data.rendered.actions import AU_ACTIONS, DISTRACTORS, action_weights
from aunet.data.rendered.head import load_head, stacked_actions
from aunet.data.rendered.people import make_person
from aunet.data.rendered.view import five_points
from aunet.predict.align import similarity

PEOPLE = 6


def crop_of(person, intensity, landmarks="resting"):
    picture = scene.render_frame(
        load_head(),
        stacked_actions(),
        person,
        scene.studio(),
        scene.Pose(intensity, {}),
        landmarks,
        np.zeros((5, 2), np.float32),
    )
    return camera.to_srgb(shading.halve(picture.linear)).astype(float), picture


@pytest.fixture(scope="module")
def persons():
    return [make_person(load_head(), np.random.default_rng([11, i])) for i in range(PEOPLE)]


@pytest.fixture(scope="module")
def neutral(persons):
    return [crop_of(person, {})[0] for person in persons]


def box_mask(au, side):
    mask = np.zeros((side, side), bool)
    scale = side / facs.CROP_SIZE
    for x0, y0, x1, y1 in facs.REGIONS[au]:
        mask[round(y0 * scale) : round(y1 * scale), round(x0 * scale) : round(x1 * scale)] = True
    return mask


@pytest.mark.parametrize("au", facs.AFFWILD2)
def test_each_au_shows_in_its_region_and_in_the_truth_map(au, persons, neutral):
    change, moved = np.zeros((112, 112)), np.zeros((28, 28))
    for person, rest in zip(persons, neutral, strict=True):
        crop, picture = crop_of(person, {au: 1.0})
        change += np.abs(crop - rest).sum(axis=2)
        maps = dict(zip(facs.AFFWILD2, picture.regions.astype(float), strict=True))
        moved += maps.pop(au)
        assert sum(m.sum() for m in maps.values()) == 0
    assert change[box_mask(au, 112)].sum() / change.sum() >= 0.7
    assert moved[box_mask(au, 28)].sum() / moved.sum() >= 0.5
    assert np.abs(change).max() / PEOPLE > 20  # of 3 x 255: an apex can be seen


def test_aus_look_different(persons, neutral):
    changes = {}
    for au in facs.AFFWILD2:
        changes[au] = np.concatenate(
            [(crop_of(p, {au: 1.0})[0] - n).ravel() for p, n in zip(persons, neutral, strict=True)]
        )
        changes[au] /= np.linalg.norm(changes[au])
    for a in changes:
        for b in changes:
            if a < b:
                assert changes[a] @ changes[b] < 0.8, (a, b)


def test_stronger_activation_changes_more(persons, neutral):
    for au in facs.AFFWILD2:
        weak, strong = (np.abs(crop_of(persons[0], {au: i})[0] - neutral[0]).sum() for i in (0.3, 1.0))
        assert strong > 1.3 * weak


def test_frontal_landmarks_are_on_the_template(persons):
    for person in persons:
        marks = crop_of(person, {12: 1.0, 25: 1.0})[1].landmarks
        assert np.linalg.norm(marks - np.array(facs.TEMPLATE), axis=1).max() < 5.0


def test_an_open_mouth_moves_the_crop_where_moving_landmarks_align_it(persons):
    for person in persons:
        eyes = {}
        for landmarks in ("moving", "resting"):
            for jaw in (0.0, 1.0):
                picture = crop_of(person, {26: jaw, 25: jaw}, landmarks)[1]
                seen = picture.view.pixels(picture.view.turned(five_points(load_head(), person.vertices)))
                eyes[landmarks, jaw] = seen[:2]
                if landmarks == "moving":  # the least-squares solution: no similarity brings them nearer
                    back = similarity(picture.landmarks[None].astype(float), np.array(facs.TEMPLATE))[0]
                    np.testing.assert_allclose(back, np.eye(2, 3), atol=2e-4)
        np.testing.assert_allclose(eyes["resting", 1.0], eyes["resting", 0.0], atol=1e-4)
        np.testing.assert_allclose(eyes["moving", 0.0], eyes["resting", 0.0], atol=0.2)
        # The mouth sinks; the crop shrinks and follows it, so that the eyes come closer and rise.
        shut, open_ = eyes["moving", 0.0], eyes["moving", 1.0]
        assert np.ptp(open_[:, 0]) < 0.99 * np.ptp(shut[:, 0])
        assert open_[:, 1].mean() < shut[:, 1].mean() - 0.2


def test_people_differ(neutral):
    for i, a in enumerate(neutral):
        for b in neutral[:i]:
            assert np.abs(a - b).mean() > 5


def test_actions_exist_and_sides_are_balanced():
    head = load_head()
    for au in facs.AFFWILD2:
        assert action_weights(head, AU_ACTIONS[au]).sum() > 0
    for name in DISTRACTORS:
        assert action_weights(head, {name: 1.0}).sum() > 0
    weights = dict(zip(head.actions, action_weights(head, {"mouthSmile": 1.0}, 1.21), strict=True))
    assert weights["mouthSmileLeft"] / weights["mouthSmileRight"] == pytest.approx(1.21)


def test_contact_sheet(tmp_path):
    path = rendered.contact_sheet(tmp_path / "new/faces.png", people=1, aus=(1, 26))
    image = Image.open(path)
    assert image.format == "PNG"
    assert image.size[0] == 7 * 132 + 4
    with pytest.raises(ValueError, match="people"):
        rendered.contact_sheet(path, people=0)
    with pytest.raises(ValueError, match="aus"):
        rendered.contact_sheet(path, aus=(9,))
