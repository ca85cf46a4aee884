"""The manifest reader: CSV and Parquet, splits and groups, what is wrong with a row, and where."""

import contextlib
import csv
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import write_manifest, write_pictures

from aunet.data import manifest_files
from aunet.data.faults import KINDS, DataError, Faults
from aunet.data.manifest import read_manifest

AUS = (1, 12)
FORMATS = ["manifest.csv", "manifest.parquet"]


def listing(frames=3, videos=4, seed=0, **columns):
    """Rows of ``videos`` videos of one subject each; the last but one validates and the last tests."""
    rng = np.random.default_rng(seed)
    splits = ["train"] * (videos - 2) + ["val", "test"]
    return [
        {
            "path": f"faces/v{video}/{frame:03d}.jpg",
            "video": f"v{video}",
            "subject": f"s{video}",
            "split": splits[video],
            "frame": frame,
            "AU1": int(rng.integers(0, 2)),
            "AU12": int(rng.integers(0, 2)),
            **columns,
        }
        for video in range(videos)
        for frame in range(1, frames + 1)
    ]


def without(rows, *columns):
    return [{key: value for key, value in row.items() if key not in columns} for row in rows]


def contents(tables):
    """Split -> [(picture, video, group, frame, labels)] in the order of the table."""
    return {
        split: [
            (
                table.source.name(i),
                table.videos[table.video[i]],
                table.groups[table.video[i]],
                int(table.frame[i]),
                table.labels[i].tolist(),
            )
            for i in range(len(table))
        ]
        for split, table in tables.items()
    }


def expected(root, rows):
    result = {}
    for row in sorted(rows, key=lambda row: (row["video"], row["frame"])):
        found = (
            str(root / row["path"]),
            row["video"],
            row["subject"],
            row["frame"],
            [row["AU1"], row["AU12"]],
        )
        result.setdefault(row["split"], []).append(found)
    return result


def faults_of(root, aus=AUS, **options):
    faults = Faults()
    with contextlib.suppress(DataError):
        read_manifest(root, aus, faults=faults, **options)
    return faults


@pytest.mark.parametrize("name", FORMATS)
def test_labels_and_order(name, tmp_path):
    rows = listing()
    shuffled = [rows[i] for i in np.random.default_rng(1).permutation(len(rows))]
    write_manifest(tmp_path, shuffled, name=name)
    faults = Faults()
    tables = read_manifest(tmp_path, AUS, faults=faults)
    assert contents(tables) == expected(tmp_path, rows)
    assert not faults.places
    for table in tables.values():
        assert table.aus == AUS
        assert (table.labels.dtype, table.video.dtype, table.frame.dtype) == (np.int8, np.int32, np.int32)
        assert table.grouped_by == "subject"
        assert table.files == (tmp_path / name,)
        assert list(table.videos) == sorted(table.videos)
        assert not any(table.dropped.values())


@pytest.mark.parametrize("name", FORMATS)
def test_root_may_be_the_file(name, tmp_path):
    file = write_manifest(tmp_path, listing(), name=name)
    assert contents(read_manifest(file, AUS)) == expected(tmp_path, listing())


def test_file_and_pictures_elsewhere(tmp_path):
    write_manifest(tmp_path / "pictures", listing())
    (tmp_path / "pictures/manifest.csv").rename(tmp_path / "list.csv")
    tables = read_manifest(tmp_path, AUS, file="list.csv", pictures="pictures")
    assert contents(tables) == expected(tmp_path / "pictures", listing())


def test_two_manifests_or_none(tmp_path):
    with pytest.raises(DataError, match="it has none"):
        read_manifest(tmp_path, AUS)
    for name in FORMATS:
        write_manifest(tmp_path, listing(), name=name)
    with pytest.raises(
        DataError, match=r"it has manifest.csv and manifest.parquet; choose by data.read.file"
    ):
        read_manifest(tmp_path, AUS)
    read_manifest(tmp_path, AUS, file="manifest.parquet")
    with pytest.raises(DataError, match=r"other\.csv is not a file"):
        read_manifest(tmp_path, AUS, file="other.csv")
    with pytest.raises(DataError, match="nowhere is not a folder"):
        read_manifest(tmp_path / "manifest.csv", AUS, pictures="nowhere")


@pytest.mark.parametrize("name", FORMATS)
def test_bare_manifest(name, tmp_path):
    """Without the optional columns a folder is a video and its group, and rows keep their order."""
    rows = listing(videos=10)[::-1]
    write_manifest(tmp_path, without(rows, "video", "subject", "split", "frame"), name=name)
    tables = read_manifest(tmp_path, AUS, val_fraction=0.3)
    assert set(tables) == {"train", "val"}
    assert [len(tables[split].videos) for split in tables] == [7, 3]
    assert not set(tables["train"].groups) & set(tables["val"].groups)
    labels = {str(tmp_path / row["path"]): [row["AU1"], row["AU12"]] for row in rows}
    for table in tables.values():
        assert table.grouped_by == "video"
        assert table.groups == table.videos == tuple(sorted(table.videos))
        assert table.frame.tolist() == [1, 2, 3] * len(table.videos)
        for i in range(len(table)):
            path = table.source.name(i)
            assert path == str(tmp_path / table.videos[table.video[i]] / f"{4 - table.frame[i]:03d}.jpg")
            assert table.labels[i].tolist() == labels[path]


def test_inner_split_depends_on_neither_pictures_nor_order(tmp_path):
    rows = without(listing(videos=12), "split")
    write_manifest(tmp_path, rows)
    before = {split: set(t.groups) for split, t in read_manifest(tmp_path, AUS).items()}
    (tmp_path / rows[0]["path"]).unlink()
    write_manifest(tmp_path / "again", rows[::-1])
    assert {split: set(t.groups) for split, t in read_manifest(tmp_path, AUS).items()} == before
    assert {split: set(t.groups) for split, t in read_manifest(tmp_path / "again", AUS).items()} == before
    seeds = [frozenset(read_manifest(tmp_path, AUS, split_seed=seed)["val"].groups) for seed in range(8)]
    assert len(set(seeds)) > 1


def test_people_of_one_video(tmp_path):
    rows = listing()
    rows[1]["subject"] = "other"
    write_manifest(tmp_path, rows)
    table = read_manifest(tmp_path, AUS)["train"]
    assert table.videos == ("v0:other", "v0:s0", "v1")
    assert table.groups == ("other", "s0", "s1")
    assert table.frame[:3].tolist() == [2, 1, 3]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("drop", [True, False])
def test_unknown_labels(name, drop, tmp_path):
    rows = listing(frames=5)
    rows[0]["AU1"], rows[1]["AU12"] = None, -1
    rows[2]["AU1"] = rows[2]["AU12"] = None
    write_manifest(tmp_path, rows, name=name)
    table = read_manifest(tmp_path, AUS, drop_row_if_any=drop)["train"]
    assert table.frame[table.video == 0].tolist() == ([4, 5] if drop else [1, 2, 4, 5])
    assert table.dropped["rows with -1 throughout"] == 1
    assert table.dropped["rows with -1 in part"] == (2 if drop else 0)
    if not drop:
        assert table.labels[:2].tolist() == [[-1, rows[0]["AU12"]], [rows[1]["AU1"], -1]]
        assert table.dropped["single labels of -1 (masked) in rows kept"] == 2
    places = faults_of(tmp_path).places
    assert [p.line for p in places["unknown-row"]] == [4 if name.endswith("csv") else 3]
    assert set(places) == {"unknown-row", "partly-unknown-row"}


@pytest.mark.parametrize(
    ("cells", "labels"),
    [
        (["0", "1", "-1", ""], [0, 1, -1, -1]),
        (["0.0", "1.0", "-1.0", " 1 "], [0, 1, -1, 1]),
    ],
)
def test_spellings_of_labels(cells, labels, tmp_path):
    rows = listing(frames=4)
    for row, cell in zip(rows, cells, strict=False):
        row["AU1"] = cell
    write_manifest(tmp_path, rows)
    table = read_manifest(tmp_path, AUS, drop_row_if_any=False)["train"]
    assert table.labels[:4, 0].tolist() == labels


@pytest.mark.parametrize(
    "convert",
    [float, bool, str, lambda value: None if value else 0.0, lambda value: float("nan") if value else 0.0],
)
def test_types_of_parquet(convert, tmp_path):
    rows = [row | {"AU1": convert(row["AU1"])} for row in listing(frames=6)]
    write_manifest(tmp_path, rows, name="manifest.parquet")
    table = read_manifest(tmp_path, AUS, drop_row_if_any=False)["train"]
    one = 1 if convert in (float, bool, str) else -1
    assert table.labels[:, 0].tolist() == [one if row["AU1"] else 0 for row in listing(frames=6)[:12]]


def test_dictionary_encoded_columns(tmp_path):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    file = write_manifest(tmp_path, listing(), name="manifest.parquet")
    table = parquet.read_table(file)
    for name in ("video", "subject", "split"):
        at = table.column_names.index(name)
        table = table.set_column(at, name, table.column(name).dictionary_encode())
    parquet.write_table(table, file)
    assert isinstance(parquet.read_schema(file).field("video").type, pa.DictionaryType)
    assert contents(read_manifest(file, AUS)) == expected(tmp_path, listing())


def test_columns_in_any_order_and_case_with_a_mark(tmp_path):
    rows = [{key.upper(): row[key] for key in reversed(row)} | {"age": 30, "": 7} for row in listing()]
    write_pictures(tmp_path / "faces", [])
    for row in rows:
        write_pictures(tmp_path / Path(row["PATH"]).parent, [Path(row["PATH"]).name])
    with (tmp_path / "manifest.csv").open("w", encoding="utf-8-sig", newline="") as text:
        writer = csv.DictWriter(text, list(rows[0]))  # lines end with CR LF
        writer.writeheader()
        writer.writerows(rows)
    faults = Faults()
    assert contents(read_manifest(tmp_path, AUS, faults=faults)) == expected(tmp_path, listing())
    assert not faults.places


@pytest.mark.parametrize(
    ("column", "cell", "kind"),
    [
        ("path", "", "bad-name"),
        ("path", "/etc/passwd.jpg", "bad-name"),
        ("path", "../a.jpg", "bad-name"),
        ("path", "faces/../../a.jpg", "bad-name"),
        ("path", "./../a.jpg", "bad-name"),
        ("path", "C:/a.jpg", "bad-name"),
        ("path", "faces\\v0\\001.jpg", "bad-name"),
        ("path", "faces//001.jpg", "bad-name"),
        ("path", "faces/001.mp4", "bad-name"),
        ("path", "faces/v0/\0.jpg", "bad-name"),
        ("path", "faces/v0/003.jpg", "duplicate-row"),
        ("path", "faces/v0/999.jpg", "label-without-crop"),
        ("path", "nowhere/001.jpg", "label-without-crop"),
        ("video", " ", "bad-name"),
        ("subject", "", "bad-name"),
        ("split", "dev", "unknown-split"),
        ("split", "", "unknown-split"),
        ("frame", "-1", "not-integer"),
        ("frame", "x", "not-integer"),
        ("AU1", "2", "out-of-range"),
        ("AU1", "9.0", "out-of-range"),
        ("AU12", "0.5", "not-integer"),
        ("AU12", "yes", "not-integer"),
    ],
)
@pytest.mark.parametrize("name", FORMATS)
def test_what_is_wrong_with_a_row(column, cell, kind, name, tmp_path):
    rows = [{key: str(value) for key, value in row.items()} | {"note": "a\nb"} for row in listing(4)]
    write_manifest(tmp_path, rows)
    rows[3][column] = cell
    if name.endswith("csv"):
        with (tmp_path / name).open("w", newline="") as text:
            csv.writer(text, lineterminator="\n").writerows([list(rows[0]), *(row.values() for row in rows)])
        line = 8  # a header, and two lines for each row
    else:
        (tmp_path / "manifest.csv").unlink()
        pytest.importorskip("pyarrow.parquet")
        write_manifest_only(tmp_path / name, rows)
        line = 4
    faults = faults_of(tmp_path)
    assert [(p.file, p.line) for p in faults.places[kind]] == [(str(tmp_path / name), line)]
    assert set(faults.places) == {kind}
    table = read_manifest(tmp_path, AUS, faults=Faults())["train"]
    assert len(table) == 7
    assert sum(table.dropped.values()) == 1
    if KINDS[kind].severity == "error":
        with pytest.raises(DataError, match=rf"{name}, line {line}\b"):
            read_manifest(tmp_path, AUS)


def write_manifest_only(file, rows):
    """A Parquet manifest without its pictures."""
    with tempfile.TemporaryDirectory() as folder:
        named = [row | {"path": "a.jpg"} for row in rows]
        written = write_manifest(Path(folder), named, name=file.name)
        parquet = pytest.importorskip("pyarrow.parquet")
        pa = pytest.importorskip("pyarrow")
        table = parquet.read_table(written)
        paths = pa.array([row["path"] for row in rows])
        parquet.write_table(table.set_column(table.column_names.index("path"), "path", paths), file)


@pytest.mark.parametrize(
    ("text", "kind", "line"),
    [
        ("", "missing-column", 1),
        ("video,AU1,AU12\n", "missing-column", 1),
        ("path,AU1\na.jpg,0\n", "missing-column", 1),
        ("path,AU1,AU12,AU01\na.jpg,0,0,0\n", "duplicate-column", 1),
        ("path,AU1,AU12,Path\na.jpg,0,0,0\n", "duplicate-column", 1),
        ("path,AU1,AU12,AU-4\na.jpg,0,0,0\n", "unknown-column", 1),
        ("path,AU1,AU12,AU4x\na.jpg,0,0,0\n", "unknown-column", 1),
        ("path,AU1,AU12,splits\na.jpg,0,0,train\n", "unknown-column", 1),
        ("path,AU1,AU12,subject_id\na.jpg,0,0,s\n", "unknown-column", 1),
        ("path;AU1;AU12\na.jpg;0;0\n", "bad-header", 1),
        ("path,AU1,AU12\na.jpg,0\n", "row-width", 2),
        ("path,AU1,AU12\n\n\na.jpg,0,0,0\n", "row-width", 4),
        ('path,AU1,AU12\na.jpg,0,0\n"b.jpg,0,0\nc.jpg,0,0\n', "unreadable-annotation", 3),
        ("path,AU1,AU12\na.jpg,0,0\nb\xff.jpg,0,0\n", "not-text", 3),
        ("path,AU1,AU12\n", "no-rows", None),
    ],
)
def test_what_is_wrong_with_a_file(text, kind, line, tmp_path):
    file = tmp_path / "manifest.csv"
    file.write_bytes(text.encode("latin-1"))
    faults = faults_of(tmp_path)
    assert {k: [(p.file, p.line) for p in places] for k, places in faults.places.items()} == {
        kind: [(str(file), line)]
    }
    with pytest.raises(DataError, match=r"manifest\.csv"):
        read_manifest(tmp_path, AUS)


@pytest.mark.parametrize("name", ["age", "audio1", "note", "set of splits", "image_id", "valence", ""])
def test_columns_of_ones_own(name, tmp_path):
    write_manifest(tmp_path, [row | {name: "x"} for row in listing()])
    assert not faults_of(tmp_path).places


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1", b"path,AU1,AU12\na.jpg,0,0\n"]
)
def test_no_parquet(content, tmp_path):
    (tmp_path / "manifest.parquet").write_bytes(content)
    assert set(faults_of(tmp_path).places) == {"unreadable-annotation"}


def test_truncated_parquet(tmp_path):
    file = write_manifest(tmp_path, listing(), name="manifest.parquet")
    whole = file.read_bytes()
    for size in range(0, len(whole), 97):
        file.write_bytes(whole[:size])
        assert set(faults_of(tmp_path).places) == {"unreadable-annotation"}


def test_lists_in_parquet_are_no_labels(tmp_path):
    rows = [row | {"AU1": [1]} for row in listing()]
    write_manifest(tmp_path, rows, name="manifest.parquet")
    assert faults_of(tmp_path).count("not-integer") == len(rows)


def test_parquet_needs_pyarrow(tmp_path, monkeypatch):
    write_manifest(tmp_path, listing(), name="manifest.parquet")

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(manifest_files.importlib, "import_module", missing)
    with pytest.raises(DataError, match=r"pip install aunet\[parquet\]"):
        read_manifest(tmp_path, AUS)


def test_group_in_two_splits(tmp_path):
    rows = listing()
    rows[0]["subject"] = "s2"
    write_manifest(tmp_path, rows)
    (place,) = faults_of(tmp_path).places["shared-group"]
    assert "subject 's2' lies in both the train and the val split" in place.detail
    with pytest.raises(DataError, match="s2"):
        read_manifest(tmp_path, AUS)


def test_split_without_rows(tmp_path):
    write_manifest(tmp_path, [row for row in listing() if row["split"] != "val"])
    with pytest.raises(DataError, match=r"the val split of .* has no usable frame"):
        read_manifest(tmp_path, AUS)


def test_one_group_cannot_be_split(tmp_path):
    write_manifest(tmp_path, without(listing(videos=2)[:3], "split"))
    with pytest.raises(DataError, match="1 people or videos cannot be split"):
        read_manifest(tmp_path, AUS)


def test_folders_are_listed_once_each(tmp_path, monkeypatch):
    write_manifest(tmp_path, listing(frames=20))
    import aunet.data.manifest as module

    listed = []
    scandir = module.os.scandir
    monkeypatch.setattr(module.os, "scandir", lambda folder: listed.append(folder) or scandir(folder))
    read_manifest(tmp_path, AUS)
    assert sorted(listed) == [tmp_path / f"faces/v{n}" for n in range(4)]


def test_chunks_do_not_show(tmp_path, monkeypatch):
    rows = listing(frames=30)
    for name in FORMATS:
        monkeypatch.setattr(manifest_files, "_ROWS_AT_ONCE", 7)
        file = write_manifest(tmp_path, rows, name=name)
        assert contents(read_manifest(file, AUS)) == expected(tmp_path, rows)


LINES = st.lists(
    st.sampled_from(
        [
            "path,AU1,AU12",
            "path,AU1,AU12,split",
            "a.jpg,0,1",
            "b.jpg,,1,train",
            '"',
            ",",
            "",
            "../x.jpg,0,0",
            "\0",
        ]
    )
)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass")),
        LINES.map(lambda lines: "\n".join(lines).encode()),
        st.binary(max_size=80).map(lambda data: b"path,AU1,AU12\n" + data),
    ),
    st.sampled_from(FORMATS),
)
def test_any_file_at_all(content, name):
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(content)
        with pytest.raises(DataError):  # none of its pictures is there
            read_manifest(folder, AUS, faults=Faults())


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_damaged_parquet(data):
    with tempfile.TemporaryDirectory() as folder:
        file = write_manifest(Path(folder), listing(2), name="manifest.parquet")
        content = bytearray(file.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        file.write_bytes(content)
        with contextlib.suppress(DataError):
            read_manifest(folder, AUS, faults=Faults())
