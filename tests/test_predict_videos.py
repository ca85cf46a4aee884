"""Videos are taken as they are: their frames, times, and how they are to be shown; and what is cut off."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from media import FRAMES, H264, MATRICES, read_all, write_video
from PIL import Image

from aunet.predict.images import read_picture
from aunet.predict.video import read_video

RNG = np.random.default_rng(0)


def test_frames_and_times_are_those_of_the_file(tmp_path):
    frames, error = read_all(write_video(tmp_path / "a.mkv", FRAMES))
    assert error is None
    assert [frame.number for frame in frames] == list(range(1, 41))
    np.testing.assert_allclose([frame.seconds for frame in frames], np.arange(40) / 25, atol=1e-3)
    np.testing.assert_array_equal([frame.pixels for frame in frames], FRAMES)


def test_a_variable_frame_rate_keeps_its_times(tmp_path):
    times = [0, 0.04, 0.5, 0.54, 2.0, 2.1]
    frames, error = read_all(write_video(tmp_path / "a.mp4", FRAMES[:6], times, **H264))
    assert error is None
    np.testing.assert_allclose([frame.seconds for frame in frames], times, atol=2e-3)


def test_times_of_recordings_that_were_joined_go_on(tmp_path):
    parts = [write_video(tmp_path / f"{name}.ts", FRAMES[:10], **H264).read_bytes() for name in "ab"]
    (tmp_path / "joined.ts").write_bytes(b"".join(parts))
    frames, _ = read_all(tmp_path / "joined.ts")
    assert len(frames) == 20
    np.testing.assert_allclose(np.diff([frame.seconds for frame in frames]), 1 / 25, atol=2e-3)


def test_a_video_that_begins_late_is_whole(tmp_path):
    times = [2 + k / 25 for k in range(20)]
    frames, error = read_all(write_video(tmp_path / "late.mkv", FRAMES[:20], times, **H264))
    assert error is None
    np.testing.assert_allclose([frame.seconds for frame in frames], np.arange(20) / 25, atol=2e-3)


@pytest.mark.parametrize("count", [1, 2, 5, 10])
def test_a_short_video_that_begins_late_does_so_at_0(tmp_path, count):
    """Of a few frames FFmpeg does not tell where the file begins."""
    times = [5, 5.04, 5.1, 5.3, 5.333, 5.4, 5.5, 5.6, 5.7, 5.8][:count]
    frames, error = read_all(write_video(tmp_path / "late.mkv", FRAMES[:count], times, **H264))
    assert error is None
    np.testing.assert_allclose([frame.seconds for frame in frames], np.array(times) - 5, atol=2e-3)


def test_frames_without_time_stamps_follow_each_other(tmp_path):
    """AVI has none, and H.264 stores frames in another order than it shows them."""
    file = tmp_path / "a.avi"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "3"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for pixels in FRAMES[:20]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    frames, error = read_all(file)
    assert error is None
    seconds = [frame.seconds for frame in frames]
    np.testing.assert_allclose(np.diff(seconds), 1 / 25, atol=1e-6)
    assert seconds[0] < 0.05


@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_turned_videos_are_set_upright(tmp_path, rotation):
    upright = np.zeros((48, 64, 3), np.uint8)
    upright[:16, :20] = 255  # upper left
    stored = np.rot90(upright, -rotation // 90)
    frames, _ = read_all(write_video(tmp_path / "a.mp4", [stored] * 2, rotation=rotation, **H264))
    assert frames[0].pixels.shape == upright.shape
    assert abs(frames[0].pixels.astype(int) - upright).mean() < 10


@pytest.mark.parametrize("name", MATRICES)
def test_turned_and_mirrored_videos_are_set_upright(tmp_path, name):
    (a, b, c, d), undone = MATRICES[name]
    upright = np.zeros((48, 64, 3), np.uint8)
    upright[:16, :20] = 255  # upper left
    file = write_video(tmp_path / "a.mp4", [np.ascontiguousarray(undone(upright))] * 2, **H264)
    content = bytearray(file.read_bytes())
    at = content.index(b"tkhd") + 44
    assert struct.unpack(">9i", content[at : at + 36])[::8] == (1 << 16, 1 << 30)
    content[at : at + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    file.write_bytes(content)
    frames, error = read_all(file)
    assert error is None
    assert frames[0].pixels.shape == upright.shape
    assert abs(frames[0].pixels.astype(int) - upright).mean() < 10


def test_an_animation_is_a_video(tmp_path):
    pictures = [Image.fromarray(np.full((48, 64, 3), grey, np.uint8)) for grey in (0, 128, 255)]
    for name in ("a.gif", "a.png"):
        file = tmp_path / name
        pictures[0].save(file, save_all=True, append_images=pictures[1:], duration=200)
        assert read_picture(file) is None
        frames, error = read_all(file)
        assert error is None
        np.testing.assert_allclose([frame.seconds for frame in frames], [0, 0.2, 0.4], atol=0.01)
        np.testing.assert_allclose([frame.pixels.mean() for frame in frames], [0, 128, 255], atol=3)


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.mp4", {"movflags": "faststart", **H264}), ("a.mkv", H264), ("a.ts", H264)],
)
def test_of_a_video_that_is_cut_off_the_beginning_is_kept(tmp_path, name, options):
    file = write_video(tmp_path / name, FRAMES, **options)
    assert read_all(file)[1] is None
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 6 // 10])
    frames, error = read_all(file)
    assert 10 < len(frames) < 36
    assert error.startswith(f"{file}: ")
    assert f"its {len(frames)} frames" in error


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_of_a_short_video_a_few_frames_are_missed(tmp_path, name):
    file = write_video(tmp_path / name, FRAMES[:10], movflags="faststart", g="1", **H264)
    assert read_all(file)[1] is None
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 8 // 10])
    frames, error = read_all(file)
    assert 3 < len(frames) < 9
    assert f"its {len(frames)} frames" in error


@pytest.mark.parametrize("count", [1, 2, 3, 5, 10])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm", "a.ts", "a.flv", "a.avi"])
def test_short_videos_are_whole(tmp_path, name, count):
    """Also where the header tells more than it knows, as FLV's does of B-frames, or Matroska's of sound."""
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream({"a.webm": "libvpx", "a.avi": "mpeg4"}.get(name, "libx264"), rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        sound = None
        if name == "a.mkv":
            sound = container.add_stream("aac", rate=48000)
            sound.layout = "mono"
        for pixels in FRAMES[:count]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
        if sound:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 48000), np.float32), "fltp", "mono")
            silence.sample_rate = 48000
            container.mux(sound.encode(silence))
            container.mux(sound.encode(None))
    frames, error = read_all(tmp_path / name)
    assert error is None
    assert len(frames) == count


def test_a_transport_stream_that_ends_within_a_packet_is_cut_off(tmp_path):
    file = write_video(tmp_path / "a.ts", FRAMES, **H264)
    file.write_bytes(file.read_bytes()[:-1])
    _, error = read_all(file)
    assert "cut off: it ends within a packet" in error


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\na.ts\n#EXT-X-ENDLIST\n"),
        ("a.ffconcat", "ffconcat version 1.0\nfile a.ts\n"),
    ],
)
def test_playlists_lead_nowhere(tmp_path, name, content):
    write_video(tmp_path / "a.ts", FRAMES, **H264)
    (tmp_path / name).write_text(content)
    frames, error = read_all(tmp_path / name)
    assert not frames
    assert "no video that can be read" in error


def test_a_name_is_no_pattern_of_names(tmp_path):
    """FFmpeg would take the second file as the pictures of a film."""
    for number in (1, 2):
        Image.fromarray(FRAMES[0]).save(tmp_path / f"{number}.jpg")
    (tmp_path / "%d.jpg").write_bytes(RNG.bytes(500))
    assert "no video that can be read" in read_all(tmp_path / "%d.jpg")[1]


def write_wide(file, ratio):
    """64x48 pixels, each ``ratio`` times as wide as it is high."""
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = ratio
        for pixels in FRAMES[:3]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return file


def test_pixels_that_are_not_square_are_made_square(tmp_path):
    """As of a DVD: 64x48 pixels that are half as wide again as they are high, and their turned kin."""
    for ratio, shape in ((Fraction(3, 2), (48, 96, 3)), (Fraction(2, 3), (72, 64, 3))):
        (batch,) = read_video(write_wide(tmp_path / "wide.mp4", ratio))
        assert {frame.pixels.shape for frame in batch} == {shape}


@pytest.mark.parametrize("wide", [(10_000, 1), (1, 20_000)])
def test_nonsense_about_the_shape_of_pixels_is_not_believed(tmp_path, wide):
    file = write_wide(tmp_path / "a.mp4", Fraction(3, 2))
    head, name, rest = file.read_bytes().partition(b"pasp")
    file.write_bytes(head + name + b"".join(n.to_bytes(4, "big") for n in wide) + rest[8:])
    frames, error = read_all(file)
    assert error is None
    assert {frame.pixels.shape for frame in frames} == {(48, 64, 3)}
