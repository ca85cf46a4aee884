"""Overlays and timelines: what is drawn is what was predicted, where and when it was."""

import math
from xml.etree import ElementTree

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from media import TINY, tiny_predictor, write_run, write_video
from PIL import Image
from skimage.data import astronaut

from aunet.cli import main
from aunet.drawing import Drawing, draw_timeline
from aunet.drawing.attend import Attention, lay_over
from aunet.drawing.courses import BINS, follow, steps
from aunet.drawing.overlay import draw_overlay
from aunet.drawing.rows import MOST_FACES, Places, by_frame, extent
from aunet.facs import AFFWILD2, TEMPLATE
from aunet.localisation.maps import look
from aunet.predict import Options, load
from aunet.predict.rows import empty_rows
from aunet.progress import listening, progress

RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 256, (6, 112, 112, 3), np.uint8)
TIMES = [0, 0.04, 0.5, 0.54, 2.0, 2.1]
AS_CROPS = Options(crops=True)
HALVES = np.full(12, 0.5)


@pytest.fixture
def predictor(tmp_path, compose):
    return tiny_predictor(tmp_path / "run", compose)


@pytest.fixture
def film(tmp_path):
    return write_video(tmp_path / "film.mkv", FRAMES, TIMES)


def records(faces, seconds=None, seed=0):
    """Records of frames; for each the numbers of its faces."""
    rng = np.random.default_rng(seed)
    rows = empty_rows(sum(max(1, len(of_frame)) for of_frame in faces), 12)
    place = 0
    for number, of_frame in enumerate(faces, 1):
        for face in of_frame or [-1]:
            rows["frame"][place], rows["face"][place] = number, face
            rows["time_s"][place] = (number - 1) / 25 if seconds is None else seconds[number - 1]
            if face >= 0:
                rows["probs"][place] = rng.random(12)
                rows["occurrence"][place] = rows["probs"][place] >= 0.5
                rows["box"][place] = 10, 10, 60, 70
            place += 1
    return rows


def chunks_of(rows, cuts):
    """The rows, cut anywhere."""
    parts = np.split(rows, sorted(cut % (len(rows) + 1) for cut in cuts))
    return [part for part in parts if len(part)]


scenes = st.lists(st.lists(st.integers(0, 12), max_size=4, unique=True).map(sorted), min_size=1, max_size=20)
cuts = st.lists(st.integers(0, 100), max_size=5)


# Rows


@given(scenes, cuts)
def test_frames_come_whole_from_chunks_that_end_anywhere(faces, where):
    frames = list(by_frame(chunks_of(records(faces), where)))
    assert [frame["frame"].tolist() for frame in frames] == [
        [number] * max(1, len(of_frame)) for number, of_frame in enumerate(faces, 1)
    ]
    assert [[face for face in frame["face"].tolist() if face >= 0] for frame in frames] == faces


@given(scenes, st.sampled_from([0.04, 0.6, 1.5]))
def test_faces_keep_their_places(faces, step):
    rows = records(faces, np.arange(len(faces)) * step)
    places, before = Places(), {}
    for frame, of_frame in zip(by_frame([rows]), faces, strict=True):
        now = places.of(frame)
        taken = {int(frame["face"][row]): place for place, row in enumerate(now) if row is not None}
        assert len(taken) == sum(row is not None for row in now)
        assert set(taken) <= set(of_frame)
        if step > 1 or len(set().union(*faces)) <= MOST_FACES:
            assert set(taken) == set(of_frame)
        assert all(taken[face] == before[face] for face in before.keys() & taken.keys())
        before = taken
    assert extent([rows]).frames == len(faces)
    assert max(map(len, faces)) <= extent([rows]).places <= MOST_FACES


def test_a_place_is_given_away_after_a_second():
    places = Places()
    for faces, seconds, expected in (
        ([0, 1], 0, [0, 1]),
        ([1], 0.9, [None, 1]),
        ([1, 2], 1.5, [2, 1]),
        ([2], 9, [2, None]),
        ([3], 9.1, [None, 3]),
    ):
        rows = records([faces], [seconds])
        assert [None if row is None else int(rows["face"][row]) for row in places.of(rows)] == expected


# Attention


def test_attention_lies_where_the_crop_does():
    """One cell of the map, and where a similarity that is known takes its middle."""
    angle, scale, shift = math.radians(25), 1.7, np.array((150.0, 90.0))
    turn = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    points = np.array(TEMPLATE) @ turn.T + shift
    attention = np.full((28, 28), 1e-9)
    attention[20, 6] = 1
    picture = Image.new("RGB", (500, 400), "#808080")
    lay_over(picture, attention / attention.sum(), points, 112)
    pixels = np.asarray(picture).astype(int)
    yellow = pixels[..., 0] - pixels[..., 2]
    y, x = np.argwhere(yellow > 0.8 * yellow.max()).mean(0) + 0.5
    expected = turn @ ((6.5 * 4, 20.5 * 4)) + shift
    assert np.hypot(x - expected[0], y - expected[1]) < 1.5
    corner = (turn @ (1, 1) + shift).astype(int)
    outside = (turn @ (-3, -3) + shift).astype(int)
    assert (pixels[corner[1], corner[0]] < 128).all()  # dark, where there is little
    assert (pixels[outside[1], outside[0]] == 128).all()


@pytest.mark.parametrize("corner", [(-400, -400), (480, 380), (-90, 100), (5000, 5000)])
def test_faces_may_be_cut_off_by_the_frame(corner):
    picture = Image.new("RGB", (500, 400), "#808080")
    lay_over(picture, np.eye(28) / 28, np.array(TEMPLATE) * 2 + corner, 112)
    changed = (np.asarray(picture) != 128).any(2)
    inside = max(0, min(500, corner[0] + 224) - max(0, corner[0])) * max(
        0, min(400, corner[1] + 224) - max(0, corner[1])
    )
    assert abs(changed.sum() - inside) < 0.03 * 224**2


@pytest.mark.parametrize("attention", ["global_local", "per_au"])
def test_maps_are_those_of_the_network(attention, tmp_path, compose):
    predictor = load(write_run(tmp_path / "run", compose(TINY, f"attention={attention}")), "cpu")
    maker = Attention(predictor)
    assert maker.attends
    crop = torch.from_numpy(FRAMES[:1]).permute(0, 3, 1, 2)
    own = look(predictor.network, [crop], 112).attention
    shown = [3, 7]
    row = records([[0]])
    row["occurrence"] = 0
    row["occurrence"][0, shown] = 1
    of_shown = own.on_grid(np.zeros(2, int), np.array(shown)).mean(0)
    np.testing.assert_allclose(maker.maps(FRAMES[0], row, crop=True)[0], of_shown, atol=1e-6)
    # The same face in a larger frame, at the place that its points tell.
    frame = np.zeros((200, 300, 3), np.uint8)
    frame[50:162, 90:202] = FRAMES[0]
    row["points"] = np.add(TEMPLATE, (90, 50))
    np.testing.assert_allclose(maker.maps(frame, row)[0], of_shown, atol=1e-3)


def test_a_network_without_attention_shows_none(tmp_path, compose):
    predictor = load(write_run(tmp_path / "run", compose(TINY, "attention=none")), "cpu")
    assert not Attention(predictor).attends
    assert Attention(predictor).maps(FRAMES[0], records([[0]]), crop=True).shape == (0, 28, 28)


# Overlays


def test_overlay_of_a_picture_shows_box_and_bars(predictor, tmp_path):
    file, out = tmp_path / "astronaut.png", tmp_path / "overlay.png"
    Image.fromarray(astronaut()).save(file)
    kept = []

    def draw(about, rows):
        kept.extend(rows())
        Drawing(predictor, out)(about, rows)

    predictor.write(tmp_path / "a.csv", file, draw=draw)
    (row,) = np.concatenate(kept)
    picture = np.asarray(Image.open(out).convert("RGB")).astype(int)
    assert picture.shape[0] > 512
    assert picture.shape[1] > 512
    x0, y0, x1, y1 = row["box"].round().astype(int)
    assert (picture[(y0 + y1) // 2, [x0, x1]] == 255).all()  # white
    assert (picture[(y0 + y1) // 2, [x0 - 2, x1 + 2]] == 0).all()  # within black
    np.testing.assert_array_equal(picture[300:500, :500], astronaut()[300:500, :500])
    blue = (picture == (0, 0x72, 0xB2)).all(2)[: 13 * 18 + 20, 512:]  # of the AUs that are present
    bars = [line for line in range(12) if blue[7 + 18 * (line + 1) : 7 + 18 * (line + 2)].any()]
    assert bars == np.flatnonzero(row["occurrence"] == 1).tolist()
    assert bars


def test_overlay_of_a_video_keeps_its_times(predictor, film, tmp_path):
    out, steps_told = tmp_path / "overlay.mp4", []
    with listening(lambda *told: steps_told.append(told)):
        predictor.write(tmp_path / "a.csv", film, AS_CROPS, draw=Drawing(predictor, out, options=AS_CROPS))
    with av.open(str(out)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"  # which every browser plays
        frames = list(container.decode(stream))
    np.testing.assert_allclose([frame.time for frame in frames], TIMES, atol=2e-3)
    shown = frames[4].to_ndarray(format="rgb24")[:448, :448].astype(int)
    large = np.asarray(Image.fromarray(FRAMES[4]).resize((448, 448), Image.Resampling.BILINEAR)).astype(int)
    assert np.corrcoef(shown.ravel(), large.ravel())[0, 1] > 0.8
    assert ("drawing", 6, 6) in steps_told
    assert not list(tmp_path.glob(".overlay*"))


def test_a_pause_of_hours_can_be_drawn(predictor, tmp_path):
    film = write_video(tmp_path / "a.mkv", FRAMES[:4], [0, 0.04, 50_000, 50_000.04])
    out = tmp_path / "overlay.mp4"
    predictor.write(tmp_path / "a.csv", film, AS_CROPS, draw=Drawing(predictor, out, options=AS_CROPS))
    with av.open(str(out)) as container:
        assert [round(frame.time) for frame in container.decode(video=0)] == [0, 0, 50_000, 50_000]


def test_what_can_be_read_of_a_damaged_video_is_drawn(predictor, tmp_path):
    film = write_video(tmp_path / "film.mp4", np.repeat(FRAMES, 20, 0), codec="libx264", movflags="faststart")
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    out = tmp_path / "overlay.mp4"
    report = predictor.write(
        tmp_path / "a.csv", film, AS_CROPS, draw=Drawing(predictor, out, options=AS_CROPS)
    )
    assert report.problems
    with av.open(str(out)) as container:
        assert sum(1 for _ in container.decode(video=0)) == report.rows < 120


def test_frames_that_change_size_fit_into_the_first(predictor, film, tmp_path, monkeypatch):
    rows = records([[0], [0], []])
    small = [np.full((90, 160, 3), 200, np.uint8), np.full((160, 90, 3), 100, np.uint8)]
    from aunet.predict.frames import Frame

    read = [[Frame(1, 0, small[0])], [Frame(2, 0.04, small[1]), Frame(3, 0.08, small[1])]]
    monkeypatch.setattr("aunet.drawing.overlay.read_video", lambda file: iter(read))
    out = tmp_path / "overlay.mp4"
    rows["points"][rows["face"] >= 0] = np.array(TEMPLATE) * 0.7
    draw_overlay(out, film, lambda: iter([rows]), predictor, HALVES)
    with av.open(str(out)) as container:
        assert len({(frame.width, frame.height) for frame in container.decode(video=0)}) == 1


def test_an_overlay_that_fails_leaves_the_old_one_and_the_table(predictor, film, tmp_path, monkeypatch):
    out, table = tmp_path / "overlay.mp4", tmp_path / "a.csv"
    out.write_bytes(b"old")

    def fail(*arguments):
        raise OSError("no space left on device")

    drawing = Drawing(predictor, out, options=AS_CROPS)
    with monkeypatch.context() as patch:
        patch.setattr("aunet.drawing.overlay._Film.add", fail)
        report = predictor.write(table, film, AS_CROPS, draw=drawing)
    (problem,) = report.problems
    assert problem.endswith(
        f"no space left on device: not drawn, but {table} is whole; the same command draws again"
    )
    assert out.read_bytes() == b"old"
    assert len(table.read_text().splitlines()) == 7
    assert not list(tmp_path.glob(".overlay*"))
    monkeypatch.setattr(predictor.network, "forward", fail)  # the rows are still there
    assert predictor.write(table, film, AS_CROPS, draw=drawing).rows == 6
    assert out.stat().st_size > 1000
    assert not (tmp_path / "a.csv.partial").exists()


# Timelines


def naive(rows, face, edges):
    """Mean of each step, by a loop; what no frame begins in is as the step before it."""
    means = np.full((len(edges) - 1, 12), np.nan)
    for step in range(len(means)):
        inside = (rows["time_s"] >= edges[step]) & (rows["time_s"] < edges[step + 1])
        mine = rows[inside & (rows["face"] == face)]
        if len(mine):
            means[step] = mine["probs"].astype(float).mean(0)
        elif step and not inside.any():
            means[step] = means[step - 1]
    return means


@given(scenes, cuts)
@settings(deadline=None)
def test_steps_hold_each_row_once(faces, where):
    rows = records(faces)
    edges, found = steps(chunks_of(rows, where))
    counts = {face: sum(face in of_frame for of_frame in faces) for face in {f for fs in faces for f in fs}}
    assert found == sorted(counts, key=lambda face: (-counts[face], face))
    assert len(edges) == len(faces) + 1
    for course in follow(chunks_of(rows, where), edges, found):
        assert course.frames == counts[course.face]
        np.testing.assert_allclose(course.mean, naive(rows, course.face, edges))
        np.testing.assert_array_equal(course.low, course.high)


def test_long_videos_are_thinned():
    rows = records([[0] if (number // 500) % 2 == 0 else [] for number in range(3000)])
    edges, faces = steps(chunks_of(rows, [7, 1000 % 99]))
    assert len(edges) == BINS + 1
    (course,) = follow([rows], edges, faces)
    assert course.frames == 1500
    np.testing.assert_allclose(course.mean, naive(rows, 0, edges))
    seen = ~np.isnan(course.mean[:, 0])
    assert 0.48 < seen.mean() < 0.52
    assert (course.low[seen] <= course.mean[seen]).all()
    assert (course.mean[seen] <= course.high[seen]).all()
    assert (course.low[seen] < course.high[seen]).mean() > 0.9


@pytest.mark.parametrize(
    "seconds",
    [
        np.arange(801) / 30,
        np.round(np.arange(803) / 30, 3),  # as Matroska keeps them
        np.concatenate([np.arange(850) / 60, 850 / 60 + np.arange(60)]),  # a screen on which little happens
    ],
)
def test_a_frame_lasts_until_the_next_one(seconds):
    """Whatever the frame rate: a face that is in every frame is never lost in a step without one."""
    rows = records([[0]] * len(seconds))
    rows["time_s"] = seconds
    edges, faces = steps([rows])
    (course,) = follow(chunks_of(rows, [100, 500]), edges, faces)
    assert len(edges) == BINS + 1
    assert course.frames == len(seconds)
    assert not np.isnan(course.mean).any()
    np.testing.assert_allclose(course.mean, naive(rows, 0, edges))


def drawn(out, rows, name="film.mp4"):
    draw_timeline(out, name, lambda: iter([rows]), AFFWILD2, HALVES)
    return ElementTree.parse(out).getroot()


def texts(root):
    return ["".join(text.itertext()).strip() for text in root.iter("{http://www.w3.org/2000/svg}text")]


def test_timeline_has_a_panel_for_each_face_and_a_strip_for_each_au(tmp_path):
    rows = records([[0, 3]] * 20 + [[]] * 10 + [[3]] * 20)
    name = "a $x^2$ & <b>\x01\u8138.mp4"
    written = texts(drawn(tmp_path / "a.svg", rows, name))
    assert [text for text in written if text.startswith("AU")] == [f"AU{au}" for au in AFFWILD2] * 2
    assert "face 0, in 20 frames" in written
    assert "face 3, in 40 frames" in written
    assert "time in s" in written
    assert "Action Units over time: a $x^2$ & <b>\\x01\u8138.mp4" in written
    again = (tmp_path / "a.svg").read_bytes()
    drawn(tmp_path / "a.svg", rows, name)
    assert (tmp_path / "a.svg").read_bytes() == again


def test_timeline_of_many_faces_says_what_is_left_out(tmp_path, caplog):
    rows = records([list(range(11))] * 2 + [list(range(8))] * 2)
    written = texts(drawn(tmp_path / "a.svg", rows))
    assert sum(text.startswith("face ") for text in written) == MOST_FACES
    assert any("Left out: 3 faces, seen in no more frames than these." in text for text in written)
    assert "3 faces" in caplog.text


@pytest.mark.parametrize("name", ["n" * 110 + " a.mp4", "2024-05-11_" * 12 + "take2.mp4", "W" * 80 + ".mp4"])
def test_long_names_keep_their_beginning_and_end(tmp_path, name):
    (title,) = [
        text
        for text in texts(drawn(tmp_path / "a.svg", records([[0]] * 3), name))
        if text.startswith("Action")
    ]
    begin, end = title.removeprefix("Action Units over time: ").split("…")
    assert name.startswith(begin)
    assert name.endswith(end)
    assert 10 < len(begin) <= len(end) + 1 < 60


def test_words_of_a_timeline_have_a_line_for_more(tmp_path):
    short, long = (texts(drawn(tmp_path / "a.svg", records([[0]] * count))) for count in (1, 900))
    assert any(text.endswith("nothing known of the face.") for text in short)
    assert any(text.endswith(" s; grey spans its least to its most.") for text in long)
    assert "face 0, in 1 frame" in short


def test_timeline_without_faces_says_so(tmp_path):
    assert "no face was found" in texts(drawn(tmp_path / "a.svg", records([[], []])))


def test_long_timelines_count_hours(tmp_path):
    rows = records([[0]] * 40, np.arange(40) * 200.0)
    written = texts(drawn(tmp_path / "a.svg", rows))
    assert "time in h:min:s" in written
    assert "1:06:40" in written or "0:33:20" in written


# The command


def test_the_command_draws_both(predictor, film, tmp_path, capsys):
    table, overlay, timeline = (tmp_path / name for name in ("a.csv", "a.mp4", "a.svg"))
    main(
        [
            *("predict", str(tmp_path / "run"), str(film), "-o", str(table), "--crops", "--device", "cpu"),
            *("--overlay", str(overlay), "--timeline", str(timeline)),
        ]
    )
    assert "6 rows of 1 input\n" in capsys.readouterr().out
    assert overlay.stat().st_size > 1000
    assert "Action Units over time: film.mkv" in texts(ElementTree.parse(timeline).getroot())


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        (["film.mkv"], ["--overlay", "a.png"], "the overlay of a video must end in .mp4"),
        (["face.png"], ["--overlay", "a.mp4"], "the overlay of a picture must end in .png or .jpg or .jpeg"),
        (["film.mkv"], ["--overlay", "none/a.mp4"], "there is no folder none"),
        (["film.mkv"], ["--timeline", "a.png"], "a timeline must end in .svg"),
        (["face.png"], ["--timeline", "a.svg"], "a timeline is one of a video, and face.png is a picture"),
        (["film.mkv", "face.png"], ["--overlay", "a.mp4"], "one picture or video, and 2 files are given"),
        (["data=rendered"], ["--overlay", "a.mp4"], "0 files are given beside a data set"),
        (["missing.mp4"], ["--overlay", "a.mp4"], "missing.mp4: No such file or directory"),
        (["face.png"], ["--overlay", "face.png"], "face.png is the input itself"),
    ],
)
def test_what_cannot_be_drawn_is_refused_first(
    inputs, options, message, predictor, film, tmp_path, monkeypatch
):
    Image.fromarray(FRAMES[0]).save(tmp_path / "face.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["predict", "run", *inputs, "-o", "a.csv", "--crops", "--device", "cpu", *options])
    assert message in str(caught.value.code)
    assert not (tmp_path / "a.csv").exists()


def test_progress_is_told_to_who_listens(capsys):
    told = []
    with listening(lambda *arguments: told.append(arguments)), progress("working", 3, "things", 1) as advance:
        advance(2)
    assert told == [("working", 1, 3), ("working", 3, 3)]
    assert capsys.readouterr().err == ""
