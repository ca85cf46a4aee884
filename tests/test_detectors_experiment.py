"""How the comparison of detectors counts, with detectors that are known."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[1] / "experiments" / "detectors.py"


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(SCRIPT.parent))  # scenes.py
    try:
        spec = importlib.util.spec_from_file_location("detectors_experiment", SCRIPT)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(SCRIPT.parent))
    return module


FACE = np.array([(10, 20), (30, 20), (20, 30), (12, 40), (28, 40)], float)
"""Eyes 20 pixels apart, with its middle at (20, 30)."""


def moved(right, down=0, face=FACE):
    return face + np.array((right, down))


PEOPLE = np.stack([FACE, moved(100)])


def as_found(script, points):
    return script.Face(points.mean(0), points[:2])


def test_faces_are_counted_once_and_what_is_none_is_extra(script):
    found = [as_found(script, one) for one in map(moved, (1, 2, 300))]
    assert script.score(found, PEOPLE)[:2] == (1, 2)
    assert script.score([], PEOPLE)[:2] == (0, 0)
    assert script.score(found, PEOPLE[:0])[:2] == (0, 3)


@pytest.mark.parametrize(("shift", "there"), [(9.9, 1), (10.1, 0)])
def test_a_face_is_found_within_half_the_distance_between_its_eyes(script, shift, there):
    assert script.score([as_found(script, moved(0, shift))], FACE[None]).found == there


def test_errors_are_in_eye_distances_along_and_across_the_eyes(script):
    """Whatever the size and turn of the face."""
    turn = 3 * np.array([(0.8, -0.6), (0.6, 0.8)])
    for matrix in (np.eye(2), turn):
        points = FACE @ matrix.T
        (error,) = script.score([as_found(script, points + matrix @ (2, 1))], points[None]).errors
        np.testing.assert_allclose(error, [(0.1, 0.05)] * 2)


def test_offset_and_scatter_are_told_apart(script):
    pictures = [script.Picture(np.full((64, 160, 3), value, np.uint8), PEOPLE) for value in (0, 255)]
    empty = [script.Picture(np.zeros((8, 8, 3), np.uint8), np.empty((0, 5, 2)))]

    def detect(pixels):
        size = pixels.shape[1] / 160
        shake = 1 if pixels.mean() > 127 else -1
        return [as_found(script, size * moved(2, shake, one)) for one in PEOPLE]

    figures = script.compare(detect, pictures, empty)
    for size in script.SIZES:
        assert figures[f"{size}/found"] == 1
        assert figures[f"{size}/extra"] == 0
        assert figures[f"{size}/eye_offset"] == pytest.approx(0.1)
        assert figures[f"{size}/eye_scatter"] == pytest.approx(0.05)
        assert figures[f"{size}/eye_distance_px"] == 20 * size
    assert figures["without_faces/extra"] == 2
    (line,) = script.table({"mine": figures}).splitlines()[2:]
    assert line.startswith("| mine | 100.0% | 100.0% | 100.0% | 0 | 2 | 5.0% | ")


def test_boxes_alone_are_enough(script):
    picture = script.Picture(np.zeros((64, 160, 3), np.uint8), PEOPLE)
    figures = script.compare(lambda _: [script.Face(FACE.mean(0), None)], [picture], [])
    assert figures["1.0/found"] == 0.5
    assert "1.0/eye_scatter" not in figures
    assert script.table({"boxes": figures}).splitlines()[2].count("|  |") == 1


def test_our_detector_takes_part(script):
    (picture,) = script.frames(0, 1)
    detect = dict(script.detectors(1))["MTCNN (aunet)"]
    assert script.score(detect(picture.pixels), picture.points)[:2] == (2, 0)
