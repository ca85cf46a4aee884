"""What comes in: folders, names, and all that is wrong with files."""

import json
import logging
import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from media import FRAMES, H264, tiny_predictor, write_no_frames, write_sound, write_video
from PIL import Image

from aunet.cli import main
from aunet.drawing import Drawing
from aunet.predict import Options, load
from aunet.predict.inputs import find_inputs
from aunet.runs import RunError

RNG = np.random.default_rng(0)


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
