"""What comes in: videos as they are, pictures as cameras make them, and all that is wrong with files."""

import contextlib
import json
import logging
import os
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import simplejpeg
from media import tiny_predictor, write_no_frames, write_sound, write_video
from PIL import Image

from aunet.cli import main
from aunet.predict import Options
from aunet.predict.frames import InputError
from aunet.predict.images import read_picture
from aunet.predict.inputs import find_inputs
from aunet.predict.video import read_video

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


@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_turned_videos_are_set_upright(tmp_path, rotation):
    upright = np.zeros((48, 64, 3), np.uint8)
    upright[:16, :20] = 255  # upper left
    stored = np.rot90(upright, -rotation // 90)
    frames, _ = read(write_video(tmp_path / "a.mp4", [stored] * 2, rotation=rotation, **H264))
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


def test_pixels_that_are_not_square_are_made_square(tmp_path):
    """As of a DVD: 64x48 pixels that are half as wide again as they are high, and their turned kin."""
    for ratio, shape in ((Fraction(3, 2), (48, 96, 3)), (Fraction(2, 3), (72, 64, 3))):
        file = tmp_path / "wide.mp4"
        with av.open(str(file), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            stream.codec_context.sample_aspect_ratio = ratio
            for pixels in FRAMES[:3]:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode(None))
        (batch,) = read_video(file)
        assert {frame.pixels.shape for frame in batch} == {shape}


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
