"""The packed store: the frames and labels of the files, byte for byte, whatever interrupts the packing."""

import json
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from layouts import write_affwild2

from aunet.data.affwild2 import read_affwild2
from aunet.data.datamodule import FrameDataModule
from aunet.data.faults import DataError, Faults
from aunet.data.journal import Packing
from aunet.data.pack import pack
from aunet.data.rendered.facts import rendered_only
from aunet.data.store import VERSION, is_store, open_store, recipe, verify_store
from aunet.facs import AFFWILD2

SIZE = 16


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Not to be changed."""
    return write_affwild2(tmp_path_factory.mktemp("data"), size=SIZE, traps=["missing_crop", "people"])


@pytest.fixture
def copy(root, tmp_path):
    """The same data, to be changed."""
    return shutil.copytree(root, tmp_path / "copy")


def packed(root, out, tables=None, **options):
    """Packs a data set; returns the store."""
    packing = Packing(root, recipe(read_affwild2), **{"image_size": SIZE} | options)
    pack(tables or read_affwild2(root), packing, out, threads=2)
    return out


def test_that_faces_are_rendered_travels_with_them(root, copy, tmp_path):
    def rendered(place):
        return rendered_only({"root": str(place), "read": {}, "name": "affwild2"})

    assert not rendered(packed(root, tmp_path / "store"))
    (copy / "rendered.json").write_text("{}")
    assert rendered(packed(copy, tmp_path / "other"))


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_frames_and_labels_are_those_of_the_files(root, tmp_path):
    tables = read_affwild2(root)
    store = open_store(packed(root, tmp_path / "store"))
    assert store.keys() == tables.keys()
    for split, table in tables.items():
        other = store[split]
        assert (other.aus, other.videos, other.groups) == (table.aus, table.videos, table.groups)
        assert other.dropped == table.dropped
        for column in ("video", "frame", "labels"):
            np.testing.assert_array_equal(getattr(other, column), getattr(table, column))
        assert [other.source.read(i) for i in range(len(other))] == [
            table.source.path(i).read_bytes() for i in range(len(table))
        ]
        assert other.fingerprint() == table.fingerprint()
        assert other.positives().tolist() == table.positives().tolist()


@pytest.mark.parametrize("decoded", [False, True])
@pytest.mark.parametrize("workers", [0, 1, 2, 4])
def test_batches_equal_those_of_the_files_for_any_number_of_workers(root, tmp_path, decoded, workers):
    store = packed(root, tmp_path / "store", decoded=decoded)

    def batches(place, workers, threads):
        module = FrameDataModule(
            "x", place, read_affwild2, AFFWILD2, 4, image_size=SIZE, workers=workers, threads=threads
        )
        module.setup("fit")
        loader = module.train_dataloader()
        loader.batches.set_epoch(3)
        return [*loader, *module.val_dataloader()], module.fingerprint()

    expected, fingerprint = batches(root, 0, 1)
    found, packed_fingerprint = batches(store, workers, 2)
    assert packed_fingerprint == fingerprint
    assert len(found) == len(expected)
    for a, b in zip(expected, found, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key].numpy(), b[key].numpy())


def test_aus_may_come_in_another_order_but_must_be_those_packed(root, tmp_path):
    store = packed(root, tmp_path / "store")
    table, other = (open_store(store, aus)["train"] for aus in (None, AFFWILD2[::-1]))
    np.testing.assert_array_equal(other.labels, table.labels[:, ::-1])
    assert other.fingerprint() == read_affwild2(root, AFFWILD2[::-1])["train"].fingerprint()
    with pytest.raises(DataError, match=r"pack it again with data.aus=\[1, 2\]"):
        open_store(store, (1, 2))


def test_another_recipe_is_refused_and_named(root, tmp_path):
    store = packed(root, tmp_path / "store")
    assert open_store(store, asked=recipe(partial(read_affwild2, crops="elsewhere")))
    with pytest.raises(DataError, match="drop_row_if_any=True, the configuration says False"):
        open_store(store, asked=recipe(partial(read_affwild2, drop_row_if_any=False)))


def test_a_store_may_outlive_its_sources_and_move(copy, tmp_path):
    store = packed(copy, tmp_path / "store")
    before = open_store(store)["train"].fingerprint()
    shutil.rmtree(copy)
    moved = store.rename(tmp_path / "moved")
    assert open_store(moved)["train"].fingerprint() == before


def change_label(root):
    file = next(root.rglob("AU_Detection*/Train_Set/*.txt"))
    lines = file.read_text().splitlines()
    lines[1] = lines[1].translate(str.maketrans("01", "10"))
    file.write_text("\n".join(lines) + "\n")


CHANGES = {
    "label": (change_label, "has changed since"),
    "picture": (lambda root: min(root.rglob("*.jpg")).write_bytes(b"x"), "has changed since"),
    "no annotation": (lambda root: next(root.rglob("AU_Detection*/Train_Set/*.txt")).unlink(), "is gone"),
    "no picture": (lambda root: max(root.rglob("*.jpg")).unlink(), "is gone|were added to or removed from"),
    "new picture": (
        lambda root: shutil.copy(min(root.rglob("*.jpg")), min(root.rglob("*.jpg")).with_name("00099.jpg")),
        "were added to or removed from",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_stale_stores_are_refused_and_packed_again(change, copy, tmp_path):
    alter, said = CHANGES[change]
    store = packed(copy, tmp_path / "store")
    alter(copy)
    with pytest.raises(DataError, match=f"stale.*({said}).*pack it again"):
        open_store(store)
    faults = Faults()
    verify_store(store, faults, lambda _: None)
    assert set(faults.places) == {"stale-store"}
    if change == "picture":  # it is a damaged one
        with pytest.raises(DataError, match="not a readable JPEG"):
            packed(copy, store)
        return
    packed(copy, store)
    assert open_store(store)["train"].fingerprint() == read_affwild2(copy)["train"].fingerprint()


def test_pack_is_done_once(root, tmp_path):
    store = packed(root, tmp_path / "store")
    before = {path: path.stat().st_mtime_ns for path in store.iterdir()}
    packed(root, store)
    assert {path: path.stat().st_mtime_ns for path in store.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] != ".") == ["store"]


def test_touched_folders_do_not_pack_again(copy, tmp_path):
    """Other files may come and go beside the pictures; a store may even lie among them."""
    store = packed(copy, tmp_path / "store")
    frames = (store / "frames.bin").stat().st_mtime_ns
    for folder in copy.rglob("cropped_aligned/*"):
        (folder / "notes.txt").touch()
    assert open_store(store)
    recorded = json.loads((store / "store.json").read_text())["times"]
    packed(copy, store)
    assert (store / "frames.bin").stat().st_mtime_ns == frames
    assert json.loads((store / "store.json").read_text())["times"] != recorded
    assert open_store(store)


def test_pictures_that_were_replaced_by_others_are_packed_again(copy, tmp_path):
    """As rsync does it: a new file of the same name."""
    table = read_affwild2(copy)["train"]
    store = packed(copy, tmp_path / "store")
    path = table.source.path(3)
    other = path.with_name("new")
    other.write_bytes(table.source.path(4).read_bytes())
    other.replace(path)
    with pytest.raises(DataError, match="stale"):
        open_store(store)
    packed(copy, store)
    assert open_store(store)["train"].source.read(3) == path.read_bytes()


def test_pictures_beyond_the_sample_are_compared_by_length_when_packed_again(tmp_path):
    root = write_affwild2(tmp_path / "data", size=SIZE, frames=(60, 5))
    table = read_affwild2(root)["train"]
    row = next(row for row in range(len(table)) if row not in table.sampled())
    store = packed(root, tmp_path / "store")
    path = table.source.path(row)
    path.write_bytes(path.read_bytes() + b"\0")
    assert open_store(store)  # not noticed in passing, as the README says
    packed(root, store)
    assert open_store(store)["train"].source.read(row) == path.read_bytes()


@pytest.mark.parametrize("name", ["frames.bin", "labels.npy", "start.npy"])
def test_a_damaged_store_is_packed_again(name, root, tmp_path):
    store = packed(root, tmp_path / "store")
    expected = files(store)
    damage(store, name, lambda data: data[:-3])
    packed(root, store)
    assert files(store) == expected


def test_a_picture_that_was_skipped_and_mended_is_packed(copy, tmp_path):
    tables = read_affwild2(copy)
    path = tables["train"].source.path(5)
    good = path.read_bytes()
    path.write_bytes(b"")
    store = packed(copy, tmp_path / "store", on_bad="skip")
    assert len(open_store(store)["train"]) == len(tables["train"]) - 1
    path.write_bytes(good)
    packed(copy, store, on_bad="skip")
    assert open_store(store)["train"].fingerprint() == tables["train"].fingerprint()


def test_another_folder_in_the_place_of_an_unfinished_store_stays(root, tmp_path):
    (tmp_path / "store.partial").mkdir()
    (tmp_path / "store.partial" / "thesis.tex").touch()
    with pytest.raises(DataError, match=r"store\.partial is in the way"):
        packed(root, tmp_path / "store")
    assert (tmp_path / "store.partial" / "thesis.tex").exists()


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_record_that_is_none_is_named(content, root, tmp_path):
    store = packed(root, tmp_path / "store")
    (store / "store.json").write_text(content)
    with pytest.raises(DataError, match="store"):
        packed(root, store)
    with pytest.raises(DataError, match="store"):
        open_store(store)


def test_other_things_are_not_replaced(root, copy, tmp_path):
    (tmp_path / "thesis").mkdir()
    with pytest.raises(DataError, match="exists and is no store"):
        packed(root, tmp_path / "thesis")
    store = packed(root, tmp_path / "store")
    with pytest.raises(DataError, match=f"is a store of {root}"):
        packed(copy, store)


def damage(store, name, change):
    data = bytearray((store / name).read_bytes())
    (store / name).write_bytes(change(data))


DAMAGES = {
    "a bit of a frame": ("frames.bin", lambda d: d[:700] + bytes([d[700] ^ 1]) + d[701:], "checksum"),
    "a bit of a label": ("labels.npy", lambda d: d[:-1] + bytes([d[-1] ^ 1]), "store-file"),
    "a bit of a checksum": ("crc32.npy", lambda d: d[:-1] + bytes([d[-1] ^ 1]), "store-file"),
    "frames cut off": ("frames.bin", lambda d: d[:-1], None),
    "index cut off": ("start.npy", lambda d: d[:-1], None),
    "no JSON": ("store.json", lambda d: d[:-5], None),
    "version": (
        "store.json", lambda d: d.replace(b'"version": %d' % VERSION, b'"version": %d' % (VERSION + 1)), None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGES)
def test_every_damage_of_a_store_is_found(kind, root, tmp_path):
    name, change, fault = DAMAGES[kind]
    store = packed(root, tmp_path / "store")
    damage(store, name, change)
    faults = Faults()
    if fault is None:
        with pytest.raises(DataError, match="pack it again"):
            open_store(store)
        return
    verify_store(store, faults, lambda _: None)
    assert set(faults.places) == {fault}
    assert faults.count(fault) == 1


def test_a_missing_file_of_a_store_is_named(root, tmp_path):
    store = packed(root, tmp_path / "store")
    (store / "video.npy").unlink()
    with pytest.raises(DataError, match=r"video.npy: missing where the store says"):
        open_store(store)


def test_bad_pictures_stop_the_packing_or_are_counted(copy, tmp_path):
    tables = read_affwild2(copy)
    bad = tables["train"].source.path(5)
    good = bad.read_bytes()
    bad.write_bytes(good[:200])
    with pytest.raises(DataError, match=r"not a readable JPEG.*on_bad=skip") as caught:
        packed(copy, tmp_path / "store")
    assert str(bad) in str(caught.value)
    assert not is_store(tmp_path / "store")
    skipped = open_store(packed(copy, tmp_path / "skipped", on_bad="skip"))["train"]
    assert len(skipped) == len(tables["train"]) - 1
    assert skipped.dropped["pictures at fault (skipped)"] == 1
    np.testing.assert_array_equal(skipped.labels, np.delete(tables["train"].labels, 5, 0))
    bad.write_bytes(good)
    assert (
        open_store(packed(copy, tmp_path / "store"))["train"].fingerprint() == tables["train"].fingerprint()
    )


def test_two_calls_at_once_do_not_write_one_store(root, tmp_path):
    from filelock import FileLock

    with FileLock(tmp_path / ".store.lock"), pytest.raises(DataError, match="another process is packing it"):
        packed(root, tmp_path / "store")


KILLED = """
import sys
from pathlib import Path
from aunet.data.affwild2 import read_affwild2
from aunet.data import journal, pack as module
from aunet.data.store import recipe
journal._CHUNK = 4
root, out, decoded = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "True"
tables = read_affwild2(root)
print("packing", flush=True)
module.pack(tables, journal.Packing(root, recipe(read_affwild2), 16, decoded=decoded), out, 2)
"""


@pytest.mark.parametrize("decoded", [False, True])
def test_killed_at_any_moment_the_store_is_absent_resumable_or_complete(decoded, tmp_path):
    """SIGKILL at 20 moments spread over a whole packing; then one call ends with the uninterrupted store."""
    root = write_affwild2(tmp_path / "data", size=SIZE, videos=(6, 3), frames=(120, 80))
    tables = read_affwild2(root)
    expected = files(packed(root, tmp_path / "whole", tables, decoded=decoded))
    out = tmp_path / "store"
    rng = np.random.default_rng(int(decoded))
    command = [sys.executable, "-c", KILLED, str(root), str(out), str(decoded)]
    states = []
    seconds = 0.2
    for moment in rng.permutation(20):
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout.readline()
        started = time.monotonic()
        try:
            process.wait(seconds * (moment + rng.random()) / 20)
            seconds = max(0.02, time.monotonic() - started)  # that long a whole packing takes
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        partial_store = out.with_name("store.partial") / "frames.bin"
        states.append("complete" if is_store(out) else "begun" if partial_store.exists() else "absent")
        if is_store(out):
            assert files(out) == expected
            shutil.rmtree(out)
            continue
        assert not out.exists()
        if moment % 2:  # go on from what is there, or leave it to the next call
            packed(root, out, tables, decoded=decoded)
            assert files(out) == expected
            shutil.rmtree(out)
    assert states.count("begun") >= 5, states


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 9, 1000, 4000])
@pytest.mark.parametrize("name", ["frames.bin", "journal.bin"])
def test_what_an_interruption_left_is_cut_back_to_whole_frames(name, cut, root, tmp_path, monkeypatch):
    """Also after a loss of power, which may keep the journal and lose frames."""
    tables = read_affwild2(root)
    expected = files(packed(root, tmp_path / "whole"))
    out = tmp_path / "store"
    monkeypatch.setattr("aunet.data.pack._finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        packed(root, out, tables)
    monkeypatch.undo()
    partial_file = tmp_path / "store.partial" / name
    data = partial_file.read_bytes()
    partial_file.write_bytes(data[: max(0, len(data) - cut)])
    packed(root, out, tables)
    assert files(out) == expected


def test_frames_that_were_lost_in_the_middle_are_packed_again(root, tmp_path, monkeypatch):
    expected = files(packed(root, tmp_path / "whole"))
    monkeypatch.setattr("aunet.data.pack._finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        packed(root, tmp_path / "store")
    monkeypatch.undo()
    damage(tmp_path / "store.partial", "frames.bin", lambda d: d[:3000] + bytes(500) + d[3500:])
    packed(root, tmp_path / "store")
    assert files(tmp_path / "store") == expected


def test_an_interrupted_store_of_other_data_is_begun_anew(copy, tmp_path, monkeypatch):
    monkeypatch.setattr("aunet.data.pack._finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        packed(copy, tmp_path / "store")
    monkeypatch.undo()
    change_label(copy)
    packed(copy, tmp_path / "store")
    assert open_store(tmp_path / "store")["train"].fingerprint() == read_affwild2(copy)["train"].fingerprint()


def test_the_record_names_no_time_and_no_user(root, tmp_path):
    record = json.loads((packed(root, tmp_path / "store") / "store.json").read_text())
    assert Path(record["source"]["root"]) == root.resolve()
    assert all(not Path(name).is_absolute() for name in record["source"]["files"])
