"""What comes in: videos as they are, pictures as cameras make them, and all that is wrong with files."""

import contextlib
import json
import logging
import os
import re
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import simplejpeg
from media import tiny_predictor, write_no_frames, write_sound, write_video
from PIL import Image, features

from aunet.cli import main
from aunet.drawing import Drawing
from aunet.predict import Options, load
from aunet.predict.frames import InputError
from aunet.predict.images import read_picture
from aunet.predict.inputs import find_inputs
from aunet.predict.video import read_video
from aunet.runs import RunError

RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 256, (40, 48, 64, 3), np.uint8)
H264 = {"codec": "libx264"}


def read(file):
    """All frames of a video, and the error that ended it."""
    frames = []
    try:
        for batch in read_video(file):
            assert len({frame.pixels.shape for frame in batch}) == 1
            frames += batch
    except InputError as error:
        return frames, str(error)
    return frames, None


# Videos


def test_frames_and_times_are_those_of_the_file(tmp_path):
    frames, error = read(write_video(tmp_path / "a.mkv", FRAMES))
    assert error is None
    assert [frame.number for frame in frames] == list(range(1, 41))
    np.testing.assert_allclose([frame.seconds for frame in frames], np.arange(40) / 25, atol=1e-3)
    np.testing.assert_array_equal([frame.pixels for frame in frames], FRAMES)


def test_a_variable_frame_rate_keeps_its_times(tmp_path):
    times = [0, 0.04, 0.5, 0.54, 2.0, 2.1]
    frames, error = read(write_video(tmp_path / "a.mp4", FRAMES[:6], times, **H264))
    assert error is None
    np.testing.assert_allclose([frame.seconds for frame in frames], times, atol=2e-3)


def test_times_of_recordings_that_were_joined_go_on(tmp_path):
    parts = [write_video(tmp_path / f"{name}.ts", FRAMES[:10], **H264).read_bytes() for name in "ab"]
    (tmp_path / "joined.ts").write_bytes(b"".join(parts))
    frames, _ = read(tmp_path / "joined.ts")
    assert len(frames) == 20
    np.testing.assert_allclose(np.diff([frame.seconds for frame in frames]), 1 / 25, atol=2e-3)


def test_a_video_that_begins_late_is_whole(tmp_path):
    times = [2 + k / 25 for k in range(20)]
    frames, error = read(write_video(tmp_path / "late.mkv", FRAMES[:20], times, **H264))
    assert error is None
    np.testing.assert_allclose([frame.seconds for frame in frames], np.arange(20) / 25, atol=2e-3)


@pytest.mark.parametrize("count", [1, 2, 5, 10])
def test_a_short_video_that_begins_late_does_so_at_0(tmp_path, count):
    """Of a few frames FFmpeg does not tell where the file begins."""
    times = [5, 5.04, 5.1, 5.3, 5.333, 5.4, 5.5, 5.6, 5.7, 5.8][:count]
    frames, error = read(write_video(tmp_path / "late.mkv", FRAMES[:count], times, **H264))
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
    frames, error = read(file)
    assert error is None
    seconds = [frame.seconds for frame in frames]
    np.testing.assert_allclose(np.diff(seconds), 1 / 25, atol=1e-6)
    assert seconds[0] < 0.05


@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_turned_videos_are_set_upright(tmp_path, rotation):
    upright = np.zeros((48, 64, 3), np.uint8)
    upright[:16, :20] = 255  # upper left
    stored = np.rot90(upright, -rotation // 90)
    frames, _ = read(write_video(tmp_path / "a.mp4", [stored] * 2, rotation=rotation, **H264))
    assert frames[0].pixels.shape == upright.shape
    assert abs(frames[0].pixels.astype(int) - upright).mean() < 10


MATRICES = {
    "as stored": ((1, 0, 0, 1), lambda pixels: pixels),
    "mirrored": ((-1, 0, 0, 1), np.fliplr),
    "upside down": ((1, 0, 0, -1), np.flipud),
    "half a turn": ((-1, 0, 0, -1), lambda pixels: np.rot90(pixels, 2)),
    "a quarter": ((0, 1, -1, 0), lambda pixels: np.rot90(pixels, 1)),
    "three quarters": ((0, -1, 1, 0), lambda pixels: np.rot90(pixels, -1)),
    "transposed": ((0, 1, 1, 0), lambda pixels: pixels.swapaxes(0, 1)),
    "transposed the other way": ((0, -1, -1, 0), lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1)),
}
"""What stands in a video's header, as (a, b, c, d) of x' = a x + c y, y' = b x + d y, and what undoes it."""


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
    frames, error = read(file)
    assert error is None
    assert frames[0].pixels.shape == upright.shape
    assert abs(frames[0].pixels.astype(int) - upright).mean() < 10


def test_an_animation_is_a_video(tmp_path):
    pictures = [Image.fromarray(np.full((48, 64, 3), grey, np.uint8)) for grey in (0, 128, 255)]
    for name in ("a.gif", "a.png"):
        file = tmp_path / name
        pictures[0].save(file, save_all=True, append_images=pictures[1:], duration=200)
        assert read_picture(file) is None
        frames, error = read(file)
        assert error is None
        np.testing.assert_allclose([frame.seconds for frame in frames], [0, 0.2, 0.4], atol=0.01)
        np.testing.assert_allclose([frame.pixels.mean() for frame in frames], [0, 128, 255], atol=3)


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.mp4", {"movflags": "faststart", **H264}), ("a.mkv", H264), ("a.ts", H264)],
)
def test_of_a_video_that_is_cut_off_the_beginning_is_kept(tmp_path, name, options):
    file = write_video(tmp_path / name, FRAMES, **options)
    assert read(file)[1] is None
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 6 // 10])
    frames, error = read(file)
    assert 10 < len(frames) < 36
    assert error.startswith(f"{file}: ")
    assert f"its {len(frames)} frames" in error


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_of_a_short_video_a_few_frames_are_missed(tmp_path, name):
    file = write_video(tmp_path / name, FRAMES[:10], movflags="faststart", g="1", **H264)
    assert read(file)[1] is None
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 8 // 10])
    frames, error = read(file)
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
    frames, error = read(tmp_path / name)
    assert error is None
    assert len(frames) == count


def test_a_transport_stream_that_ends_within_a_packet_is_cut_off(tmp_path):
    file = write_video(tmp_path / "a.ts", FRAMES, **H264)
    file.write_bytes(file.read_bytes()[:-1])
    _, error = read(file)
    assert "cut off: it ends within a packet" in error


@pytest.mark.parametrize("cut", [1, 8])
def test_a_damaged_picture_is_no_video(tmp_path, cut):
    """Of a TIFF the directory lies at the end: Pillow knows it no longer, but FFmpeg finds something."""
    file = tmp_path / "a.tif"
    Image.fromarray(FRAMES[0]).save(file, compression="tiff_lzw")
    file.write_bytes(file.read_bytes()[:-cut])
    assert read_picture(file) is None
    frames, error = read(file)
    assert frames == []
    assert error == f"{file}: a picture that is damaged or that aunet does not read (tiff): save it as PNG"


ORIENTATIONS = dict(enumerate((0, 1, 3, 2, 6, 4, 7, 5), start=1))
"""Of EXIF, by number: its place among MATRICES."""


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("name", ["a.png", "a.avif"])
def test_pictures_that_ffmpeg_reads_are_set_upright(tmp_path, name, orientation):
    _, undone = list(MATRICES.values())[ORIENTATIONS[orientation]]
    upright = np.zeros((48, 64, 3), np.uint8)
    upright[:16, :20] = 255
    if name == "a.avif" and not features.check("avif"):
        pytest.skip("this Pillow writes no AVIF")
    file, exif = tmp_path / name, Image.Exif()
    exif[0x0112] = orientation
    first, second = (
        Image.fromarray(np.ascontiguousarray(undone(pixels))) for pixels in (upright, upright ^ 1)
    )
    more = {"save_all": True, "append_images": [second]} if name == "a.png" else {"quality": 95}
    first.save(file, exif=exif, **more)
    if name == "a.png" and orientation in (2, 4, 5, 7):
        with pytest.raises(InputError, match="to be shown mirrored: save it as it looks"):
            read_picture(file)
        return
    assert read_picture(file) is None
    frames, error = read(file)
    assert error is None
    assert frames[0].pixels.shape == upright.shape
    assert abs(frames[0].pixels.astype(int) - upright).mean() < 10


def test_an_animated_webp_is_told(tmp_path):
    pictures = [Image.fromarray(np.full((48, 64, 3), grey, np.uint8)) for grey in (0, 255)]
    pictures[0].save(tmp_path / "a.webp", save_all=True, append_images=pictures[1:])
    with pytest.raises(InputError, match="an animated WebP: convert it to GIF, PNG or a video"):
        read_picture(tmp_path / "a.webp")


def test_reading_a_picture_warns_of_nothing(tmp_path, recwarn):
    palette = Image.fromarray(FRAMES[0]).quantize(4)
    palette.save(tmp_path / "a.png", transparency=bytes([0, 255, 255, 255]))
    assert read_picture(tmp_path / "a.png").shape == FRAMES[0].shape
    assert not recwarn.list


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
    frames, error = read(tmp_path / name)
    assert not frames
    assert "no video that can be read" in error


def test_a_name_is_no_pattern_of_names(tmp_path):
    """FFmpeg would take the second file as the pictures of a film."""
    for number in (1, 2):
        Image.fromarray(FRAMES[0]).save(tmp_path / f"{number}.jpg")
    (tmp_path / "%d.jpg").write_bytes(RNG.bytes(500))
    assert "no video that can be read" in read(tmp_path / "%d.jpg")[1]


# Pictures


def test_pictures_of_all_kinds_are_the_same_picture(tmp_path):
    pixels = np.repeat(np.repeat(RNG.integers(0, 256, (6, 8, 3), np.uint8), 8, 0), 8, 1)
    image = Image.fromarray(pixels)
    image.save(tmp_path / "a.jpg", quality=100, subsampling=0)
    for name in ("a.png", "a.bmp", "a.tif"):
        image.save(tmp_path / name)
    image.save(tmp_path / "a.webp", lossless=True)
    image.convert("RGBA").save(tmp_path / "b.png")
    for file in sorted(tmp_path.iterdir()):
        np.testing.assert_allclose(read_picture(file), pixels, atol=0 if file.suffix != ".jpg" else 4)
    image.convert("L").save(tmp_path / "grey.png")
    grey = read_picture(tmp_path / "grey.png")
    assert grey.shape == (48, 64, 3)
    assert (grey[..., 0] == grey[..., 2]).all()


def test_jpeg_is_decoded_as_in_training(tmp_path):
    file = tmp_path / "a.jpg"
    file.write_bytes(
        simplejpeg.encode_jpeg(np.ascontiguousarray(FRAMES[0]), quality=80, colorsubsampling="420")
    )
    np.testing.assert_array_equal(read_picture(file), simplejpeg.decode_jpeg(file.read_bytes()))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_set_upright(tmp_path, orientation):
    upright = np.zeros((48, 64, 3), np.uint8)
    upright[:16, :20] = 255
    undo = {2: np.fliplr, 3: lambda x: np.rot90(x, 2), 4: np.flipud, 5: lambda x: np.transpose(x, (1, 0, 2)),
            6: lambda x: np.rot90(x, 1), 7: lambda x: np.rot90(np.transpose(x, (1, 0, 2)), 2),
            8: lambda x: np.rot90(x, -1)}  # fmt: skip
    image = Image.fromarray(np.ascontiguousarray(undo.get(orientation, np.array)(upright)))
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.jpg", quality=95, exif=exif)
    assert abs(read_picture(tmp_path / "a.jpg").astype(int) - upright).mean() < 3


def bad_files(folder: Path) -> dict[str, str]:
    """Writes every kind of bad file; what is said of each."""
    small = Image.fromarray(FRAMES[0])
    whole = write_video(folder / "x.mp4", FRAMES, **H264).read_bytes()
    (folder / "x.mp4").unlink()
    said = {}

    def bad(name: str, words: str, data: bytes | None = None) -> Path:
        said[name] = words
        if data is not None:
            (folder / name).write_bytes(data)
        return folder / name

    bad("corrupt.mp4", "no video that can be read", RNG.bytes(5000))
    bad("headless.mp4", "no video that can be read", whole[: len(whole) // 2])
    bad("codec.mp4", "FFmpeg has no decoder for its video", whole.replace(b"avc1", b"zzzz"))
    bad("text.jpg", "no video that can be read", b"not a picture\n" * 30)
    bad("empty.mp4", "the file is empty", b"")
    bad("empty.jpg", "the file is empty", b"")
    write_sound(bad("sound.wav", "sound only"))
    write_sound(bad("song.mp3", "sound only"), FRAMES[0])
    write_no_frames(bad("zero.mp4", "holds no video"))
    write_no_frames(bad("zero.mkv", "no video that can be read"))
    cut = write_video(bad("cut.mkv", "cut off: its header tells of 1.60 s; its "), FRAMES, **H264)
    cut.write_bytes(cut.read_bytes()[: len(cut.read_bytes()) * 6 // 10])
    small.save(bad("cut.jpg", "a damaged JPEG picture"), quality=95)
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:1500])
    Image.fromarray(RNG.integers(0, 65536, (48, 64), np.uint16)).save(bad("grey16.png", "16 bits"))
    bad("rgb16.png", "16 bits", rgb16_png())
    Image.fromarray(RNG.random((48, 64)).astype(np.float32)).save(bad("float.tif", "16 bits or more"))
    small.convert("CMYK").save(bad("cmyk.jpg", "its colours are CMYK"))
    small.convert("CMYK").save(bad("cmyk.tif", "its colours are CMYK"))
    small.save(bad("pages.tif", "several pages"), save_all=True, append_images=[small])
    bad("huge.png", "12000x12000 pixels", png(12000, 12000, 8))
    small.save(folder / "x.gif", save_all=True, append_images=[Image.fromarray(FRAMES[1])])
    gif = (folder / "x.gif").read_bytes()
    (folder / "x.gif").unlink()
    bad("huge.gif", "12000x12000 pixels", gif[:6] + struct.pack("<HH", 12000, 12000) + gif[10:])
    bad("cut.gif", "no frame can be decoded", gif[:30])
    bad("flat.png", "bomb", png(60000, 60000, 8))
    bad("line\nbreak,comma.mp4", "no video that can be read", b"\x00" * 300)
    return said


def png(width: int, height: int, depth: int, data: bytes = b"") -> bytes:
    """An RGB PNG with any header."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )


def rgb16_png() -> bytes:
    rows = b"".join(b"\x00" + row.tobytes() for row in RNG.integers(0, 65536, (8, 8, 3)).astype(">u2"))
    return png(8, 8, 16, rows)


@pytest.mark.parametrize("kind", ["png", "jpg", "gif", "tif", "webp", "bmp"])
def test_a_picture_that_is_damaged_anywhere_is_read_or_refused(kind, tmp_path):
    """Never anything but a picture, None for what may be a video, or an error in words."""
    pair = [Image.fromarray(frame) for frame in FRAMES[:2]]
    more = {"save_all": True, "append_images": pair[1:]} if kind == "gif" else {}
    pair[0].save(tmp_path / f"whole.{kind}", **more)
    whole, damaged = (tmp_path / f"whole.{kind}").read_bytes(), tmp_path / f"damaged.{kind}"
    rng = np.random.default_rng(3)
    for _ in range(150):
        changed = bytearray(whole)
        for _ in range(rng.integers(1, 5)):
            changed[rng.integers(min(len(whole), 300))] = rng.integers(256)
        damaged.write_bytes(changed[: rng.integers(1, len(whole) + 1)] if rng.random() < 0.5 else changed)
        with contextlib.suppress(InputError):
            found = read_picture(damaged)
            assert found is None or found.shape[2:] == (3,)


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
    frames, error = read(file)
    assert error is None
    assert {frame.pixels.shape for frame in frames} == {(48, 64, 3)}


def test_every_bad_input_is_one_line_and_the_rest_goes_on(tmp_path, compose, capsys):
    """By the command itself: exit code, lines, and a table with all that is good."""
    folder = tmp_path / "in"
    folder.mkdir()
    said = bad_files(folder)
    good = [
        Image.fromarray(FRAMES[0]).save(folder / name) or name
        for name in ("a,b.png", "quote\"'.png", "Ünïcødé 笑.png", "-dash.png", "data=x.png", "new\nline.png")
    ]
    write_video(folder / "z.mkv", FRAMES[:3])
    tiny_predictor(tmp_path / "run", compose)
    out = tmp_path / "out.jsonl"
    missing = folder / "missing.mp4"
    names = [str(missing), *(str(folder / name) for name in [*said, *good, "z.mkv"])]
    with pytest.raises(SystemExit) as stopped:
        main(["predict", str(tmp_path / "run"), *names, "-o", str(out), "--device", "cpu"])
    assert stopped.value.code == 1
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("aunet: ")]
    assert "Traceback" not in captured.err
    for name, words in {"missing.mp4": "No such file", **said}.items():
        shown = name.replace("\n", "\\n")
        (line,) = [line for line in lines if line.startswith(f"aunet: {folder / shown}: ")]
        assert words in line, line
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    inputs = [row["input"] for row in rows]
    assert set(inputs) == {str(folder / name) for name in [*good, "z.mkv", "cut.mkv"]}
    assert inputs.count(str(folder / "z.mkv")) == 3
    assert inputs.count(str(folder / "cut.mkv")) > 10
    assert not list(tmp_path.glob("*.partial"))
    assert {path.name for path in tmp_path.iterdir()} == {"in", "run", "out.jsonl"}


def test_a_name_that_is_no_utf8_can_be_written(tmp_path, compose):
    file = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.png"))
    Image.fromarray(np.zeros((112, 112, 3), np.uint8)).save(file)
    predictor = tiny_predictor(tmp_path / "run", compose)
    report = predictor.write(tmp_path / "out.csv", file, Options(crops=True))
    assert not report.problems
    assert r"\xff\xfe.png" in (tmp_path / "out.csv").read_text(encoding="utf-8")


def test_folders_are_searched_and_names_are_taken_once(tmp_path, caplog):
    caplog.set_level(logging.INFO, "aunet")
    folder = tmp_path / "a"
    (folder / "b").mkdir(parents=True)
    for name in ("2.PNG", "10.jpg", "b/1.mp4", "notes.txt", ".hidden.jpg"):
        (folder / name).write_bytes(b"x")
    files, overrides, errors = find_inputs(
        [folder, folder / "10.jpg", "data=rendered", "data.root=x", "gone"]
    )
    assert [file.name for file in files] == [str(folder / name) for name in ("10.jpg", "2.PNG", "b/1.mp4")]
    assert overrides == ["data=rendered", "data.root=x"]
    assert [str(error) for error in errors] == ["gone: No such file or directory"]
    assert "1 other files are left out" in caplog.text
    (tmp_path / "empty").mkdir()
    assert "no pictures and no videos" in str(find_inputs([tmp_path / "empty"])[2][0])


def test_hidden_folders_are_left_alone(tmp_path):
    for name in ("a.png", ".thumbs/b.png", "c/.d/e.png", "c/f.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(FRAMES[0]).save(tmp_path / name)
    found = [Path(file.name).name for file in find_inputs([tmp_path])[0]]
    assert found == ["a.png", "f.png"]


@pytest.fixture
def predictor(tmp_path, compose):
    return tiny_predictor(tmp_path / "run", compose)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([""], "an empty name"),
        (["num_aus=12"], "num_aus=12: of which data set?"),
        (["data.root=/nowhere", "+data.x=1"], "data.root=/nowhere: of which data set?"),
    ],
)
def test_what_names_no_input_is_refused(predictor, tmp_path, monkeypatch, given, said):
    """And neither stands for the current folder, nor for the rendered faces, which would be made."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(FRAMES[0]).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=re.escape(said)):
        predictor.predict(given)
    assert not (tmp_path / "data").exists()


def test_a_name_that_is_too_long_does_not_keep_the_others(predictor, tmp_path):
    Image.fromarray(FRAMES[0]).save(tmp_path / "a.png")
    report = predictor.write(tmp_path / "out.csv", [tmp_path / "a.png", "z" * 300])
    assert report.rows == 1
    assert "too long" in report.problems[0]


def test_a_data_set_that_is_asked_for_wrongly_costs_no_other_input(predictor, tmp_path, affwild2):
    Image.fromarray(FRAMES[0]).save(tmp_path / "a.png")
    inputs = [tmp_path / "a.png", "data=affwild2", f"data.root={affwild2}", "data.read.annotations=5"]
    report = predictor.write(tmp_path / "out.csv", inputs)
    assert report.rows == 1
    assert "cannot be read as it is asked for (TypeError" in report.problems[0]


def test_nothing_that_is_there_is_written_over(predictor, tmp_path):
    film = tmp_path / "film.csv"
    film.write_bytes(write_video(tmp_path / "film.mkv", FRAMES[:2]).read_bytes())
    before = film.read_bytes()
    with pytest.raises(ValueError, match=r"film\.csv is the input itself"):
        predictor.write(film, [film])
    drawn = film.rename(tmp_path / "film.svg")
    with pytest.raises(ValueError, match=r"film\.svg is the input itself"):
        Drawing(predictor, timeline=drawn).check([drawn])
    drawn.rename(film)
    mine = tmp_path / "out.csv.partial" / "mine"
    mine.parent.mkdir()
    mine.touch()
    with pytest.raises(RunError, match="mine in it was not left by a prediction"):
        predictor.write(tmp_path / "out.csv", [film])
    assert film.read_bytes() == before
    assert mine.exists()


def test_weights_that_are_cut_off_are_named(predictor, tmp_path):
    file = tmp_path / "run" / "best.ckpt"
    for size in (0, 100, file.stat().st_size - 100):
        file.write_bytes(file.read_bytes()[:size] if size else b"")
        with pytest.raises(RunError, match=r"best\.ckpt: not this run's weights"):
            load(tmp_path / "run", "cpu")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look into every folder")
@pytest.mark.parametrize("mode", [0o000, 0o600])
def test_a_closed_folder_is_told_and_the_rest_is_taken(tmp_path, mode):
    for name in ("a.png", "closed/b.png"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(FRAMES[0]).save(file)
    (tmp_path / "closed").chmod(mode)
    try:
        files, _, errors = find_inputs([tmp_path])
        alone = find_inputs([tmp_path / "closed"])
    finally:
        (tmp_path / "closed").chmod(0o700)
    assert [file.path.name for file in files] == ["a.png"]
    assert [str(error).endswith(": Permission denied") for error in errors] == [True]
    assert alone[0] == []
    assert [str(error).endswith(": Permission denied") for error in alone[2]] == [True]


def test_a_folder_that_cannot_be_listed_is_told_and_the_rest_is_taken(tmp_path, monkeypatch):
    """As the one above, also for root."""
    for name in ("a.png", "closed/b.png"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(FRAMES[0]).save(file)
    original = os.scandir

    def scandir(place):
        if Path(place).name == "closed":
            raise PermissionError(13, "Permission denied", str(place))
        return original(place)

    monkeypatch.setattr(os, "scandir", scandir)
    files, _, errors = find_inputs([tmp_path])
    assert [file.path.name for file in files] == ["a.png"]
    assert [str(error) for error in errors] == [f"{tmp_path / 'closed'}: Permission denied"]


def test_a_dangling_link_is_told(tmp_path):
    Image.fromarray(FRAMES[0]).save(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    files, _, errors = find_inputs([tmp_path])
    assert [file.path.name for file in files] == ["a.png"]
    assert [str(error) for error in errors] == [f"{tmp_path / 'b.png'}: No such file or directory"]
