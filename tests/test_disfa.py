"""The DISFA reader: intensities, numbering, folds, and what is wrong with a file."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import disfa_intensities, write_disfa, write_pictures

from aunet.data.disfa import read_disfa
from aunet.data.faults import KINDS, DataError, Faults
from aunet.data.folds import DISFA_PARTS, fold_splits
from aunet.facs import DISFA, DISFA_CODED

SPLITS = fold_splits(DISFA_PARTS, 1)
TRAINED = min(s for s, split in SPLITS.items() if split == "train")


def contents(tables):
    """Split -> subject -> {picture number: labels}."""
    return {
        split: {
            name: {
                int(table.frame[i]): table.labels[i].tolist() for i in np.flatnonzero(table.video == number)
            }
            for number, name in enumerate(table.videos)
        }
        for split, table in tables.items()
    }


def expected(splits, threshold=2, aus=DISFA, first=1):
    """What ``contents`` gives for the default intensities."""
    result = {"train": {}, "val": {}, "test": {}}
    for subject, table in disfa_intensities().items():
        rows = [[int(row[DISFA_CODED.index(au)] >= threshold) for au in aus] for row in table]
        result[splits[subject]][subject] = dict(enumerate(rows, start=first))
    return result


def label_file(root, au=1, subject=TRAINED):
    return root / "ActionUnit_Labels" / subject / f"{subject}_au{au}.txt"


def faults_of(root, **options):
    faults = Faults()
    read_disfa(root, faults=faults, **options)
    return faults


@pytest.mark.parametrize("fold", [1, 2, 3])
@pytest.mark.parametrize("threshold", [1, 2, 5])
def test_labels_of_every_fold(fold, threshold, tmp_path):
    tables = read_disfa(write_disfa(tmp_path), fold=fold, threshold=threshold)
    assert contents(tables) == expected(fold_splits(DISFA_PARTS, fold), threshold)
    for table in tables.values():
        assert table.aus == DISFA
        assert table.labels.dtype == np.int8
        assert table.grouped_by == "subject"
        assert table.groups == table.videos == tuple(sorted(table.videos))
        assert not any(table.dropped.values())
        assert len(table.files) == len(DISFA) * len(table.videos)
        assert all(Path(table.source.name(i)).is_file() for i in range(len(table)))


def test_nothing_is_wrong_with_a_whole_copy(tmp_path):
    assert faults_of(write_disfa(tmp_path)).places == {}


def test_aus_in_any_order(tmp_path):
    aus = (20, 5, 1)
    assert contents(read_disfa(write_disfa(tmp_path), aus=aus)) == expected(SPLITS, aus=aus)


@pytest.mark.parametrize(
    ("pictures", "width", "suffix"),
    [("img", 1, ".png"), ("cropped_aligned", 5, ".jpg"), ("a/b/faces", 4, ".bmp"), (".", 6, ".JPG")],
)
def test_pictures_are_found_by_content(pictures, width, suffix, tmp_path):
    root = write_disfa(tmp_path, pictures=pictures, width=width, suffix=suffix)
    assert contents(read_disfa(root)) == expected(SPLITS)


def test_pictures_and_annotations_elsewhere(tmp_path):
    root = write_disfa(tmp_path / "disfa", pictures="left")
    write_disfa(root, pictures="right", first=0)
    with pytest.raises(DataError, match=r"choose one by data\.read\.crops: 'left', 'right'"):
        read_disfa(root)
    assert contents(read_disfa(root, crops="right", frame_offset=-1)) == expected(SPLITS, first=0)
    (root / "ActionUnit_Labels").rename(tmp_path / "labels")
    tables = read_disfa(root, crops=root / "left", annotations=tmp_path / "labels")
    assert contents(tables) == expected(SPLITS)


@pytest.mark.parametrize(("first", "offset"), [(0, -1), (2, 1)])
def test_numbering_is_checked(first, offset, tmp_path):
    root = write_disfa(tmp_path, first=first, width=1)
    with pytest.raises(DataError, match=rf"{TRAINED} has pictures .*data.read.frame_offset={offset}\b"):
        read_disfa(root)
    assert contents(read_disfa(root, frame_offset=offset)) == expected(SPLITS, first=first)
    with pytest.raises(DataError, match=r"set data\.read\.frame_offset"):  # all subjects are at fault
        faults_of(root)


def test_numbering_of_one_subject(tmp_path):
    root = write_disfa(tmp_path)
    shutil.rmtree(root / "img" / TRAINED)
    write_pictures(root / "img" / TRAINED, [f"{n}.png" for n in range(4)])
    faults = Faults()
    tables = read_disfa(root, faults=faults)
    (place,) = faults.places["frame-offset"]
    assert place.file == str(root / "img" / TRAINED)
    for words in ("pictures 0 to 3", "frames 1 to 4", "3 find a picture", "frame_offset=-1"):
        assert words in place.detail
    assert TRAINED not in tables["train"].videos
    assert tables["train"].dropped["videos at fault (skipped)"] == 1


@pytest.mark.parametrize("missing", [[1], [4], [2, 3], [1, 4]])
def test_missing_pictures_are_no_shift(missing, tmp_path):
    root = write_disfa(tmp_path)
    for number in missing:
        (root / "img" / TRAINED / f"{number:05d}.png").unlink()
    faults = faults_of(root)
    assert "frame-offset" not in faults.places
    assert faults.count("label-without-crop") == len(missing)
    assert faults.places["label-without-crop"][0].line == missing[0]


def test_counts_of_a_subject_are_compared(tmp_path):
    root = write_disfa(tmp_path)
    write_pictures(root / "img" / TRAINED, ["00005.png", "00006.png"])
    faults = faults_of(root)
    (place,) = faults.places["crop-without-label"]
    assert (place.file, place.count) == (str(root / "img" / TRAINED), 2)


def test_subject_without_pictures(tmp_path):
    root = write_disfa(tmp_path)
    shutil.rmtree(root / "img" / TRAINED)
    faults = faults_of(root)
    (place,) = faults.places["label-without-crop"]
    assert (place.file, place.line, place.last) == (str(label_file(root)), 1, 4)
    assert TRAINED in place.detail


@pytest.mark.parametrize(
    ("content", "kind", "line"),
    [
        ("1,0\n2,6\n3,0\n4,0\n", "out-of-range", 2),
        ("1,0\n2,-1\n3,0\n4,0\n", "out-of-range", 2),
        ("0,0\n1,0\n2,0\n3,0\n4,0\n", "out-of-range", 1),
        ("1,0\n2,x\n3,0\n4,0\n", "not-integer", 2),
        ("1,0\n2,1.5\n3,0\n4,0\n", "not-integer", 2),
        ("1,0\n2\n3,0\n4,0\n", "row-width", 2),
        ("1,0\n2,0,0\n3,0\n4,0\n", "row-width", 2),
        ("1,0\n\n2,0\n3,0\n4,0\n", "row-width", 2),
        ("1,0\n2,0\n3,0\n4,0\n3,1\n", "duplicate-row", 5),
        ("1,0\n2,0\n3,0\n", "unequal-files", None),
        ("1,0\n2,0\n3,0\n4,0\n5,0\n", "unequal-files", None),
        ("", "no-rows", None),
        ("1,0\n2,0\n\xff", "not-text", None),
    ],
)
@pytest.mark.parametrize("au", [1, 12])
def test_what_is_wrong_with_a_file(content, kind, line, au, tmp_path):
    root = write_disfa(tmp_path)
    file = label_file(root, au)
    file.write_bytes(content.encode("latin-1"))
    faults = faults_of(root)
    assert [(place.file, place.line) for place in faults.places[kind]] == [(str(file), line)]
    also = {"unequal-files"} if kind == "no-rows" else set()
    assert set(faults.places) - {"crop-without-label", "label-without-crop"} == {kind} | also
    if KINDS[kind].severity == "error":
        with pytest.raises(DataError, match=f"{file.name}"):
            read_disfa(root)


def test_rows_at_fault_are_left_out_and_counted(tmp_path):
    root = write_disfa(tmp_path)
    label_file(root, 4).write_text("1,0\n2,9\n3,0\n4,x\n")
    table = read_disfa(root, faults=Faults())["train"]
    assert table.frame[table.video == table.videos.index(TRAINED)].tolist() == [1, 3]
    assert table.dropped["rows at fault (skipped)"] == 2


def test_missing_file_leaves_the_subject_out(tmp_path):
    root = write_disfa(tmp_path)
    label_file(root, 6).unlink()
    with pytest.raises(DataError, match=f"{TRAINED}_au6.txt: is missing"):
        read_disfa(root)
    faults = Faults()
    tables = read_disfa(root, faults=faults)
    assert [place.file for place in faults.places["missing-annotation"]] == [str(label_file(root, 6))]
    assert TRAINED not in tables["train"].videos
    assert len(read_disfa(root, aus=[1, 2])["train"]) == len(read_disfa(root, aus=[1])["train"])


def test_unknown_subject(tmp_path):
    root = write_disfa(tmp_path, disfa_intensities() | {"SN014": np.zeros((2, 12), int)})
    faults = faults_of(root)
    assert [p.file for p in faults.places["unknown-subject"]] == [str(root / "ActionUnit_Labels" / "SN014")]
    with pytest.raises(DataError, match="SN014"):
        read_disfa(root)


def test_absent_subject_is_a_warning(tmp_path):
    root = write_disfa(tmp_path)
    shutil.rmtree(root / "ActionUnit_Labels" / TRAINED)
    faults = faults_of(root)
    assert [place.detail for place in faults.places["absent-subject"]] == [f"{TRAINED}, of the train split"]
    assert TRAINED not in read_disfa(root)["train"].videos


def test_rows_in_any_order_and_windows_line_ends(tmp_path):
    root = write_disfa(tmp_path)
    for au in DISFA:
        file = label_file(root, au)
        lines = file.read_text().splitlines()
        file.write_bytes("\r\n".join(reversed(lines)).encode("utf-8-sig"))
    faults = Faults()
    assert contents(read_disfa(root, faults=faults)) == expected(SPLITS)
    assert not faults.places


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"threshold": 0}, "threshold=0 must be 1 to 5"),
        ({"threshold": 6}, "threshold=6"),
        ({"fold": 4}, "fold=4"),
        ({"val_fraction": 1.5}, "val_fraction"),
        ({"crops": "nowhere"}, "nowhere is not a folder"),
        ({"crops": "ActionUnit_Labels"}, "does not hold pictures such as img/SN001"),
        ({"annotations": "img"}, "does not hold annotations such as SN001/SN001_au1.txt"),
    ],
)
def test_settings_out_of_range(options, words, tmp_path):
    with pytest.raises(DataError, match=words):
        read_disfa(write_disfa(tmp_path), **options)


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match="not a folder"):
        read_disfa(tmp_path / "nowhere")
    with pytest.raises(DataError, match="does not hold annotations"):
        read_disfa(tmp_path)
    write_disfa(tmp_path)
    shutil.rmtree(tmp_path / "img")
    with pytest.raises(DataError, match="does not hold pictures"):
        read_disfa(tmp_path)


def test_numpy_is_given_ascii_only(tmp_path, monkeypatch):
    """Beyond, np.loadtxt of NumPy 2.4 looks characters up outside C's table and may crash the process."""
    root = write_disfa(tmp_path)
    label_file(root).write_text("1,0\n2,\U0010ffff\n3,0\n4,0\n", encoding="utf-8")
    loadtxt = np.loadtxt

    def checked(lines, **arguments):
        assert "".join(lines).isascii()
        return loadtxt(lines, **arguments)

    monkeypatch.setattr(np, "loadtxt", checked)
    assert [(place.line) for place in faults_of(root).places["not-integer"]] == [2]


NASTY = st.one_of(
    st.binary(max_size=80),
    st.text(alphabet='0123456789,-+. \n\r\t\x00\x0c#"x\u00b2\u0664\ufeff', max_size=80).map(str.encode),
    st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(NASTY, min_size=1, max_size=2))
def test_any_file_at_all(contents):
    with tempfile.TemporaryDirectory() as folder:
        root = write_disfa(Path(folder), {s: np.zeros((2, 12), int) for s in (TRAINED, "SN003", VALIDATED)})
        for au, content in zip((1, 4), contents, strict=False):
            label_file(root, au).write_bytes(content)
        try:
            tables = read_disfa(root, faults=Faults())
        except DataError:
            return
        assert set(np.unique(np.concatenate([t.labels for t in tables.values()]))) <= {0, 1}


VALIDATED = min(s for s, split in SPLITS.items() if split == "val")
