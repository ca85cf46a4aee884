"""The catalogue of faults: each ends in the right report, with file and line, and changes nothing in silence.

Each entry spoils a clean data set in one way and says what must be found where. The data set is then read as
training reads it: errors are refused, and with ``on_bad=skip`` all but what is at fault stays as it was.
"""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layouts import as_lists, write_affwild2
from PIL import Image

from aunet.cli import main
from aunet.data.affwild2 import read_affwild2
from aunet.data.annotations import read_image_list, read_video_labels
from aunet.data.check import check_data
from aunet.data.datamodule import FrameDataModule
from aunet.data.faults import KINDS, DataError, Faults
from aunet.facs import AFFWILD2

SIZE = 16
ANNOTATIONS = "Third ABAW Annotations/AU_Detection_Challenge"
TRAIN, VAL = f"{ANNOTATIONS}/Train_Set/1-30-1280x720.txt", f"{ANNOTATIONS}/Validation_Set/4-30-1280x720.txt"
CROPS = "cropped_aligned/1-30-1280x720"
LISTS = "lists/train_set.txt", "lists/val_set.txt"


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """Clean data; the same in one-file lists."""
    roots = {}
    for layout in ("folders", "lists"):
        root = roots[layout] = write_affwild2(tmp_path_factory.mktemp(layout), size=SIZE, decoys=False)
        if layout == "lists":
            as_lists(root, ANNOTATIONS)
    return roots


def edit(number, change, name=TRAIN):
    """Changes line ``number`` (from 1) of a text file; the fault lies there."""

    def spoil(root):
        lines = (root / name).read_text().split("\n")
        changed = change(lines[number - 1])
        lines[number - 1 : number] = changed if isinstance(changed, list) else [changed]
        (root / name).write_text("\n".join(lines))
        return name, number

    return spoil


def replace_file(name, data, line=None):
    def spoil(root):
        (root / name).write_bytes(data)
        return name, line

    return spoil


def picture(name=f"{CROPS}/00003.jpg", size=(SIZE, SIZE), mode="RGB", **options):
    """Writes another picture in the place of a crop."""

    def spoil(root):
        pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
        image = Image.fromarray(pixels)
        image = Image.new(mode, size) if mode.startswith("I") else image.convert(mode)
        image.save(root / name, **options)
        return name, None

    return spoil


def cut(part, name=f"{CROPS}/00003.jpg"):
    def spoil(root):
        data = (root / name).read_bytes()
        (root / name).write_bytes(data[: int(len(data) * part)])
        return name, None

    return spoil


def replaced_by(make, name=f"{CROPS}/00003.jpg"):
    """Something other than a file in the place of a crop."""

    def spoil(root):
        (root / name).unlink()
        make(root / name)
        return name, None

    return spoil


def moved(source, target):
    def spoil(root):
        (root / source).rename(root / target)
        return target, None

    return spoil


def removed(name, reported, line=None):
    def spoil(root):
        shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink()
        return reported, line

    return spoil


def copied(source, target, reported=None):
    def spoil(root):
        (root / target).parent.mkdir(exist_ok=True, parents=True)
        shutil.copy(root / source, root / target)
        return reported or target, None

    return spoil


def recompressed(root):
    """A validation frame is a training frame in another quality."""
    name = "cropped_aligned/4-30-1280x720/00002.jpg"
    with Image.open(root / CROPS / "00003.jpg") as image:
        image.save(root / name, quality=97, subsampling=0)  # cells have only 2x2 pixels here
    return name, None


def shared_people(root):
    """_left of a training video in validation; the pictures differ."""
    for old in ("cropped_aligned/4-30-1280x720", VAL):
        (root / old).rename(root / old.replace("4-30-1280x720", "1-30-1280x720_left"))
    return VAL.replace("4-30-1280x720", "1-30-1280x720_left"), None


FOLDERS = {
    "annotation of no bytes": ("bad-header", replace_file(TRAIN, b"", 1)),
    "annotation is a picture": ("not-text", replace_file(TRAIN, b"\xff\xd8\xff\xe0" * 9)),
    "annotation in UTF-16": ("not-text", replace_file(TRAIN, "AU1,AU2\n0,1\n".encode("utf-16"))),
    "header of words": ("bad-header", edit(1, lambda _: "neutral,anger")),
    "no header": ("bad-header", edit(1, lambda _: "0,1,0,0,0,0,1,0,0,0,1,0")),
    "column twice": ("duplicate-column", edit(1, lambda line: line.replace("AU2,", "AU1,"))),
    "unknown column": ("unknown-column", edit(1, lambda line: line.replace("AU2,", "smile,"))),
    "column of no name": ("unknown-column", edit(1, lambda line: line + ",")),
    "missing column": ("missing-column", edit(1, lambda line: line.replace("AU26", "AU45"))),
    "short row": ("row-width", edit(4, lambda line: line[:-2])),
    "long row": ("row-width", edit(4, lambda line: line + ",0")),
    "blank row": ("row-width", edit(4, lambda _: "")),
    "semicolons": ("row-width", edit(4, lambda line: line.replace(",", ";"))),
    "fraction": ("not-integer", edit(4, lambda line: "0.5" + line[1:])),
    "float that is whole": ("not-integer", edit(4, lambda line: "1.0" + line[1:])),
    "word": ("not-integer", edit(4, lambda line: "yes" + line[1:])),
    "nan": ("not-integer", edit(4, lambda line: "nan" + line[1:])),
    "empty cell": ("not-integer", edit(4, lambda line: line[1:])),
    "number beyond any range": ("not-integer", edit(4, lambda line: "9" * 30 + line[1:])),
    "digits of another script": ("not-integer", edit(4, lambda line: "١" + line[1:])),
    "underscore": ("not-integer", edit(4, lambda line: "1_0" + line[1:])),
    "too large": ("out-of-range", edit(4, lambda line: "2" + line[1:])),
    "too small": ("out-of-range", edit(4, lambda line: "-2" + line[1:])),
    "code of BP4D": ("out-of-range", edit(4, lambda line: "9" + line[1:])),
    "a control character": ("not-integer", edit(4, lambda line: "\x0c" + "x" + line[1:])),
    "rows of -1": ("unknown-row", edit(4, lambda _: ",".join(["-1"] * 12))),
    "rows with one -1": ("partly-unknown-row", edit(4, lambda line: "-1" + line[1:])),
    "no rows": ("no-rows", replace_file(TRAIN, (",".join(f"AU{a}" for a in AFFWILD2) + "\n").encode())),
    "fewer rows than crops": (
        "crop-without-label",
        lambda root: (edit(7, lambda _: [])(root), (CROPS, None))[1],
    ),
    "crop missing at the end": ("label-without-crop", removed(f"{CROPS}/00006.jpg", TRAIN, 7)),
    "crop missing within": ("gap", removed(f"{CROPS}/00003.jpg", CROPS)),
    "folder of crops missing": ("label-without-crop", removed(CROPS, TRAIN, 2)),
    "stray file": ("bad-crop-name", copied(f"{CROPS}/00001.jpg", f"{CROPS}/face.jpg")),
    "other width of numbers": ("bad-crop-name", moved(f"{CROPS}/00003.jpg", f"{CROPS}/3.jpg")),
    "other suffix": ("bad-crop-name", moved(f"{CROPS}/00003.jpg", f"{CROPS}/00003.png")),
    "video in both splits": (
        "shared-group",
        copied(TRAIN, TRAIN.replace("Train_Set", "Validation_Set")),
    ),
    "people of one video in both splits": ("shared-group", shared_people),
    "empty picture": ("empty-picture", replace_file(f"{CROPS}/00003.jpg", b"")),
    "picture cut in its header": ("damaged-picture", cut(0.05)),
    "picture cut in its pixels": ("damaged-picture", cut(0.9)),
    "page of an error": ("not-a-picture", replace_file(f"{CROPS}/00003.jpg", b"<html>404</html>")),
    "pointer of Git LFS": ("not-a-picture", replace_file(f"{CROPS}/00003.jpg", b"version https://git-lfs")),
    "GIF": ("not-a-picture", picture(format="GIF")),
    "other size": ("wrong-size", picture(size=(20, 12))),
    "huge": ("wrong-size", picture(size=(3000, 2000))),
    "CMYK": ("colour-mode", picture(mode="CMYK")),
    "RGBA": ("colour-mode", picture(mode="RGBA", format="PNG")),
    "palette": ("colour-mode", picture(mode="P", format="PNG")),
    "16 bits": ("colour-mode", picture(mode="I;16", format="PNG")),
    "grey": ("grey", picture(mode="L")),
    "PNG named JPEG": ("format-name", picture(format="PNG")),
    "cut PNG": ("damaged-picture", lambda root: (picture(format="PNG")(root), cut(0.5)(root))[1]),
    "folder named as a picture": ("unreadable-picture", replaced_by(lambda path: path.mkdir())),
    "link to nothing": ("unreadable-picture", replaced_by(lambda path: path.symlink_to("nowhere.jpg"))),
    "same frame in both splits": (
        "near-duplicate",
        copied(f"{CROPS}/00003.jpg", "cropped_aligned/4-30-1280x720/00002.jpg"),
    ),
    "frame compressed again in the other split": ("near-duplicate", recompressed),
    "AU that nobody shows": (
        "no-positives",
        lambda root: (
            [
                file.write_text("\n".join([line[:-1] + "0" if i else line for i, line in enumerate(lines)]))
                for file in (root / ANNOTATIONS / "Train_Set").glob("*.txt")
                for lines in [file.read_text().strip().split("\n")]
            ],
            (".", None),
        )[1],
    ),
}
IN_LISTS = {
    "list: short row": ("row-width", edit(4, lambda line: line[:-2], LISTS[0])),
    "list: fraction": ("not-integer", edit(4, lambda line: line[:-1] + "0.5", LISTS[0])),
    "list: out of range": ("out-of-range", edit(4, lambda line: line[:-1] + "3", LISTS[0])),
    "list: frame twice": (
        "duplicate-row",
        edit(4, lambda line: line.replace("00003.jpg", "00001.jpg"), LISTS[0]),
    ),
    "list: out of the folder": ("bad-name", edit(4, lambda line: "../" + line, LISTS[0])),
    "list: parent folder": ("bad-name", edit(4, lambda line: line.replace("1-30-1280x720", ".."), LISTS[0])),
    "list: absolute": ("bad-name", edit(4, lambda line: "/etc/passwd," + line.partition(",")[2], LISTS[0])),
    "list: no number": ("bad-name", edit(4, lambda line: line.replace("00003", "face"), LISTS[0])),
    "list: blank row": ("bad-name", edit(4, lambda _: "", LISTS[0])),
    "list: unknown column": ("unknown-column", edit(1, lambda line: line.replace("AU2,", "joy,"), LISTS[0])),
    "list: column twice": ("duplicate-column", edit(1, lambda line: line.replace("AU2,", "AU1,"), LISTS[0])),
    "list: missing column": ("missing-column", edit(1, lambda line: line.replace("AU26", "AU27"), LISTS[0])),
    "list: row of -1": ("unknown-row", edit(4, lambda line: line[:24] + ",".join(["-1"] * 12), LISTS[0])),
    "list: crop missing": ("label-without-crop", removed(f"{CROPS}/00006.jpg", LISTS[0], 7)),
    "list: video in both": (
        "shared-group",
        edit(2, lambda line: ["1-30-1280x720/00001.jpg," + line.partition(",")[2], line], LISTS[1]),
    ),
}
CATALOGUE = FOLDERS | IN_LISTS
NOTHING_LEFT = ("list: unknown column", "list: column twice", "list: missing column")


def data_module(root, **arguments):
    return FrameDataModule("x", root, read_affwild2, AFFWILD2, 4, image_size=SIZE, **arguments)


def checked(root):
    module = data_module(root)
    return check_data(
        root, lambda faults: module.read(root=root, aus=AFFWILD2, faults=faults), SIZE, threads=2
    )


def read_all(module):
    """(split, video, frame) -> labels, pixels, of all frames that training or validation would use."""
    module.setup("fit")
    result = {}
    for split, table in module.tables.items():
        for batch in module.batches(split, torch.device("cpu")):
            for row, labels, pixels in zip(
                batch["index"].tolist(), batch["labels"], batch["frames"], strict=True
            ):
                if (labels >= 0).any():
                    name = split, table.videos[table.video[row]], int(table.frame[row])
                    result[name] = labels.tolist(), pixels.numpy().tobytes()
    return result


def test_the_catalogue_is_long_and_covers_the_kinds():
    assert len(CATALOGUE) >= 40
    elsewhere = {
        *("layout", "unreadable-annotation", "store-file", "checksum", "stale-store"),
        *(
            "missing-annotation",
            "unequal-files",
            "frame-offset",
            "unknown-subject",
            "absent-subject",
            "unknown-split",
        ),
    }
    assert {kind for kind, _ in CATALOGUE.values()} | elsewhere == set(KINDS)


@pytest.mark.parametrize("layout", ["folders", "lists"])
def test_clean_data_are_clean(clean, layout):
    report = checked(clean[layout])
    assert report.faults.places == {}
    assert report.exit_code == 0
    assert report.as_text().endswith("clean")


@pytest.mark.parametrize("fault", CATALOGUE)
def test_every_fault_is_reported_with_file_and_line(fault, clean, tmp_path):
    kind, spoil = CATALOGUE[fault]
    root = shutil.copytree(clean["lists" if fault in IN_LISTS else "folders"], tmp_path / "data")
    expected = read_all(data_module(root))
    name, line = spoil(root)
    report = checked(root)
    assert kind in report.faults.places, report.as_text()
    places = report.faults.places[kind]
    assert {(place.file, place.line) for place in places} & {(str(root / name), line), (name, line)}, places
    assert report.exit_code == (2 if KINDS[kind].severity == "error" else 1)
    for place in places:
        assert str(place) in report.as_text() or len(places) > 5
    json.dumps(report.as_json())

    refused = data_module(root)
    if KINDS[kind].severity == "error":
        with pytest.raises(DataError) as caught:
            read_all(refused)
        assert "\n" not in str(caught.value)
        assert Path(name).name in str(caught.value)
    skipping = data_module(root, on_bad="skip")
    if fault in NOTHING_LEFT:
        with pytest.raises(DataError, match=Path(name).name):
            skipping.setup("fit")
        return
    found = read_all(skipping)
    changed = {"grey", "format-name", "near-duplicate", "no-positives"}
    if kind not in changed:
        assert found.items() <= expected.items()
    if kind != "no-positives" and len(found) < len(expected):
        reasons = sum(sum(table.dropped.values()) for table in skipping.tables.values())
        assert reasons + sum(map(len, skipping.skipped.values())) >= 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_without_permission_are_named(clean, tmp_path):
    root = shutil.copytree(clean["folders"], tmp_path / "data")
    (root / TRAIN).chmod(0)
    (root / CROPS / "00003.jpg").chmod(0)
    assert set(checked(root).faults.places) >= {"unreadable-annotation"}


def test_places_are_counted_and_runs_of_lines_are_joined(tmp_path):
    labels = {"train": {"a": np.ones((9, 12))}, "val": {"b": np.ones((2, 12))}}
    labels["train"]["a"][[1, 2, 3, 6]] = -1
    root = write_affwild2(tmp_path, labels=labels, size=SIZE, decoys=False)
    report = checked(root)
    places = report.faults.places["unknown-row"]
    assert [(place.line, place.last, place.count) for place in places] == [(3, 5, 3), (8, 8, 1)]
    assert report.faults.count("unknown-row") == 4
    assert "warning: 4 rows with -1 throughout [unknown-row]" in report.as_text()
    assert "a.txt, lines 3-5" in report.as_text()


def test_summary_counts_and_weights(clean):
    report = checked(clean["folders"])
    table = read_affwild2(clean["folders"])["train"]
    entry = report.splits["train"]
    assert (entry["videos"], entry["people"], entry["frames"]) == (3, 3, 18)
    for column, au in enumerate(AFFWILD2):
        positives = int((table.labels[:, column] == 1).sum())
        assert entry["aus"][f"AU{au}"] == {
            "positives": positives,
            "known": 18,
            "rate": positives / 18,
            "weight": 18 / (2 * positives),
        }


@pytest.mark.parametrize(("spoil", "code"), [(None, 0), ("rows of -1", 1), ("empty picture", 2)])
def test_command_reports_and_says_by_its_code_how_grave_it_is(spoil, code, clean, tmp_path, capsys):
    root = shutil.copytree(clean["folders"], tmp_path / "data")
    if spoil:
        CATALOGUE[spoil][1](root)
    with pytest.raises(SystemExit) as stopped:
        main(["data", "check", str(root), f"data.image_size={SIZE}", "--json", str(tmp_path / "report.json")])
    assert stopped.value.code == code
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["exit_code"] == code
    assert bool(report["findings"]) == bool(code)
    assert str(root) in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        main(["data", "check", str(root), f"data.image_size={SIZE}", "--json", "-", "--no-pixels"])
    assert stopped.value.code == (0 if code == 2 else code)
    json.loads(capsys.readouterr().out)


def test_command_without_data_says_so(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["data", "check", str(tmp_path / "nothing")])
    assert stopped.value.code == 2
    said = f"aunet: {tmp_path / 'nothing'} is no folder, and no manifest (.csv, .parquet, .pq)\n"
    assert capsys.readouterr().err == said
    for override in ("data.read.crop=x", "data.on_bad=maybe", "nosuchkey=1", "data.root=["):
        with pytest.raises(SystemExit) as stopped:
            main(["data", "check", str(tmp_path), override])
        assert stopped.value.code == 2
        assert capsys.readouterr().err.startswith("aunet: ")
    with pytest.raises(SystemExit) as stopped:
        main(["data", "check", str(tmp_path)])
    assert stopped.value.code == 2
    assert "holds no AU annotations" in capsys.readouterr().out


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=300)
    | st.text(max_size=300).map(str.encode)
    | st.text("AU0123456789,-\n\r .image_location/jpg", max_size=300).map(str.encode)
    | st.lists(st.lists(st.integers(-3, 12).map(str), max_size=13).map(",".join), max_size=9).map(
        lambda rows: "\n".join([",".join(f"AU{a}" for a in AFFWILD2), *rows]).encode()
    )
    | st.lists(st.text("0123456789,/-.a", max_size=40), max_size=9).map(
        lambda rows: "\n".join([",".join(["image_location", *(f"AU{a}" for a in AFFWILD2)]), *rows]).encode()
    )
)
def test_no_annotation_file_raises_anything_or_gives_labels_out_of_range(content, tmp_path):
    file = tmp_path / "v.txt"
    file.write_bytes(content)
    faults = Faults()
    video = read_video_labels(file, "v", AFFWILD2, faults)
    videos = read_image_list(file, AFFWILD2, faults)
    for read in [video, *videos] if video else videos:
        assert read.labels.shape == (len(read.frames), 12)
        assert set(np.unique(read.labels)) <= {-1, 0, 1}
        assert (np.diff(read.frames) > 0).all()
    if video is None and not videos:
        assert faults.places
    if faults.of("error"):
        with pytest.raises(DataError, match=re.escape(str(file))):
            faults.refuse()
