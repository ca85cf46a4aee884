"""The Aff-Wild2 reader: spellings, the line-to-crop rule, what is dropped and why, and what errors say."""

import os
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from layouts import SPELLINGS, TRAPS, default_labels, write_affwild2, write_annotation
from PIL import Image

from aunet.data.affwild2 import base_video, read_affwild2
from aunet.data.annotations import read_video_labels
from aunet.data.faults import DataError, Faults
from aunet.facs import AFFWILD2

HEADER = ",".join(f"AU{au}" for au in AFFWILD2)
ROW = "0,1,0,0,0,0,1,0,0,0,1,0"
NOTHING = {
    "rows with -1 throughout": 0,
    "rows with -1 in part": 0,
    "labels without crop": 0,
    "crops without label": 0,
}


def contents(tables):
    """Split -> video -> {frame number: labels}."""
    return {
        split: {
            name: {
                int(table.frame[i]): table.labels[i].tolist() for i in np.flatnonzero(table.video == number)
            }
            for number, name in enumerate(table.videos)
        }
        for split, table in tables.items()
    }


def expected(labels, inserted=0):
    """What ``contents`` gives for these labels when rows that are not usable follow each video's first."""
    return {
        split: {
            video: {(1 if i == 0 else i + 1 + inserted): row.tolist() for i, row in enumerate(table)}
            for video, table in videos.items()
        }
        for split, videos in labels.items()
    }


def read_labels(file, aus):
    """Labels of an annotation file without a fault."""
    faults = Faults()
    video = read_video_labels(file, file.stem, aus, faults)
    faults.refuse()
    return video.labels


def label_file(folder, *lines, name="v.txt"):
    """An annotation file of these lines."""
    file = folder / name
    file.write_bytes("\n".join(lines).encode())
    return file


def one_video(root, train, val=((0,) * 12,), **arguments):
    """A data set of one training video "a" and one validation video "b"."""
    labels = {"train": {"a": np.array(train)}, "val": {"b": np.array(val)}}
    return write_affwild2(root, labels=labels, size=0, **arguments)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_reads_to_the_same_table(spelling, tmp_path):
    root = write_affwild2(tmp_path, spelling=spelling, size=8)
    tables = read_affwild2(root)
    assert contents(tables) == expected(default_labels())
    for table in tables.values():
        assert table.aus == AFFWILD2
        assert [crops.folder for crops in table.source.crops] == [
            root / SPELLINGS[spelling].crops / video for video in table.videos
        ]
        assert table.labels.dtype == np.int8
        assert table.dropped == NOTHING
        assert list(table.videos) == sorted(table.videos)
        assert all(table.source.path(i).is_file() for i in range(len(table)))
    reference = read_affwild2(write_affwild2(tmp_path / "reference", size=8))
    assert {s: t.fingerprint() for s, t in tables.items()} == {
        s: t.fingerprint() for s, t in reference.items()
    }


@pytest.mark.parametrize("trap", TRAPS)
def test_every_trap_leaves_the_labels_right(trap, tmp_path):
    tables = read_affwild2(write_affwild2(tmp_path, traps=[trap], size=0))
    inserted = trap in ("missing_crop", "unknown_row", "partly_unknown_row")
    assert contents(tables) == expected(default_labels(people=trap == "people"), int(inserted))
    reason, per_video = {
        "missing_crop": ("labels without crop", 1),
        "unknown_row": ("rows with -1 throughout", 1),
        "partly_unknown_row": ("rows with -1 in part", 1),
        "extra_crops": ("crops without label", 2),
    }.get(trap, ("labels without crop", 0))
    for table in tables.values():
        assert table.dropped == NOTHING | {reason: per_video * len(table.videos)}


def test_all_traps_at_once(tmp_path):
    tables = read_affwild2(write_affwild2(tmp_path, traps=TRAPS, size=0))
    assert contents(tables) == expected(default_labels(people=True), 3)
    assert dict(tables["train"].dropped) == {
        "rows with -1 throughout": 3,
        "rows with -1 in part": 3,
        "labels without crop": 3,
        "crops without label": 6,
    }
    assert dict(tables["val"].dropped) == {
        "rows with -1 throughout": 2,
        "rows with -1 in part": 2,
        "labels without crop": 2,
        "crops without label": 4,
    }


def test_default_data_set_shows_every_au_in_both_splits(tmp_path):
    for table in read_affwild2(write_affwild2(tmp_path, size=0)).values():
        assert (table.positives() > 0).all()
        assert (table.positives() < table.known()).all()
        assert (table.known() == len(table)).all()


def test_pictures_show_the_labels(tmp_path):
    """Line k belongs to crop k: each AU is the brightness of one cell of the written pictures."""
    tables = read_affwild2(write_affwild2(tmp_path, traps=["missing_crop", "unknown_row", "permuted"]))
    for table in tables.values():
        for i in range(len(table)):
            with Image.open(table.source.path(i)) as image:
                assert (image.size, image.mode) == ((112, 112), "RGB")
                pixels = np.asarray(image, float).mean(2)
            cells = [
                pixels[y + 10 : y + 27, x + 5 : x + 23].mean() for y in (0, 37, 75) for x in range(0, 112, 28)
            ]
            assert (np.array(cells) > 125).astype(int).tolist() == table.labels[i].tolist()


def test_line_k_belongs_to_crop_k(tmp_path):
    train = np.zeros((4, 12), int)
    train[:, 0] = (1, 0, 1, 1)
    root = one_video(tmp_path, train, crops={"a": [2, 4]})
    table = read_affwild2(root)["train"]
    assert table.frame.tolist() == [2, 4]
    assert table.labels[:, 0].tolist() == [0, 1]
    assert [table.source.path(i) for i in range(2)] == [
        root / f"cropped_aligned/a/{name}.jpg" for name in ("00002", "00004")
    ]


def test_only_files_that_the_table_can_name_are_crops(tmp_path):
    root = one_video(tmp_path, np.zeros((3, 12)), crops={"a": [1]})
    for name in (
        "2.jpg",
        "000003.jpg",
        "00003.JPG",
        "00003.png",
        "00003.jpg.part",
        "20220101123456.jpg",
        "x.jpg",
    ):
        (root / "cropped_aligned" / "a" / name).touch()
    for name in ("00000.jpg", "123456.jpg"):
        (root / "cropped_aligned" / "a" / name).touch()
    table = read_affwild2(root)["train"]
    assert table.frame.tolist() == [1]
    assert table.dropped == NOTHING | {"labels without crop": 2, "crops without label": 2}
    assert table.source.path(0).is_file()


def test_columns_are_matched_by_name(tmp_path):
    labels = np.array([[0, 1, -1], [1, 0, 1]])
    file = write_annotation(tmp_path / "v.txt", labels, (12, 1, 45), ["untidy", "crlf", "bom"])
    assert read_labels(file, (1, 45, 12)).tolist() == [[1, -1, 0], [0, 1, 1]]
    assert read_labels(file, (45,)).tolist() == [[-1], [1]]
    first_edition = label_file(tmp_path, "AU1,AU2,AU4,AU6,AU12,AU15,AU20,AU25", "0,0,0,0,1,0,1,0")
    assert read_labels(first_edition, (12, 25, 20)).tolist() == [[1, 0, 1]]
    assert read_labels(label_file(tmp_path, "au01, AU 2", "1, 0"), (2, 1)).tolist() == [[0, 1]]


@pytest.mark.parametrize("end", ["", "\n", "\n\n", "\r\n \n"])
def test_ends_of_files(tmp_path, end):
    (tmp_path / "v.txt").write_bytes(f"{HEADER}\n{ROW}{end}".encode())
    assert read_labels(tmp_path / "v.txt", AFFWILD2).tolist() == [[int(v) for v in ROW.split(",")]]
    (tmp_path / "v.txt").write_bytes(f"{HEADER}{end}".encode())
    assert read_labels(tmp_path / "v.txt", AFFWILD2).shape == (0, 12)


def unknown_labels():
    """Rows: known, -1 throughout, -1 in two places, -1 in one place."""
    labels = np.zeros((5, 12), int)
    labels[1] = -1
    labels[2, :2] = -1
    labels[3, 11] = -1
    labels[4, 0] = 1
    return labels


def test_rows_with_unknown_labels_are_dropped(tmp_path):
    table = read_affwild2(one_video(tmp_path, unknown_labels()))["train"]
    assert table.frame.tolist() == [1, 5]
    assert table.dropped == NOTHING | {"rows with -1 throughout": 1, "rows with -1 in part": 2}
    assert "1 rows with -1 throughout, 2 rows with -1 in part" in table.summary("train")


def test_single_unknown_labels_can_be_kept_for_masking(tmp_path):
    tables = read_affwild2(one_video(tmp_path, unknown_labels()), drop_row_if_any=False)
    table = tables["train"]
    assert table.frame.tolist() == [1, 3, 4, 5]
    assert table.labels.tolist() == unknown_labels()[[0, 2, 3, 4]].tolist()
    masked = "single labels of -1 (masked) in rows kept"
    assert table.dropped == NOTHING | {"rows with -1 throughout": 1, masked: 3}
    assert tables["val"].dropped == NOTHING | {masked: 0}
    assert table.known().tolist() == [3, 3, *[4] * 9, 3]
    assert table.positives().tolist() == [1] + [0] * 11


def test_masked_labels_are_counted_in_rows_with_a_crop_only(tmp_path):
    root = one_video(tmp_path, unknown_labels(), crops={"a": [1, 2, 4]})
    table = read_affwild2(root, drop_row_if_any=False)["train"]
    assert table.frame.tolist() == [1, 4]
    assert table.dropped["labels without crop"] == 2
    assert table.dropped["single labels of -1 (masked) in rows kept"] == 1


def test_only_the_aus_read_decide_what_is_dropped(tmp_path):
    table = read_affwild2(one_video(tmp_path, unknown_labels()), aus=(4, 12))["train"]
    assert table.aus == (4, 12)
    assert table.frame.tolist() == [1, 3, 4, 5]


def test_people_of_one_video_are_one_group(tmp_path):
    train = {name: np.zeros((1, 12)) for name in ("v1", "v1_left", "v1_right", "v2_main", "left_v3")}
    root = write_affwild2(tmp_path, labels={"train": train, "val": {"w": np.zeros((1, 12))}}, size=0)
    table = read_affwild2(root)["train"]
    assert dict(zip(table.videos, table.groups, strict=True)) == {
        "v1": "v1",
        "v1_left": "v1",
        "v1_right": "v1",
        "v2_main": "v2",
        "left_v3": "left_v3",
    }
    assert base_video("6-30-1920x1080_left") == "6-30-1920x1080"


@pytest.mark.parametrize(("train", "val"), [("v1_left", "v1_right"), ("v1", "v1_left"), ("v1", "v1")])
def test_one_video_in_two_splits_is_refused(train, val, tmp_path):
    labels = {"train": {train: np.zeros((2, 12))}, "val": {val: np.zeros((2, 12))}}
    root = write_affwild2(tmp_path, labels=labels, size=0)
    with pytest.raises(DataError, match=r"'v1' lies in both the train and the val split"):
        read_affwild2(root)
    assert {split: len(table) for split, table in read_affwild2(root, allow_shared_groups=True).items()} == {
        "train": 2,
        "val": 2,
    }


@pytest.mark.parametrize(
    ("lines", "line", "fault"),
    [
        ((HEADER, ROW, "0,1,0"), 3, "3 values where the header names 12"),
        ((HEADER, ROW, ROW + ",0"), 3, "13 values where the header names 12"),
        ((HEADER, ROW + ",0", ROW + ",0"), 2, "13 values where the header names 12"),
        ((HEADER, ROW + ","), 2, "13 values where the header names 12"),
        ((HEADER, ROW, ROW, "2" + ROW[1:]), 4, "label '2' is not 0, 1 or -1"),
        ((HEADER, "-2" + ROW[1:]), 2, "label '-2' is not 0, 1 or -1"),
        ((HEADER, ROW, "0.5" + ROW[1:]), 3, "label '0.5' is not an integer"),
        ((HEADER, ROW, "nan" + ROW[1:]), 3, "label 'nan' is not an integer"),
        ((HEADER, ROW, ROW[1:]), 3, "label '' is not an integer"),
        ((HEADER, ROW, "9" * 30 + ROW[1:]), 3, "is not an integer"),
        ((HEADER, ROW, "", ROW), 3, "a blank line where the header names 12"),
        ((HEADER, ROW, " ", ROW), 3, "a blank line where the header names 12"),
        ((HEADER, "# " + ROW), 2, "label '# 0' is not an integer"),
        ((HEADER, HEADER, ROW), 2, "label 'AU1' is not an integer"),
        ((HEADER.replace("AU10", "smile"), ROW), 1, "found 'smile'"),
        ((HEADER + ",", ROW), 1, "found ''"),
        ((ROW, ROW), 1, "found '0'"),
        ((HEADER.replace("AU10", "AU12"), ROW), 1, "column AU12 occurs twice"),
        ((HEADER.replace(",AU26", ""), ROW[:-2]), 1, "no column for AU26; it has AU1, AU2"),
        (("AU1,AU2", "0,1"), 1, "no column for AU4, AU6"),
        ((), 1, "expected a header such as AU1,AU2"),
        (("", "", ""), 1, "expected a header such as AU1,AU2"),
    ],
)
def test_malformed_files_are_named_with_their_line(lines, line, fault, tmp_path):
    file = label_file(tmp_path, *lines)
    with pytest.raises(DataError) as error:
        read_labels(file, AFFWILD2)
    assert str(error.value).startswith(f"{file}, line {line}: ")
    assert fault in str(error.value)


@pytest.mark.parametrize("content", [b"\xff\xd8\xff\xe0 a picture", b"AU1\xe9,AU2\n0,1\n"])
def test_files_that_are_not_text_are_named(content, tmp_path):
    (tmp_path / "v.txt").write_bytes(content)
    with pytest.raises(DataError, match="not a text file") as error:
        read_labels(tmp_path / "v.txt", (1, 2))
    assert str(tmp_path / "v.txt") in str(error.value)


@pytest.mark.parametrize("video", ["0-first", "9-last"])
def test_one_bad_file_stops_the_whole_reading(video, tmp_path):
    root = write_affwild2(tmp_path, size=0)
    folder = root / "Third ABAW Annotations/AU_Detection_Challenge/Train_Set"
    file = label_file(folder, name=f"{video}.txt")
    with pytest.raises(DataError, match=f"{video}.txt, line 1"):
        read_affwild2(root)
    file.write_text(f"{HEADER}\n{ROW}\n0,1\n")
    with pytest.raises(DataError, match=f"{video}.txt, line 3"):
        read_affwild2(root)


def test_hidden_files_are_no_annotations(tmp_path):
    root = write_affwild2(tmp_path, size=0)
    for split in ("Train_Set", "Validation_Set"):
        folder = root / "Third ABAW Annotations/AU_Detection_Challenge" / split
        (folder / "._1-30-1280x720.txt").write_bytes(b"\0\5\x16\7\xff Mac OS X")
    assert contents(read_affwild2(root)) == expected(default_labels())


def sentence(error):
    """The message, which must be one line that ends in the way out."""
    text = str(error.value)
    assert "\n" not in text
    return text


def test_root_must_be_a_folder(tmp_path):
    with pytest.raises(DataError, match=r"data\.root=.*none is not a folder") as error:
        read_affwild2(tmp_path / "none")
    sentence(error)


@pytest.mark.parametrize("lost", ["all", "Train_Set", "Validation_Set"])
def test_unknown_layouts_are_refused_in_a_sentence(lost, tmp_path):
    root = write_affwild2(tmp_path, size=0)
    challenge = root / "Third ABAW Annotations/AU_Detection_Challenge"
    shutil.rmtree(challenge if lost == "all" else challenge / lost)
    with pytest.raises(DataError, match="holds no AU annotations") as error:
        read_affwild2(root)
    text = sentence(error)
    assert str(root) in text
    assert "Train_Set and Validation_Set" in text
    assert "data.read.annotations" in text


def test_folders_of_one_s_own_are_read_when_named(tmp_path):
    root = write_affwild2(tmp_path, size=0)
    (root / "cropped_aligned").rename(root / "my crops")
    outside = tmp_path.parent / f"{tmp_path.name} labels"
    (root / "Third ABAW Annotations/AU_Detection_Challenge").rename(outside)
    for annotations in (outside, f"../{outside.name}"):
        tables = read_affwild2(root, crops="my crops", annotations=annotations)
        assert contents(tables) == expected(default_labels())
    for crops in ("no crops", tmp_path / "no crops"):
        with pytest.raises(DataError, match=r"data\.read\.crops=.*no crops is not a folder"):
            read_affwild2(root, crops=crops, annotations=outside)
    with pytest.raises(DataError, match=r"data\.read\.annotations=nowhere: .* is not a folder"):
        read_affwild2(root, annotations="nowhere")
    with pytest.raises(DataError, match="holds no AU annotations"):
        read_affwild2(root, annotations="my crops")


def test_two_sets_of_annotations_must_be_told_apart(tmp_path):
    write_affwild2(tmp_path, size=0)
    root = write_affwild2(tmp_path, spelling="abaw6", size=0, seed=1)
    with pytest.raises(DataError, match=r"several sets .* data\.read\.annotations") as error:
        read_affwild2(root)
    for spelling, seed in (("abaw3", 0), ("abaw6", 1)):
        annotations = SPELLINGS[spelling].annotations
        assert f"'{annotations}'" in sentence(error)
        for chosen in (annotations, annotations.split("/")[0], root / annotations):
            tables = read_affwild2(root, annotations=chosen)
            assert contents(tables) == expected(default_labels(seed=seed))


def test_two_sets_outside_of_the_root_are_named_too(tmp_path):
    root = write_affwild2(tmp_path / "data", size=0)
    labels = root / "Third ABAW Annotations"
    for name in ("one", "two"):
        shutil.copytree(labels / "AU_Detection_Challenge", tmp_path / "labels" / name)
    with pytest.raises(DataError, match=r"several sets .* data\.read\.annotations") as error:
        read_affwild2(root, annotations=tmp_path / "labels")
    for name in ("one", "two"):
        assert f"'{tmp_path / 'labels' / name}'" in sentence(error)


def test_missing_crop_folder_is_refused_in_a_sentence(tmp_path):
    root = write_affwild2(tmp_path, size=0)
    (root / "cropped_aligned").rename(root / "pictures")
    with pytest.raises(
        DataError, match=r"holds no crops of the annotated videos.*data\.read\.crops"
    ) as error:
        read_affwild2(root)
    sentence(error)
    (root / "cropped_aligned").mkdir()
    with pytest.raises(DataError, match="cropped_aligned has none"):
        read_affwild2(root)


def test_the_crop_folder_is_the_one_that_holds_the_videos(tmp_path):
    root = write_affwild2(tmp_path, spelling="abaw5", size=0)
    (root / "cropped_aligned" / "of another data set").mkdir(parents=True)
    assert {crops.folder.parent for crops in read_affwild2(root)["train"].source.crops} == {root / "images"}


def test_crops_may_lie_in_the_folders_of_several_archives(tmp_path):
    root = write_affwild2(tmp_path, size=0)
    crops = root / "cropped_aligned"
    second = root / "batch2" / "cropped_aligned_new_50_vids"
    second.mkdir(parents=True)
    (crops / "2-30-1280x720").rename(second / "2-30-1280x720")
    (crops / "cropped_aligned").mkdir()  # unpacked into itself
    (crops / "3-30-1280x720").rename(crops / "cropped_aligned" / "3-30-1280x720")
    tables = read_affwild2(root)
    assert contents(tables) == expected(default_labels())
    assert all(table.source.path(i).is_file() for table in tables.values() for i in range(len(table)))


def test_folders_that_nobody_may_list_are_passed_over(tmp_path, monkeypatch):
    root = write_affwild2(tmp_path, size=0)
    (root / "lost+found").mkdir()
    scandir = os.scandir

    def guarded(folder):
        if Path(folder).name == "lost+found":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", guarded)
    assert contents(read_affwild2(root)) == expected(default_labels())
    (root / "lost+found").rmdir()
    (root / "cropped_aligned").rename(root / "elsewhere")
    (root / "elsewhere").rename(root / "lost+found")
    with pytest.raises(DataError, match=r"lost\+found: cannot be listed"):
        read_affwild2(root, crops="lost+found")


def test_other_text_files_beside_the_annotations_are_named(tmp_path):
    root = write_affwild2(tmp_path, size=0)
    folder = root / "Third ABAW Annotations/AU_Detection_Challenge/Train_Set"
    (folder / "0 folder.txt").mkdir()
    assert contents(read_affwild2(root)) == expected(default_labels())
    (folder / "0 readme.txt").write_text("Annotations of the training set")
    with pytest.raises(DataError, match=r"0 readme\.txt, line 1: expected a header"):
        read_affwild2(root)


def test_video_without_crops_is_left_out_and_counted(tmp_path):
    root = write_affwild2(tmp_path, size=0)
    shutil.rmtree(root / "cropped_aligned" / "2-30-1280x720")
    table = read_affwild2(root)["train"]
    assert table.videos == ("1-30-1280x720", "3-30-1280x720")
    assert table.groups == table.videos
    assert sorted(set(table.video.tolist())) == [0, 1]
    assert table.dropped == NOTHING | {"labels without crop": 6}


def test_split_without_a_usable_frame_is_refused(tmp_path):
    root = one_video(tmp_path, np.full((3, 12), -1))
    with pytest.raises(DataError, match=r"the train split .* no usable frame .*3 rows with -1 throughout"):
        read_affwild2(root)
    root = one_video(tmp_path, np.zeros((3, 12)))
    shutil.rmtree(root / "cropped_aligned" / "b")
    with pytest.raises(DataError, match=r"the val split .* no usable frame .*1 labels without crop"):
        read_affwild2(root)


def test_writing_is_reproducible(tmp_path):
    roots = [
        write_affwild2(tmp_path / name, size=16, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    first, same, other = (read_affwild2(root)["train"].fingerprint() for root in roots)
    assert first == same
    assert first != other
    with pytest.raises(ValueError, match="unknown traps"):
        write_affwild2(tmp_path / "d", traps=["missing"])


@st.composite
def data_sets(draw):
    """Labels of a few videos for each split, and which frames have a crop (some beyond the end)."""
    names = iter(draw(st.permutations([f"{i}-{draw(st.integers(1, 99))}-{i}x{i}" for i in range(6)])))
    labels, crops = {}, {}
    for split in ("train", "val"):
        labels[split] = {}
        for _ in range(draw(st.integers(1, 3))):
            name, rows = next(names), draw(st.integers(0, 8))
            labels[split][name] = draw(arrays(np.int8, (rows, 12), elements=st.sampled_from([-1, 0, 0, 1])))
            for row in draw(st.sets(st.integers(0, rows - 1))) if rows else ():
                labels[split][name][row] = np.abs(labels[split][name][row])
            crops[name] = draw(st.sets(st.integers(1, rows + 3)))
    traps = draw(st.sets(st.sampled_from(["untidy", "crlf", "bom", "permuted"])))
    return labels, crops, traps, draw(st.sampled_from(sorted(SPELLINGS)))


@settings(max_examples=60, deadline=None)
@given(case=data_sets(), drop=st.booleans())
def test_what_is_written_is_what_is_read(case, drop):
    labels, crops, traps, spelling = case
    bad = (lambda row: (row == -1).any()) if drop else (lambda row: (row == -1).all())
    wanted = {
        split: {
            video: {k: row.tolist() for k, row in enumerate(table, 1) if k in crops[video] and not bad(row)}
            for video, table in videos.items()
        }
        for split, videos in labels.items()
    }
    wanted = {split: {v: rows for v, rows in videos.items() if rows} for split, videos in wanted.items()}
    with tempfile.TemporaryDirectory() as folder:
        root = write_affwild2(
            Path(folder), spelling=spelling, labels=labels, crops=crops, size=0, traps=traps
        )
        if not all(wanted.values()):
            with pytest.raises(DataError, match="no usable frame"):
                read_affwild2(root, drop_row_if_any=drop)
            return
        tables = read_affwild2(root, drop_row_if_any=drop)
        assert contents(tables) == wanted
        for split, table in tables.items():
            assert all(table.source.path(i).is_file() for i in range(len(table)))
            rows = sum(len(values) for values in labels[split].values())
            dropped = sum(table.dropped[why] for why in NOTHING if why != "crops without label")
            assert len(table) + dropped == rows
            assert re.search(
                rf"{split}: {len(table.videos)} videos, {len(table)} frames", table.summary(split)
            )
