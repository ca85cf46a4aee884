"""The rendered data set: layout, labels, rates, determinism, and what happens after an interruption."""

import concurrent.futures
import csv
import hashlib
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from aunet import facs
from aunet.data import rendered
from aunet.data.rendered.behaviour import LABEL_THRESHOLD, RATES, plan_intensities

VIDEOS = {"train": 10, "val": 6, "test": 2}
ARGUMENTS = {"videos": VIDEOS, "frames_per_video": 3, "stride": 30, "seed": 3}
ANNOTATIONS = "Third ABAW Annotations/AU_Detection_Challenge"


def tree(root):
    """Digest of every file that belongs to the set."""
    files = (p for p in root.rglob("*") if p.is_file() and p.name != ".lock")
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def read_labels(path):
    return np.loadtxt(path, delimiter=",", skiprows=1, dtype=int, ndmin=2)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return rendered.render(tmp_path_factory.mktemp("rendered") / "set", workers=2, **ARGUMENTS)


def test_layout_is_that_of_affwild2(root):
    train = sorted(p.stem for p in (root / ANNOTATIONS / "Train_Set").iterdir())
    val = sorted(p.stem for p in (root / ANNOTATIONS / "Validation_Set").iterdir())
    test = (root / "Action_Unit_Detection_Challenge_test_set_release.txt").read_text().split()
    assert sorted(p.name for p in (root / "cropped_aligned").iterdir()) == sorted([*train, *val, *test])
    assert (len(train), len(val), len(test)) == (11, 7, 2)  # the sixth video of a split shows two people
    expected = (root / "AU_ABAW_Challenge_test_files_expected_frames.txt").read_text().split()
    assert expected == [f"{name},3" for name in test]
    for path in (root / ANNOTATIONS).rglob("*.txt"):
        lines = path.read_text().splitlines()
        assert lines[0] == ",".join(f"AU{au}" for au in facs.AFFWILD2)
        assert len(lines) == 4
        assert all(len(line.split(",")) == 12 for line in lines)
    for path in (root / "cropped_aligned").rglob("*.jpg"):
        assert path.name in {"00001.jpg", "00002.jpg", "00003.jpg"}
        image = Image.open(path)
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (112, 112))
    assert not (root / ".partial").exists()


def test_traps_are_there(root):
    labels = {p.stem: read_labels(p) for p in (root / ANNOTATIONS).rglob("*.txt")}
    unlabelled = np.concatenate([(rows == -1).any(axis=1) for rows in labels.values()])
    whole = np.concatenate([(rows == -1).all(axis=1) for rows in labels.values()])
    assert 0 < unlabelled.sum() < 0.2 * len(unlabelled)
    np.testing.assert_array_equal(unlabelled, whole)
    missing = [name for name in labels if len(list((root / "cropped_aligned" / name).iterdir())) < 3]
    assert 0 < len(missing) < len(labels) / 2
    left = {name.removesuffix("_left") for name in labels if name.endswith("_left")}
    assert left == {name.removesuffix("_right") for name in labels if name.endswith("_right")}
    assert len(left) == 2


def test_labels_follow_the_true_intensity(root):
    lips, jaw = facs.AFFWILD2.index(25), facs.AFFWILD2.index(26)
    for path in (root / ANNOTATIONS).rglob("*.txt"):
        labels = read_labels(path)
        truth = np.load(root / "truth" / f"{path.stem}.npz")
        known = labels[:, 0] >= 0
        np.testing.assert_array_equal(labels[known], (truth["intensity"] >= LABEL_THRESHOLD)[known])
        assert (labels[:, lips] >= labels[:, jaw]).all()
        assert truth["intensity"].min() >= 0
        assert truth["intensity"].max() <= 1
        assert truth["regions"].shape == (3, 12, 28, 28)
        still = truth["intensity"] == 0
        assert truth["regions"][still].sum() == 0
        np.testing.assert_array_equal(truth["aus"], facs.AFFWILD2)


def test_landmarks_land_on_the_template(root):
    landmarks = np.concatenate([np.load(p)["landmarks"] for p in (root / "truth").glob("*.npz")])
    distance = np.linalg.norm(landmarks - np.array(facs.TEMPLATE), axis=-1)
    assert distance.mean() < 3.5  # of a pixel and a half of noise, and of people and poses


def test_landmarks_scatter_as_asked(tmp_path):
    """About where least squares put them: by the noise, less the four degrees of freedom of a similarity."""
    shape = {"videos": {"test": 30}, "frames_per_video": 2, "stride": 30, "workers": 1}
    left = {}
    for noise in (0.0, 2.0):
        root = rendered.render(tmp_path / str(noise), landmarks="resting", landmark_noise=noise, **shape)
        left[noise] = np.stack([np.load(p)["landmarks"] for p in sorted((root / "truth").glob("*.npz"))])
    scatter = left[2.0] - left[0.0]
    assert np.sqrt((scatter**2).sum(axis=(2, 3)).mean() / 4) == pytest.approx(2.0, rel=0.15)


def test_no_subject_and_no_video_is_in_two_splits(root):
    with (root / "truth/subjects.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len({row["subject"] for row in rows}) == len(rows) == 20
    splits = {}
    for row in rows:
        assert splits.setdefault(row["video"], row["split"]) == row["split"]
    identities = np.stack([np.load(root / "truth" / f"{row['track']}.npz")["identity"] for row in rows])
    assert len(np.unique(identities, axis=0)) == len(rows)


@pytest.mark.parametrize("people", [126, 750])
def test_rates_are_those_of_affwild2_in_a_split_of_any_size(people):
    intensity = plan_intensities(people, 8, 15, np.random.default_rng(0))
    rates = (intensity >= LABEL_THRESHOLD).mean(axis=(0, 1))
    for au, rate in zip(facs.AFFWILD2, rates, strict=True):
        assert rate == pytest.approx(RATES[au], rel=0.1, abs=0.004), au
        assert (intensity[:, :, facs.AFFWILD2.index(au)] >= LABEL_THRESHOLD).sum() >= 20


def test_a_second_call_returns_at_once_and_other_arguments_are_refused(root):
    before = tree(root)
    assert rendered.render(root, **ARGUMENTS) == root
    assert tree(root) == before
    with pytest.raises(ValueError, match="seed: 3 there, 4 asked for"):
        rendered.render(root, **{**ARGUMENTS, "seed": 4})
    with pytest.raises(ValueError, match="videos"):
        rendered.render(root, **{**ARGUMENTS, "videos": {"train": 11}})


def test_an_interrupted_set_is_finished_and_equal_for_any_number_of_workers(root, tmp_path):
    # As after kill -9: no manifest, some videos finished, rubbish in the temporary folder.
    copy = tmp_path / "set"
    shutil.copytree(root, copy)
    (copy / ".partial").mkdir()
    manifest = json.loads((copy / "rendered.json").read_text())
    (copy / "rendered.json").rename(copy / ".partial/rendered.json")
    (copy / ".partial/half").mkdir()
    (copy / ".partial/half/00001.jpg").write_bytes(b"half")
    crops = sorted((copy / "cropped_aligned").iterdir())
    for folder in crops[::5]:
        shutil.rmtree(folder)
    (copy / "truth" / f"{crops[0].name}.npz").unlink()
    kept = {p: p.stat().st_mtime_ns for p in (copy / "cropped_aligned").rglob("*.jpg")}
    with pytest.raises(ValueError, match="other arguments"):
        rendered.render(copy, **{**ARGUMENTS, "stride": 10}, workers=1)
    rendered.render(copy, **ARGUMENTS, workers=1)
    assert tree(copy) == tree(root)
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    assert json.loads((copy / "rendered.json").read_text()) == manifest


def test_two_at_once_make_one_set(tmp_path):
    def go(_):
        return rendered.render(tmp_path / "set", videos={"val": 2}, frames_per_video=1, workers=1)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first, second = pool.map(go, range(2))
    assert first == second
    assert len(list((first / "cropped_aligned").iterdir())) == 2
    assert not (first / ".partial").exists()


def test_a_complete_set_needs_neither_anny_nor_numba(root):
    code = f"""
import sys
from aunet.data import rendered
rendered.render({str(root)!r}, **{ARGUMENTS!r})
assert not {{"anny", "numba", "torch"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_another_seed_gives_other_people(root, tmp_path):
    other = rendered.render(tmp_path / "set", videos={"test": 1}, frames_per_video=1, seed=4, workers=1)
    crop = next((other / "cropped_aligned").rglob("*.jpg")).relative_to(other)
    assert (other / crop).read_bytes() != (root / crop).read_bytes()


def test_bad_arguments_and_foreign_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown split"):
        rendered.render(tmp_path / "set", videos={"validation": 1})
    with pytest.raises(ValueError, match="frames_per_video"):
        rendered.render(tmp_path / "set", videos={"val": 1}, frames_per_video=0)
    with pytest.raises(ValueError, match="landmarks=still: one of moving, resting"):
        rendered.render(tmp_path / "set", videos={"val": 1}, landmarks="still")
    for noise in (-0.1, 9, float("nan")):
        with pytest.raises(ValueError, match="landmark_noise"):
            rendered.render(tmp_path / "set", videos={"val": 1}, landmark_noise=noise)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"holds notes\.txt"):
        rendered.render(tmp_path, videos={"val": 1})
