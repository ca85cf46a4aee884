"""Planted faults, one by one: each is found, by its name, where it is, and nothing else is."""

import codecs
import gzip
import os
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aunet.cli import main
from aunet.data.faults import DataError
from aunet.data.testset import Expected
from aunet.facs import AFFWILD2
from aunet.submit.check import check
from aunet.submit.files import HEADERS, write_pictures, write_videos
from aunet.submit.kinds import KINDS

FRAMES = {"7-30-1280x720": 4, "8-30-640x360_left": 3, "8-30-640x360_right": 3, "video9": 2}
EXPECTED = Expected(FRAMES)
ANSWERS = {
    video: np.random.default_rng(count).integers(0, 2, (count, 12)).astype(np.int8)
    for video, count in FRAMES.items()
}
FIRST, LEFT, RIGHT, LAST = FRAMES


@dataclass
class Planted:
    """A good submission into which a test plants a fault."""

    path: Path

    def file(self, video=FIRST):
        return self.path / f"{video}.txt" if self.path.is_dir() else self.path

    def lines(self, change, video=FIRST):
        """Changes a file's lines: ``change`` takes the list and changes it, or gives another."""
        lines = self.file(video).read_text().splitlines()
        lines = change(lines) or lines
        self.file(video).write_text("".join(f"{line}\n" for line in lines), newline="")

    def line(self, number, change, video=FIRST):
        """Changes a line, counted from 1."""
        self.lines(lambda lines: lines.__setitem__(number - 1, change(lines[number - 1])), video)

    def bytes(self, change, video=FIRST):
        self.file(video).write_bytes(change(self.file(video).read_bytes()))


@pytest.fixture
def videos(tmp_path):
    write_videos(tmp_path / "submission", ANSWERS)
    return Planted(tmp_path / "submission")


@pytest.fixture
def pictures(tmp_path):
    write_pictures(tmp_path / "submission.txt", ANSWERS, EXPECTED)
    return Planted(tmp_path / "submission.txt")


def found(planted, expected=EXPECTED, form=None):
    """{kind: [(file's name, first line, last line, detail), ...]}."""
    return {
        kind: [(Path(p.file).name, p.line, p.last, p.detail) for p in places]
        for kind, places in check(planted.path, expected, form).places.items()
    }


def test_the_layout_of_a_good_one(videos, pictures):
    assert found(videos) == found(pictures) == {}
    header = "AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26"
    rows = [",".join(map(str, row)) for row in ANSWERS[FIRST].tolist()]
    assert videos.file().read_bytes() == "\n".join([header, *rows, ""]).encode()
    assert sorted(path.name for path in videos.path.iterdir()) == sorted(f"{video}.txt" for video in FRAMES)
    lines = pictures.file().read_text().splitlines()
    assert lines[0] == f"image_location,{header}"
    assert lines[1:5] == [f"{FIRST}/{k:05d}.jpg,{row}" for k, row in enumerate(rows, start=1)]
    assert len(lines) == 1 + sum(FRAMES.values())


def blank_after_commas(line):
    return line.replace(",", ", ")


def first_value(value):
    return lambda line: f"{value},{line.partition(',')[2]}"


# Kind -> what plants it into line 3 of a video's file.
IN_A_LINE = {
    "blanks": blank_after_commas,
    "too-few-values": lambda line: line[:-2],
    "too-many-values": lambda line: f"{line},1",
    "trailing-comma": lambda line: f"{line},",
    "separator": lambda line: line.replace(",", ";"),
    "empty-value": first_value(""),
    "unknown-value": first_value("-1"),
    "not-integer": first_value("0.83"),
    "not-binary": first_value("2"),
}


@pytest.mark.parametrize("kind", IN_A_LINE)
def test_fault_in_a_line_of_a_video(videos, kind):
    videos.line(3, IN_A_LINE[kind])
    assert {k: [place[:3] for place in v] for k, v in found(videos).items()} == {
        kind: [(f"{FIRST}.txt", 3, 3)]
    }


@pytest.mark.parametrize("kind", sorted(IN_A_LINE.keys() - {"separator"}))
def test_fault_in_a_line_of_the_one_file(pictures, kind):
    def change(line):
        location, _, values = line.partition(",")
        return f"{location},{IN_A_LINE[kind](values)}"

    pictures.line(3, change)
    assert {k: [place[:3] for place in v] for k, v in found(pictures).items()} == {
        kind: [("submission.txt", 3, 3)]
    }


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (first_value("1.0"), "not-integer"),
        (first_value("1e-3"), "not-integer"),
        (first_value(".5"), "not-integer"),
        (first_value("01"), "not-binary"),
        (first_value("+1"), "not-binary"),
        (first_value("nan"), "not-binary"),
        (first_value('"1"'), "not-binary"),
        (first_value("１"), "not-binary"),
        (lambda line: line.replace(",", "\t"), "separator"),
        (lambda line: line.replace(",", " "), "separator"),
        (lambda line: f" {line}", "blanks"),
        (lambda line: f"{line}\t", "blanks"),
        (lambda line: line.replace(",", "\xa0,", 1), "blanks"),
        (lambda line: "1", "too-few-values"),
        (lambda line: str(line.split(",")), "blanks not-binary"),
    ],
)
def test_other_forms_of_these(videos, change, kind):
    videos.line(3, change)
    assert " ".join(found(videos)) == kind


def drop(*numbers):
    return lambda lines: [line for number, line in enumerate(lines, start=1) if number not in numbers]


# Kind -> what plants it into a submission of files, and where it is found.
IN_FILES = {
    "archive": (lambda s: zipfile.ZipFile(s.path / "all.zip", "w").close(), ("all.zip", None)),
    "nested-folder": (lambda s: (s.path / "__MACOSX").mkdir(), ("__MACOSX", None)),
    "missing-file": (lambda s: s.file(LEFT).unlink(), (f"{LEFT}.txt", None)),
    "wrong-case": (lambda s: s.file(LAST).rename(s.path / "Video9.txt"), ("Video9.txt", None)),
    "wrong-name": (lambda s: s.file(LAST).rename(s.path / "video9.csv"), ("video9.csv", None)),
    "extra-file": (lambda s: (s.path / ".DS_Store").touch(), (".DS_Store", None)),
    "not-utf8": (lambda s: s.bytes(lambda b: b[:-2] + b"\xff" + b[-1:]), (f"{FIRST}.txt", 5)),
    "byte-order-mark": (lambda s: s.bytes(lambda b: codecs.BOM_UTF8 + b), (f"{FIRST}.txt", 1)),
    "line-ends": (lambda s: s.bytes(lambda b: b.replace(b"\n", b"\r\n")), (f"{FIRST}.txt", 1)),
    "empty-file": (lambda s: s.bytes(lambda b: b""), (f"{FIRST}.txt", None)),
    "no-header": (lambda s: s.lines(drop(1)), (f"{FIRST}.txt", 1)),
    "wrong-header": (lambda s: s.line(1, lambda h: h.replace("AU26", "AU28")), (f"{FIRST}.txt", 1)),
    "column-order": (
        lambda s: s.line(1, lambda h: ",".join(sorted(h.split(",")))),
        (f"{FIRST}.txt", 1),
    ),
    "too-few-lines": (lambda s: s.lines(drop(3)), (f"{FIRST}.txt", None)),
    "too-many-lines": (lambda s: s.lines(lambda lines: [*lines, lines[-1]]), (f"{FIRST}.txt", None)),
    "empty-line": (lambda s: s.lines(lambda lines: lines.insert(2, "")), (f"{FIRST}.txt", 3)),
    "repeated-header": (lambda s: s.lines(lambda lines: lines.insert(2, lines[0])), (f"{FIRST}.txt", 3)),
    "link": (
        lambda s: s.file(LEFT).symlink_to(s.file(LEFT).rename(s.path.parent / "elsewhere.txt")),
        (f"{LEFT}.txt", None),
    ),
}


@pytest.mark.parametrize("kind", IN_FILES)
def test_fault_of_a_file(videos, kind):
    plant, where = IN_FILES[kind]
    plant(videos)
    faults = found(videos)
    if kind == "not-utf8":  # which is no number either
        assert faults.pop("not-binary")[0][:2] == where
    assert {k: [place[:2] for place in places] for k, places in faults.items()} == {kind: [where]}


def swap(one, other):
    def change(lines):
        lines[one - 1], lines[other - 1] = lines[other - 1], lines[one - 1]

    return change


def renamed(old, new):
    return lambda line: line.replace(old, new)


def counted_from_0(lines):
    """The first video's rows, one frame early."""
    return [
        re.sub(r"\d{5}(?=\.jpg)", lambda found: f"{int(found[0]) - 1:05d}", line)
        if line.startswith(FIRST)
        else line
        for line in lines
    ]


# Kind -> what plants it into a submission of one file, and the line, with what else follows from it.
IN_ONE_FILE = {
    "bad-location": (lambda s: s.line(3, renamed("00002.jpg", "2.jpg")), 3, {}),
    "unknown-video": (lambda s: s.lines(lambda lines: [*lines, f"video8/00001.jpg,{'0,' * 11}1"]), 14, {}),
    "unknown-frame": (lambda s: s.lines(lambda lines: [*lines, f"video9/00003.jpg,{'0,' * 11}1"]), 14, {}),
    "frame-zero": (lambda s: s.lines(counted_from_0), 2, {}),
    "missing-row": (lambda s: s.lines(drop(4)), None, {}),
    "duplicate-row": (lambda s: s.line(4, renamed("00003", "00002")), 4, {"missing-row"}),
    "unsorted-rows": (lambda s: s.lines(swap(3, 4)), 4, {}),
    "no-header": (lambda s: s.lines(drop(1)), 1, {}),
    "wrong-header": (lambda s: s.line(1, renamed("image_location", "image")), 1, {}),
    "column-order": (lambda s: s.line(1, renamed("AU1,AU2", "AU2,AU1")), 1, {}),
    "empty-line": (lambda s: s.lines(lambda lines: lines.append("")), 14, {}),
    "repeated-header": (lambda s: s.lines(lambda lines: lines.insert(2, lines[0])), 3, {}),
    "separator": (lambda s: s.line(3, renamed(",", ";")), 3, {"missing-row"}),
    "blanks": (lambda s: s.line(3, renamed(".jpg,", ".jpg ,")), 3, {}),
    "byte-order-mark": (lambda s: s.bytes(lambda b: codecs.BOM_UTF8 + b), 1, {}),
    "line-ends": (lambda s: s.bytes(lambda b: b.replace(b"\n", b"\r")), 1, {}),
    "not-utf8": (lambda s: s.bytes(lambda b: b.replace(b"7-30", b"\xe9-30", 1)), 2, {"missing-row"}),
    "empty-file": (lambda s: s.bytes(lambda b: b"\n"), None, {}),
}


@pytest.mark.parametrize("kind", IN_ONE_FILE)
def test_fault_of_the_one_file(pictures, kind):
    plant, line, others = IN_ONE_FILE[kind]
    plant(pictures)
    faults = found(pictures)
    if kind == "not-utf8":
        assert faults.pop("unknown-video")[0][1] == 2
    assert faults[kind][0][1] == line
    assert len(faults[kind]) == 1
    assert faults.keys() == {kind, *others}


def test_every_kind_is_planted_by_some_test():
    planted = {*IN_A_LINE, *IN_FILES, *IN_ONE_FILE, "unreadable", "wrong-type"}
    assert planted == KINDS.keys()
    assert len(planted) >= 30


def test_blank_lines_before_the_header_are_no_header(videos, pictures):
    for planted in (videos, pictures):
        planted.lines(lambda lines: ["", "  ", *lines])
        assert [place[1:3] for place in found(planted).pop("empty-line")] == [(1, 2)]
        assert found(planted).keys() == {"empty-line"}


def test_a_location_without_values_is_no_empty_line(pictures):
    pictures.line(3, lambda line: line.partition(",")[0] + ",")
    assert found(pictures) == {"too-few-values": [("submission.txt", 3, 3, "0 of 12")]}


def test_what_is_no_regular_file_is_told_and_not_read(videos):
    videos.file().unlink()
    os.mkfifo(videos.file())
    assert found(videos) == {"unreadable": [(f"{FIRST}.txt", None, None, "neither a file nor a folder")]}


@pytest.mark.parametrize("packed", [gzip.compress(b"1", mtime=0), b"PK\x03\x04 and so on"])
def test_an_archive_under_another_name_is_told(videos, packed):
    videos.file().write_bytes(packed)
    assert found(videos) == {"archive": [(f"{FIRST}.txt", None, None, "by its content")]}


def test_a_frame_0_too_many_is_not_taken_for_a_shift(pictures):
    pictures.lines(lambda lines: [lines[0], f"{FIRST}/00000.jpg,{'0,' * 11}1", *lines[1:]])
    assert found(pictures) == {"unknown-frame": [("submission.txt", 2, 2, "")]}


def test_a_frame_0_of_an_unknown_video_is_one_fault(pictures):
    pictures.lines(lambda lines: [*lines, f"video8/00000.jpg,{'0,' * 11}1"])
    assert found(pictures) == {"unknown-video": [("submission.txt", 14, 14, "video8")]}


def test_a_video_instead_of_a_frame_is_no_frame(pictures):
    pictures.lines(lambda lines: [*lines, f"{LAST},{'0,' * 11}1"])
    assert found(pictures) == {"bad-location": [("submission.txt", 14, 14, "")]}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_wide_characters_are_one_fault(videos, pictures, encoding):
    for planted in (videos, pictures):
        planted.bytes(lambda content: content.decode().encode(encoding))
        ((_, line, _, detail),) = found(planted)["not-utf8"]
        assert found(planted).keys() == {"not-utf8"}
        assert line == 1
        assert detail.startswith("UTF-16 or UTF-32")


def test_all_lines_that_end_with_cr_are_counted(videos):
    videos.bytes(lambda content: content.replace(b"\n", b"\r\n"))
    assert check(videos.path, EXPECTED).count("line-ends") == 1 + FRAMES[FIRST]


def test_numbers_alone_are_a_header_too(videos, pictures):
    for planted in (videos, pictures):
        planted.line(1, lambda line: line.replace("AU", ""))
        assert found(planted).keys() == {"wrong-header"}


def test_a_column_of_numbers_in_front_is_one_fault(videos):
    videos.lines(lambda lines: [lines[0], *(f"{k},{line}" for k, line in enumerate(lines[1:], start=1))])
    assert found(videos) == {"too-many-values": [(f"{FIRST}.txt", 2, 5, "13 of 12")]}


@pytest.mark.parametrize("name", ["{}.txt.txt", "{}.mp4.txt", "{}.CSV", "{}"])
def test_names_with_other_ends_are_told_with_the_right_one(videos, name):
    other = name.format(FIRST)
    videos.file().rename(videos.path / other)
    assert found(videos) == {"wrong-name": [(other, None, None, f"the name that is due is {FIRST}.txt")]}


def test_other_words_for_a_person_are_told_with_the_right_one(videos):
    other = LEFT.replace("_left", "-Left") + ".txt"
    videos.file(LEFT).rename(videos.path / other)
    assert found(videos) == {"wrong-name": [(other, None, None, f"the name that is due is {LEFT}.txt")]}


def test_names_cannot_break_the_lines_of_the_report(videos):
    (videos.path / "a\nclean.txt").touch()
    (place,) = check(videos.path, EXPECTED).places["extra-file"]
    assert str(place).endswith("a\\nclean.txt")


def test_details_help(videos, pictures):
    videos.file(LEFT).rename(videos.path / "8-30-640x360.txt")
    videos.file(RIGHT).unlink()
    videos.line(3, first_value("2"))
    videos.lines(drop(4))
    (videos.path / "inner").mkdir()
    videos.file(LAST).rename(videos.path / "inner" / f"{LAST}.txt")
    faults = found(videos)
    assert faults["extra-file"][0][3] == f"the list has {LEFT}.txt and {RIGHT}.txt"
    assert [place[0] for place in faults["missing-file"]] == [f"{v}.txt" for v in (LEFT, RIGHT, LAST)]
    assert faults["not-binary"][0][3] == "'2'"
    assert faults["too-few-lines"][0][3] == "3 where the organisers expect 4 frames"
    assert faults["nested-folder"][0][3] == "1 of the videos' files lie in it"

    pictures.lines(lambda lines: [line.replace("video9", "Video9") for line in lines])
    pictures.lines(drop(3, 4))
    pictures.lines(lambda lines: [*lines, lines[1]])
    faults = found(pictures)
    assert faults["unknown-video"] == [("submission.txt", 10, 11, "Video9, the list has video9")]
    assert faults["missing-row"][0][3] == f"{FIRST}/00002.jpg and 1 more of this video"
    assert check(pictures.path, EXPECTED).count("missing-row") == 2
    assert faults["duplicate-row"][0][3] == "as line 2"
    assert set(faults) == {"unknown-video", "missing-row", "duplicate-row"}


def test_contents_are_checked_under_a_wrong_name_too(videos):
    videos.line(2, first_value("-1"), LAST)
    videos.file(LAST).rename(videos.path / "VIDEO9.TXT")
    assert found(videos).keys() == {"wrong-case", "unknown-value"}


def test_faults_of_many_lines_are_told_together(videos):
    videos.lines(lambda lines: [blank_after_commas(line) for line in lines])
    assert found(videos)["blanks"] == [
        (f"{FIRST}.txt", 1, 1, "in the header"),
        (f"{FIRST}.txt", 2, 5, ""),
    ]


def test_what_is_left_open(videos, pictures):
    for submission in (videos, pictures):
        submission.bytes(lambda content: content[:-1])  # the last line need not end
        assert found(submission) == {}
    pictures.lines(lambda lines: [lines[0], *lines[5:], *lines[1:5]])  # videos in any order
    assert found(pictures) == {}


def test_a_sample_fixes_pictures_and_order(pictures):
    names = list(EXPECTED.pictures())
    sample = Expected(FRAMES, tuple(names[4:] + names[1:4]))
    assert found(pictures, sample).keys() == {"unknown-frame", "unsorted-rows"}
    write_pictures(pictures.path, ANSWERS, sample)
    assert found(pictures, sample) == {}
    assert [line.partition(",")[0] for line in pictures.path.read_text().splitlines()[1:]] == list(
        sample.sample
    )
    assert found(pictures).keys() == {"missing-row"}


def test_files_that_are_none(videos, pictures, tmp_path):
    assert found(videos, form="abaw5").keys() == {"wrong-type"}
    assert found(pictures, form="abaw3").keys() == {"wrong-type"}
    packed = tmp_path / "submission.zip"
    zipfile.ZipFile(packed, "w").close()
    assert found(Planted(packed)).keys() == found(Planted(packed), form="abaw5").keys() == {"archive"}
    with pytest.raises(DataError, match="nothing is not there"):
        check(tmp_path / "nothing", EXPECTED)


def test_unreadable_file(videos, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)  # root may read everything
    assert found(videos)["unreadable"][0] == (f"{FIRST}.txt", None, None, "Permission denied")
    assert len(found(videos)["unreadable"]) == len(FRAMES)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_byte_can_be_changed_unseen(tmp_path_factory, data):
    """But a 0 into a 1 and the reverse, and the end of the last line."""
    folder = tmp_path_factory.mktemp("submission")
    path = folder / "submission.txt"
    write_pictures(path, ANSWERS, EXPECTED)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 2))
    new = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[place]))
    line, start = content[: place + 1].count(b"\n"[0]), content.rfind(b"\n", 0, place) + 1
    in_values = line > 0 and b"," in content[start:place]
    if in_values and content[place] in b"01" and new in b"01":
        return
    content[place] = new
    path.write_bytes(content)
    assert check(path, EXPECTED).of("error")


def command(capsys, *arguments):
    """Exit code and output."""
    with pytest.raises(SystemExit) as caught:
        main(["submit", "--check", *map(str, arguments)])
    return caught.value.code, capsys.readouterr().out


def test_command(videos, pictures, tmp_path, capsys):
    listed, frames = tmp_path / "list.txt", tmp_path / "frames.txt"
    listed.write_text("".join(f"{video}\n" for video in FRAMES))
    frames.write_text("".join(f"{video},{count}\n" for video, count in FRAMES.items()))
    lists = ("--list", listed, "--frames", frames)
    for submission in (videos, pictures):
        assert command(capsys, submission.path, *lists) == (0, f"{submission.path}\n  clean\n")
    videos.line(3, first_value("-1"))
    videos.file(LAST).unlink()
    code, text = command(capsys, videos.path, *lists, "--format", "abaw3")
    assert code == 2
    assert f"error: 1 values of -1 [unknown-value]; {KINDS['unknown-value'].advice}" in text
    assert f"    {videos.file()}, line 3\n" in text
    assert re.search(rf"missing-file\].*\n    {re.escape(str(videos.file(LAST)))}\n", text)
    many = {f"video{n}": 1 for n in range(60)}
    listed.write_text("".join(f"{video}\n" for video in many))
    frames.write_text("".join(f"{video},1\n" for video in many))
    _, text = command(capsys, videos.path, *lists)
    assert "and 10 more places (--all names them)" in text
    _, text = command(capsys, videos.path, *lists, "--all")
    assert "more places" not in text
    assert len(re.findall(r"video\d+\.txt", text)) == len(many)
    sample = tmp_path / "sample.txt"
    sample.write_text(HEADERS["abaw5"] + "\n" + "".join(f"{p},\n" for p in EXPECTED.pictures()))
    assert command(capsys, pictures.path, "--sample", sample)[0] == 0
    code, _ = command(capsys, tmp_path / "nothing", *lists)
    assert code == f"aunet: {tmp_path / 'nothing'} is not there"
    assert "give --list and --frames" in command(capsys, pictures.path)[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--check", "a", "b"), "--check takes one submission at a time: leave out b"),
        (("--check", "a", "-o", "x"), "--out is for writing a submission"),
        (("--check", "a", "--on-bad", "skip"), "--on-bad is for writing a submission"),
        (("run", "--data", "x", "-o", "y", "--all"), "--all is for --check"),
        (("run",), "give --data DIR and -o OUT, or --check"),
    ],
)
def test_options_that_would_be_passed_over_are_refused(arguments, said, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["submit", *arguments])
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_the_columns_are_the_competitions():
    assert HEADERS["abaw3"] == ",".join(f"AU{au}" for au in AFFWILD2)
