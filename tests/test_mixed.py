"""Several data sets as one: labels over the union, names, sources, and what is refused."""

from functools import partial

import numpy as np
import pytest
from layouts import bp4d_codes, disfa_intensities, write_affwild2, write_bp4d, write_disfa, write_manifest

from aunet.data.affwild2 import read_affwild2
from aunet.data.bp4d import read_bp4d
from aunet.data.disfa import read_disfa
from aunet.data.faults import DataError, Faults
from aunet.data.folds import BP4D_PARTS, DISFA_PARTS, fold_splits
from aunet.data.manifest import read_manifest
from aunet.data.mixed import Joined, read_mixed
from aunet.data.pack import Packing, pack
from aunet.data.store import open_store, recipe
from aunet.facs import AFFWILD2, BP4D, DISFA, DISFA_CODED

UNION = tuple(sorted({*AFFWILD2, *BP4D, *DISFA_CODED}))
PARTS = {
    "disfa": {"read": partial(read_disfa), "root": "disfa", "aus": list(DISFA_CODED)},
    "affwild2": {"read": partial(read_affwild2, drop_row_if_any=False), "root": "aff wild", "aus": AFFWILD2},
    "bp4d": {"read": partial(read_bp4d), "root": "bp4d", "aus": list(BP4D)},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Aff-Wild2, and three subjects of DISFA and of BP4D; not to be changed."""
    root = tmp_path_factory.mktemp("mixed")
    write_affwild2(root / "aff wild", size=8)
    write_disfa(root / "disfa", disfa_intensities(subjects=few(DISFA_PARTS)), size=8)
    write_bp4d(root / "bp4d", bp4d_codes(tasks=1, subjects=few(BP4D_PARTS)), size=8)
    return root


def few(parts):
    """One subject for each split."""
    splits = fold_splits(parts, 1)
    return [min(s for s, split in splits.items() if split == name) for name in ("train", "val", "test")]


def test_every_frame_of_every_part(root):
    tables = read_mixed(root, UNION, PARTS)
    assert list(tables) == ["train", "val", "test"]
    alone = {name: part["read"](root=root / part["root"], aus=part["aus"]) for name, part in PARTS.items()}
    for split, table in tables.items():
        own = {name: splits[split] for name, splits in sorted(alone.items()) if split in splits}
        assert list(own) == (["affwild2", "bp4d", "disfa"] if split != "test" else ["bp4d", "disfa"])
        assert len(table) == sum(map(len, own.values()))
        assert len(UNION) == 17
        assert table.aus == UNION
        assert (table.labels.dtype, table.video.dtype, table.frame.dtype) == (np.int8, np.int32, np.int32)
        row = 0
        for name, part in own.items():
            for i in range(len(part)):
                video = part.videos[part.video[i]]
                assert table.videos[table.video[row]] == f"{name}/{video}"
                assert table.groups[table.video[row]] == f"{name}/{part.groups[part.video[i]]}"
                assert table.frame[row] == part.frame[i]
                known = dict(zip(part.aus, part.labels[i].tolist(), strict=True))
                assert table.labels[row].tolist() == [known.get(au, -1) for au in UNION]
                assert table.source.name(row) == part.source.name(i)
                assert table.source.read(row) == part.source.read(i)
                row += 1
        assert list(table.videos) == sorted(table.videos)
        assert (np.diff(table.video) >= 0).all()
        assert table.grouped_by == ("video" if split != "test" else "subject")
        assert table.source.raw is None
        assert set(table.files) == {file for part in own.values() for file in part.files}
        assert dict(table.dropped) == {
            f"{name}: {why}": n for name, part in own.items() for why, n in part.dropped.items()
        }


def test_fingerprint_depends_on_a_parts_labels(root):
    tables = read_mixed(root, UNION, PARTS)
    again = read_mixed(root, UNION, dict(reversed(PARTS.items())))
    assert tables["test"].fingerprint() == again["test"].fingerprint()
    other = PARTS | {"disfa": {**PARTS["disfa"], "read": partial(read_disfa, threshold=3)}}
    assert read_mixed(root, UNION, other)["test"].fingerprint() != tables["test"].fingerprint()


def test_names_sort_with_their_slash(root):
    parts = {"a": PARTS["disfa"], "a-b": PARTS["bp4d"]}  # "a" < "a-b", but "a/..." > "a-b/..."
    for table in read_mixed(root, UNION, parts).values():
        assert list(table.videos) == sorted(table.videos)
        assert table.grouped_by == "subject"


def test_parts_elsewhere_and_as_manifests(root, tmp_path):
    rows = [{"path": f"{s}/1.jpg", "split": s, "AU1": 1} for s in ("train", "val")]
    file = write_manifest(tmp_path, rows)
    parts = {
        "own": {"read": read_manifest, "root": file, "aus": [1]},
        "disfa": {**PARTS["disfa"], "aus": DISFA},
    }
    tables = read_mixed(root, DISFA, parts)
    assert tables["train"].videos[-1] == "own/train"
    assert tables["train"].labels[-1].tolist() == [1, -1, -1, -1, -1, -1, -1, -1]


def test_faults_of_all_parts_are_collected(root, tmp_path):
    write_disfa(tmp_path / "disfa")
    (tmp_path / "disfa/ActionUnit_Labels/SN001/SN001_au1.txt").unlink()
    parts = {"disfa": PARTS["disfa"], "bp4d": PARTS["bp4d"] | {"root": root / "bp4d"}}
    faults = Faults()
    tables = read_mixed(tmp_path, UNION, parts, faults=faults)
    assert faults.count("missing-annotation") == 1
    assert faults.count("absent-subject") > 1
    assert (
        sum(
            t.dropped["disfa: videos at fault (skipped)"]
            for t in tables.values()
            if "disfa: videos at fault (skipped)" in t.dropped
        )
        == 1
    )
    with pytest.raises(DataError, match=r"SN001_au1\.txt: is missing"):
        read_mixed(tmp_path, UNION, parts)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({}, "names no data set"),
        ({"a/b": PARTS["disfa"]}, "a name without '/'"),
        ({"a": {"read": read_disfa, "root": "disfa"}}, "must give read, root and aus"),
        ({"a": PARTS["disfa"] | {"aus": [1, 43, 44]}}, "parts.a.aus has AU43, AU44, which data.aus lacks"),
        ({"a": PARTS["disfa"] | {"root": "nowhere"}}, "nowhere is not a folder"),
    ],
)
def test_what_is_refused(parts, words, root):
    with pytest.raises(DataError, match=words):
        read_mixed(root, UNION, parts)


def test_part_may_be_a_store(root, tmp_path):
    read = PARTS["disfa"]["read"]
    packing = Packing(root / "disfa", recipe(read), 8)
    pack(read(root=root / "disfa", aus=DISFA_CODED), packing, tmp_path / "store", threads=1)
    packed = read_mixed(root, UNION, PARTS | {"disfa": PARTS["disfa"] | {"root": tmp_path / "store"}})
    plain = read_mixed(root, UNION, PARTS)
    assert {s: t.fingerprint() for s, t in packed.items()} == {s: t.fingerprint() for s, t in plain.items()}
    other = PARTS["disfa"] | {"root": tmp_path / "store", "read": partial(read_disfa, fold=2)}
    with pytest.raises(DataError, match="fold"):
        read_mixed(root, UNION, PARTS | {"disfa": other})


def test_mixture_can_be_packed(root, tmp_path):
    tables = read_mixed(root, UNION, PARTS)
    pack(
        tables, Packing(root, recipe(partial(read_mixed, parts=PARTS)), 8, resize=True), tmp_path / "store", 1
    )
    packed = open_store(tmp_path / "store")
    assert {s: t.fingerprint() for s, t in packed.items()} == {s: t.fingerprint() for s, t in tables.items()}


class Numbered:
    """A source of ``size`` frames that tells which of them is read."""

    def __init__(self, letter, raw=None):
        self.letter, self.raw = letter, raw

    def name(self, index):
        return f"{self.letter}{index}"

    def read(self, index):
        return self.name(index).encode()


def test_joined_sources():
    joined = Joined([Numbered("a"), Numbered("b"), Numbered("c")], [2, 0, 3])
    assert [joined.name(i) for i in range(5)] == ["a0", "a1", "c0", "c1", "c2"]
    assert [joined.read(i) for i in range(5)] == [b"a0", b"a1", b"c0", b"c1", b"c2"]


def test_joined_sources_agree_on_raw():
    assert Joined([Numbered("a", (8, 8, 3)), Numbered("b", (8, 8, 3))], [1, 1]).raw == (8, 8, 3)
    with pytest.raises(DataError, match="all be files, or stores of pixels of one size"):
        Joined([Numbered("a"), Numbered("b", (8, 8, 3))], [1, 1])


def test_recipe_can_be_stored():
    options = recipe(partial(read_mixed, parts=PARTS))["options"]["parts"]
    assert options["affwild2"]["read"]["options"]["drop_row_if_any"] is False
