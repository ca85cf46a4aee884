"""Reading where AUs moved the face: matched by video and frame, and refused where it does not fit."""

import numpy as np
import pytest

from aunet.data.faults import DataError
from aunet.data.frames import FrameTable
from aunet.data.rendered.truth import has_truth, read_displacement

TRUTH_AUS = [12, 1, 4]


def arrays(frames=4, seed=0):
    """Content of one truth file."""
    rng = np.random.default_rng(seed)
    return {
        "aus": np.array(TRUTH_AUS),
        "intensity": rng.random((frames, 3)).astype(np.float32),
        "regions": rng.integers(256, size=(frames, 3, 28, 28)).astype(np.uint8),
    }


@pytest.fixture
def truth(tmp_path):
    """The content of two videos' files, and what writes it under the data set's folder."""
    (tmp_path / "truth").mkdir()
    content = {name: arrays(seed=seed) for seed, name in enumerate(("a_left", "b"))}

    def write():
        for name, of_video in content.items():
            np.savez_compressed(tmp_path / "truth" / f"{name}.npz", **of_video)
        return tmp_path

    write()
    return content, write


def table(content, videos=("a_left", "b"), aus=(1, 12)):
    """Frames 2 and 4 of the first video, 1 and 3 of the second, labelled as rendered sets are."""
    video, frame = np.array([0, 0, 1, 1], np.int32), np.array([2, 4, 1, 3], np.int32)
    columns = [TRUTH_AUS.index(au) for au in aus if au in TRUTH_AUS]
    known = [content[name]["intensity"] for name in ("a_left", "b")]
    labels = np.array([known[v][f - 1, columns] >= 0.3 for v, f in zip(video, frame, strict=True)], np.int8)
    return FrameTable(aus, videos, videos, video, frame, labels, source=None)


def test_frames_are_matched_by_video_number_and_au(truth):
    content, write = truth
    rows = np.array([3, 0])
    found = read_displacement(write(), table(content), rows)
    assert found.shape == (2, 2, 28, 28)
    for number, name, frame in ((0, "b", 3), (1, "a_left", 2)):
        np.testing.assert_array_equal(found[number, 0], content[name]["regions"][frame - 1, 1])
        np.testing.assert_array_equal(found[number, 1], content[name]["regions"][frame - 1, 0])


def test_unknown_labels_contradict_nothing(truth):
    content, write = truth
    unknown = table(content)
    unknown.labels[:] = -1
    assert read_displacement(write(), unknown, np.arange(4)).any()


def test_only_rendered_sets_have_a_truth(truth, tmp_path):
    assert has_truth(tmp_path)
    assert not has_truth(tmp_path / "truth")


def refusal(content, write, **changes):
    """What is said; the file at fault is that of video a_left."""
    with pytest.raises(DataError) as caught:
        read_displacement(write(), table(content, **changes), np.arange(4))
    assert "a_left.npz" in str(caught.value)
    return str(caught.value)


def test_a_truth_of_another_set_is_refused(truth):
    content, write = truth
    labelled = table(content)
    content["a_left"]["intensity"] = 1 - content["a_left"]["intensity"]
    with pytest.raises(DataError, match=r"a_left\.npz: contradicts the labels \(frame [24], AU1?[12]\)"):
        read_displacement(write(), labelled, np.arange(4))


def test_aus_and_frames_that_the_truth_lacks_are_refused(truth):
    content, write = truth
    assert "knows nothing of AU2" in refusal(content, write, aus=(1, 2))
    content["a_left"] = {name: a if name == "aus" else a[:3] for name, a in content["a_left"].items()}
    content["a_left"]["regions"] = content["a_left"]["regions"][:3]
    whole = {**content, "a_left": arrays()}
    with pytest.raises(DataError, match=r"a_left\.npz: has 3 frames, the data set frame 4"):
        read_displacement(write(), table(whole), np.arange(4))


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("regions", np.zeros((4, 3, 14, 14), np.uint8)),
        ("regions", np.zeros((5, 3, 28, 28), np.uint8)),
        ("regions", np.zeros((4, 3, 28, 28))),
        ("intensity", np.zeros(4, np.float32)),
        ("intensity", np.zeros((4, 3), int)),
        ("aus", np.array(["1", "4", "12"])),
        ("aus", np.array([1, 4])),
    ],
)
def test_arrays_that_do_not_fit_are_refused(name, array, truth):
    content, write = truth
    labelled = table(content)
    content["a_left"][name] = array
    with pytest.raises(DataError, match=r"a_left\.npz: .*(do not fit|other kinds).*; render the set again"):
        read_displacement(write(), labelled, np.arange(4))


@pytest.mark.parametrize("damage", ["missing", "empty", "cut off", "no archive", "pickled", "lacking"])
def test_damaged_files_are_named(damage, truth, tmp_path):
    content, write = truth
    labelled = table(content)
    write()
    file = tmp_path / "truth" / "a_left.npz"
    whole = file.read_bytes()
    if damage == "missing":
        file.unlink()
    elif damage == "pickled":
        np.savez(file, **{**content["a_left"], "regions": np.array([{}], object)}, allow_pickle=True)
    elif damage == "lacking":
        np.savez(file, aus=np.array(TRUTH_AUS))
    else:
        file.write_bytes({"empty": b"", "cut off": whole[: len(whole) // 2], "no archive": b"x" * 99}[damage])
    with pytest.raises(DataError, match=r"a_left\.npz: not readable .*; render the set again"):
        read_displacement(tmp_path, labelled, np.arange(4))


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "sub/a"])
def test_names_that_lead_out_of_the_folder_are_refused(name, truth):
    content, write = truth
    with pytest.raises(DataError, match="is no name of a truth file"):
        read_displacement(write(), table(content, videos=(name, "b")), np.arange(4))
