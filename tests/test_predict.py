"""Predicting from end to end: the network's own answers in named columns, whatever the way in and out."""

import copy
import csv
import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from media import ROOT, TINY, write_run, write_video
from PIL import Image
from skimage.data import astronaut

import aunet
from aunet.cli import main
from aunet.config import compose as composed
from aunet.config import named_data, postprocess
from aunet.data.faults import Faults
from aunet.facs import AFFWILD2, TEMPLATE
from aunet.predict import Options, load
from aunet.predict.rows import empty_rows, postprocessed, row_type
from aunet.predict.spool import Spool
from aunet.runs import RunError

RNG = np.random.default_rng(0)
CROPS = RNG.integers(0, 256, (5, 112, 112, 3), np.uint8)
AS_CROPS = Options(crops=True)
POINTS = ("right_eye", "left_eye", "nose", "right_mouth", "left_mouth")


@pytest.fixture(scope="module")
def loaded(affwild2, tmp_path_factory):
    """A run folder and its predictor, not to be changed."""
    cfg = composed(["data=affwild2", f"data.root={affwild2}", "weights=none", TINY])
    run = write_run(tmp_path_factory.mktemp("predict") / "run", cfg)
    return run, load(run, "cpu")


@pytest.fixture
def predictor(loaded, tmp_path):
    """Of one's own, with its run folder."""
    shutil.copytree(loaded[0], tmp_path / "run")
    return copy.copy(loaded[1])


@pytest.fixture
def crops(tmp_path):
    """A folder of aligned crops."""
    folder = tmp_path / "crops"
    folder.mkdir()
    for number, pixels in enumerate(CROPS):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def answers(predictor, pixels):
    """What the network itself says of (n, 112, 112, 3) crops."""
    with torch.inference_mode():
        return predictor.network(torch.from_numpy(pixels).permute(0, 3, 1, 2)).sigmoid().numpy()


def probs_of(table):
    return np.stack([table[f"AU{au:02d}_prob"] for au in AFFWILD2], 1)


def occurrence_of(table):
    return np.stack([table[f"AU{au:02d}"] for au in AFFWILD2], 1)


# What is said


def test_crops_get_the_networks_answers_in_named_columns(predictor, crops):
    table = predictor.predict(crops, AS_CROPS)
    expected = answers(predictor, CROPS)
    assert expected.std(0).min() > 1e-3  # the answers differ from face to face
    np.testing.assert_allclose(probs_of(table), expected, atol=1e-6)
    np.testing.assert_array_equal(occurrence_of(table), probs_of(table) >= 0.5)
    assert table["input"].tolist() == [str(crops / f"{n}.png") for n in range(5)]
    assert (table["frame"] == 1).all()
    assert (table["face"] == 0).all()
    assert np.isnan([table["time_s"], table["face_x0"]]).all()
    assert list(table) == [
        "input", "frame", "time_s", "face", "face_score", "face_x0", "face_y0", "face_x1", "face_y1",
        *(f"{point}_{axis}" for point in POINTS for axis in "xy"),
        *(f"AU{au:02d}_prob" for au in AFFWILD2), *(f"AU{au:02d}" for au in AFFWILD2),
    ]  # fmt: skip


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_a_video_of_crops_gets_the_same_answers(predictor, tmp_path, batch_size):
    file = write_video(tmp_path / "a.mkv", CROPS)
    table = predictor.predict(file, Options(crops=True, batch_size=batch_size))
    np.testing.assert_allclose(probs_of(table), answers(predictor, CROPS), atol=1e-6)
    assert table["frame"].tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(table["time_s"], np.arange(5) / 25, atol=1e-3)


def test_a_photograph_is_found_aligned_and_predicted(predictor, tmp_path):
    Image.fromarray(astronaut()).save(tmp_path / "a.png")
    table = predictor.predict(str(tmp_path / "a.png"))
    assert table["face"].tolist() == [0]
    points = np.array([(table[f"{p}_x"][0], table[f"{p}_y"][0]) for p in POINTS])
    assert points[0, 0] < points[1, 0]  # her right eye is on the left
    assert (points > (table["face_x0"][0], table["face_y0"][0])).all()
    assert (points < (table["face_x1"][0], table["face_y1"][0])).all()
    assert table["face_score"][0] > 0.9
    assert ((probs_of(table) >= 0) & (probs_of(table) <= 1)).all()


def test_frames_without_a_face_stay_and_numbers_come_back(predictor, tmp_path):
    """Somebody who is away for some frames has the number of before; the frames between are empty."""
    face = astronaut()[20:240, 110:330]
    wall = np.full_like(face, 120)
    file = write_video(tmp_path / "a.mkv", [face, face, wall, wall, face, wall])
    table = predictor.predict(file)
    assert table["frame"].tolist() == [1, 2, 3, 4, 5, 6]
    assert table["face"].tolist() == [0, 0, -1, -1, 0, -1]
    away = table["face"] < 0
    assert np.isnan(probs_of(table)[away]).all()
    assert (occurrence_of(table)[away] == -1).all()
    assert np.isnan(table["nose_x"][away]).all()
    np.testing.assert_allclose(probs_of(table)[0], probs_of(table)[1], atol=0.05)
    predictor.write(tmp_path / "out.csv", file)
    with (tmp_path / "out.csv").open(newline="") as content:
        rows = list(csv.DictReader(content))
    assert [row["face"] for row in rows] == ["0", "0", "", "", "0", ""]
    assert [row["AU12"] != "" for row in rows] == [row["AU12_prob"] != "" for row in rows] == (~away).tolist()


def test_a_split_of_a_data_set_gets_the_same_answers(predictor, affwild2, tmp_path):
    given = ["data=affwild2", f"data.root={affwild2}"]
    out = tmp_path / "out.jsonl"
    assert not predictor.write(out, given, Options(split="train")).problems
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    data = named_data(given)
    table = data.read_tables(Faults())["train"]
    data.tables = {"train": table}
    pixels = data.frames("train", np.arange(len(table)))
    assert [row["input"] for row in rows] == [table.videos[v] for v in table.video]
    assert [row["frame"] for row in rows] == table.frame.tolist()
    found = np.array([[row[f"AU{au:02d}_prob"] for au in AFFWILD2] for row in rows])
    np.testing.assert_allclose(found, answers(predictor, pixels), atol=2e-6)
    assert "has no split 'test'" in predictor.write(out, given, Options(split="test")).problems[0]
    assert "data.image_size is 96" in predictor.write(out, [*given, "data.image_size=96"]).problems[0]
    assert predictor.write(out, ["data=nothing"]).problems
    assert len(out.read_text().splitlines()) == len(rows)  # what was written before is still there


def test_postprocessing_takes_each_face_by_itself(predictor, tmp_path):
    seen = []

    def halve(probs, seconds):
        seen.append((probs.copy(), seconds.copy()))
        return probs / 2, np.ones(probs.shape, np.int8)

    files = [write_video(tmp_path / f"{name}.mkv", CROPS) for name in "ab"]
    table = predictor.predict(files, AS_CROPS, halve)
    np.testing.assert_allclose(probs_of(table)[:5], answers(predictor, CROPS) / 2, atol=1e-6)
    assert (occurrence_of(table) == 1).all()
    assert [len(probs) for probs, _ in seen] == [5, 5]
    np.testing.assert_allclose(seen[0][1], np.arange(5) / 25, atol=1e-3)
    predictor.write(tmp_path / "out.csv", files, AS_CROPS, halve)
    with (tmp_path / "out.csv").open(newline="") as content:
        written = [float(row["AU12_prob"]) for row in csv.DictReader(content)]
    np.testing.assert_allclose(written, table["AU12_prob"], atol=2e-6)


TRACKS = st.lists(st.sets(st.integers(0, 2)), min_size=1, max_size=12)
"""The faces of each frame."""


def records(frames):
    """Rows of a video in which the AUs of each face have the frame's number, in hundredths."""
    parts = []
    for number, faces in enumerate(frames, 1):
        rows = empty_rows(max(1, len(faces)), 2)
        rows["frame"], rows["time_s"] = number, number / 10
        if faces:
            rows["face"], rows["probs"], rows["occurrence"] = sorted(faces), number / 100, 0
            rows["box"], rows["score"] = 5, 1
        parts.append(rows)
    return np.concatenate(parts)


@given(TRACKS)
def test_postprocessing_that_does_nothing_changes_nothing(frames):
    rows = records(frames)
    same = postprocessed(rows, lambda probs, seconds: (probs, np.where(np.isnan(probs), -1, 0)))
    assert same.tobytes() == rows.tobytes()


@given(TRACKS)
def test_gaps_that_are_filled_get_rows_between_the_first_and_the_last_of_a_face(frames):
    def linear(probs, seconds):
        np.testing.assert_allclose(np.diff(seconds), 0.1)
        known = ~np.isnan(probs[:, 0])
        assert known[0]
        filled = np.interp(seconds, seconds[known], probs[known, 0], right=np.nan)
        return np.repeat(filled[:, None], 2, 1), np.ones(probs.shape, np.int8)

    rows = records(frames)
    result = postprocessed(rows, linear)
    seen = {face: [n for n, faces in enumerate(frames, 1) if face in faces] for face in range(3)}
    expected = {(n, face) for face, all_ in seen.items() if all_ for n in range(all_[0], all_[-1] + 1)}
    expected |= {
        (n, -1) for n in range(1, len(frames) + 1) if not {(n, face) for face in range(3)} & expected
    }
    assert [(int(row["frame"]), int(row["face"])) for row in result] == sorted(expected)
    there = result[result["face"] >= 0]
    np.testing.assert_allclose(there["probs"], np.repeat(there["frame"][:, None] / 100, 2, 1), rtol=1e-5)
    found = [row["face"] in frames[row["frame"] - 1] for row in there]
    np.testing.assert_array_equal(~np.isnan(there["box"]).any(1), found)


CAUSAL = postprocess("causal")


@given(TRACKS, st.integers(1, 12))
def test_causal_postprocessing_of_a_video_looks_at_no_later_frame(frames, cut):
    whole = postprocessed(records(frames), CAUSAL)
    alone = postprocessed(records(frames[:cut]), CAUSAL) if frames[:cut] else whole[:0]
    assert alone.tobytes() == whole[whole["frame"] <= len(frames[:cut])].tobytes()


def test_a_gap_that_is_filled_is_written_like_all_rows(predictor, tmp_path):
    face = astronaut()[20:240, 110:330]
    file = write_video(tmp_path / "a.mkv", [face, np.full_like(face, 120), face])

    def last(probs, seconds):
        probs[1] = probs[0]
        return probs, np.zeros(probs.shape, np.int8)

    assert predictor.predict(file)["face"].tolist() == [0, -1, 0]
    table = predictor.predict(file, postprocess=last)
    assert table["face"].tolist() == [0, 0, 0]
    assert np.isnan(table["nose_x"]).tolist() == [False, True, False]
    out = tmp_path / "out.jsonl"
    assert predictor.write(out, [file, file], postprocess=last).rows == 3
    written = [json.loads(line)["AU12_prob"] for line in out.read_text().splitlines()]
    np.testing.assert_allclose(written, table["AU12_prob"], atol=2e-6)


def test_postprocessing_of_a_data_set_needs_its_frame_rate(predictor, affwild2, tmp_path):
    given, seen = ["data=affwild2", f"data.root={affwild2}"], []

    def keep(probs, seconds):
        seen.append(seconds)
        return probs, np.zeros(probs.shape, np.int8)

    with pytest.raises(ValueError, match="give fps"):
        predictor.write(tmp_path / "out.csv", given, postprocess=keep)
    table = predictor.predict(given, Options(fps=30), keep)
    np.testing.assert_allclose(table["time_s"], (table["frame"] - 1) / 30)
    assert len(seen) == len(set(table["input"])) > 1  # each video by itself


# How it is written


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl", "parquet"])
def test_all_formats_hold_the_same(predictor, tmp_path, suffix):
    face = astronaut()[20:240, 110:330]
    file = write_video(tmp_path / "a,b\n.mkv", [face, np.full_like(face, 120)])
    table, out = predictor.predict(file), tmp_path / f"out.{suffix}"
    report = predictor.write(out, file)
    assert (report.out, report.inputs, report.rows, report.problems) == (out, 1, 2, ())
    if suffix == "csv":
        with out.open(newline="") as content:
            rows = list(csv.DictReader(content))
    elif suffix == "parquet":
        rows = pytest.importorskip("pyarrow.parquet").read_table(out).to_pylist()
    elif suffix == "json":
        rows = json.loads(out.read_text())
    else:
        rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [list(row) for row in rows] == [list(table)] * 2
    for name, values in table.items():
        nothing = "" if suffix == "csv" else None
        for row, value in zip(rows, values, strict=True):
            if name == "input":
                assert row[name] == value
            elif value != value or (name != "frame" and values.dtype.kind == "i" and value < 0):
                assert row[name] == nothing
            else:
                assert float(row[name]) == pytest.approx(float(value), abs=6e-3)


def test_outputs_that_cannot_be_written_are_refused_at_once(predictor, crops, tmp_path):
    for out, words in {
        "out.txt": "its suffix must be one of", "no/out.csv": "there is no folder", "dir.csv": "is a folder",
    }.items():  # fmt: skip
        (tmp_path / "dir.csv").mkdir(exist_ok=True)
        with pytest.raises(ValueError, match=words):
            predictor.write(tmp_path / out, crops, AS_CROPS)


def test_nothing_good_leaves_what_was_there(predictor, tmp_path):
    out = tmp_path / "out.csv"
    out.write_text("precious")
    report = predictor.write(out, [tmp_path / "gone.mp4"])
    assert (report.out, report.rows, len(report.problems)) == (None, 0, 1)
    assert out.read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} == {"run", "out.csv"}


# Interruptions


def interrupted_at_the_second_call(predictor):
    """Lets the network be interrupted once; the sizes of what it is given."""
    network, calls = predictor.network, []

    def ends(crops):
        calls.append(len(crops))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return network(crops)

    predictor.network = ends
    return calls


def test_what_has_finished_survives_and_is_not_done_again(predictor, tmp_path, caplog):
    files = [write_video(tmp_path / f"{name}.mkv", CROPS) for name in "abc"]
    out = tmp_path / "out.csv"
    predictor.write(tmp_path / "whole.csv", files, AS_CROPS)
    calls = interrupted_at_the_second_call(predictor)
    with pytest.raises(KeyboardInterrupt):
        predictor.write(out, files, AS_CROPS)
    assert not out.exists()
    with pytest.raises(RunError, match="another options"):
        predictor.write(out, files)
    caplog.set_level(logging.INFO, "aunet")
    predictor.write(out, files, AS_CROPS)
    assert "goes on after 1 of 3 files" in caplog.text
    assert calls == [5, 5, 5, 5]  # the second video again, and the third
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert not list(tmp_path.glob("*.partial"))


def test_a_file_that_has_changed_is_done_again(predictor, tmp_path):
    files = [write_video(tmp_path / f"{name}.mkv", CROPS) for name in "ab"]
    calls = interrupted_at_the_second_call(predictor)
    with pytest.raises(KeyboardInterrupt):
        predictor.write(tmp_path / "out.csv", files, AS_CROPS)
    write_video(files[0], CROPS[:3])
    assert predictor.write(tmp_path / "out.csv", files, AS_CROPS).rows == 8
    assert calls[2:] == [3, 5]


@given(
    parts=st.lists(st.lists(st.integers(1, 5), max_size=3), min_size=1, max_size=5),
    cut=st.integers(0, 400),
    journal_cut=st.integers(0, 400),
)
def test_a_spool_keeps_whole_inputs_whatever_is_cut_off(tmp_path_factory, parts, cut, journal_cut):
    folder = tmp_path_factory.mktemp("spool") / "x"
    dtype, number, written = row_type(1), 0, {}
    with Spool(folder, dtype, {}) as spool:
        for key, sizes in enumerate(parts):
            rows = []
            for size in sizes:
                chunk = np.zeros(size, dtype)
                chunk["frame"] = np.arange(number, number + size)
                number += size
                spool.append(f"name {key}", chunk)
                rows += chunk["frame"].tolist()
            spool.finish(str(key), None)
            written[str(key)] = rows
    for name, less in (("rows.bin", cut), ("done.jsonl", journal_cut)):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: max(0, len(content) - less)])
    with Spool(folder, dtype, {}) as spool:
        kept = list(spool.done)
        assert kept == list(written)[: len(kept)]
        if not cut and not journal_cut:
            assert kept == list(written)
        more = np.zeros(2, dtype)
        spool.append("more", more)
        for name, taken in spool.take():
            spool.append(name, np.concatenate([taken, more]))
        spool.finish("more", "a problem")
        for key in kept:
            assert [f for _, rows in spool.chunks([key]) for f in rows["frame"].tolist()] == written[key]
        assert [(name, len(rows)) for name, rows in spool.chunks(["more"])] == [("more", 4)]


# Networks and their pictures


def test_pictures_of_another_size_are_no_crops(predictor, tmp_path):
    Image.fromarray(CROPS[0][:96, :96]).save(tmp_path / "a.png")
    video = write_video(tmp_path / "a.mkv", CROPS[:, :96])
    report = predictor.write(tmp_path / "out.csv", [tmp_path / "a.png", video], AS_CROPS)
    assert ["96x96" in report.problems[0], "112x96" in report.problems[1]] == [True, True]
    assert all("aligned crops of 112x112" in problem for problem in report.problems)


def test_a_crop_without_the_option_is_a_picture_and_it_is_said(predictor, crops, caplog):
    table = predictor.predict(crops)
    assert (table["face"] == -1).all()
    assert [record.message.count("--crops") for record in caplog.records] == [1]


def test_weights_of_otherwise_prepared_pictures_are_refused(tmp_path, compose):
    moved = [[x + 4, y] for x, y in TEMPLATE]
    run = write_run(tmp_path / "a", compose(TINY), template=moved)
    with pytest.raises(RunError, match=r"a: best\.ckpt was trained with template"):
        load(run)
    run = write_run(tmp_path / "b", compose(TINY), image_size=224)
    with pytest.raises(RunError, match="image_size 224"):
        load(run)


def test_runs_without_a_record_of_their_pictures_are_taken_as_they_are(tmp_path, compose, caplog):
    run = write_run(tmp_path / "run", compose(TINY))
    checkpoint = torch.load(run / "best.ckpt", weights_only=True)
    del checkpoint["preprocessing"]
    torch.save(checkpoint, run / "best.ckpt")
    caplog.set_level(logging.INFO, "aunet")
    assert load(run).image_size == 112
    assert "older than the record" in caplog.text


def test_larger_crops_are_aligned_larger(tmp_path, compose):
    predictor = load(write_run(tmp_path / "run", compose(TINY, "data.image_size=224")), "cpu")
    Image.fromarray(astronaut()).save(tmp_path / "a.png")
    assert predictor.image_size == 224
    assert predictor.predict(tmp_path / "a.png")["face"].tolist() == [0]


def test_load_is_the_packages(tmp_path, compose):
    run = write_run(tmp_path / "run", compose(TINY))
    assert aunet.load(run, "cpu").aus == AFFWILD2
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        aunet.nothing  # noqa: B018
    with pytest.raises(ValueError, match="device=abacus"):
        load(run, "abacus")
    with pytest.raises(RunError, match="no finished run"):
        load(tmp_path / "gone")


def test_importing_the_package_brings_no_torch():
    code = "import sys, aunet; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


# The command


def test_the_command_predicts_and_says_so(predictor, crops, tmp_path, capsys):
    out = tmp_path / "out.csv"
    run = str(tmp_path / "run")
    main(["predict", run, str(crops / "0.png"), "-o", str(out), "--crops", str(crops / "1.png")])
    assert capsys.readouterr().out == f"{out}: 2 rows of 2 inputs\n"
    assert len(out.read_text().splitlines()) == 3


def test_a_name_may_begin_with_a_dash(predictor, crops, tmp_path, monkeypatch):
    monkeypatch.chdir(crops)
    Path("0.png").rename("-o.png")
    main(["predict", str(tmp_path / "run"), "-o", str(tmp_path / "out.csv"), "--crops", "--", "-o.png"])
    assert (tmp_path / "out.csv").read_text().splitlines()[1].startswith("-o.png,1,")


def test_the_command_postprocesses(predictor, tmp_path):
    """By the named file; tuned thresholds are those of the run's own validation frames."""
    rng = np.random.default_rng(5)
    run, labels = tmp_path / "run", rng.integers(0, 2, (40, 12)).astype(np.int8)
    logits = rng.normal(size=(40, 12)).astype(np.float32) - 1 + labels
    group = np.repeat(["a", "b"], 20)
    frame = np.tile(np.arange(1, 21), 2)
    np.savez(run / "predictions.npz", logits=logits, labels=labels, video=group, frame=frame)
    (run / "metrics.json").write_text(json.dumps({"aus": AFFWILD2}))
    film = write_video(tmp_path / "film.mkv", rng.integers(0, 255, (9, 112, 112, 3)).astype(np.uint8))
    plain = predictor.predict(film, Options(crops=True))
    probs = np.stack([plain[f"AU{au:02d}_prob"] for au in AFFWILD2], 1)
    tuned = postprocess("tuned_smoothed").tuned(
        torch.from_numpy(logits).sigmoid().numpy(), labels, (frame - 1) / 30, group
    )
    assert (np.array(tuned.threshold) != 0.5).all()
    for name, expected in (("smoothed", postprocess("smoothed")), ("tuned_smoothed", tuned)):
        out = tmp_path / f"{name}.csv"
        main(["predict", str(run), str(film), "-o", str(out), "--crops", "--postprocess", name])
        rows = list(csv.DictReader(out.open()))
        smooth, present = expected(probs, plain["time_s"])
        for i, au in enumerate(AFFWILD2):
            found = [float(row[f"AU{au:02d}_prob"]) for row in rows]
            np.testing.assert_allclose(found, smooth[:, i], atol=1e-5)
            assert [int(row[f"AU{au:02d}"]) for row in rows] == present[:, i].tolist()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--postprocess", "nosuch"], "there is no postprocess=nosuch; there are causal, "),
        (["--postprocess", "tuned"], r"predictions\.npz: not readable"),
        (["--detect-every", "0"], "detect_every=0"),
        (["--min-face", "3"], "min_face=3"),
        (["--batch-size", "0"], "batch_size=0"),
        (["--batch-size", "99999999999999999999"], "batch_size=99999999999999999999 must be from 1 to"),
        (["--fps", "0"], "fps=0"),
        (["--device", "abacus"], "device=abacus"),
        (["--device", "meta"], "device=meta: not on this machine; say cpu, cuda or cuda:N"),
    ],
)
def test_the_command_refuses_what_makes_no_sense(predictor, crops, tmp_path, arguments, words):
    with pytest.raises(SystemExit, match=words):
        main(["predict", str(tmp_path / "run"), str(crops), "-o", str(tmp_path / "out.csv"), *arguments])
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda run: (run / "metrics.json").unlink(), r"run is no finished run: metrics\.json is missing"),
        (lambda run: (run / "best.ckpt").unlink(), r"run is no finished run: best\.ckpt is missing"),
        (lambda run: (run / "config.yaml").write_text("a: ["), r"config\.yaml: not a configuration"),
        (lambda run: halve(run / "best.ckpt"), r"best\.ckpt: not this run's weights"),
    ],
    ids=["unfinished", "without weights", "configuration cut off", "weights cut off"],
)
def test_a_run_that_is_not_whole_is_refused(predictor, crops, tmp_path, harm, words):
    harm(tmp_path / "run")
    with pytest.raises(SystemExit, match=words):
        main(["predict", str(tmp_path / "run"), str(crops), "-o", str(tmp_path / "out.csv")])
    assert not list(tmp_path.glob("out*"))


def halve(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def test_what_fails_before_anything_is_finished_leaves_nothing(predictor, crops, tmp_path, monkeypatch):
    """So that other options can follow."""

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(predictor), "_pieces", fail)
    with pytest.raises(OSError, match="No space"):
        predictor.write(tmp_path / "out.csv", crops)
    assert not list(tmp_path.glob("out*"))


# Long videos


def test_memory_does_not_grow_with_the_video(tmp_path):
    script = Path(ROOT) / "experiments" / "predict_memory.py"
    done = subprocess.run(
        [sys.executable, script, "--frames", "1500", "--out", tmp_path / "memory.json"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "memory.json").read_text())
    assert found["rows"] == 1500
    assert found["growth_mb"] < 50
