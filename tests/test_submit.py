"""From a run to a submission and back: every frame against direct predictions, and what stops it."""

import logging
import re
import shutil
from pathlib import Path

import hydra
import numpy as np
import pytest
import simplejpeg
import torch
from layouts import default_labels, write_affwild2, write_test_split

from aunet.about import validation_rate
from aunet.cli import main
from aunet.config import CONF
from aunet.data import rendered
from aunet.data.affwild2 import read_affwild2, read_crops
from aunet.data.faults import DataError, Faults
from aunet.data.rendered.facts import frame_rate
from aunet.data.testset import Expected, read_expected
from aunet.facs import AFFWILD2
from aunet.files import write_json
from aunet.postprocess import Postprocess
from aunet.predictions import tune
from aunet.runs import RunError, read_json
from aunet.submit.check import check
from aunet.submit.files import HEADERS
from aunet.submit.run import Submission, completed, submit
from aunet.train import train
from aunet.trained import load

pytestmark = pytest.mark.filterwarnings("ignore")

FRAMES = {"70-30-1280x720": 9, "71-30-640x360_left": 6, "71-30-640x360_right": 6, "video72": 4, "73-15-x": 2}
CROPS = {
    "70-30-1280x720": [2, 3, 5, 8],
    "71-30-640x360_left": range(1, 7),
    "71-30-640x360_right": [1, 2, 6],
    "video72": [1, 2, 3, 4, 5, 7],  # two more than the organisers count
}
LISTS = (
    "Action_Unit_Detection_Challenge_test_set_release.txt",
    "AU_ABAW_Challenge_test_files_expected_frames.txt",
)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The tiny written data set with a test split, not to be changed."""
    root = write_affwild2(tmp_path_factory.mktemp("written"))
    return write_test_split(root, FRAMES, CROPS)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """A tiny rendered test split: a two-person video, and a frame without a crop."""
    root = tmp_path_factory.mktemp("faces")
    return rendered.render(root, videos={"test": 6}, frames_per_video=2, stride=30, seed=1, workers=1)


@pytest.fixture(scope="module")
def run(written, tmp_path_factory):
    """A finished run whose network says 0 of about as many frames as 1, for each AU."""
    runs = tmp_path_factory.mktemp("runs")
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        overrides = ["data=affwild2", f"data.root={written}", f"runs={runs}", "logger=none", "epochs=1"]
        overrides += ["host.threads=1", "host.keep_large_blocks=false", "batch_size=4", "progress=false"]
        cfg = hydra.compose("config", overrides)
    train(cfg)
    folder = Path(cfg.out_dir)
    best = torch.load(folder / "best.ckpt", weights_only=True)
    weights = best["state_dict"]
    weights["network.classifier.weight"] *= 30
    torch.save(best, folder / "best.ckpt")
    logits = np.sort(direct(folder, written), 0)
    middle = len(logits) // 2  # between two frames: where a logit is 0, rounding would decide
    weights["network.classifier.bias"] -= torch.from_numpy(logits[middle - 1 : middle + 1].mean(0))
    torch.save(best, folder / "best.ckpt")
    return folder


def direct(folder, root, videos=None):
    """Logits of crops, each by itself, in the order of their paths."""
    network = load(folder).network
    files = [
        file for video in videos or CROPS for file in sorted((root / "cropped_aligned" / video).glob("*.jpg"))
    ]
    with torch.inference_mode():
        frames = [torch.from_numpy(simplejpeg.decode_jpeg(file.read_bytes())) for file in files]
        return torch.cat([network(frame.permute(2, 0, 1)[None]) for frame in frames]).numpy()


def expected_answers(folder, root, frames):
    """What is due by the rules, by loops: {video: (n, 12)}, and how many frames have a crop."""
    answers, predicted = {}, 0
    for video, count in frames.items():
        crops = root / "cropped_aligned" / video
        numbers = [int(file.stem) for file in sorted(crops.glob("*.jpg"))] if crops.exists() else []
        known = {
            number: (row >= 0).astype(int)
            for number, row in zip(numbers, direct(folder, root, [video]) if numbers else (), strict=True)
            if number <= count
        }
        predicted += len(known)
        rates = np.array(read_json(folder / "metrics.json")["training_rates"])
        answers[video] = [
            known[min(known, key=lambda other: (abs(other - number), other))]
            if known
            else (rates >= 0.5).astype(int)
            for number in range(1, count + 1)
        ]
    return answers, predicted


def command(*arguments):
    main(["submit", *map(str, arguments)])


def read_videos(folder):
    """Contents of a submission of files: {video: rows}; asserts their headers."""
    result = {}
    for file in folder.iterdir():
        header, *rows = file.read_text().splitlines()
        assert header == HEADERS["abaw3"]
        result[file.stem] = [list(map(int, row.split(","))) for row in rows]
    return result


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for video, rows in expected.items():
        np.testing.assert_array_equal(np.array(found[video]), np.array(rows), err_msg=video)


@pytest.mark.parametrize("data", ["written", "faces"])
def test_round_trip(data, run, tmp_path, capsys, request):
    root = request.getfixturevalue(data)
    listed = (root / LISTS[0]).read_text().split()
    frames = {line.split(",")[0]: int(line.split(",")[1]) for line in (root / LISTS[1]).read_text().split()}
    assert {"_left", "_right"} <= {name[name.rfind("_") :] for name in listed}
    answers, predicted = expected_answers(run, root, frames)
    assert predicted < sum(frames.values())
    pooled = np.concatenate(list(answers.values()))
    assert ((pooled.mean(0) > 0.1) & (pooled.mean(0) < 0.9)).sum() >= 6  # a constant would be no test

    command(run, "--data", root, "-o", tmp_path / "out")
    said = capsys.readouterr().out
    assert f"{len(listed)} videos, {sum(frames.values())} frames, {predicted} of them with a crop" in said
    assert f"{1 if data == 'faces' else 30} frames per second, postprocess=none" in said
    found = read_videos(tmp_path / "out")
    assert list(answers) == listed
    assert_equal(found, answers)

    command(run, "--data", root, "-o", tmp_path / "one.txt", "--format", "abaw5")
    header, *rows = (tmp_path / "one.txt").read_text().splitlines()
    assert header == HEADERS["abaw5"]
    due = [(f"{video}/{k:05d}.jpg", row) for video in listed for k, row in enumerate(found[video], start=1)]
    assert rows == [f"{picture},{','.join(map(str, row))}" for picture, row in due]

    for name in ("out", "one.txt"):
        with pytest.raises(SystemExit) as caught:
            command("--check", tmp_path / name, "--data", root)
        assert caught.value.code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.txt", "out"]


def test_rendered_split_has_a_missing_crop_and_its_own_frame_rate(faces, written):
    table = read_crops(faces, (faces / LISTS[0]).read_text().split())
    assert (len(table.videos), len(table)) == (7, 13)
    assert frame_rate(faces) == 1
    assert frame_rate(written) is None


def test_crops_are_read_in_frame_order_without_labels(written):
    faults = Faults()
    (written / "cropped_aligned" / "video72" / "notes.txt").touch()
    table = read_crops(written, [*reversed(FRAMES)], faults=faults)
    (written / "cropped_aligned" / "video72" / "notes.txt").unlink()
    assert table.videos == tuple(sorted(CROPS))
    assert [(table.videos[v], f) for v, f in zip(table.video, table.frame, strict=True)] == [
        (video, number) for video in sorted(CROPS) for number in CROPS[video]
    ]
    assert table.groups[1] == table.groups[2] == "71-30-640x360"
    assert table.labels.shape == (len(table), 12)
    assert (table.labels == -1).all()
    assert table.source.name(0).endswith("70-30-1280x720/00002.jpg")
    assert list(faults.places) == ["bad-crop-name"]
    val = read_affwild2(written)["val"]
    again = read_crops(written, val.videos)
    np.testing.assert_array_equal(again.frame, val.frame)
    assert again.source.read(3) == val.source.read(3)
    with pytest.raises(DataError, match="no crops"):
        read_crops(written, ["73-15-x"])


def test_what_is_left_out_or_missing_is_said(run, written, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        submit(run, read_expected(root=written), written, tmp_path / "out")
    said = "\n".join(caplog.messages)
    assert (
        "video72: 2 crops are not among the 4 frames that the organisers expect, the first is 00005" in said
    )
    assert re.search(r"1 listed videos have no crop, .* training majority: 73-15-x", said)
    with pytest.raises(DataError, match="none of the 4 crops is of a frame that the organisers expect"):
        submit(run, Expected({"70-30-1280x720": 1}), written, tmp_path / "none")


def test_post_processing_is_that_of_its_module(run, written, tmp_path):
    expected = read_expected(root=written)
    asked = Postprocess((0.3,) * 12, "centred", 0.25, "linear", 0.31)
    submit(run, expected, written, tmp_path / "out", postprocess=asked, frames_per_second=10)
    found = read_videos(tmp_path / "out")
    for video, count in FRAMES.items():
        if video not in CROPS:
            continue
        probs = np.full((count, 12), np.nan)
        logits = direct(run, written, [video])
        numbers = [number for number in CROPS[video] if number <= count]
        probs[np.array(numbers) - 1] = 1 / (1 + np.exp(-logits[: len(numbers)].astype(np.float64)))
        _, occurrence = asked(probs, np.arange(count) / 10)
        assert (occurrence[:, 0] == -1).any() == (video == "71-30-640x360_right")  # a gap of 0.4 s
        np.testing.assert_array_equal(found[video], completed(occurrence, np.zeros(12, np.int8)))


def test_what_is_no_rate_is_refused_before_the_work(run, written, tmp_path, monkeypatch):
    monkeypatch.setattr("aunet.submit.run.crop_probs", None)
    with pytest.raises(ValueError, match="frames per second: 0 must be more than 0"):
        submit(run, read_expected(root=written), written, tmp_path / "out", frames_per_second=0)


def test_thresholds_are_tuned_on_other_videos_only(run, written, tmp_path):
    expected = read_expected(root=written)
    plain = submit(run, expected, written, tmp_path / "plain")
    tuned = submit(run, expected, written, tmp_path / "tuned", postprocess=Postprocess("tuned"))
    assert isinstance(tuned, Submission)
    assert tuned.postprocess == tune(Postprocess("tuned"), run, validation_rate(run))
    assert plain.postprocess == Postprocess()
    val = read_affwild2(written)["val"]
    leaking = Expected({**FRAMES, val.videos[0]: 5})
    with pytest.raises(RunError, match=f"tuned on the labels of {val.groups[0]}"):
        submit(run, leaking, written, tmp_path / "leak", postprocess=Postprocess("tuned"))
    submit(run, leaking, written, tmp_path / "leak", postprocess=Postprocess(0.3))


def test_a_person_without_a_line_has_the_frames_of_the_video(written, tmp_path):
    frames = tmp_path / "frames.txt"
    frames.write_text(
        "70-30-1280x720,9\n71-30-640x360, 6\n71-30-640x360_right,7\nvideo72,4\n73-15-x,2\nmore,3\n\n"
    )
    found = read_expected(frames=frames, root=written)
    assert found.frames == FRAMES | {"71-30-640x360_right": 7}
    assert list(found.frames) == list(FRAMES)
    assert len(list(found.pictures())) == 9 + 6 + 7 + 4 + 2


def test_a_sample_says_which_pictures_are_due(run, written, tmp_path, capsys):
    pictures = ["video72/00003.jpg", "video72/00001.jpg", "71-30-640x360_right/00002.jpg"]
    sample = tmp_path / "sample.txt"
    sample.write_text("".join(f"{name},\r\n" for name in [HEADERS["abaw5"], *pictures]))
    found = read_expected(sample=sample)
    assert (found.frames, found.sample) == ({"video72": 3, "71-30-640x360_right": 2}, tuple(pictures))
    out = tmp_path / "one.txt"
    command(run, "--data", written, "--sample", sample, "-o", out)  # the later format then
    rows = dict(line.split(",", 1) for line in out.read_text().splitlines()[1:])
    assert list(rows) == pictures
    direct_rows = (direct(run, written, ["video72", "71-30-640x360_right"]) >= 0).astype(int)
    assert rows["video72/00003.jpg"] == ",".join(map(str, direct_rows[2]))
    assert rows["71-30-640x360_right/00002.jpg"] == ",".join(map(str, direct_rows[len(CROPS["video72"]) + 1]))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("list", "a\nb\na\n", r"list\.txt, line 3: a is listed in line 1 already"),
        ("list", "a\n../b\n", r"line 2: '\.\./b' is no name of a video"),
        ("list", "a\n..\n", r"line 2: '\.\.' is no name"),
        ("list", "\n \n", r"list\.txt is empty"),
        ("list", "a\nb\nc\n", r"frames\.txt lacks 1 of the 3 videos of .*list\.txt: c$"),
        ("list", "a\n" + "x\ny\nz\nu\nv\nw\n", r"lacks 6 of the 7 videos .*: x, y, z, u, v, \.\.\.$"),
        ("list", b"\xff\xfe", r"list\.txt: not a text file"),
        ("frames", "video,n_frames\na,3\nb,2\n", r"frames\.txt, line 1: 'video,n_frames' is not <video>,"),
        ("frames", "a,3\nb,0\n", r"line 2: 'b,0'"),
        ("frames", "a,3\nb,2.0\n", r"line 2"),
        ("frames", "a,3\nb,99999999\n", r"line 2"),
        ("frames", "a,3\nb,2\na,3\n", r"line 3: a is listed twice"),
        ("sample", "a/00001.jpg,\n", "has no header"),
        ("sample", "image_location,AU1\n", "lists no picture"),
        ("sample", "image_location,AU1\na/1.jpg\nb\n", r"sample\.txt, line 3: 'b' is not <video>/<number>"),
        ("sample", "image_location,AU1\na/0.jpg\n", "line 2"),
        ("sample", "image_location,AU1\n../1.jpg\n", "line 2"),
        ("sample", "image_location,AU1\na/999999999.jpg\n", "line 2"),
        ("sample", "image_location,AU1\na/1.jpg\na/1.jpg,\n", r"line 3: a/1\.jpg is listed twice"),
    ],
)  # fmt: skip
def test_malformed_lists_are_named_with_their_line(name, content, said, tmp_path):
    files = {"list": "a\nb\n", "frames": "a,3\nb,2\n"} if name != "sample" else {}
    for key, text in {**files, name: content}.items():
        (tmp_path / f"{key}.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    keys = {"list": "videos", "frames": "frames", "sample": "sample"}
    given = {keys[key]: tmp_path / f"{key}.txt" for key in {**files, name: content}}
    with pytest.raises(DataError, match=said):
        read_expected(**given)


def test_lists_are_found_or_asked_for(written, tmp_path):
    nested = tmp_path / "set" / "lists" / "test"
    nested.mkdir(parents=True)
    for name in LISTS:
        shutil.copy(written / name, nested)
    assert read_expected(root=tmp_path / "set") == read_expected(root=written)
    shutil.copy(nested / LISTS[0], tmp_path / "set")
    with pytest.raises(DataError, match=r"expected one list .*: give it by --list FILE"):
        read_expected(root=tmp_path / "set")
    (nested / LISTS[1]).unlink()
    with pytest.raises(DataError, match="there is none: give it by --frames FILE"):
        read_expected(videos=nested / LISTS[0], root=tmp_path / "set")
    with pytest.raises(DataError, match="give --list and --frames"):
        read_expected(frames=written / LISTS[1])
    with pytest.raises(DataError, match="leave out --list and --frames"):
        read_expected(frames=written / LISTS[1], sample=written / LISTS[0])
    with pytest.raises(DataError, match="is not a folder"):
        read_expected(root=tmp_path / "nowhere")


@pytest.fixture
def damaged(written, tmp_path):
    """A copy of the data with a crop that is cut off."""
    root = shutil.copytree(written, tmp_path / "damaged")
    crop = root / "cropped_aligned" / "video72" / "00003.jpg"
    crop.write_bytes(crop.read_bytes()[:300])
    return root


def test_a_damaged_crop_is_an_error_or_a_missing_one(run, damaged, tmp_path, caplog):
    expected = read_expected(root=damaged)
    with pytest.raises(DataError, match=r"video72/00003\.jpg"):
        submit(run, expected, damaged, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged"]
    with caplog.at_level(logging.WARNING):
        found = submit(run, expected, damaged, tmp_path / "out", on_bad="skip")
    assert any("video72/00003.jpg: cannot be used, left out" in message for message in caplog.messages)
    (damaged / "cropped_aligned" / "video72" / "00003.jpg").unlink()
    again = submit(run, expected, damaged, tmp_path / "again")
    assert found.predicted == again.predicted
    assert_equal(read_videos(tmp_path / "out"), read_videos(tmp_path / "again"))


def stopped(capsys, *arguments):
    """What the command says at its end, in one line."""
    with pytest.raises(SystemExit) as caught:
        command(*arguments)
    message = str(caught.value.code)
    assert "\n" not in message
    return message if message.startswith("aunet: ") else capsys.readouterr().err


def test_what_users_have_to_mend_is_one_sentence(run, written, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = (run, "--data", written, "-o", out)
    assert "give --data DIR and -o OUT, or --check" in stopped(capsys, run)
    assert "no postprocess=smooth; there are" in stopped(capsys, *arguments, "--postprocess", "smooth")
    assert "smoothing_seconds" in stopped(capsys, *arguments, "postprocess.smoothing=causal")
    assert "frames per second: 0.0" in stopped(capsys, *arguments, "--fps", "0")
    assert "is no finished run" in stopped(capsys, tmp_path, "--data", written, "-o", out)
    assert "is not a folder" in stopped(capsys, *arguments, "--crops", "nowhere")
    assert sorted(tmp_path.iterdir()) == []
    out.mkdir()
    (out / "thesis.tex").touch()
    assert f"{out} is there already" in stopped(capsys, *arguments)
    assert [path.name for path in out.iterdir()] == ["thesis.tex"]


def test_a_run_must_detect_what_the_competition_asks_for(run, written, tmp_path):
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra.compose(
            "config",
            [
                *("data=affwild2", f"data.root={written}", f"runs={tmp_path}", "logger=none", "epochs=1"),
                *("host.threads=1", "batch_size=4", "data.aus=[1,2,4]", "num_aus=3"),
            ],
        )
    train(cfg)
    with pytest.raises(RunError, match=r"does not detect AU6, AU7, .* which the competition asks for"):
        submit(cfg.out_dir, read_expected(root=written), written, tmp_path / "out")


def test_columns_are_matched_by_au(run, written, tmp_path):
    """A network whose AUs stand in another order, with one more, gives the same answers."""
    other = shutil.copytree(run, tmp_path / "other")
    order = [*range(11, -1, -1)]
    aus = [AFFWILD2[i] for i in order]
    text = (other / "config.yaml").read_text()
    lines = "".join(r"  - \d+\n" for _ in aus)
    text, changed = re.subn(rf"(aus:\n){lines.replace('  -', ' +-')}", "aus: " + str(aus) + "\n", text)
    assert changed == 2
    (other / "config.yaml").write_text(text)
    best = torch.load(other / "best.ckpt", weights_only=True)
    for name in ("network.classifier.weight", "network.classifier.bias", "loss.pos_weight"):
        best["state_dict"][name] = best["state_dict"][name][order]
    torch.save(best, other / "best.ckpt")
    metrics = read_json(other / "metrics.json")
    rates = [metrics["training_rates"][i] for i in order]
    write_json(other / "metrics.json", metrics | {"aus": aus, "training_rates": rates})
    expected = read_expected(root=written)
    submit(run, expected, written, tmp_path / "one")
    submit(other, expected, written, tmp_path / "two")
    assert_equal(read_videos(tmp_path / "two"), read_videos(tmp_path / "one"))


def test_a_write_that_fails_leaves_nothing(run, written, tmp_path, monkeypatch):
    expected = read_expected(root=written)
    monkeypatch.setattr("aunet.submit.run.write_videos", _full_disk)
    with pytest.raises(OSError, match="No space left"):
        submit(run, expected, written, tmp_path / "out")
    monkeypatch.setattr("aunet.submit.run.write_videos", lambda folder, answers: folder.mkdir())
    with pytest.raises(RuntimeError, match=r"does not pass the check: .*missing-file"):
        submit(run, expected, written, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def _full_disk(folder, answers):
    folder.mkdir()
    (folder / "half.txt").touch()
    raise OSError(28, "No space left on device")


def test_nearest_frame_answers_and_of_two_the_earlier():
    occurrence = np.array([[-1], [0], [-1], [1], [-1], [-1], [-1], [0], [-1]], np.int8)
    majority = np.ones(1, np.int8)
    assert completed(occurrence, majority)[:, 0].tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0]
    assert completed(occurrence[:1], majority).tolist() == [[1]]
    assert completed(occurrence[1:2], majority).tolist() == [[0]]


def test_check_finds_nothing_in_a_perfect_annotation_set(tmp_path):
    """Annotation files without -1 have the form of a submission."""
    labels = default_labels()
    root = write_affwild2(tmp_path, labels=labels, size=0, decoys=False)
    frames = {video: len(rows) for video, rows in labels["train"].items()}
    folder = root / "Third ABAW Annotations/AU_Detection_Challenge/Train_Set"
    assert check(folder, Expected(frames)).places == {}
