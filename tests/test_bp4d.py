"""The BP4D reader: columns by AU number, 9 is unknown, folds, and what is wrong with a file."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import bp4d_codes, write_bp4d

from aunet.data.bp4d import read_bp4d
from aunet.data.faults import KINDS, DataError, Faults
from aunet.data.folds import BP4D_PARTS, fold_splits
from aunet.facs import BP4D

SPLITS = fold_splits(BP4D_PARTS, 1)
TRAINED, VALIDATED = (min(s for s, split in SPLITS.items() if split == name) for name in ("train", "val"))
TESTED = "F007"
FEW = (TRAINED, VALIDATED, TESTED)
HEADER = ",".join(map(str, range(28)))
ROW = ",".join(["0"] * 27)


def few(root, frames=3, **arguments):
    """A data set of one subject for each split and two tasks."""
    return write_bp4d(root, bp4d_codes(frames, 2, subjects=FEW), **arguments)


def file_of(root, video=f"{TRAINED}/T1"):
    return root / "AUCoding/AU_OCC" / f"{video.replace('/', '_')}.csv"


def contents(tables):
    """Split -> video -> {picture number: labels}."""
    return {
        split: {
            name: {
                int(table.frame[i]): table.labels[i].tolist() for i in np.flatnonzero(table.video == number)
            }
            for number, name in enumerate(table.videos)
        }
        for split, table in tables.items()
    }


def expected(codes, splits=SPLITS, first=1, aus=BP4D, drop_row_if_any=False):
    """What ``contents`` gives for codes."""
    result = {"train": {}, "val": {}, "test": {}}
    for video, table in codes.items():
        rows = {}
        for frame, row in enumerate(table.tolist(), start=first):
            labels = [{0: 0, 1: 1, 9: -1}[row[BP4D.index(au)]] for au in aus]
            unknown = labels.count(-1)
            if unknown < len(labels) and not (drop_row_if_any and unknown):
                rows[frame] = labels
        if rows:
            result[splits[video[:4]]][video] = rows
    return result


def faults_of(root, **options):
    faults = Faults()
    read_bp4d(root, faults=faults, **options)
    return faults


@pytest.mark.parametrize("fold", [1, 2, 3])
def test_labels_of_every_fold(fold, tmp_path):
    tables = read_bp4d(write_bp4d(tmp_path), fold=fold)
    assert contents(tables) == expected(bp4d_codes(), fold_splits(BP4D_PARTS, fold))
    for table in tables.values():
        assert table.aus == BP4D
        assert table.labels.dtype == np.int8
        assert table.grouped_by == "subject"
        assert table.groups == tuple(video[:4] for video in table.videos)
        assert table.videos == tuple(sorted(table.videos))
        assert len(table.files) == len(table.videos) == 8 * table.people()
        assert table.dropped["single labels of -1 (masked) in rows kept"] == (table.labels == -1).sum()


def test_all_subjects_and_tasks_are_there(tmp_path):
    assert set(faults_of(write_bp4d(tmp_path)).places) <= {"partly-unknown-row"}


@pytest.mark.parametrize("drop", [True, False])
def test_unknown_labels(drop, tmp_path):
    codes = bp4d_codes(30, 1, subjects=FEW)
    codes[f"{TRAINED}/T1"][4] = 9
    tables = read_bp4d(write_bp4d(tmp_path, codes), drop_row_if_any=drop)
    assert contents(tables) == expected(codes, drop_row_if_any=drop)
    assert tables["train"].dropped["rows with -1 throughout"] == 1


@pytest.mark.parametrize("width", [1, 3, 4])
@pytest.mark.parametrize("first", [0, 1, 98, 2440])
def test_numbers_of_any_digits(width, first, tmp_path):
    root = few(tmp_path, 5, first_frame=first, width=width)
    tables = read_bp4d(root)
    assert contents(tables) == expected(bp4d_codes(5, 2, subjects=FEW), first=first)
    assert all(Path(t.source.name(i)).is_file() for t in tables.values() for i in range(len(t)))


@pytest.mark.parametrize("annotations", ["AU_OCC", "AUCoding/AU_OCC", "labels/occurrence", "."])
@pytest.mark.parametrize("pictures", ["2D+3D", "img", "a/b", "."])
def test_folders_are_found_by_content(annotations, pictures, tmp_path):
    root = few(tmp_path, annotations=annotations, pictures=pictures)
    assert contents(read_bp4d(root)) == expected(bp4d_codes(3, 2, subjects=FEW))


def test_aus_in_any_order(tmp_path):
    tables = read_bp4d(few(tmp_path), aus=(24, 1, 14))
    assert contents(tables) == expected(bp4d_codes(3, 2, subjects=FEW), aus=(24, 1, 14))


@pytest.mark.parametrize("offset", [-1, 1])
def test_numbering_is_checked(offset, tmp_path):
    root = few(tmp_path, first_frame=10, first=10 + offset)
    with pytest.raises(DataError, match=rf"{TRAINED}/T1 has pictures .*data.read.frame_offset={offset}\b"):
        read_bp4d(root)
    tables = read_bp4d(root, frame_offset=offset)
    assert contents(tables) == expected(bp4d_codes(3, 2, subjects=FEW), first=10 + offset)


def test_missing_picture_in_a_longer_video_is_no_shift(tmp_path):
    root = few(tmp_path, first_frame=10)
    folder = root / "2D+3D" / TRAINED / "T1"
    (folder / "10.jpg").unlink()
    for number in (8, 9, 13, 14):
        (folder / f"{number}.jpg").touch()
    faults = faults_of(root)
    assert "frame-offset" not in faults.places
    assert faults.count("label-without-crop") == 1
    assert faults.count("crop-without-label") == 4


@pytest.mark.parametrize(
    ("lines", "kind", "line"),
    [
        ([HEADER, f"1,{ROW}", f"2,3{ROW[1:]}"], "out-of-range", 3),
        ([HEADER, f"1,{ROW}", f"2,-1{ROW[1:]}"], "out-of-range", 3),
        ([HEADER, f"-1,{ROW}", f"2,{ROW}"], "out-of-range", 2),
        ([HEADER, f"1,{ROW}", f"2,x{ROW[1:]}"], "not-integer", 3),
        ([HEADER, f"1,{ROW}", f"two,{ROW}"], "not-integer", 3),
        ([HEADER, f"1,{ROW}", f"2,{ROW},0"], "row-width", 3),
        ([HEADER, f"1,{ROW}", "", f"2,{ROW}"], "row-width", 3),
        ([HEADER, f"1,{ROW}", f"2,{ROW}", f"1,{ROW}"], "duplicate-row", 4),
        ([HEADER + ",4", f"1,{ROW},0"], "duplicate-column", 1),
        ([HEADER + ",x", f"1,{ROW},0"], "bad-header", 1),
        (["0,1,2", "1,0,0"], "missing-column", 1),
        ([""], "missing-column", 1),
        ([HEADER], "no-rows", None),
        (["\xff"], "not-text", None),
    ],
)
def test_what_is_wrong_with_a_file(lines, kind, line, tmp_path):
    root = few(tmp_path)
    file_of(root).write_bytes("\n".join(lines).encode("latin-1"))
    faults = faults_of(root)
    assert [(place.file, place.line) for place in faults.places[kind]] == [(str(file_of(root)), line)]
    assert {k for k in faults.places if KINDS[k].severity == "error"} <= {kind}
    if KINDS[kind].severity == "error":
        with pytest.raises(DataError, match=file_of(root).name):
            read_bp4d(root)


def test_column_that_is_not_read_may_hold_anything(tmp_path):
    root = few(tmp_path)
    file_of(root).write_text(f"{HEADER}\n1,{ROW}\n".replace("1,0,0,0,0", "1,0,0,7,0"))  # AU3
    assert "out-of-range" not in faults_of(root).places


def test_file_at_fault_is_left_out_and_counted(tmp_path):
    root = few(tmp_path)
    file_of(root).write_text("nothing")
    table = read_bp4d(root, faults=Faults())["train"]
    assert table.videos == (f"{TRAINED}/T2",)
    assert table.dropped["videos at fault (skipped)"] == 1


@pytest.mark.parametrize(("name", "kind"), [("F024_T1.csv", "unknown-subject"), ("F001_T9.csv", "bad-name")])
def test_file_of_nobody(name, kind, tmp_path):
    root = few(tmp_path)
    file = file_of(root).with_name(name)
    shutil.copy(file_of(root), file)
    assert [place.file for place in faults_of(root).places[kind]] == [str(file)]


def test_absent_tasks_are_a_warning(tmp_path):
    absent = [place.detail for place in faults_of(few(tmp_path)).places["absent-subject"]]
    assert len(absent) == 41 - 3 + 3 * 6
    assert f"{TRAINED}/T3, of the train split" in absent


def test_task_without_pictures(tmp_path):
    root = few(tmp_path)
    shutil.rmtree(root / "2D+3D" / TRAINED / "T1")
    tables = read_bp4d(root)
    assert tables["train"].videos == (f"{TRAINED}/T2",)
    assert tables["train"].dropped["labels without crop"] == 3


def test_split_without_frames(tmp_path):
    root = few(tmp_path)
    shutil.rmtree(root / "2D+3D" / TESTED)
    with pytest.raises(DataError, match=r"the test split of .* has no usable frame .6 labels without crop"):
        read_bp4d(root)


NASTY = st.one_of(
    st.binary(max_size=80),
    st.text(alphabet='0123456789,-+. \n\r\t\x00\x0c#"x\u00b2\u0664\ufeff', max_size=80).map(str.encode),
    st.lists(st.sampled_from([HEADER, f"1,{ROW}", f"2,{ROW}", "3,1", ",", ""])).map(
        lambda x: "\n".join(x).encode()
    ),
)


@settings(max_examples=150, deadline=None)
@given(NASTY)
def test_any_file_at_all(content):
    with tempfile.TemporaryDirectory() as folder:
        root = few(Path(folder))
        file_of(root).write_bytes(content)
        tables = read_bp4d(root, faults=Faults())
        assert set(np.unique(np.concatenate([t.labels for t in tables.values()]))) <= {0, 1, -1}
